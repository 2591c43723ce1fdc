"""The share of the power cuts that fits into a test run, and proof that the rig can fail.

The long run is `python -m tests.powercut --states 1000000 --stories 100 --seconds 86400
--programs 200`.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.powercut import box
from tests.powercut.campaign import Recorded, record, replay, summary, workshop
from tests.powercut.disk import KINDS, read_trace
from tests.powercut.opening import NEIGHBOUR, SPOILT
from tests.powercut.programs import start_programs
from tests.powercut.recording import Recording
from tests.powercut.tally import Tally
from tests.powercut.world import World

SEED = "power"
STATES, SECONDS = 10_000, 100.0
"""As many as fit; a state takes some 10 ms of a processor that nobody else wants."""
STATES_MIN = 300
"""On cores that many share; below that the run says nothing."""
LESS_S, LESS_MIN, LARGE_MIN = 30.0, 25, 5
"""For what is tried besides; with large files a state takes a fifth of a second."""
PROGRAMS = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    with workshop() as folder:
        yield folder


@pytest.mark.timeout(420)
def test_no_power_cut_loses_or_doubles_anything(folder: Path) -> None:
    recorded = record(folder)
    tally = replay(recorded, folder, seed=SEED, states=STATES, seconds=SECONDS)
    told = summary([recorded], tally, SEED, SECONDS)
    print(told)
    assert tally.violations == 0, told
    assert tally.states >= STATES_MIN, told
    # What was tried was worth trying.
    assert set(tally.kinds) == set(KINDS), told
    assert tally.depths["2"], told
    assert tally.depths["3"], told
    assert tally.torn, told
    assert tally.threaded, told
    assert tally.settled["debiting → saved"], told
    assert tally.settled["debiting → agreed"], told
    assert tally.settled["preparing → saved"], told


@pytest.mark.timeout(240)
def test_nor_does_one_with_files_as_large_as_they_really_are(folder: Path) -> None:
    recorded = record(folder, sizes="production")
    tally = replay(recorded, folder, seed=SEED, states=STATES, seconds=LESS_S)
    assert tally.violations == 0, _told(recorded, tally)
    assert tally.states >= LARGE_MIN, _told(recorded, tally)


@pytest.mark.timeout(240)
def test_in_whole_pages_nothing_is_lost_on_a_disk_that_spoils_neighbours(folder: Path) -> None:
    recorded = record(folder, sizes="pages")
    tally = replay(recorded, folder, seed=SEED, states=STATES, seconds=LESS_S, loss=NEIGHBOUR)
    assert tally.violations == 0, _told(recorded, tally)
    assert tally.kinds["neighbour"] >= LESS_MIN, _told(recorded, tally)


@pytest.mark.timeout(240)
def test_a_damaged_copy_is_mended_though_the_mending_is_cut_off_again_and_again(
    folder: Path,
) -> None:
    recorded = record(folder)
    tally = replay(recorded, folder, seed=SEED, states=STATES, seconds=LESS_S, loss=SPOILT)
    assert tally.violations == 0, _told(recorded, tally)
    assert tally.mended >= LESS_MIN, _told(recorded, tally)
    assert tally.depths["3"], _told(recorded, tally)


@pytest.mark.timeout(1500)
def test_the_whole_program_starts_on_what_a_cut_left_and_keeps_its_word(folder: Path) -> None:
    recorded = record(folder)
    recording = Recording(read_trace(recorded.trace), {}, World())
    tally = asyncio.run(start_programs(recording, folder, SEED, PROGRAMS))
    assert tally.violations == 0, tally.examples
    assert tally.programs == PROGRAMS
    assert tally.served


@pytest.mark.timeout(300)
@pytest.mark.parametrize("weakness", box.WEAK)
def test_a_safeguard_taken_away_is_noticed(folder: Path, weakness: str) -> None:
    recorded = record(folder, weakness)
    tally = replay(
        recorded,
        folder,
        seed=SEED,
        states=5_000,
        seconds=150,
        weakness=weakness,
        stops_at_first=True,
    )
    assert tally.violations, _told(recorded, tally)


@pytest.mark.timeout(300)
def test_sectors_on_a_disk_that_spoils_neighbours_are_noticed(folder: Path) -> None:
    """Why [spool] block_bytes exists: the model is as mean as it says."""
    recorded = record(folder)
    tally = replay(
        recorded, folder, seed=SEED, states=5_000, seconds=150, loss=NEIGHBOUR, stops_at_first=True
    )
    assert tally.violations, _told(recorded, tally)


def _told(recorded: Recorded, tally: Tally) -> str:
    return summary([recorded], tally, SEED, LESS_S)

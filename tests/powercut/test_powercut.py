"""The share of the power cuts that fits into a test run, and proof that the rig can fail.

The long run is in the README.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.powercut import box
from tests.powercut.campaign import Recorded, record, replay, summary, workshop
from tests.powercut.disk import KINDS, read_trace
from tests.powercut.opening import NEIGHBOUR, SPOILT
from tests.powercut.programs import start_programs
from tests.powercut.recording import Recording
from tests.powercut.series import Plan, Series
from tests.powercut.tally import Tally
from tests.powercut.world import World

SEED = "power"
STATES_MIN, PLAN = 10_000, Plan(SEED, states=10_200, stories=2, lives=120)
SECONDS = 600.0
"""Far more than it takes: a state costs some 6 ms of a processor that nobody else wants."""
LESS_S, LESS_MIN, LARGE_MIN = 60.0, 25, 5
"""For what is tried besides; with large files a state takes a fifth of a second."""
LESS, LARGE = 240, 40
PROGRAMS = 200
STORY = "weak 1"
"""One with several rows in one write, a truck and its photo: enough to miss any safeguard."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with workshop() as folder:
        yield folder


@pytest.mark.timeout(780)
def test_no_power_cut_loses_or_doubles_anything(folder: Path) -> None:
    series = Series(PLAN, folder)
    series.run(SECONDS, processes=2, traces=folder / "trace")
    tally = series.tally
    told = summary([told.recorded for told in series.told], tally, SEED, series.took_s)
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
    recorded = record(folder, sizes="production", story=STORY)
    tally = replay(recorded, folder, seed=SEED, states=LARGE, seconds=LESS_S)
    assert tally.violations == 0, _told(recorded, tally)
    assert tally.states >= LARGE_MIN, _told(recorded, tally)


@pytest.mark.timeout(240)
def test_in_whole_pages_nothing_is_lost_on_a_disk_that_spoils_neighbours(folder: Path) -> None:
    recorded = record(folder, sizes="pages")
    tally = replay(recorded, folder, seed=SEED, states=LESS, seconds=LESS_S, loss=NEIGHBOUR)
    assert tally.violations == 0, _told(recorded, tally)
    assert tally.kinds["neighbour"] >= LESS_MIN, _told(recorded, tally)


@pytest.mark.timeout(240)
def test_a_damaged_copy_is_mended_though_the_mending_is_cut_off_again_and_again(
    folder: Path,
) -> None:
    recorded = record(folder)
    tally = replay(recorded, folder, seed=SEED, states=LESS, seconds=LESS_S, loss=SPOILT)
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
    recorded = record(folder, weakness, story=STORY)
    tally = replay(
        recorded,
        folder,
        seed=SEED,
        states=5_000,
        seconds=150,
        processes=1,
        weakness=weakness,
        stops_at_first=True,
        flags=[] if weakness in box.RULES else ["--lives", "0"],
    )
    assert tally.violations, _told(recorded, tally)


@pytest.mark.timeout(300)
def test_sectors_on_a_disk_that_spoils_neighbours_are_noticed(folder: Path) -> None:
    """Why [spool] block_bytes exists: the model is as mean as it says."""
    recorded = record(folder, story=STORY)
    tally = replay(
        recorded,
        folder,
        seed=SEED,
        states=5_000,
        seconds=150,
        processes=1,
        loss=NEIGHBOUR,
        stops_at_first=True,
        flags=["--lives", "0"],
    )
    assert tally.violations, _told(recorded, tally)


@pytest.mark.timeout(300)
def test_what_is_remembered_between_disks_changes_no_verdict(folder: Path) -> None:
    """On disks of a box that loses rows, so that there is much to say."""
    recorded = record(folder, "lax log", story=STORY)

    def verdicts(*flags: str) -> Tally:
        same = ["--lives", "0", "--depth", "1", *flags]
        tally = replay(
            recorded, folder, seed=SEED, states=240, seconds=150, processes=1, flags=same
        )
        return replace(tally, cpu_s=0.0)

    remembered = verdicts()
    assert remembered.states == 240
    assert remembered.violations
    assert remembered == verdicts("--plain")


def test_a_series_goes_on_where_it_was_cut_off(folder: Path) -> None:
    plan, kept = Plan(SEED, states=90, stories=3, lives=1), folder / "tally"
    first = Series(plan, folder, kept)
    first.run(0.0, processes=1, traces=folder / "trace")
    assert first.told == []

    first.plan = replace(plan, states=30, stories=1)  # as if the power had gone
    first.run(LESS_S, processes=1, traces=folder / "trace")
    second = Series(plan, folder, kept)
    assert [told.number for told in second.told] == [0]
    second.run(LESS_S, processes=1, traces=folder / "trace")

    assert [told.number for told in second.told] == [0, 1, 2]
    assert second.tally.states >= plan.states
    assert Series(plan, folder, kept).tally == second.tally
    with pytest.raises(ValueError, match="another plan"):
        Series(replace(plan, seed="other"), folder, kept)


def _told(recorded: Recorded, tally: Tally) -> str:
    return summary([recorded], tally, SEED, LESS_S)

"""The share of the power cuts that fits into a test run, and proof that the rig can fail.

The long run is `python -m tests.powercut --states 1000000 --seconds 86400`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.powercut import box
from tests.powercut.campaign import record, replay, summary, workshop
from tests.powercut.disk import KINDS

SEED = "power"
STATES, SECONDS = 10_000, 150.0
"""As many as fit; a state takes some 50 ms of a busy processor."""
STATES_MIN = 150
"""On cores that many share; below that the run says nothing."""


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
    assert tally.threaded, told
    assert tally.settled["debiting → saved"], told
    assert tally.settled["debiting → agreed"], told
    assert tally.settled["preparing → saved"], told


@pytest.mark.timeout(300)
@pytest.mark.parametrize("weakness", box.WEAK)
def test_a_safeguard_taken_away_is_noticed(folder: Path, weakness: str) -> None:
    recorded = record(folder, weakness)
    tally = replay(
        recorded,
        folder,
        seed=SEED,
        states=2_000,
        seconds=150,
        weakness=weakness,
        stops_at_first=True,
    )
    assert tally.violations, summary([recorded], tally, SEED, 150)

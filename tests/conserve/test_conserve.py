"""What must hold over a line that loses, doubles, delays, cuts and lies."""

import os
from collections import Counter

import pytest

from tests.conserve.plan import EVERY
from tests.conserve.runs import LANES, happened, tried, wrongs
from tests.conserve.world import Run

WORLDS = 40 if os.environ.get("CI") else 4
PARTS = 4  # so that workers share them


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_record_is_at_the_centre_exactly_once_whatever_happens_on_the_way(part: int) -> None:
    """25 schedules a world, 1 000 in CI; the seeds are always the same."""
    runs = [tried(seed) for seed in range(1 + part, WORLDS + 1, PARTS)]
    assert wrongs(runs) == []
    assert all(told.records >= 6 * LANES and told.photos >= LANES for told in runs)
    if WORLDS >= 40:
        assert sorted(set(EVERY) - (+happened(runs)).keys()) == _not_in(part)


def _not_in(part: int) -> list[str]:
    """Two pull in every fourth world: those of the last part."""
    return [] if part == 3 else ["two_pullers"]


def test_a_run_in_which_something_is_wrong_says_how_to_see_it_again() -> None:
    told = Run(7, ["L00: record 1 is lost"], Counter())
    assert wrongs([told]) == [
        "L00: record 1 is lost   (again: python -m tests.conserve --seed 7 --worlds 1)"
    ]

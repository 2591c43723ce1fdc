"""What must hold over a line that loses, doubles, delays, cuts and lies."""

import os
from collections import Counter

import pytest

from tests.conserve.plan import EVERY, ON_THE_STREAM
from tests.conserve.runs import LANES, happened, tried, wrongs
from tests.conserve.way import Way
from tests.conserve.world import Run
from tests.rig import nats, postgres

WORLDS = 40 if os.environ.get("CI") else 4
PARTS = 4  # so that workers share them
ON_POSTGRES = (12, 20)
"""These two of them have PostgreSQL behind the centre. Both have two who pull, one is restored."""
BY_STREAM = 4
"""One more: records by way of JetStream. Nothing is restored in it, so that what counts as settled
must be in the book at once."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_record_is_at_the_centre_exactly_once_whatever_happens_on_the_way(part: int) -> None:
    """25 schedules a world, 1 000 in CI; the seeds are always the same."""
    seeds = set(range(1 + part, WORLDS + 1, PARTS)) - set(ON_POSTGRES)
    runs = [tried(seed) for seed in sorted(seeds)]
    assert wrongs(runs) == []
    assert all(told.records >= 6 * LANES and told.photos >= LANES for told in runs)
    if WORLDS >= 40:
        assert sorted(set(EVERY["http"]) - (+happened(runs)).keys()) == _not_in(part)


def _not_in(part: int) -> list[str]:
    """Two pull in every fourth world: those of the last part."""
    return [] if part == 3 else ["two_pullers"]


@pytest.mark.timeout(300)
def test_the_same_with_postgresql_behind_the_centre() -> None:
    _needs(postgres.missing())
    with postgres.running() as cluster:
        runs = [tried(seed, Way(dsn=cluster.dsn)) for seed in ON_POSTGRES]
    assert wrongs(runs) == []
    assert all(told.records >= 6 * LANES and told.photos >= LANES for told in runs)
    assert sorted(set(EVERY["http"]) - (+happened(runs)).keys()) == []


@pytest.mark.timeout(300)
def test_the_same_by_way_of_jetstream_whose_broker_is_killed() -> None:
    _needs(nats.missing())
    told = tried(BY_STREAM, Way("nats"))
    assert wrongs([told]) == []
    assert told.records >= 6 * LANES
    seldom = {"broker_killed", "broker_emptied", "two_pullers"}
    assert {*ON_THE_STREAM, *seldom} <= (+told.happened).keys()


def _needs(missing: str) -> None:
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def test_a_run_in_which_something_is_wrong_says_how_to_see_it_again() -> None:
    again = "python -m tests.conserve --seed 7 --worlds 1"
    told = Run(7, Way(), ["L00: record 1 is lost"], Counter())
    assert wrongs([told]) == [f"L00: record 1 is lost   (again: {again})"]
    told.way = Way("nats", "host=/tmp", 3)
    how = f"{again} --database postgres --transport nats --nodes 3"
    assert wrongs([told]) == [f"L00: record 1 is lost   (again: {how})"]

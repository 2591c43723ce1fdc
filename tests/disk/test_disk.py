"""The share of the disk's troubles that fits into a test run. All of it: python -m tests.disk."""

import pytest

from tests.disk.__main__ import campaign, summary

SEED = "disk"
SECONDS = 25.0
ERRORS_MIN, DAMAGES_MIN = 10, 20
"""On cores that many share; below that the run says nothing."""


@pytest.mark.timeout(400)
def test_no_call_that_fails_loses_or_doubles_anything_or_stops_the_lane_for_good() -> None:
    total = campaign("errors", SECONDS, SEED)
    told = summary("errors", total, SEED)
    print(told)
    assert total.violations == [], told
    assert total.states >= ERRORS_MIN, told
    assert total.counts["said"]["store.unavailable"], told


@pytest.mark.timeout(400)
def test_no_damage_to_any_file_changes_money_or_stays_unsaid() -> None:
    total = campaign("damage", SECONDS, SEED)
    told = summary("damage", total, SEED)
    print(told)
    assert total.violations == [], told
    assert total.states >= DAMAGES_MIN, told
    assert total.counts["told"]["said so"], told

"""The share of the disk's troubles that fits into a test run. All of it: python -m tests.disk."""

import pytest

from tests.disk.__main__ import Sum, campaign, summary, workshop
from tests.disk.fault import FAULTS

SEED = "disk"
SECONDS = "20"


def tried(module: str) -> tuple[Sum, str]:
    """One of each sort, whatever time it takes; more while there is time."""
    with workshop() as folder:
        total = campaign(module, SEED, folder=folder, more=("--seconds", SECONDS, "--sampled"))
    told = summary(module, total, SEED)
    print(told)
    return total, told


@pytest.mark.timeout(400)
def test_no_call_that_fails_loses_or_doubles_anything_or_stops_the_lane_for_good() -> None:
    total, told = tried("errors")
    assert total.violations == [], told
    assert total.sorts == {fault.name for fault in FAULTS}, told
    assert total.counts["said"]["store.unavailable"], told


@pytest.mark.timeout(400)
def test_no_damage_to_any_file_changes_money_or_stays_unsaid() -> None:
    total, told = tried("damage")
    assert total.violations == [], told
    assert {"deleted", "cut", "zeroed", "flipped"} <= set(total.counts["by way"]), told
    assert total.counts["came of it"]["said so"], told

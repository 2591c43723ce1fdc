"""A short absence of the centre; a month is for `python -m tests.offline`."""

from pathlib import Path

import pytest

from tests.offline.__main__ import is_whole
from tests.offline.month import run


@pytest.mark.timeout(120)
async def test_three_days_without_a_centre_are_caught_up_whole_and_each_day_agrees(
    tmp_path: Path,
) -> None:
    told = await run(tmp_path, 3, 100, 500, lambda _: None)
    assert is_whole(told), told
    assert told.days_agreed >= 3
    assert len(told.latencies) == told.live
    assert told.peak_mb - told.idle_mb < 40

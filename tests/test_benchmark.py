"""The benchmark runs and its figures are figures. What they are is the machine's business."""

import json
import math
from pathlib import Path

import pytest

from tests.bench import commit, passage, start
from tests.bench.figure import Figure, as_json, p50, p99, percentile, table


async def test_a_commit_is_compared_with_raw_writes_of_what_it_wrote(tmp_path: Path) -> None:
    figures = await commit.measure(tmp_path, 3, warm_up=2)
    check(figures)
    ratios = [figure for figure in figures if figure.unit == "×"]
    assert len(ratios) == 4
    assert all(figure.seen > 0 for figure in ratios)


def test_a_passage_is_measured_at_the_lane_and_over_http(tmp_path: Path) -> None:
    figures = passage.measure(tmp_path, 1, warm_up=1)
    check(figures)
    assert {figure.seen > 0 for figure in figures if figure.unit == "ms"} == {True}
    (written,) = (figure for figure in figures if figure.unit == "KB")
    assert written.seen > 10  # a dozen synced commits of whole pages


def test_the_demo_is_started_and_weighed(tmp_path: Path) -> None:
    check(start.measure_start(tmp_path, 1))
    figures = start.measure_memory(tmp_path / "weighed", 1, settle_s=0.0)
    check(figures)
    by_name = {figure.name: figure for figure in figures}
    assert by_name["OpenCV or numpy in it"].verdict == "met"
    assert by_name["resident memory, idle"].seen > 10


def test_a_verdict_is_the_goals_own() -> None:
    assert Figure("a", 1.5, "×", 1.5).verdict == "met"
    assert Figure("a", 1.51, "×", 1.5).verdict == "MISSED"
    assert Figure("a", 9.0, "ms").verdict == ""


def test_a_percentile_is_a_value_that_happened() -> None:
    values = [float(value) for value in range(1, 201)]
    assert (p50(values), p99(values), percentile(values, 1.0)) == (100.0, 198.0, 200.0)
    assert p99([7.0]) == 7.0
    with pytest.raises(ValueError, match="no values"):
        p50([])


def check(figures: list[Figure]) -> None:
    assert figures
    assert all(math.isfinite(figure.seen) for figure in figures)
    assert len(table(figures).splitlines()) == len(figures) + 1
    told = json.loads(json.dumps(as_json(figures)))
    assert {"seen", "goal", "verdict", "unit", "name", "note"} == set(told["figures"][0])
    assert told["cores"] >= 1

"""The benchmark runs and its figures are figures. What they are is the machine's business."""

import json
import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from gateway.flow import journal
from gateway.spool import seals
from gateway.spool.database import connect
from gateway.spool.log import Spool
from gateway.store import SPOOL
from tests.bench import business, history, money, passage, saved, start, wear
from tests.bench.burden import Burden
from tests.bench.figure import Figure, as_json, p50, p99, percentile, table
from tests.bench.history import Pattern


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Pattern:
    return history.pattern(tmp_path_factory.mktemp("pattern"))


async def test_a_commit_is_compared_with_raw_writes_of_the_same_bytes(
    tmp_path: Path, pattern: Pattern
) -> None:
    seen = await saved.compare(tmp_path, pattern.rows, 15)
    assert {len(values) for name, values in seen.items() if name != "bytes"} == {15}
    assert all(size % 512 == 0 for size in seen["bytes"])
    assert max(seen["bytes"]) > min(seen["bytes"])  # a record is longer than a step


async def test_lanes_that_write_at_the_same_time_share_a_write(
    tmp_path: Path, pattern: Pattern
) -> None:
    seen = await saved.together(tmp_path, pattern.rows, 12, 1)
    assert seen["grouped"][0] > 2
    assert journal.verify(tmp_path) == []


def test_a_slow_disk_is_slow_for_us_and_for_the_rivals(
    tmp_path: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money, "PATIENCE_S", 0.0)  # nobody reads these figures
    figures = money._commits(tmp_path, pattern, 36, money._slowed(tmp_path), "slow")
    check(figures)
    times = [figure.seen for figure in figures if figure.unit == "ms"]
    assert len(times) == 7
    assert min(times) > money.SLOW_MS


def test_a_made_history_is_one_that_the_gateway_could_have_left(
    tmp_path: Path, pattern: Pattern
) -> None:
    data, now_ms = tmp_path / "made", time.time_ns() // 1_000_000
    history.make(data, pattern, 12_500, now_ms)  # two files of the log, two shifts
    assert journal.verify(data) == []
    spool = Spool.open(data / SPOOL)
    assert spool.seq > 12_500
    rows = list(spool.rows())
    spool.close()
    with closing(sqlite3.connect(data / "lane.db")) as db:
        told = db.execute("SELECT count(*), max(seq) FROM journal").fetchone()
        shifts = db.execute("SELECT count(*), count(closed_ms) FROM shift").fetchone()
        sums = db.execute("SELECT count(*), count(DISTINCT line) FROM record").fetchone()
    assert told == (len(rows), spool.seq)
    assert shifts == (2, 1)
    assert sums[0] == sums[1] == len(rows) // 12
    seen = business.opened(data)
    assert seen.rev == spool.seq
    assert business.verified(data) > 0


def test_the_bytes_of_a_passage_are_told_apart(tmp_path: Path) -> None:
    seen = wear.measure(tmp_path, 3, 0.0)
    assert 4_096 < seen.log < 12_288
    assert seen.photo >= 4_096
    assert seen.tables > 0


def test_others_share_of_the_processors_is_a_share() -> None:
    with Burden() as others:
        sum(range(100_000))
    assert 0.0 <= others.share <= 1.0


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
    assert Figure("a", 5.0, "×", 5.0, is_least=True).verdict == "met"
    assert Figure("a", 4.9, "×", 5.0, is_least=True).verdict == "MISSED"


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
    assert {"seen", "goal", "verdict", "unit", "name", "note", "is_least"} == set(
        told["figures"][0]
    )
    assert told["cores"] >= 1


def test_a_seal_is_found_by_its_key_and_not_by_walking(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "lane.db")) as db:
        for table in seals.tables(db):
            plan = db.execute(
                "EXPLAIN QUERY PLAN DELETE FROM seal WHERE of = ? AND key ="
                f" (SELECT {table.key('t')} FROM {table.name} AS t LIMIT 1)",
                (table.name,),
            )
            assert "USING PRIMARY KEY (of=? AND key=?)" in plan.fetchone()[3]

"""A start reads the newest rows and counts what is open; a year's history is not walked for it."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.app import gateway
from gateway.config import demo
from gateway.spool import copies
from gateway.units import SystemClock
from tests.rig.filled import filled

LONG = "journal|passage|record|command|delivery|evidence|evidence_delivery"
NEWEST = "ORDER BY seq DESC LIMIT 1"  # begins at the end, and ends there
WALK = re.compile(rf"SCAN (r|d|p|j|{LONG})\b(?! USING (COVERING )?INDEX journal_raised)")


async def test_no_read_of_a_start_walks_a_table_that_grows_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = demo(tmp_path, 0, "http://127.0.0.1:9", "t")
    await filled(tmp_path, {"X03": 30})
    monkeypatch.setattr(copies, "CHECKED_AT_START", 0)  # what is small is looked at whole
    asked, connect = set[str](), sqlite3.connect

    def listening(*where: Any, **how: Any) -> sqlite3.Connection:
        db = connect(*where, **how)
        db.set_trace_callback(lambda sql: asked.add(sql.strip()))
        return db

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", listening)
        async with gateway(settings, SystemClock()):
            pass
    with connect(settings.database) as db:
        plans = {sql: plan(db, sql) for sql in asked if sql.startswith(("SELECT", "WITH"))}
    db.close()
    assert any("'lane_raised'" in sql for sql in plans), "nothing was heard"
    walks = {sql for sql, steps in plans.items() if WALK.search(steps)}
    assert not {sql for sql in walks if not sql.endswith(NEWEST)}


def plan(db: sqlite3.Connection, sql: str) -> str:
    return "; ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))

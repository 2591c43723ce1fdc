"""What the sync asks every few seconds is found by an index: no table that grows is walked."""

import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.app import gateway
from gateway.config import demo
from gateway.errors import CenterUnavailable
from gateway.sync.photos import PhotoPusher
from tests.rig.filled import filled
from tests.spool.test_start_reads import plan
from tests.sync.rig import HurriedClock

LONG = "journal|passage|record|command|delivery|evidence|evidence_delivery|batch"
TABLE = rf"(?:r|d|p|j|e|b|n|nd|{LONG})\b"
WALK = re.compile(rf"SCAN {TABLE}(?! USING (?:COVERING )?INDEX journal_r)|SEARCH {TABLE}(?! USING)")
REFUSED = re.compile(r"WHERE (?:d\.)?lane = \S+ AND (?:d\.)?verdict = 'refused'")
SORT = "USE TEMP B-TREE FOR ORDER BY"


async def test_no_polled_read_walks_or_sorts_a_table_that_grows_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, clock = demo(tmp_path, 0, "http://127.0.0.1:9", "t"), HurriedClock()
    await filled(tmp_path, {"X03": 30})
    asked, is_running, connect = set[str](), False, sqlite3.connect

    def listening(*where: Any, **how: Any) -> sqlite3.Connection:
        db = connect(*where, **how)
        db.set_trace_callback(lambda sql: asked.add(sql.strip()) if is_running else None)
        return db

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", listening)
        async with gateway(settings, clock) as box:
            is_running = True
            photos = PhotoPusher(box.store, box.client, box.evidence.path, lambda: False, clock)
            for poll in (
                box.outbox.refresh, box.outbox.drain, box.batches.seal_due, photos.drain,
                box.reconciler.compare_due, box.downloads.fetch, box.outbox.parked,
            ):  # fmt: skip
                with suppress(CenterUnavailable):
                    await poll()
    with connect(settings.database) as db:
        plans = {sql: plan(db, sql) for sql in asked if sql.startswith(("SELECT", "WITH"))}
    db.close()
    assert {name for name in LONG.split("|") if any(name in sql for sql in plans)} >= {
        "record", "delivery", "batch", "evidence_delivery",
    }  # fmt: skip
    assert not {sql: steps for sql, steps in plans.items() if WALK.search(steps) or SORT in steps}
    # By lane alone a search walks all of it, too: left to itself SQLite takes the primary key.
    few = {sql: steps for sql, steps in plans.items() if REFUSED.search(sql)}
    assert len(few) == 4, "of two lanes the debt, and the list of what was refused"
    assert not {
        sql: steps
        for sql, steps in few.items()
        if steps.count("INDEX delivery_refused") != len(REFUSED.findall(sql))
    }

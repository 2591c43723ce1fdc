"""Old data is walked behind the selling by the real `journal verify`, and mended by a start."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.disk.patrol import Patrol
from gateway.flow import journal
from gateway.spool import copies, log
from gateway.spool.copies import SUSPECT
from gateway.store import Store
from tests.spool.used import content, fill, incidents
from tests.still_clock import StillClock


@pytest.fixture
async def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history that is too long to be looked at by a start."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 16 * 1024)
    monkeypatch.setattr(log, "RESERVE_BYTES", 16 * 1024)
    monkeypatch.setattr(log, "CHECKED_AT_START", 4096)
    monkeypatch.setattr(copies, "CHECKED_AT_START", 4096)
    await fill(tmp_path, 40)
    return tmp_path


@pytest.fixture
async def store(data: Path) -> Any:
    store = await Store.open(data / "lane.db", StillClock())
    yield store
    await store.close()


def spoil_log(data: Path) -> None:
    path = data / "spool" / "000001.seg"
    raw = bytearray(path.read_bytes())
    raw[4096 + 700] ^= 1
    path.write_bytes(raw)


def spoil_tables(data: Path) -> None:
    with closing(sqlite3.connect(data / "lane.db")) as db, db:
        db.execute("UPDATE passage SET amount_fen = 1 WHERE id = 'P0003'")


async def test_an_undamaged_history_is_walked_while_the_box_writes(
    store: Store, data: Path
) -> None:
    patrol = Patrol(store, data, StillClock())
    await patrol.walk()
    assert (patrol.found, patrol.text) == ((), "")
    assert not (data / SUSPECT).exists()


@pytest.mark.parametrize("spoil", [spoil_log, spoil_tables])
async def test_what_a_start_did_not_look_at_is_found_told_and_mended_by_the_next_start(
    data: Path, spoil: Any
) -> None:
    before = content(data)
    spoil(data)
    store = await Store.open(data / "lane.db", StillClock())
    assert store.repairs == []
    told: list[int] = []
    patrol = Patrol(store, data, StillClock(), lambda: told.append(1))
    await patrol.walk()
    assert patrol.found
    assert "重启" in patrol.text
    assert told == [1]
    await patrol.walk()  # the same is told once
    assert told == [1]
    await store.close()
    assert len(incidents(data)) == 1

    store = await Store.open(data / "lane.db", StillClock())
    assert store.repairs
    await store.close()
    assert content(data) == before
    assert journal.verify(data) == []
    assert not (data / SUSPECT).exists()

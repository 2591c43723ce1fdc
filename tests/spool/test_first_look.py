"""What recovery thinks of the database's first page, before SQLite had a look."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.spool.copies import Copies
from gateway.store import Store
from tests.spool.used import content, fill
from tests.still_clock import StillClock


def test_a_file_cut_off_while_it_was_being_made_is_no_damage(tmp_path: Path) -> None:
    made, cut = tmp_path / "made.db", tmp_path / "box" / "lane.db"
    cut.parent.mkdir()
    with closing(sqlite3.connect(made, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size = 1")  # so that pages go into the file before the commit
        db.execute("BEGIN")
        db.execute("CREATE TABLE early (body BLOB)")
        db.executemany("INSERT INTO early VALUES (?)", [(bytes(5_000),)] * 8)
        shutil.copy(f"{made}-journal", f"{cut}-journal")
        cut.write_bytes(b"\xff" * 512 + made.read_bytes()[512:])
    assert Path(f"{cut}-journal").stat().st_size

    copies = Copies(cut, StillClock())
    copies.open()

    assert list(copies.repairs) == []
    assert copies.handle().execute("SELECT count(*) FROM journal").fetchone() == (0,)
    copies.close()


@pytest.mark.parametrize("byte", [0xFF, 0x80, 0xC0])
async def test_a_schema_whose_text_is_none_any_more_is_damage(tmp_path: Path, byte: int) -> None:
    await fill(tmp_path, 3)
    before, database = content(tmp_path), tmp_path / "lane.db"
    raw = bytearray(database.read_bytes())
    at = raw.index(b'CREATE TABLE "record"') + 30
    raw[at] = byte
    database.write_bytes(raw)
    store = await Store.open(database, StillClock())
    assert len(store.repairs) == 1
    await store.close()
    assert content(tmp_path) == before


async def test_a_message_that_quotes_such_a_text_costs_no_start(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    before, database = content(tmp_path), tmp_path / "lane.db"
    raw = bytearray(database.read_bytes())
    at = raw.index(b"TEXT", raw.index(b"CREATE TABLE seal"))
    raw[at + 1] ^= 0x80  # "unknown datatype for seal.of"
    database.write_bytes(raw)
    store = await Store.open(database, StillClock())
    assert len(store.repairs) == 1
    await store.close()
    assert content(tmp_path) == before

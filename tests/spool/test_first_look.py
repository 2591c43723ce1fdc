"""What recovery thinks of the database's first page, before SQLite had a look."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.spool.copies import Copies
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

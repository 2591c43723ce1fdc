"""What a repair keeps in memory does not grow with the years that are on the disk."""

import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.spool import derived, repair, seals, tables
from gateway.spool.database import connect
from gateway.spool.frame import GENESIS, Row, chained, text_of

ROWS = 4_000
FEW_BYTES = 200_000
"""One seal in a dict of Python's is some 250 bytes: all of them would be five times as much."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with many rows that have seals, and many commands in its journal."""
    path = tmp_path_factory.mktemp("full") / "lane.db"
    with closing(connect(path)) as db:
        db.execute("BEGIN")
        last = GENESIS
        for seq in range(1, ROWS + 1):
            extra = f'{{"key": ["key-{seq}", "print"]}}'
            row = Row(seq, "X03", "", seq, seq, "boot", "1001", "probe", "", "{}", extra)
            last = chained(last, text_of(row))
            tables.follow(db, row, last)
            db.execute(
                "INSERT INTO delivery VALUES ('X03', ?, 'accepted', '', 'push', 1, 0)", (seq,)
            )
        db.execute("DELETE FROM command WHERE at_ms < ?", (ROWS - 10,))
        db.execute("COMMIT")
    return path


@pytest.fixture
def db(full: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(full)) as db:
        yield db


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_seals_of_a_year_are_never_in_memory_together(db: sqlite3.Connection) -> None:
    assert peak_bytes(lambda: list(seals.broken(db))) < FEW_BYTES


def test_the_commands_of_a_year_are_never_in_memory_together(db: sqlite3.Connection) -> None:
    assert peak_bytes(lambda: list(derived.wrong(db))) < FEW_BYTES


def test_what_is_salvaged_is_never_in_memory_together(full: Path, tmp_path: Path) -> None:
    with closing(connect(tmp_path / "new.db")) as new:
        assert peak_bytes(lambda: repair.salvage(full, new)) < FEW_BYTES
        assert new.execute("SELECT count(*) FROM delivery").fetchone() == (ROWS,)


def test_each_seal_without_a_row_is_found_though_a_row_lacks_its_own(
    db: sqlite3.Connection,
) -> None:
    db.execute("BEGIN")
    db.execute("DELETE FROM seal WHERE of = 'delivery' AND key = 'X03 7'")
    db.execute("INSERT INTO seal VALUES ('delivery', 'X09 1', 5), ('nobody', 'one', 5)")
    found = {(bad.table, bad.key) for bad in seals.broken(db)}
    db.execute("ROLLBACK")
    assert found == {("delivery", "X03 7"), ("delivery", "X09 1"), ("nobody", "one")}

"""What the databases themselves refuse to hold twice, whatever any program believes."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.center import database as held
from gateway.spool import database

RECORD = ("X03", 1, "G00306200100202010030202611221000001", "X03-P", 1, "paid", "etc_card", 100,
          "6201", 1, "{}", "AB", None, None)  # fmt: skip
RECORD_NEXT_DOOR = ("X04", 1, RECORD[2], "X04-P", *RECORD[4:])
ROW = (1, "X03", "X03-P", 1, 1, "boot", "1001", "Event", "idle", "{}", "", bytes(32))
COMMAND = ("X03", "key", "print", 1, None, None)
SHIFT = (1, "X03", "1001", 1, 1, None, None)
HELD = (1, "X03", 1, "G00306200100202010030202611221000001", 0, b"{}", 1)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    db = database.connect(tmp_path / "lane.db")
    yield db
    db.close()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    db = held._connect(tmp_path / "center.db")
    yield db
    db.close()


def changed(row: tuple[object, ...], **at: object) -> tuple[object, ...]:
    """The row with other values at those places: `_3` is the fourth."""
    values = list(row)
    for place, value in at.items():
        values[int(place[1:])] = value
    return tuple(values)


def put(db: sqlite3.Connection, table: str, row: tuple[object, ...]) -> None:
    db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)


@pytest.mark.parametrize(
    ("table", "first", "second"),
    [
        ("record", RECORD, changed(RECORD, _1=2, _3="X03-Q")),  # the same id
        ("record", RECORD, changed(RECORD, _2="G" * 37, _3="X03-Q")),  # the same number
        ("record", RECORD, changed(RECORD, _1=2, _2="G" * 37)),  # a second first one of a passage
        ("record", RECORD_NEXT_DOOR, changed(RECORD_NEXT_DOOR, _1=2, _3="X04-Q")),
        ("journal", ROW, changed(ROW, _2="X03-Q")),
        ("command", COMMAND, changed(COMMAND, _2="other")),
        ("shift", SHIFT, changed(SHIFT, _0=2)),  # two open on one lane
    ],
)
def test_the_box_holds_nothing_twice(
    box: sqlite3.Connection, table: str, first: tuple[object, ...], second: tuple[object, ...]
) -> None:
    put(box, table, first)
    with pytest.raises(sqlite3.IntegrityError):
        put(box, table, second)


@pytest.mark.parametrize(
    "second", [changed(HELD, _0=2, _2=2), changed(HELD, _0=2, _3="G" * 37)], ids=["id", "slot"]
)
def test_the_centre_holds_no_id_and_no_slot_twice(
    centre: sqlite3.Connection, second: tuple[object, ...]
) -> None:
    put(centre, "record", HELD)
    with pytest.raises(sqlite3.IntegrityError):
        put(centre, "record", second)

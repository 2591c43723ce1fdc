"""A passage with a chain of records: the tables are the same, followed live or rebuilt."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.flow.corrections import SPACE, Correct
from gateway.spool.database import connect
from gateway.spool.tables import rows
from tests.flow.rig import COLLECTOR, Box, World, damage, drive_through
from tests.flow.test_corrections import MASTER, desk

TABLES = ("journal", "passage", "record", "command", "shift")


def content(folder: Path) -> dict[str, list[Any]]:
    """All tables of money. Of commands only what is in the log: their snapshots can be lost."""
    db = sqlite3.connect(folder / "lane.db")
    try:
        told = {t: db.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall() for t in TABLES}
    finally:
        db.close()
    told["command"] = [row if row[1].startswith(SPACE) else row[:4] for row in told["command"]]
    return told


@pytest.fixture
async def corrected(tmp_path: Path) -> Path:
    """One passage with its record, a correction, and a correction of that; then a stub."""
    box = await Box.power_on(World(), tmp_path)
    await drive_through(box)
    passage, corrections = box.lane.passage.id, desk(box)
    await corrections.correct(passage, Correct(**MASTER, plate="甘A54321"), COLLECTOR, "a")
    await corrections.correct(passage, Correct(**MASTER, vehicle_class=8), COLLECTOR, "b")
    await box.do("read")
    await box.do("cancel", reason="走错")
    await box.power_off()
    return tmp_path


async def test_tables_with_corrections_are_the_same_rebuilt(corrected: Path) -> None:
    before = content(corrected)
    assert [len(before["record"]), len(before["passage"])] == [4, 2]
    (corrected / "lane.db").unlink()
    box = await Box.power_on(World(), corrected)
    await box.power_off()
    after = content(corrected)
    after["journal"] = after["journal"][: len(before["journal"])]  # behind it stands the incident
    assert after == before
    assert damage(corrected) == []


async def test_the_log_with_corrections_is_the_same_rebuilt(corrected: Path) -> None:
    before = content(corrected)
    for file in (corrected / "spool").iterdir():
        file.unlink()
    box = await Box.power_on(World(), corrected)
    await box.power_off()
    assert damage(corrected) == []
    assert content(corrected)["record"] == before["record"]


async def test_the_database_tells_the_lines_of_corrections_too(corrected: Path) -> None:
    db = connect(corrected / "lane.db")
    told = [told for told in rows(db) if told.row.line]
    assert all(one.is_sound for one in told)
    assert len(told) == 4
    db.close()


def test_a_second_first_record_and_a_second_correction_of_one_are_impossible(
    tmp_path: Path,
) -> None:
    db = connect(tmp_path / "lane.db")
    insert = "INSERT INTO record VALUES ('X03',?,?,'P',1,'paid','etc_card',1,'',0,'{}','',?,?)"
    db.execute(insert, (1, "A", None, None))
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(insert, (2, "B", None, None))
    db.execute(insert, (2, "B", "A", 0))
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(insert, (3, "C", "A", 0))
    db.execute(insert, (3, "C", "B", 0))
    db.close()


def test_a_box_from_before_the_corrections_keeps_its_records(tmp_path: Path) -> None:
    """Its tables are taken over row by row; nothing is lost, nothing is added."""
    from importlib import resources

    first = resources.files("gateway").joinpath("schema", "0001_init.sql").read_text("utf-8")
    old = sqlite3.connect(tmp_path / "lane.db")
    old.executescript(f"{first}; PRAGMA user_version = 1")
    old.execute(
        "INSERT INTO record VALUES ('X03',1,'A','P',1,'paid','etc_card',7,'c',5,'{}','chain')"
    )
    old.commit()
    old.close()
    db = connect(tmp_path / "lane.db")
    assert db.execute("SELECT * FROM record").fetchall() == [
        ("X03", 1, "A", "P", 1, "paid", "etc_card", 7, "c", 5, "{}", "chain", None, None)
    ]
    db.close()

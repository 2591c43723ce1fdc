"""Looking at a box leaves no trace, and needs nothing but to read."""

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import audit, support
from gateway.__main__ import main
from gateway.check import box
from gateway.errors import StoreUnavailable
from gateway.export import export
from gateway.flow.journal import story, verify
from gateway.keys import read_public
from gateway.parcel import Parcel
from gateway.spool import tables
from gateway.spool.look import reading
from gateway.store import Store
from tests.rig.filled import fill, filled
from tests.still_clock import StillClock


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    await filled(tmp_path / "data", {"X03": 5})
    return tmp_path / "data"


@pytest.fixture
async def cut_off(data: Path, tmp_path: Path) -> Path:
    """As a power cut leaves it: SQLite's own log is there, the tables have not all followed."""
    store = await Store.open(data / "lane.db")
    await fill(store, 3)
    await store.settle()
    await fill(store, 2)
    shutil.copytree(data, tmp_path / "cut", ignore=shutil.ignore_patterns("*-shm"))
    await store.close()
    assert (tmp_path / "cut" / "lane.db-wal").stat().st_size > 0
    return tmp_path / "cut"


@pytest.fixture
def sealed(cut_off: Path, tmp_path: Path) -> Iterator[Path]:
    """The same on a disk that cannot be written."""
    place = tmp_path / "sealed"
    place.mkdir()
    mount = ["mount", "--bind", "-o", "ro", str(cut_off), str(place)]
    told = subprocess.run(mount, capture_output=True, text=True, timeout=20, check=False)
    if told.returncode:
        pytest.skip(f"this machine lets nobody mount: {told.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], timeout=20, check=True)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_box_at_rest_is_the_same_after_it_was_looked_at(data: Path) -> None:
    before = everything(data)
    assert verify(data) == []
    assert len(story(data, "X03-1")) == 3
    export(data, data.parent / "out.tar")
    assert everything(data) == before


async def test_what_sqlite_had_not_moved_into_the_file_is_seen(cut_off: Path) -> None:
    assert verify(cut_off) == []
    assert len(story(cut_off, "X03-8")) == 3


async def test_what_the_tables_had_not_followed_is_told_from_the_log(cut_off: Path) -> None:
    """Killed right after an answer: the log has it, the tables have it half a second later."""
    with reading(cut_off / "lane.db") as db:
        assert tables.head(db)[0] <= 3 * 9, "nothing is behind"
    rows = story(cut_off, "X03-10")
    assert [row["state"] for row in rows] == ["agreed", "agreed", "saved"]
    store = await Store.open(cut_off / "lane.db")
    await store.close()
    assert story(cut_off, "X03-10") == rows


def test_a_folder_without_a_database_is_left_without_one(data: Path) -> None:
    """SQLite makes what it does not find, unless it is told to read only."""
    (data / "lane.db").unlink()
    before = everything(data)
    assert verify(data) != []
    with pytest.raises(StoreUnavailable):
        story(data, "X03-1")
    support.bundle(data, data.parent / "out.tar.gz", None, StillClock())
    with pytest.raises(sqlite3.Error), box.reading(data / "lane.db"):
        pass
    assert everything(data) == before


def test_a_disk_that_cannot_be_written_is_read_all_the_same(sealed: Path, tmp_path: Path) -> None:
    before = everything(sealed)
    assert main(["journal", "verify", str(sealed)]) == 0
    assert main(["journal", "show", str(sealed), "X03-8"]) == 0
    told = export(sealed, tmp_path / "out.tar")
    assert told.lanes[0].count == 10
    public = read_public(str(sealed / "keys" / "lane.pub"))
    assert audit.examine(Parcel.open(tmp_path / "out.tar", public, "export")) == told
    assert everything(sealed) == before


async def test_damage_is_seen_on_such_a_disk_too(cut_off: Path, tmp_path: Path) -> None:
    newest = sorted((cut_off / "spool").glob("*.seg"))[0]
    raw = bytearray(newest.read_bytes())
    raw[6000] ^= 1
    newest.write_bytes(raw)
    assert verify(cut_off) != []

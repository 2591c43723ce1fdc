"""Two copies of money: whichever is damaged, in whatever way, the other one makes it whole."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.flow import journal
from gateway.spool import copies as copies_module
from gateway.spool import segment
from gateway.spool.copies import CHECKPOINT_COMMITS, Copies
from gateway.spool.reserve import Reserve
from gateway.store import Store
from tests.spool.used import MONEY, SOFT, content, fill, incidents, passage, soft
from tests.still_clock import StillClock

PASSAGES = 40
STEP = 1024 * 1024
LAST = 2 * PASSAGES + 1


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A used folder with four files of the log; each test has a copy."""
    data = tmp_path_factory.mktemp("origin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.spool.log.SEGMENT_BYTES", 20 * 1024)
        patch.setattr("gateway.spool.log.RESERVE_BYTES", 20 * 1024)
        asyncio.run(fill(data, PASSAGES))
    return data


@pytest.fixture
def data(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("gateway.spool.log.SEGMENT_BYTES", 20 * 1024)
    monkeypatch.setattr("gateway.spool.log.RESERVE_BYTES", 20 * 1024)
    shutil.copytree(origin, tmp_path / "data")
    return tmp_path / "data"


async def restarted(data: Path) -> list[str]:
    """The store is opened, sells one more, is closed; what it says it mended."""
    store = await Store.open(data / "lane.db", StillClock())
    said = [repair.what for repair in store.repairs]
    assert await store.log(passage(9_000)) == PASSAGES + 1
    await store.close()
    return said


def as_it_was(data: Path, origin: Path) -> None:
    """All money is there, both copies agree; the newest passage is the one sold since."""
    before, after = content(origin), content(data)
    for table in MONEY:
        new = [row for row in after[table] if row not in before[table]]
        gone = [row for row in before[table] if row not in after[table]]
        if table == "journal":  # incidents may stand between, so the new rows are numbered on
            assert gone == [], table
        assert (len(gone), len(new)) == (0, {"shift": 0, "passage": 1, "record": 1}.get(table, 2))
    assert journal.verify(data) == []


def log_files(data: Path) -> list[Path]:
    return [segment.path_of(data / "spool", n) for n in segment.numbers(data / "spool")]


def test_the_story_fills_four_files(origin: Path) -> None:
    used = [path for path in log_files(origin) if segment.read_head(path.read_bytes())]
    assert len(used) == 4


async def test_an_undamaged_store_has_nothing_to_mend(data: Path, origin: Path) -> None:
    assert await restarted(data) == []
    as_it_was(data, origin)
    assert incidents(data) == []


Spoil = Callable[[Path], None]


def flip(path: Path, at: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


LOG_WAYS: dict[str, Spoil] = {
    "flipped row": lambda path: flip(path, 4096 + 512 * 3 + 90),
    "flipped head": lambda path: flip(path, 17),
    "zeroed page": lambda path: path.write_bytes(
        path.read_bytes()[:8192] + bytes(4096) + path.read_bytes()[12288:]
    ),
    "cut": lambda path: os.truncate(path, 9_001),
    "cut in the head": lambda path: os.truncate(path, 1_000),
    "emptied": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("way", LOG_WAYS)
@pytest.mark.parametrize("number", [1, 3, 4])
async def test_a_damaged_file_of_the_log_is_mended(
    data: Path, origin: Path, way: str, number: int
) -> None:
    path = segment.path_of(data / "spool", number)
    LOG_WAYS[way](path)
    damaged = path.read_bytes() if path.exists() else b""
    said = await restarted(data)
    assert said
    as_it_was(data, origin)
    assert incidents(data) == said
    aside = sorted((data / "spool" / "quarantine").glob("*"))
    if damaged.strip(b"\0") and (way, number) != ("zeroed page", 4):  # its end, blank: written anew
        assert [path.read_bytes() for path in aside] == [damaged]
    assert await Store_repairs(data) == []


async def Store_repairs(data: Path) -> list[str]:  # noqa: N802 - reads as a question
    store = await Store.open(data / "lane.db", StillClock())
    said = [repair.what for repair in store.repairs]
    await store.close()
    return said


async def test_the_whole_log_gone_is_made_from_the_tables(data: Path, origin: Path) -> None:
    shutil.rmtree(data / "spool")
    assert len(await restarted(data)) == 1
    as_it_was(data, origin)


TABLE_WAYS: dict[str, Spoil] = {
    "no database": lambda path: path.write_bytes(b"nothing" * 1000),
    "emptied": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "cut oddly": lambda path: os.truncate(path, 10_001),
    "zeroed page": lambda path: path.write_bytes(
        path.read_bytes()[: 4096 * 3] + bytes(4096) + path.read_bytes()[4096 * 4 :]
    ),
    "newer version": lambda path: flip(path, 62, 3),
    "older version": lambda path: flip(path, 63, 1),
    "read-only mark": lambda path: flip(path, 18, 2),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("way", TABLE_WAYS)
async def test_a_damaged_database_is_made_from_the_log(data: Path, origin: Path, way: str) -> None:
    path = data / "lane.db"
    TABLE_WAYS[way](path)
    damaged = path.read_bytes() if path.exists() else b""
    said = await restarted(data)
    assert said
    as_it_was(data, origin)
    aside = [path.read_bytes() for path in (data / "quarantine").glob("*-lane.db")]
    assert not damaged or aside == [damaged]


async def test_what_is_readable_of_the_other_tables_is_salvaged(data: Path, origin: Path) -> None:
    with closing(sqlite3.connect(data / "lane.db")) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'passage'").fetchone()
    raw = bytearray((data / "lane.db").read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = b"\x55" * 4096
    (data / "lane.db").write_bytes(raw)
    assert await restarted(data)
    as_it_was(data, origin)
    assert content(data, SOFT) == content(origin, SOFT)


CHANGES = [
    "UPDATE record SET fee_fen = 1 WHERE seq = 3",
    "UPDATE record SET kind = 'doubtful' WHERE seq = 3",
    "UPDATE record SET line = replace(line, '500', '501') WHERE seq = 3",
    "DELETE FROM record WHERE seq = 3",
    "UPDATE record SET seq = 999 WHERE seq = 40",
    "UPDATE passage SET amount_fen = 1 WHERE id = 'P0003'",
    "UPDATE passage SET ended = NULL WHERE id = 'P0003'",
    "DELETE FROM passage WHERE id = 'P0003'",
    "UPDATE shift SET closed_ms = 7",
    "DELETE FROM shift",
    "UPDATE command SET fingerprint = 'other' WHERE key = 'key-3'",
    "INSERT INTO command (lane, key, fingerprint, at_ms) VALUES ('X03', 'key-99', 'f', 1)",
    "UPDATE journal SET body = '{}x' WHERE seq = 3",
    "UPDATE journal SET seq = 900 WHERE seq = 81",
    "DELETE FROM journal WHERE seq = 3",
    "DELETE FROM journal WHERE seq > 70",
    "DROP TABLE passage",
    "DROP INDEX record_card",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_of_money_in_the_tables_is_found_and_undone(
    data: Path, origin: Path, change: str
) -> None:
    with closing(sqlite3.connect(data / "lane.db")) as db, db:
        db.execute(change)
    said = await restarted(data)
    assert said
    as_it_was(data, origin)


SOFT_CHANGES = {
    "delivery": "UPDATE delivery SET verdict = 'changed' WHERE seq = 3",
    "sync_mark": "UPDATE sync_mark SET value = 'changed' WHERE name = 'mark 3'",
    "session": "UPDATE session SET owner = 'changed' WHERE token_hash = 'hash 3'",
    "handheld": "UPDATE handheld SET name = 'changed' WHERE id = 'h3'",
    "consumer": "UPDATE consumer SET cursor = 39",
}


@pytest.mark.parametrize("table", SOFT)
async def test_a_changed_row_of_another_table_is_taken_out_and_kept_aside(
    data: Path, origin: Path, table: str
) -> None:
    with closing(sqlite3.connect(data / "lane.db")) as db, db:
        db.create_function("checksum", -1, lambda *_: 0)  # no seal fits
        db.execute(SOFT_CHANGES[table])
    said = await restarted(data)
    assert [table in one for one in said] == [True]
    before, after = content(origin, SOFT), content(data, SOFT)
    assert len(after[table]) == len(before[table]) - 1
    assert all(row in before[table] for row in after[table])
    assert {t: after[t] for t in SOFT if t != table} == {t: before[t] for t in SOFT if t != table}
    assert "changed" in _aside(data) or table == "consumer"


def _aside(data: Path) -> str:
    return "".join(path.read_text() for path in (data / "quarantine").glob("*-rows.json"))


async def test_a_flipped_bit_anywhere_in_the_database_changes_no_money(
    data: Path, origin: Path
) -> None:
    """A share of all bits; tests/disk tries many more."""
    chance, sound = Random("bits"), (data / "lane.db").read_bytes()
    for _ in range(10):
        for path in data.glob("lane.db*"):
            path.unlink()
        shutil.rmtree(data / "spool")
        shutil.copytree(origin / "spool", data / "spool")
        (data / "lane.db").write_bytes(sound)
        at, bit = chance.randrange(len(sound)), chance.randrange(8)
        flip(data / "lane.db", at, bit)
        said = await restarted(data)
        as_it_was(data, origin)
        after = content(data, SOFT)
        for table, rows in content(origin, SOFT).items():
            assert after[table] == rows or said, (at, bit, table)
            assert all(row in rows for row in after[table]), (at, bit, table)


async def test_an_old_copy_of_the_database_is_told_and_brought_up_to_date(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    await fill(data, 5)
    old = (data / "lane.db").read_bytes()
    await fill(data, 10, first=6)
    before = content(data)
    (data / "lane.db").write_bytes(old)
    store = await Store.open(data / "lane.db", StillClock())
    assert ["旧的副本" in repair.what for repair in store.repairs] == [True]
    await store.close()
    assert content(data) == before
    assert journal.verify(data) == []


async def test_an_old_copy_of_the_log_is_brought_up_to_date_from_the_tables(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    await fill(data, 5)
    shutil.copytree(data / "spool", tmp_path / "old")
    await fill(data, 10, first=6)
    before = content(data)
    shutil.rmtree(data / "spool")
    shutil.copytree(tmp_path / "old", data / "spool")
    assert await Store_repairs(data)
    assert content(data) == before
    assert journal.verify(data) == []


async def test_tables_followed_live_and_rebuilt_are_alike_bit_for_bit(
    data: Path, origin: Path
) -> None:
    for path in data.glob("lane.db*"):
        path.unlink()
    assert await Store_repairs(data)
    assert content(data) == content(origin)


async def test_mending_that_is_cut_off_is_done_by_the_next_start(data: Path, origin: Path) -> None:
    """Between setting the damaged file aside and putting the mended one in its place."""
    path = segment.path_of(data / "spool", 2)
    flip(path, 4096 + 512 * 3 + 90)
    copied = data.parent / "cut"
    shutil.copytree(data, copied)
    assert await Store_repairs(data)
    mended = path.read_bytes()
    (copied / "spool" / "000002.mended").write_bytes(mended)
    segment.path_of(copied / "spool", 2).unlink()
    assert await restarted(copied) == []
    as_it_was(copied, origin)


@pytest.mark.parametrize("is_half_there", [True, False], ids=["rebuilt", "not rebuilt"])
@pytest.mark.parametrize("moved", ["", "-wal", "lane.db", "lane.db -wal", "lane.db -wal -shm"])
async def test_setting_a_database_aside_may_be_cut_between_its_files(
    data: Path, origin: Path, moved: str, is_half_there: bool
) -> None:
    """Of the moves anything may have arrived. SQLite's log must never meet another database."""
    before = await _as_a_cut_leaves_it(data)
    (data / "quarantine").mkdir()
    if is_half_there:
        whole = data.with_name("whole")
        shutil.copytree(data, whole)
        with closing(sqlite3.connect(whole / "lane.db")) as db:
            db.execute("UPDATE passage SET plate = 'x'")
            db.commit()
        await (await Store.open(whole / "lane.db", StillClock())).close()
        (whole / "lane.db").replace(data / "lane.db.rebuilding")
    for name in moved.split():
        file = data / (name if name == "lane.db" else f"lane.db{name}")
        file.replace(data / "quarantine" / f"0001-{file.name}")
    await restarted(data)
    as_it_was(data, origin)
    with closing(sqlite3.connect(data / "lane.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    marks = _marks(data)
    assert marks <= before
    if is_half_there and "lane.db" in moved.split():
        assert marks == before


async def test_a_database_taken_away_leaves_no_log_for_the_next_one(
    data: Path, origin: Path
) -> None:
    await _as_a_cut_leaves_it(data)
    (data / "lane.db").unlink()
    (data / "lane.db-shm").unlink()
    said = await restarted(data)
    assert any("不见了" in what for what in said)
    as_it_was(data, origin)
    with closing(sqlite3.connect(data / "lane.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [file.name for file in (data / "quarantine").iterdir()] == ["0001-lane.db-wal"]


async def _as_a_cut_leaves_it(data: Path) -> set[Any]:
    """SQLite's own log is long and full of the other tables' rows; all marks there are."""
    store, running = await Store.open(data / "lane.db", StillClock()), data.with_name("running")
    for number in range(30):
        await store.write(partial(_mark, number))
    shutil.copytree(data, running)
    await store.close()  # brings the log into the file and takes it away
    marks = _marks(data)
    shutil.rmtree(data)
    running.rename(data)
    assert (data / "lane.db-wal").stat().st_size > 100_000
    return marks


def _marks(data: Path) -> set[Any]:
    return set(content(data, ("sync_mark",))["sync_mark"])


def _mark(number: int, db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO sync_mark VALUES (?, ?, 7)", (f"long {number}", "v" * 3000))


async def test_a_row_that_both_have_lost_is_told_once_and_not_every_time(data: Path) -> None:
    flip(segment.path_of(data / "spool", 2), 4096 + 512 * 3 + 90)
    for path in data.glob("lane.db*"):
        path.unlink()
    said = await Store_repairs(data)
    assert any("接不上" in one for one in said)
    store = await Store.open(data / "lane.db", StillClock())
    assert await store.log(passage(9_000))
    await store.close()


async def test_an_incident_that_the_disk_refuses_is_told_later(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "lane.db").unlink()
    real = os.pwrite

    def no_more(fd: int, piece: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", no_more)
    store = await Store.open(data / "lane.db", StillClock())
    with pytest.raises(StoreUnavailable):
        await store.log(passage(9_000))
    monkeypatch.setattr("os.pwrite", real)
    with suppress(StoreUnavailable):
        await store.log(passage(9_001))
    await store.log(passage(9_002))
    await store.settle()
    assert len(incidents(data)) == 1
    await store.close()


async def test_a_large_damaged_database_is_healed_by_the_next_start_and_sells_until_then(
    data: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "CHECKED_AT_START", 4096)
    with closing(sqlite3.connect(data / "lane.db")) as db, db:
        db.execute("UPDATE record SET fee_fen = 1 WHERE seq = 3")
    assert await Store_repairs(data) == []
    (data / copies_module.SUSPECT).touch()
    assert await restarted(data)
    as_it_was(data, origin)
    assert not (data / copies_module.SUSPECT).exists()


async def test_soft_rows_written_by_the_program_fit_their_seals(data: Path) -> None:
    store = await Store.open(data / "lane.db", StillClock())
    await store.write(soft(500))
    await store.write(
        lambda db: db.execute("UPDATE handheld SET revoked_ms = 9 WHERE id = 'h500'") and None
    )
    await store.write(lambda db: db.execute("DELETE FROM session WHERE owner = 'booth'") and None)
    await store.close()
    assert await Store_repairs(data) == []


def test_a_checkpoint_on_a_full_disk_takes_room_from_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Put off, SQLite's own log would grow until it has eaten the reserve of all passages."""
    copies = Copies(tmp_path / "lane.db", StillClock())
    copies.open()
    copies.reserve = Reserve(tmp_path / "reserve", size=2 * STEP, step=STEP)
    while not copies.reserve.is_whole:
        copies.reserve.rebuild()
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    faults, real = [full], Copies.handle

    def handle(self: Copies) -> sqlite3.Connection:
        if faults:
            raise faults.pop()
        return real(self)

    monkeypatch.setattr(Copies, "handle", handle)
    copies.commits = CHECKPOINT_COMMITS
    copies.tidy()
    assert copies.reserve.held_bytes == STEP
    assert "checkpoint failed" not in caplog.text
    copies.close()

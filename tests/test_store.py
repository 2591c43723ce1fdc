"""The store on a real file: whole works or none, nothing cut by cancelling, settings read back."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.spool import copies, database
from gateway.store import Store


def insert(number: int, delay: threading.Event | None = None):
    def work(db: sqlite3.Connection) -> int:
        if delay:
            assert delay.wait(5)
        db.execute("INSERT INTO sync_mark VALUES (?, '1', 1)", (f"n{number}",))
        return number

    return work


async def names(store: Store) -> list[str]:
    return [row["name"] for row in await store.rows("SELECT name FROM sync_mark ORDER BY name")]


@pytest.fixture
async def store(tmp_path: Path):
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


async def test_what_write_returned_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "lane.db")
    assert await store.write(insert(1)) == 1
    await store.close()
    again = await Store.open(tmp_path / "lane.db")
    assert await names(again) == ["n1"]
    await again.close()


async def test_the_pragmas_that_carry_the_promise_are_in_force(store: Store) -> None:
    def read(db: sqlite3.Connection) -> list[object]:
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in database.PRAGMAS]

    assert await store.write(read) == [wanted for _, wanted in database.PRAGMAS.values()]


async def test_a_setting_that_does_not_take_refuses_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database.PRAGMAS, "synchronous", ("NORMAL", 2))
    with pytest.raises(StoreUnavailable, match="synchronous"):
        await Store.open(tmp_path / "lane.db")


async def test_a_file_that_is_no_database_is_set_aside_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "lane.db").write_bytes(b"not a database at all" * 100)
    store = await Store.open(tmp_path / "lane.db")
    assert await store.write(insert(1)) == 1
    assert [repair.aside for repair in store.repairs] == ["quarantine/0001-lane.db"]
    await store.close()
    aside = tmp_path / "quarantine" / "0001-lane.db"
    assert aside.read_bytes() == b"not a database at all" * 100


async def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "lane.db") as db:
        db.execute("PRAGMA user_version = 9999")
    db.close()
    with pytest.raises(StoreUnavailable, match="9999"):
        await Store.open(tmp_path / "lane.db")


async def test_a_work_that_raises_leaves_nothing_and_harms_no_other(store: Store) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO sync_mark VALUES ('half', '1', 1)")
        raise ValueError("no")

    results = await asyncio.gather(
        store.write(insert(1)),
        store.write(half),
        store.write(insert(1)),
        store.write(insert(2)),
        return_exceptions=True,
    )
    assert results[0] == 1
    assert isinstance(results[1], ValueError)
    assert isinstance(results[2], sqlite3.IntegrityError)
    assert results[3] == 2
    assert await names(store) == ["n1", "n2"]


async def test_cancelling_the_caller_cuts_nothing(store: Store) -> None:
    """The caller goes while its work is under way: the work is still whole."""
    go = threading.Event()
    first = asyncio.ensure_future(store.write(insert(1, go)))
    second = asyncio.ensure_future(store.write(insert(2)))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    go.set()
    for cancelled in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    await store.write(insert(3))
    assert await names(store) == ["n1", "n2", "n3"]


async def test_works_that_wait_together_share_one_commit(store: Store) -> None:
    commits = 0

    def count(db: sqlite3.Connection) -> None:
        def trace(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        db.set_trace_callback(trace)

    await store.write(count)
    commits = 0
    go = threading.Event()
    works = [store.write(insert(0, go)), *(store.write(insert(n)) for n in range(1, 20))]
    waiting = asyncio.gather(*works)
    await asyncio.sleep(0)
    go.set()
    assert await waiting == list(range(20))
    assert commits <= 3


async def test_a_full_disk_is_said_and_selling_goes_on_when_there_is_room(store: Store) -> None:
    await store.write(insert(0))
    store.pretend_full(True)

    def large(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO sync_mark VALUES ('large', ?, 1)", ("x" * 100_000,))

    with pytest.raises(StoreUnavailable, match="磁盘满了"):
        await store.write(large)
    store.pretend_full(False)
    await store.write(large)
    assert await names(store) == ["large", "n0"]


async def test_readers_never_see_half_a_work(store: Store) -> None:
    def pair(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO sync_mark VALUES ('a', '1', 1)")
        seen.append(len(reader.execute("SELECT * FROM sync_mark").fetchall()))
        db.execute("INSERT INTO sync_mark VALUES ('b', '1', 1)")

    seen: list[int] = []
    reader = sqlite3.connect(store.path, check_same_thread=False)
    await store.write(pair)
    assert seen == [0]
    assert len(reader.execute("SELECT * FROM sync_mark").fetchall()) == 2
    reader.close()


async def test_the_log_is_moved_into_the_file_when_the_answers_are_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "CHECKPOINT_COMMITS", 4)
    store = await Store.open(tmp_path / "lane.db")
    for number in range(5):  # the fifth waits for what was done after the fourth
        await store.write(insert(number))
    file = sqlite3.connect(f"file:{tmp_path}/lane.db?immutable=1", uri=True)  # blind to the log
    assert file.execute("SELECT count(*) FROM sync_mark").fetchone() == (4,)
    file.close()
    await store.close()


async def test_a_lone_work_that_fails_leaves_nothing_and_the_next_one_works(store: Store) -> None:
    def fails(db: sqlite3.Connection) -> None:
        insert(1)(db)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(fails)
    assert await store.write(insert(2)) == 2
    assert await names(store) == ["n2"]


async def test_readers_that_meet_a_database_made_anew_are_all_answered(store: Store) -> None:
    """One of them opens the new file while others ask: nobody asks a reader that was closed."""
    await store.write(insert(1))
    for _ in range(5):
        store._writer.copies.generation += 1
        async with asyncio.timeout(10):
            found = await asyncio.gather(*(names(store) for _ in range(20)))
        assert found == [["n1"]] * 20

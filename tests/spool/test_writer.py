"""The writer's thread: what shares a sync, what waits, what a refused write or a cancelled wait
leaves behind."""

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.spool import copies as copies_module
from gateway.spool import writer as writer_module
from gateway.store import Draft, Store
from tests.spool.used import passage, soft
from tests.still_clock import StillClock


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.02)
    store = await Store.open(tmp_path / "lane.db", StillClock())
    yield store
    await store.close()


class Broken:
    """SQLite's file refuses writes while this holds: it was made read-only under its hands."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch, self._copies = monkeypatch, store._writer.copies

    def __enter__(self) -> "Broken":
        def refuse(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        self._real = copies_module.tables.follow
        self._patch.setattr(copies_module.tables, "follow", refuse)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.setattr(copies_module.tables, "follow", self._real)


def noted(number: int, wait: threading.Event | None = None) -> Any:
    def entry(draft: Draft) -> int:
        assert wait is None or wait.wait(5)
        return draft.add("X03", "", (number, 1, "b", "o"), f"n{number}")

    return entry


async def test_steps_that_wait_together_share_one_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, real, go = [], os.pwrite, threading.Event()
    monkeypatch.setattr(
        "os.pwrite", lambda fd, data, at: writes.append(len(data)) or real(fd, data, at)
    )
    waiting = asyncio.gather(store.log(noted(0, go)), *(store.log(noted(n)) for n in range(1, 20)))
    await asyncio.sleep(0)
    go.set()
    assert await waiting == list(range(1, 21))
    assert len(writes) <= 3


async def test_one_steps_fault_is_its_own(store: Store) -> None:
    def fails(_: Draft) -> None:
        raise ValueError("no")

    results = await asyncio.gather(
        store.log(noted(1)), store.log(fails), store.log(noted(2)), return_exceptions=True
    )
    assert [results[0], results[2]] == [1, 2]
    assert isinstance(results[1], ValueError)


@pytest.mark.parametrize("body", ["\ud800", "x" * (1 << 21)], ids=["no text", "too long"])
async def test_a_row_that_cannot_be_written_harms_nobody(store: Store, body: str) -> None:
    def entry(draft: Draft) -> None:
        draft.add("X03", "", (1, 1, "b", "o"), "note", body=body)

    results = await asyncio.gather(
        store.log(noted(1)), store.log(entry), store.log(noted(2)), return_exceptions=True
    )
    assert [results[0], results[2]] == [1, 2]
    assert isinstance(results[1], ValueError)


async def test_a_step_that_looks_sees_all_before_it(store: Store) -> None:
    def count(draft: Draft) -> int:
        return int(draft.db.execute("SELECT count(*) FROM record").fetchone()[0])

    await asyncio.gather(*(store.log(passage(n)) for n in range(1, 6)))
    assert await store.log(count, looks=True) == 5


async def test_cancelling_the_caller_cuts_nothing(store: Store) -> None:
    go = threading.Event()
    first = asyncio.ensure_future(store.log(noted(1, go)))
    second = asyncio.ensure_future(store.log(noted(2)))
    await asyncio.sleep(0)
    first.cancel(), second.cancel()
    go.set()
    await store.settle()
    rows = await store.rows("SELECT event FROM journal ORDER BY seq")
    assert [row["event"] for row in rows] == ["n1", "n2"]


async def test_selling_goes_on_while_the_tables_cannot_follow_and_they_catch_up_by_themselves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "AHEAD_MAX", 10)
    monkeypatch.setattr(copies_module, "SLICE", 4)
    with Broken(store, monkeypatch):
        for number in range(1, 41):
            assert await store.log(passage(number)) == number
        with pytest.raises(StoreUnavailable):
            await store.rows("SELECT 1")
        with pytest.raises(StoreUnavailable):
            await store.write(soft(1))
        assert len(store._writer.copies._ahead) <= 10
    async with asyncio.timeout(10):
        while store._writer.is_behind:
            await asyncio.sleep(0.01)
    (row,) = await store.rows("SELECT count(*) AS n FROM record")
    assert row["n"] == 40


async def test_what_can_be_lost_is_bounded_while_it_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "LATER_MAX", 5)
    done: list[int] = []
    with Broken(store, monkeypatch):
        await store.log(passage(1))
        for number in range(20):
            store.later(lambda db, n=number: done.append(n))
        with pytest.raises(StoreUnavailable):
            await store.settle()
    await store.settle()
    assert done == [15, 16, 17, 18, 19]


async def test_nobody_is_shown_tables_that_lack_what_a_refused_write_left_on_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.log(noted(1))
    real = os.pwrite

    def done_and_refused(fd: int, data: bytes, at: int) -> int:
        real(fd, data, at)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pwrite", done_and_refused)
    with pytest.raises(StoreUnavailable):
        await store.log(noted(2))
    monkeypatch.setattr("os.pwrite", real)
    rows = await store.rows("SELECT event FROM journal ORDER BY seq")
    assert [row["event"] for row in rows] == ["n1", "n2"]
    assert await store.log(noted(3)) == 3


async def test_the_numbers_of_a_lane_go_on_behind_a_record_that_was_refused_and_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.log(passage(1))
    real = os.pwrite

    def done_and_refused(fd: int, data: bytes, at: int) -> int:
        real(fd, data, at)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pwrite", done_and_refused)
    with pytest.raises(StoreUnavailable):
        await store.log(passage(2))
    monkeypatch.setattr("os.pwrite", real)
    assert await store.log(passage(3)) == 3
    (row,) = await store.rows("SELECT count(*) AS n FROM record")
    assert row["n"] == 3


async def test_tables_damaged_under_us_are_made_again_while_the_lane_sells(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        await store.log(passage(number))
    await store.settle()
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("DROP TABLE passage")
    assert await store.log(passage(6)) == 6
    rows = await store.rows("SELECT count(*) AS n FROM passage")
    assert rows[0]["n"] == 6
    assert len(store.repairs) == 1


async def test_a_writer_that_dies_of_a_bug_leaves_nobody_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in work, what waits behind it and what comes later is refused; `run` ends."""
    go, running = threading.Event(), asyncio.ensure_future(store.run())
    await store.log(passage(1))
    monkeypatch.setattr(store._writer.copies, "tell", lambda: 1 / 0)
    results = asyncio.gather(
        store.write(lambda _: go.wait(5)),
        store.log(passage(2)),
        store.write(lambda _: None),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(5):
        in_work, behind, later = await results
        assert in_work is True
        assert isinstance(behind, StoreUnavailable)
        assert isinstance(later, StoreUnavailable)
        assert "自动重新启动" in behind.action
        with pytest.raises(ZeroDivisionError):
            await running
        with pytest.raises(StoreUnavailable):
            await store.log(passage(3))


async def test_a_bug_while_opening_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module.Copies, "open", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5):
            await Store.open(tmp_path / "other.db", StillClock())

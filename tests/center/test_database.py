"""Works that wait for the embedded database share a commit, and nothing else."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.center.database import Embedded, Put


@pytest.fixture
async def database(tmp_path: Path) -> Any:
    database = await Embedded.open(tmp_path / "c.db")
    yield database
    await database.close()


async def count(database: Embedded) -> int:
    value: int = await database.run(
        lambda db: db.execute("SELECT count(*) FROM record").fetchone()[0]
    )
    return value


def put(seq: int) -> Any:
    return lambda db: db.put_all("X03", [Put(seq, f"{seq:037d}", b"{}")], 0)


async def test_what_waits_goes_with_one_commit(database: Embedded) -> None:
    commits = list[str]()

    def trace(_: Any) -> None:
        database._db.set_trace_callback(
            lambda sql: commits.append(sql) if sql == "COMMIT" else None
        )

    await database.run(trace)
    busy = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(_: Any) -> None:
        asyncio.run_coroutine_threadsafe(busy.wait(), loop).result(20)

    waiting = [asyncio.create_task(database.run(work)) for work in (wait, put(1), put(2), put(3))]
    await asyncio.sleep(0)
    busy.set()
    assert await asyncio.gather(*waiting) == [None, True, True, True]
    assert len(commits) <= 3  # the first one's, the waiting one's, that of the rest
    assert await count(database) == 3


async def test_a_fault_is_the_own_one_of_its_work(database: Embedded) -> None:
    def breaks(db: Any) -> None:
        put(2)(db)
        raise KeyError("mine")

    told = await asyncio.gather(
        *map(database.run, (put(1), breaks, put(3))), return_exceptions=True
    )
    assert told[0] is told[2] is True
    assert isinstance(told[1], KeyError)
    assert await count(database) == 2


@pytest.mark.parametrize("refused", [("COMMIT",), ("COMMIT", "ROLLBACK")])
async def test_a_commit_that_fails_is_nobodys(
    database: Embedded, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    class Full:
        """A connection whose disk is full at the commit."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self._db = db

        def __getattr__(self, name: str) -> Any:
            return getattr(self._db, name)

        def execute(self, sql: str, *values: Any) -> Any:
            if sql in refused:
                raise sqlite3.OperationalError("database or disk is full")
            return self._db.execute(sql, *values)

    with monkeypatch.context() as full:
        full.setattr(database, "_db", Full(database._db))
        told = await asyncio.gather(*map(database.run, (put(1), put(2))), return_exceptions=True)
        assert [type(one) for one in told] == [sqlite3.OperationalError] * 2
    if "ROLLBACK" in refused:  # what is left open of it goes with the next one that fails
        with pytest.raises(sqlite3.OperationalError):
            await database.run(put(3))
    assert await count(database) == 0
    assert await database.run(put(1)) is True


async def test_of_many_records_all_go_or_none(database: Embedded) -> None:
    lines = [f'{{"甘":"{"长" * seq}"}}'.encode() for seq in range(1, 6)]
    some = [Put(seq, f"{seq:037d}", line) for seq, line in enumerate(lines, 1)]
    assert await database.run(lambda db: db.put_all("X03", some, 7)) is True
    rows = await database.run(lambda db: db.execute("SELECT seq, line FROM record").fetchall())
    assert [tuple(row) for row in rows] == list(enumerate(lines, 1))
    more = [Put(6, "6" * 37, b"{}"), Put(7, some[0].id, b"{}")]
    assert await database.run(lambda db: db.put_all("X03", more, 7)) is False
    assert await count(database) == 5

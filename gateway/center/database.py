"""What the book stands on: a database that runs work in one transaction, and the embedded one.

The book's statements are written once, with `?` for values, in the SQL that both understand; so
the verdicts are the same whichever is below (postgres.py is the other).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")


class DatabaseAway(Exception):
    """Nobody answers there now. What was being done may have been done: ask again."""


class Rows(Protocol):
    """A row gives its values by place and by name."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Db(Protocol):
    """One transaction."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows: ...


class Database(Protocol):
    async def run(self, work: Callable[[Db], T], *, lane: str = "", is_ordered: bool = False) -> T:
        """All of it or nothing, on disk when this returns. `work` may be run again.

        `lane`: the one whose records are written; nobody else writes them meanwhile. `is_ordered`:
        no record is being written that could come before those that `work` sees.
        Raises: DatabaseAway.
        """
        ...

    async def close(self) -> None: ...


class Embedded:
    """One SQLite file, one thread: everything happens one after the other."""

    def __init__(self, db: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._db, self._thread = db, thread

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Raises: sqlite3.Error; RuntimeError, if WAL or synchronous=FULL did not take."""
        thread = ThreadPoolExecutor(1, "center-book")
        db = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        return cls(db, thread)

    async def run(
        self,
        work: Callable[[Db], T],
        *,
        lane: str = "",  # noqa: ARG002 - one writer is enough of a lock
        is_ordered: bool = False,  # noqa: ARG002
    ) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, _whole, self._db, work))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    level = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, level) != ("wal", 2):
        db.close()
        raise RuntimeError(f"journal_mode {mode}, synchronous {level}")
    db.executescript(resources.files("gateway.center").joinpath("schema.sql").read_text("utf-8"))
    return db


def _whole(db: sqlite3.Connection, work: Callable[[Db], T]) -> T:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        value = work(db)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return value

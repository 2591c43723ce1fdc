"""What the book stands on: a database that runs work in one transaction, and the embedded one.

The book's statements are written once, with `?` for values, in the SQL that both understand; so
the verdicts are the same whichever is below (postgres.py is the other).
"""

import asyncio
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar

T = TypeVar("T")
TOGETHER = 64  # works that share one commit
PAGE_BYTES = 16384  # of a new file: a record is half of SQLite's usual page
PUT_ALL = """
INSERT INTO record (lane, seq, id, is_stub, line, received_ms)
SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), 0,
  substr(?2, json_extract(value, '$[2]'), json_extract(value, '$[3]')), ?3
FROM json_each(?4)
"""
"""One step for many records: whoever steps through them one by one gives up Python's lock each
time, and waits for it while bodies are being read."""


class DatabaseAway(Exception):
    """Nobody answers there now. What was being done may have been done: ask again."""


class Rows(Protocol):
    """A row gives its values by place and by name."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Put(NamedTuple):
    """A whole record, and the slot it takes."""

    seq: int
    id: str
    line: bytes


class Db(Protocol):
    """One transaction."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows: ...

    def put_all(self, lane: str, records: Sequence[Put], at_ms: int) -> bool:
        """All of them, or none and False: an id or a slot of them is taken."""
        ...


class Database(Protocol):
    async def run(self, work: Callable[[Db], T], *, lane: str = "", is_ordered: bool = False) -> T:
        """All of it or nothing, on disk when this returns. `work` may be run again.

        `lane`: the one whose records are written; nobody else writes them meanwhile. `is_ordered`:
        no record is being written that could come before those that `work` sees.
        Raises: DatabaseAway.
        """
        ...

    async def close(self) -> None: ...


class Work(NamedTuple):
    do: Callable[[Db], Any]
    done: "asyncio.Future[Any]"


Outcome = tuple[Any, BaseException | None]


class Embedded:
    """One SQLite file, one thread: everything happens one after the other, and what waits while the
    disk is busy shares the next commit."""

    def __init__(self, db: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._db, self._thread = db, thread
        self._waiting = deque[Work]()

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
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append(Work(work, done))
        self._thread.submit(self._serve, loop)
        return await done

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread: all that waits, or nothing, if it went with what came before."""
        works = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
        if works:
            outcomes = _together(self._db, [work.do for work in works])
            loop.call_soon_threadsafe(_tell, [work.done for work in works], outcomes)


def _tell(waiting: "Sequence[asyncio.Future[Any]]", outcomes: Sequence[Outcome]) -> None:
    for done, (value, fault) in zip(waiting, outcomes, strict=True):
        if done.done():
            continue  # whoever asked has gone
        if fault is None:
            done.set_result(value)
        else:
            done.set_exception(fault)


class Transaction:
    """A `Db` over SQLite."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.execute = db, db.execute

    def put_all(self, lane: str, records: Sequence[Put], at_ms: int) -> bool:
        told, first = list[tuple[int, str, int, int]](), 1
        for seq, record_id, line in records:
            told.append((seq, record_id, first, len(line)))
            first += len(line)
        lines = b"".join(record.line for record in records)
        try:
            self._db.execute(PUT_ALL, (lane, lines, at_ms, json.dumps(told)))
        except sqlite3.IntegrityError:
            return False  # a statement that fails leaves nothing
        return True


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    level = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, level) != ("wal", 2):
        db.close()
        raise RuntimeError(f"journal_mode {mode}, synchronous {level}")
    db.executescript(resources.files("gateway.center").joinpath("schema.sql").read_text("utf-8"))
    return db


def _together(db: sqlite3.Connection, works: Sequence[Callable[[Db], Any]]) -> list[Outcome]:
    """Each of them whole or not at all; none before all are on disk."""
    try:
        db.execute("BEGIN IMMEDIATE")
        outcomes = [_alone(db, work) for work in works]
        db.execute("COMMIT")
    except BaseException as broken:  # noqa: BLE001 - whoever waits must hear of it
        with suppress(sqlite3.Error):  # on a disk that takes nothing it may fail as well
            if db.in_transaction:
                db.execute("ROLLBACK")
        return [(None, broken)] * len(works)
    return outcomes


def _alone(db: sqlite3.Connection, work: Callable[[Db], Any]) -> Outcome:
    """Under a savepoint: its fault is its own, but for one that ends the whole transaction."""
    db.execute("SAVEPOINT work")
    try:
        value = work(Transaction(db))
    except BaseException as fault:
        if not db.in_transaction:
            raise
        db.execute("ROLLBACK TO work")
        db.execute("RELEASE work")
        return None, fault
    db.execute("RELEASE work")
    return value, None

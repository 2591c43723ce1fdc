"""One SQLite file, one writer. A unit of work is one function, run whole in the writer's thread.

Why a thread of our own: with a shared asynchronous connection two tasks interleave inside one
BEGIN…COMMIT, and cancelling an await leaves half a transaction open (reliability.md §5). Here a
caller hands over a function and waits on a future; cancelling the wait never cuts the work.
Works that queue up while a commit is syncing share the next one: on a slow disk that is what
keeps several lanes moving.
"""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import aiosqlite

from gateway.errors import StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
_Result = tuple[Any, BaseException | None]

GROUP_MAX = 64  # works in one commit
BUSY_MS = 5_000
CHECKPOINT_COMMITS = 64  # some 400 pages of log; SQLite itself would wait for 1 000
JOURNAL_SIZE_MAX = 16 * 1024 * 1024  # bytes the WAL may keep after a checkpoint

PRAGMAS = {
    # pragma: (value to set, value to read back)
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    "journal_size_limit": (str(JOURNAL_SIZE_MAX), JOURNAL_SIZE_MAX),
}


class Store:
    """The box's database file. What `write` has returned survives a power cut."""

    def __init__(self, path: Path, writer: "_Writer", reader: aiosqlite.Connection) -> None:
        self.path = path
        self._writer, self._reader = writer, reader

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create, migrate, verify the pragmas.

        Raises: StoreUnavailable, if the file cannot be opened, is damaged, is newer than this
        program, or a pragma did not take.
        """
        writer = _Writer(path)
        await writer.start()
        address = f"{path.absolute().as_uri()}?mode=ro"  # noqa: ASYNC240 - touches no disk
        reading = aiosqlite.connect(address, uri=True)
        # Not a daemon by default: a box that dies of a bug would wait for it for ever.
        reading._thread.daemon = True  # noqa: SLF001
        reader = await reading
        reader.row_factory = aiosqlite.Row
        return cls(path, writer, reader)

    async def write(self, work: Work[T]) -> T:
        """Run `work` inside one transaction; return its result once that is on disk.

        `work` gets the connection, may read and write, must not commit, and must not touch
        anything but the connection and its own values: it runs in another thread. What it
        raises rolls back only its own changes. Cancelling the caller does not cancel the work.
        Raises: StoreUnavailable, if the disk does not take it; nothing of it is then stored.
        """
        return await self._writer.submit(work)

    async def rows(self, sql: str, *params: Any) -> Sequence[aiosqlite.Row]:
        """All rows of one read, as of the last commit. Keep them few: page long reads."""
        try:
            return list(await self._reader.execute_fetchall(sql, params))
        except sqlite3.Error as broken:
            raise StoreUnavailable(f"数据库读取失败：{broken}") from broken

    @property
    def last_commit_ms(self) -> float:
        """How long the newest commit took, for /readyz."""
        return self._writer.last_commit_ms

    def pretend_full(self, is_full: bool) -> None:
        """For the bench and tests: SQLite may use no page beyond those it has."""
        self._writer.may_grow = not is_full

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.stop()


class _Job(NamedTuple):
    work: Work[Any]
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class _Writer:
    """The thread that owns the only writing connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._db: sqlite3.Connection | None = None
        self._opened: asyncio.Future[None]
        self._stopped: asyncio.Future[None]
        self._loop: asyncio.AbstractEventLoop
        self.last_commit_ms = 0.0
        self.may_grow = True
        self._is_limited = False
        self._commits = 0
        """Since the last checkpoint."""

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._stopped = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def submit(self, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, done, loop))
        return await done  # a caller that is cancelled cancels this future, never the work

    async def stop(self) -> None:
        self._jobs.put(None)
        await self._stopped

    # ---- in the thread ----

    def _run(self) -> None:
        try:
            self._db = _connect(self._path)
        except (sqlite3.Error, OSError) as broken:
            fault = StoreUnavailable(f"数据库打不开：{broken}")
            self._loop.call_soon_threadsafe(_fail, self._opened, fault)
            return
        except StoreUnavailable as no:
            self._loop.call_soon_threadsafe(_fail, self._opened, no)
            return
        self._loop.call_soon_threadsafe(_finish, self._opened, None)
        while (job := self._jobs.get()) is not None:
            group = [job]
            last = False
            with suppress(queue.Empty):
                while len(group) < GROUP_MAX:
                    more = self._jobs.get_nowait()
                    if more is None:
                        last = True
                        break
                    group.append(more)
            self._commit(group)
            self._tidy()
            if last:
                break
        if self._db is not None:
            self._db.close()
        self._loop.call_soon_threadsafe(_finish, self._stopped, None)

    def _commit(self, group: list[_Job]) -> None:
        begun = time.perf_counter()
        try:
            if self._db is None or self._is_limited == self.may_grow:
                self._reconnect()
            assert self._db is not None
            self._db.execute("BEGIN IMMEDIATE")
            is_alone = len(group) == 1
            results = [self._alone(group[0].work)] if is_alone else self._together(group)
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        except (sqlite3.Error, OSError, StoreUnavailable) as broken:
            log.error("commit failed", extra={"reason": str(broken)})
            self._abandon()
            results = [(None, StoreUnavailable(f"磁盘不能写：{broken}"))] * len(group)
        self.last_commit_ms = (time.perf_counter() - begun) * 1000
        self._commits += 1
        for job, (value, fault) in zip(group, results, strict=True):
            if fault is None:
                _tell(job, _finish, value)
            else:
                _tell(job, _fail, fault)

    def _alone(self, work: Work[Any]) -> _Result:
        """The usual case: nobody else's work in the transaction, no savepoint to pay for."""
        assert self._db is not None
        try:
            return work(self._db), None
        except BaseException as fault:
            if _is_disk_trouble(fault):
                raise
            self._db.execute("ROLLBACK")
            return None, fault

    def _together(self, group: list[_Job]) -> list[_Result]:
        return [self._one(job.work) for job in group]

    def _one(self, work: Work[Any]) -> _Result:
        """One work under its own savepoint, so that its failure is only its own."""
        assert self._db is not None
        self._db.execute("SAVEPOINT work")
        try:
            value = work(self._db)
        except BaseException as fault:
            if _is_disk_trouble(fault):
                raise  # nobody's work is safe
            self._db.execute("ROLLBACK TO work")
            self._db.execute("RELEASE work")
            return None, fault
        self._db.execute("RELEASE work")
        return value, None

    def _tidy(self) -> None:
        """Move the log's pages into the file after the answers were given, not before.

        SQLite would do it inside some later commit, and whoever waits for that one would pay.
        """
        if self._db is None or self._commits < CHECKPOINT_COMMITS:
            return
        self._commits = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as broken:  # nothing is lost: the log still has it all
            log.error("checkpoint failed", extra={"reason": str(broken)})
            self._abandon()

    def _reconnect(self) -> None:
        self._abandon()
        self._db = _connect(self._path)
        self._is_limited = not self.may_grow
        if self._is_limited:
            pages = self._db.execute("PRAGMA page_count").fetchone()[0]
            self._db.execute(f"PRAGMA max_page_count={pages}")

    def _abandon(self) -> None:
        """After a failed write the handle is distrusted: close it, the next work opens anew."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.rollback()
            with suppress(sqlite3.Error):
                db.close()


def _is_disk_trouble(fault: BaseException) -> bool:
    """The disk's or the file's, not a broken constraint and not our own wrong SQL."""
    if not isinstance(fault, sqlite3.OperationalError | sqlite3.DatabaseError):
        return False
    if isinstance(fault, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return False
    return getattr(fault, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def _tell(job: _Job, how: Callable[["asyncio.Future[Any]", Any], None], what: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        job.loop.call_soon_threadsafe(how, job.done, what)


def _finish(done: "asyncio.Future[Any]", value: Any) -> None:
    if not done.done():
        done.set_result(value)


def _fail(done: "asyncio.Future[Any]", fault: BaseException) -> None:
    if not done.done():
        done.set_exception(fault)
        done.exception()  # retrieved: a caller that was cancelled does not read it


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        for name, (value, wanted) in PRAGMAS.items():
            db.execute(f"PRAGMA {name}={value}")
            got = db.execute(f"PRAGMA {name}").fetchone()[0]
            if got != wanted:
                raise StoreUnavailable(f"数据库设置 {name} 没有生效：{got}")
        _migrate(db)
        _sync_folder(path.parent)  # the file's own name must survive the first power cut
    except BaseException:
        db.close()
        raise
    return db


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _migrate(db: sqlite3.Connection) -> None:
    """Apply schema/NNNN_*.sql in order, each in its own transaction with its number."""
    have: int = db.execute("PRAGMA user_version").fetchone()[0]
    scripts = {
        int(file.name[:4]): file.read_text(encoding="utf-8")
        for file in resources.files("gateway").joinpath("schema").iterdir()
        if file.name.endswith(".sql")
    }
    if have > max(scripts):
        raise StoreUnavailable(f"数据库版本 {have} 比程序新，请不要降级程序")
    for number in sorted(n for n in scripts if n > have):
        db.executescript(
            f"BEGIN IMMEDIATE; {scripts[number]}; PRAGMA user_version={number}; COMMIT;"
        )

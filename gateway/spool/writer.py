"""The thread in which everything is written: works in order, neighbours sharing one sync.

Why a thread of our own: with a shared asynchronous connection two tasks interleave inside one
BEGIN…COMMIT, and cancelling an await leaves half a transaction open (reliability.md §5). Here a
caller hands over a function and waits on a future; cancelling the wait never cuts the work.
Works that queue up while the disk is busy share the next sync: on a slow disk that is what keeps
several lanes moving.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import StoreUnavailable
from gateway.spool.copies import Copies
from gateway.spool.database import is_damage, is_disk_trouble
from gateway.spool.draft import Draft, Work
from gateway.spool.frame import Row
from gateway.spool.health import errno_of, words
from gateway.spool.log import BLOCK
from gateway.spool.progress import Progress
from gateway.units import Clock

log = logging.getLogger(__name__)
_Result = tuple[Any, BaseException | None]

GROUP_MAX = 64  # works that share one sync
LAG_S = 0.5  # the tables wait so long for more steps before they follow
RETRY_S = 5.0  # and so long before they try again what the disk refused
LOG, LOOK, WRITE, LATER = "log", "look", "write", "later"
SETTLE, HEAL = "settle", "heal"


class Job(NamedTuple):
    work: Any
    kind: str
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Writer:
    """Owns both copies. The methods under "in the thread" run there and nowhere else."""

    def __init__(
        self, path: Path, clock: Clock, block: int = BLOCK, progress: Progress | None = None
    ) -> None:
        self.copies = Copies(path, clock, block, progress)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._opened: asyncio.Future[None]
        self._stopped: asyncio.Future[None]
        self._died: asyncio.Future[None]
        self._is_dead = False
        self._serving: list[Job] = []
        self._loop: asyncio.AbstractEventLoop
        self._posted = 0
        """Works put off."""
        self.last_commit_ms = 0.0
        self.busy_since = 0.0

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._stopped = self._loop.create_future()
        self._died = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def submit(self, work: Any, kind: str) -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(Job(work, kind, done, loop))
        if self._is_dead:
            raise _gone()
        return await done  # a caller that is cancelled cancels this future, never the work

    def put_off(self, work: Work[None]) -> None:
        self._posted += 1
        loop = asyncio.get_running_loop()
        self._jobs.put(Job(work, LATER, loop.create_future(), loop))

    @property
    def is_behind(self) -> bool:
        """The tables do not show all that was promised; `follow` brings them there."""
        copies = self.copies
        return copies.is_behind or copies.spool.is_stale or self._posted != copies.later_done

    async def run(self) -> None:
        """As long as the thread lives. Raises: the bug that it died of."""
        await asyncio.shield(self._died)

    async def stop(self) -> None:
        self._jobs.put(None)
        await self._stopped

    # ---- in the thread ----

    def _run(self) -> None:
        call = self._loop.call_soon_threadsafe
        try:
            self._open()
        except BaseException as broken:  # noqa: BLE001 - a bug too: whoever waits must hear of it
            call(_fail, self._opened, _as_fault(broken))
            return
        call(_finish, self._opened, None)
        try:
            self._serve_all()
            self.copies.close()
        except BaseException as bug:  # noqa: BLE001 - nobody else would ever hear of it
            self._die(bug)
        call(_finish, self._stopped, None)

    def _serve_all(self) -> None:
        while group := self._next_group():
            self._serving = [job for job in group if job is not None]
            self.serve(self._serving)
            if len(self._serving) < len(group):
                return

    def _die(self, bug: BaseException) -> None:
        """Nobody waits for a thread that is gone: all are told, and `run` ends the program."""
        log.critical("the store's writer died", exc_info=bug)
        self._is_dead = True  # before the queue is emptied: see `submit`
        jobs: list[Job | None] = [*self._serving]
        with suppress(queue.Empty):
            while True:
                jobs.append(self._jobs.get_nowait())
        for job in filter(None, jobs):
            _tell(job, _fail, _gone())
        self._loop.call_soon_threadsafe(_fail, self._died, bug)

    def _open(self) -> None:
        """On a full disk with what the tables' reserve gives, piece by piece."""
        while True:
            try:
                self.copies.open()
                return
            except (sqlite3.Error, OSError) as broken:
                self.copies.abandon()
                if not self.copies.finds_room(broken):
                    raise

    def _next_group(self) -> list[Job | None]:
        """Whatever waits, at least one; ends with None when this is the end."""
        group, pause_s = list[Job | None](), LAG_S
        while not group:
            try:
                group = [self._jobs.get(timeout=pause_s if self.is_behind else None)]
            except queue.Empty:
                with suppress(StoreUnavailable):
                    self.copies.follow()
                self.copies.tell()
                self.copies.tidy()
                pause_s = RETRY_S
        with suppress(queue.Empty):
            while group[-1] is not None and len(group) < GROUP_MAX:
                group.append(self._jobs.get_nowait())
        return group

    def serve(self, jobs: Sequence[Job]) -> None:
        """Do what was asked, in order; neighbours of one kind share a sync."""
        for kind, alike in groupby(jobs, lambda job: job.kind):
            self.busy_since = time.perf_counter()
            if kind == LOG:
                self._log(list(alike))
            elif kind == WRITE:
                self._write(list(alike))
            elif kind == LATER:
                self.copies.put_off(job.work for job in alike)
            else:
                for job in alike:
                    self._single(job)
            self.busy_since = 0.0
        self.copies.tidy()

    def _single(self, job: Job) -> None:
        try:
            self._look_again()
            if job.kind == LOOK:
                self.copies.follow()  # first: what it mends has a row of its own
                self._log([job])
                return
            if job.kind == HEAL:
                self.copies.heal(job.work)
            self.copies.follow()
        except StoreUnavailable as no:
            _tell(job, _fail, no)
        else:
            _tell(job, _finish, None)

    def _look_again(self) -> None:
        """Nobody is shown tables that lack what a refused write left on disk after all.

        Raises: StoreUnavailable.
        """
        if self.copies.spool.is_stale:
            try:
                self.copies.look_again()
            except OSError as no:
                raise StoreUnavailable(words(no)) from no

    # ---- the log ----

    def _log(self, group: list[Job]) -> None:
        begun = time.perf_counter()
        rows, texts, results = list[Row](), list[bytes](), list[_Result]()
        try:
            if self.copies.spool.is_stale:
                self.copies.look_again()
            lanes = dict(self.copies.lanes)
            self.copies.tell()
            for job in group:
                first = self.copies.spool.seq + 1 + len(rows)
                draft = Draft(first, dict(lanes), self.copies.handle)
                results.append(self._drafted(job, draft))
                if results[-1][1] is None:
                    rows += draft.rows
                    texts += draft.texts
                    lanes = draft.lanes
            self.copies.add(rows, texts, lanes)
            if rows:
                self.copies.health.log_said(0)
                self.copies.health.took((time.perf_counter() - begun) * 1000)
        except OSError as broken:
            self.copies.health.log_said(errno_of(broken))
            log.error("the log takes no rows", extra={"reason": str(broken)})
            results = [(None, StoreUnavailable(words(broken)))] * len(group)
        self.last_commit_ms = (time.perf_counter() - begun) * 1000
        _tell_all(group, results)

    def _drafted(self, job: Job, draft: Draft) -> _Result:
        try:
            return job.work(draft), None
        except BaseException as fault:
            if isinstance(fault, OSError):
                raise
            if not is_disk_trouble(fault):
                return None, fault
            self._heal(fault)
            return None, StoreUnavailable(f"数据库读取失败：{words(fault)}")

    # ---- the tables ----

    def _write(self, group: list[Job]) -> None:
        begun = time.perf_counter()
        try:
            self.copies.follow()
            db = self.copies.handle()
            self.copies.sync(db, is_synced=True)
            before = db.total_changes
            db.execute("BEGIN IMMEDIATE")
            if len(group) == 1:
                results = [self._alone(db, group[0].work)]
            else:
                results = [self._one(db, job.work) for job in group]
            if db.in_transaction:
                db.execute("COMMIT")
                if db.total_changes > before:
                    self.copies.synced()
            self.copies.health.tables_said(0)
            self.copies.health.took((time.perf_counter() - begun) * 1000)
        except (sqlite3.Error, OSError, StoreUnavailable) as broken:
            self.copies.abandon()
            if self.copies.finds_room(broken):
                self._write(group)
                return
            if not isinstance(broken, StoreUnavailable):  # else `follow` has told it
                self.copies.health.tables_said(errno_of(broken))
            log.error("commit failed", extra={"reason": str(broken)})
            self._heal(broken)
            results = [(None, StoreUnavailable(words(broken)))] * len(group)
        self.last_commit_ms = (time.perf_counter() - begun) * 1000
        self.copies.commits += 1
        _tell_all(group, results)

    def _heal(self, broken: BaseException) -> None:
        if is_damage(broken):
            with suppress(StoreUnavailable):
                self.copies.heal(str(broken))

    def _alone(self, db: sqlite3.Connection, work: Work[Any]) -> _Result:
        """The usual case: nobody else's work in the transaction, no savepoint to pay for."""
        try:
            return work(db), None
        except BaseException as fault:
            if is_disk_trouble(fault):
                raise
            db.execute("ROLLBACK")
            return None, fault

    def _one(self, db: sqlite3.Connection, work: Work[Any]) -> _Result:
        """One work under its own savepoint, so that its failure is only its own."""
        db.execute("SAVEPOINT work")
        try:
            value = work(db)
        except BaseException as fault:
            if is_disk_trouble(fault):
                raise  # nobody's work is safe
            db.execute("ROLLBACK TO work")
            db.execute("RELEASE work")
            return None, fault
        db.execute("RELEASE work")
        return value, None


def _as_fault(broken: BaseException) -> BaseException:
    """Why it does not open: the disk, or a bug, and then as it is."""
    if isinstance(broken, (sqlite3.Error, OSError)):
        return StoreUnavailable(f"数据库打不开：{words(broken)}（{broken}）")
    return broken


def _gone() -> StoreUnavailable:
    return StoreUnavailable(
        "程序内部出错，数据库停止工作，已存的流水不受影响", "等程序自动重新启动，再看本车"
    )


def _tell_all(group: Sequence[Job], results: Sequence[_Result]) -> None:
    """The loop is woken once for all of them."""
    told = [(job.done, *result) for job, result in zip(group, results, strict=True)]
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        group[0].loop.call_soon_threadsafe(_hear, told)


def _hear(told: "Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]") -> None:
    for done, value, fault in told:
        if fault is None:
            _finish(done, value)
        else:
            _fail(done, fault)


def _tell(job: Job, how: Callable[["asyncio.Future[Any]", Any], None], what: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        job.loop.call_soon_threadsafe(how, job.done, what)


def _finish(done: "asyncio.Future[Any]", value: Any) -> None:
    if not done.done():
        done.set_result(value)


def _fail(done: "asyncio.Future[Any]", fault: BaseException) -> None:
    if not done.done():
        done.set_exception(fault)
        done.exception()  # retrieved: a caller that was cancelled does not read it

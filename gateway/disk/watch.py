"""Looks at the disk once a second, says what it sees, keeps the reserves and sheds what must go.

Never waits for a write of its own: a disk that hangs is exactly what it is here to tell.
"""

import asyncio
import errno
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gateway.disk.shed import Delete, Shed, Step
from gateway.disk.states import Facts, State, Verdict, Volume, judge
from gateway.errors import StoreUnavailable
from gateway.spool.reserve import Reserve
from gateway.store import SPOOL, Draft, Store
from gateway.units import Clock

log = logging.getLogger(__name__)

POLL_S = 1.0
PENDING_MAX = 100
"""Notes that wait for a disk that takes nothing; then the oldest are given up."""
REBUILD_ROOM = 2  # the reserve takes a piece back when so many pieces are free above the hard line


class Seen(NamedTuple):
    """What a look at the file systems found; it is made in a thread of its own."""

    data: Volume
    log: Volume
    is_shared: bool
    spare_bytes: int


class DiskWatch:
    """Service: the state of the disk, for lamps, lanes, /readyz, /metrics and the centre."""

    name = "disk"

    def __init__(
        self,
        store: Store,
        data: Path,
        clock: Clock,
        deleters: Mapping[str, Delete] | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._data, self._clock = store, data, clock
        self._on_change = on_change
        self.shed = Shed(deleters or {}, on_change)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk-watch")
        self._seen = look(store, data)
        self._looking: asyncio.Future[Seen] | None = None
        self._told = State.OK
        self._pending: list[tuple[str, dict[str, Any]]] = []
        self._noting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(POLL_S)

    async def look(self) -> None:
        """One look, and what follows from it."""
        if not await self._refresh():
            return
        for step, has_begun, freed in await self._shed():
            self._note_step(step, has_begun, freed)
        await self._rebuild_reserve()
        state = self.verdict.state
        if state != self._told:
            self._note_state(state)
        self._write_notes()

    @property
    def verdict(self) -> Verdict:
        """As of the last second; what the log itself said, as of now."""
        return judge(self._facts())

    def lamp(self) -> dict[str, Any]:
        """`devices.disk` of a snapshot."""
        now = self.verdict
        text = "；".join(filter(None, (now.text, self.shed.text)))
        is_well = now.state is State.OK and not self.shed.level
        return {"name": "磁盘", "state": "ok" if is_well else _worse(now.lamp), "text": text}

    def numbers(self) -> dict[str, float]:
        """For /metrics."""
        facts = self._facts()
        return {
            "disk_free_bytes": facts.data.free_bytes,
            "log_free_bytes": facts.log.free_bytes,
            "log_spare_bytes": facts.spare_bytes,
            "tables_reserve_bytes": self._store.reserve.held_bytes,
            "disk_vehicles_left": self.verdict.left,
            "disk_faults": sum(self._store.health.faults.values()),
            "disk_write_median_seconds": facts.median_ms / 1000,
            "shed_level": self.shed.level,
        }

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._noting:
            self._noting.cancel()

    # ---- facts ----

    def _facts(self) -> Facts:
        store, seen = self._store, self._seen
        return Facts(
            data=seen.data,
            log=seen.log,
            is_shared=seen.is_shared,
            block=store.block,
            spare_bytes=seen.spare_bytes,
            log_errno=store.health.log_errno,
            tables_errno=store.health.tables_errno,
            io_faults=store.health.faults[errno.EIO],
            waiting_ms=store.waiting_ms,
            median_ms=store.health.median_ms,
            repairs=len(store.repairs),
        )

    async def _refresh(self) -> bool:
        """False while the last look still hangs in the kernel: what it saw before stands."""
        loop = asyncio.get_running_loop()
        if self._looking is None:
            self._looking = loop.run_in_executor(self._thread, look, self._store, self._data)
        done, _ = await asyncio.wait([self._looking], timeout=POLL_S)
        if not done:
            return False
        looked, self._looking = self._looking, None
        with suppress(OSError):
            self._seen = looked.result()
        return True

    # ---- what follows ----

    async def _shed(self) -> Sequence[tuple[Step, bool, int]]:
        with suppress(StoreUnavailable):
            return await self.shed.adapt(self._seen.data, self._clock.monotonic_ms())
        return ()

    async def _rebuild_reserve(self) -> None:
        if self._store.reserve.is_whole:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, rebuild, self._store.reserve, self._data)
        except OSError as no:
            log.warning("the tables' reserve is not whole", extra={"reason": str(no)})

    # ---- the journal's notes ----

    def _note_state(self, state: State) -> None:
        now, seen = self.verdict, self._seen
        facts = {"from": self._told, "to": state, "code": now.code, "left": now.left}
        sizes = {"free_bytes": seen.data.free_bytes, "spare_bytes": seen.spare_bytes}
        log.warning("the disk's state changed", extra={**facts, **sizes})
        self._told = state
        self._pending.append(("disk_changed", {**facts, **sizes, "detail": now.detail}))
        self._on_change()

    def _note_step(self, step: Step, has_begun: bool, freed: int) -> None:
        did = "begun" if has_begun else "ended"
        body = {"step": step.name, "did": did, "freed_bytes": freed, "text": step.text}
        self._pending.append(("space_shed", body))

    def _write_notes(self) -> None:
        """In a task: the disk may hang. While one is refused, trying again is how we learn that
        the disk takes writes once more."""
        health = self._store.health
        if not self._pending and health.log_errno:
            self._pending.append(("disk_tried", {"errno": health.log_errno}))
        del self._pending[:-PENDING_MAX]
        if self._pending and (self._noting is None or self._noting.done()):
            self._noting = asyncio.ensure_future(self._write(list(self._pending)))

    async def _write(self, notes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        with suppress(StoreUnavailable):
            await self._store.log(partial(_draft, notes, self._moment()))
            del self._pending[: len(notes)]

    def _moment(self) -> tuple[int, int, str, str]:
        clock = self._clock
        return clock.now_ms(), clock.monotonic_ms(), clock.boot_id, ""


def _draft(
    notes: Sequence[tuple[str, dict[str, Any]]], moment: tuple[int, int, str, str], draft: Draft
) -> None:
    for name, body in notes:
        draft.add("", "", moment, name, "", json.dumps(body, ensure_ascii=False))


def look(store: Store, data: Path) -> Seen:
    """Both file systems, and how much room the log has. Blocks. Raises: OSError."""
    folder = data / SPOOL
    here, there = data.stat().st_dev, folder.stat().st_dev
    return Seen(_volume(data), _volume(folder), here == there, store.spare_bytes)


def rebuild(reserve: Reserve, data: Path) -> None:
    """A piece at a time, and only from what nobody needs. Blocks. Raises: OSError."""
    while not reserve.is_whole:
        now = _volume(data)
        if now.free_bytes < now.hard_bytes + REBUILD_ROOM * reserve.step:
            return
        reserve.rebuild()


def _volume(folder: Path) -> Volume:
    told = os.statvfs(folder)
    is_read_only = bool(told.f_flag & os.ST_RDONLY)
    return Volume(told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize, is_read_only)


def _worse(lamp: str) -> str:
    return "degraded" if lamp == "ok" else lamp

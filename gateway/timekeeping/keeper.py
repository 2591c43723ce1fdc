"""The clock everyone is given: the machine's, made fit to write a journal by."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.errors import StoreUnavailable
from gateway.store import Draft, Store
from gateway.timekeeping import kernel
from gateway.timekeeping.timeline import Change, Floor, Mode, Timeline
from gateway.units import Clock, ClockState, Quality, iso

log = logging.getLogger(__name__)

POLL_S = 1.0
QUALITY_EVERY = 10  # polls
PENDING_MAX = 100
E_CLOCK = "E-404"


class Timekeeper:
    """A `Clock`: `now_ms` is assumed time. Also a service that notices jumps and journals them."""

    name = "clock"

    def __init__(self, clock: Clock, quality: Callable[[], Quality] | None = None) -> None:
        """`clock`: the machine's. `quality`: what the kernel says of it."""
        self._clock, self._ask = clock, quality or partial(kernel.quality, clock)
        self.boot_id = clock.boot_id
        self._turn = threading.Lock()
        self._quality = self._ask()
        self._line = Timeline(self._fresh_quality)
        self._store: Store | None = None
        self.offset_ms: Callable[[], int | None] = lambda: None
        """The centre's clock minus ours, if it is known."""
        self.on_change: Callable[[], None] = lambda: None

    # ---- the clock ----

    def now_ms(self) -> int:
        with self._turn:
            return self._line.at(self._clock.now_ms(), self._clock.monotonic_ms())

    def monotonic_ms(self) -> int:
        return self._clock.monotonic_ms()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    # ---- what is known of it ----

    def state(self) -> ClockState:
        """Of the newest reading, for records."""
        with self._turn:
            quality, ahead_ms = self._quality, self._line.ahead_ms
        return ClockState(*quality, ahead_ms=ahead_ms, offset_ms=self.offset_ms())

    @property
    def is_trusted(self) -> bool:
        return self._line.mode is not Mode.RUN

    def lamp(self) -> dict[str, Any]:
        """`devices.clock` of a snapshot."""
        if not self.is_trusted:
            return {"name": "时钟", "state": "degraded", "text": "不可信，按上一笔流水接着走"}
        text = "刚往回拨过，正在慢慢对上" if self._line.mode is Mode.HOLD else ""
        return {"name": "时钟", "state": "ok", "text": text}

    def notice(self) -> tuple[str, str, str] | None:
        """(code, detail, action) while the clock is not to be believed."""
        if self.is_trusted:
            return None
        wall, assumed = iso(self._clock.now_ms()), iso(self.now_ms())
        return (
            E_CLOCK,
            f"本机时间不可信：时钟显示 {wall}，流水按 {assumed} 记，两个时间都会记下",
            "可以继续收费；请维护人员校时，或接上对时",
        )

    def numbers(self) -> dict[str, float]:
        """For /metrics."""
        return {
            "clock_trusted": float(self.is_trusted),
            "clock_synchronised": float(self._quality.is_synchronised),
            "clock_ahead_seconds": self._line.ahead_ms / 1000,
        }

    # ---- life ----

    async def begin(self, store: Store) -> None:
        """From now on no time is earlier than the newest row's. Raises: StoreUnavailable."""
        rows = await store.rows(
            "SELECT at_ms, mono_ms, boot_id FROM journal WHERE event <> 'incident'"
            " ORDER BY seq DESC LIMIT 1"
        )
        floor = Floor(*rows[0]) if rows else None
        self._store = store
        with self._turn:
            wall_ms, mono_ms = self._clock.now_ms(), self._clock.monotonic_ms()
            self._line.begin(wall_ms, mono_ms, self.boot_id, floor)

    async def run(self) -> None:
        turn = 0
        while True:
            self.look(is_kernel_asked=turn % QUALITY_EVERY == 0)
            await self.tell()
            turn += 1
            await self._clock.sleep(POLL_S)

    def look(self, *, is_kernel_asked: bool = True) -> None:
        """Notice a jump though nobody asks for the time."""
        self.now_ms()
        if is_kernel_asked:
            with self._turn:
                self._fresh_quality()
                wall_ms, mono_ms = self._clock.now_ms(), self._clock.monotonic_ms()
                self._line.believe_the_kernel(wall_ms, mono_ms)

    async def tell(self) -> None:
        """Journal what changed; what the disk does not take is told later."""
        changes = list(self._line.changes)
        if not changes or self._store is None:
            return
        self.on_change()
        for change in changes:
            log.warning("the clock changed", extra=_body(change))
        moment = (self.now_ms(), self.monotonic_ms(), self.boot_id, "")
        with suppress(StoreUnavailable):
            await asyncio.shield(self._store.log(partial(_draft, changes, moment)))
            del self._line.changes[: len(changes)]
        del self._line.changes[:-PENDING_MAX]

    def _fresh_quality(self) -> Quality:
        self._quality = self._ask()
        return self._quality


def _draft(changes: Sequence[Change], moment: tuple[int, int, str, str], draft: Draft) -> None:
    for change in changes:
        body = json.dumps(_body(change), ensure_ascii=False)
        draft.add("", "", moment, "clock_changed", "", body)


def _body(change: Change) -> dict[str, Any]:
    """from_ms → to_ms: assumed time before and after; wall_ms: what the clock said."""
    quality = change.quality._asdict()
    return {**change._asdict(), "mode": change.mode.value, "quality": quality,
            "source": change.quality.source}  # fmt: skip

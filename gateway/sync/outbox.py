"""Records owed to the centre, sent oldest first until each has its verdict. For ever.

One sender, no attempt limit, no expiry. A dead line is waited out; a refused record is parked and
its slot filled with a stub, so it never holds up the rest. Wake-ups are hints: the loop also looks
by itself (reliability.md rules 3, 5, 9, 12, 14).
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict, Verdicts
from gateway.sync.ledger import PUSH, Debt, Ledger, Owed
from gateway.units import Clock

log = logging.getLogger(__name__)

BATCH_MAX = 200  # records
BATCH_BYTES_MAX = 256 * 1024
TRIES = 3  # of one batch in one pass; the passes go on for ever
POLL_S = 2.0
PAUSE_S_MAX = 15.0
DOUBT_S_MAX = 3600.0
REFRESH_MS = 500  # counting a long backlog anew costs more than sending a batch


@dataclass(slots=True)
class _Route:
    """Where one lane's sending stands. Only a cache: the truth is in the ledger."""

    floor: int | None = None
    """Everything up to here is settled; None = not looked yet."""
    cursor: int = 0
    """How far this pass has come."""
    limit: int = BATCH_MAX
    is_suspect: bool = False
    """The last record alone got no verdict; the next one shows whether it or the centre is ill."""
    marks: int = 0
    """How often verdicts were stored: dates an answer about high water."""
    debt: Debt = field(default_factory=Debt)
    doubt_pause_s: float = 0.0
    doubt_until_ms: int = 0


class Outbox:
    """Sends what is owed and knows how much that is."""

    name = "outbox"

    def __init__(
        self,
        store: Store,
        client: CenterClient,
        lanes: Sequence[str],
        clock: Clock,
        on_change: Callable[[], None] = lambda: None,
        *,
        poll_s: float = POLL_S,
        pause_s_max: float = PAUSE_S_MAX,
    ) -> None:
        self._ledger, self._client, self._clock = Ledger(store), client, clock
        self._routes = {lane: _Route() for lane in lanes}
        self._on_change, self._poll_s, self._pause_s_max = on_change, poll_s, pause_s_max
        self._hint, self._look = asyncio.Event(), asyncio.Event()
        self._rate = 0.0  # records a second, lately
        self._read_ms = 0
        self._told: dict[str, Any] = {}

    # ---- for others ----

    def poke(self) -> None:
        """Something was saved. Only a hint: nothing is lost without it."""
        self._hint.set()
        self._look.set()

    def noticed(self, lane: str, saved_ms: int) -> None:
        """One more record of this lane is on disk: the screen's count is right at once."""
        route = self._routes[lane]
        oldest_ms = route.debt.oldest_ms or saved_ms
        route.debt = replace(route.debt, unsent=route.debt.unsent + 1, oldest_ms=oldest_ms)
        self.poke()

    def state(self, lane: str | None = None) -> dict[str, Any]:
        """For the snapshot, without waiting: `{online, unsent, oldest_unsent_ms, eta_s, parked}`,
        of one lane or of all."""
        debts = [r.debt for name, r in self._routes.items() if lane in (None, name)]
        unsent = sum(debt.unsent for debt in debts)
        return {
            "online": self._client.is_online,
            "unsent": unsent,
            "oldest_unsent_ms": min((d.oldest_ms for d in debts if d.oldest_ms), default=None),
            "eta_s": self._eta_s(unsent),
            "parked": sum(debt.parked for debt in debts),
        }

    async def backlog(self) -> dict[str, Any]:
        """`{count, oldest_age_s, drain_s}`, read from the ledger now (interfaces.md §7.13)."""
        await self.refresh()
        state = self.state()
        oldest_ms = state["oldest_unsent_ms"]
        age_s = None if oldest_ms is None else max(0, self._clock.now_ms() - oldest_ms) // 1000
        return {"count": state["unsent"], "oldest_age_s": age_s, "drain_s": state["eta_s"]}

    async def parked(self) -> list[dict[str, Any]]:
        """Refused records and the centre's words: `[{lane, seq, id, reason, at_ms}]`."""
        return [row for lane in self._routes for row in await self._ledger.parked(lane)]

    def marks(self, lane: str) -> int:
        """Take this before asking the centre for its high water; see `heard`."""
        return self._routes[lane].marks

    async def heard(self, lane: str, high_water: int | None, marks: int) -> None:
        """The centre told its high water. Below what it once acknowledged: it was restored from
        an old copy, and everything above is owed again. An answer older than the newest verdict
        says nothing. A centre that never moves is believed ever more rarely."""
        route = self._routes[lane]
        now_ms = self._clock.monotonic_ms()
        if high_water is None or marks != route.marks or now_ms < route.doubt_until_ms:
            return
        lost = await self._ledger.owe_again(lane, high_water, self._clock.now_ms())
        if not lost:
            if high_water >= (route.floor or 0):
                route.doubt_pause_s = 0.0
            if high_water > max(route.floor or 0, route.cursor):
                await self._raise(lane, high_water)
            return
        log.warning(
            "centre lacks records it had acknowledged; they are owed again",
            extra={"lane": lane, "high_water": high_water, "count": lost},
        )
        route.floor = min(high_water, route.floor or 0)
        route.doubt_pause_s = min(max(5.0, route.doubt_pause_s * 2), DOUBT_S_MAX)
        route.doubt_until_ms = now_ms + round(route.doubt_pause_s * 1000)
        self.poke()

    async def _raise(self, lane: str, high_water: int) -> None:
        """It may hold more than we know to be settled; more than we ever had, and we lost it."""
        clock = self._clock
        moment = (clock.now_ms(), clock.monotonic_ms(), clock.boot_id, "")
        if lacking := await self._ledger.raise_lane(lane, high_water, moment):
            facts = {"lane": lane, "high_water": high_water, "count": lacking}
            log.error("the centre holds records that this box has lost", extra=facts)

    # ---- the service ----

    async def run(self) -> None:
        """Never returns. One task sends, one keeps the numbers fresh while a sending hangs."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send())
            tasks.create_task(self._watch())

    async def drain(self) -> bool:
        """Send everything owed, one batch a lane in turn. True if the centre put some off.

        Raises: CenterUnavailable; what was not acknowledged stays owed.
        """
        has_retries = False
        passes = list(self._routes)
        for lane in passes:
            await self._begin(lane)
        while passes:
            for lane in tuple(passes):
                has_retries |= await self._step(lane, passes)
        await self.refresh()
        return has_retries

    async def refresh(self) -> None:
        """Read the debt anew; tell the screen if it changed."""
        self._read_ms = self._clock.monotonic_ms()
        for lane, route in self._routes.items():
            if route.floor is None:
                route.floor = await self._ledger.floor(lane)
            route.debt = await self._ledger.debt(lane, route.floor)
        self._tell()

    async def _send(self) -> None:
        pause_s = 0.0
        while True:
            self._hint.clear()
            try:
                is_late = await self.drain()
            except CenterUnavailable as no:
                is_late = True
                log.info("centre unavailable", extra={"reason": no.detail})
                await self._clock.sleep(self._pause(no.retry_after_s))
            except StoreUnavailable as no:
                is_late = True
                log.error("outbox cannot use the store", extra={"reason": no.detail})
            self._tell()
            pause_s = min(max(self._poll_s, pause_s * 2), self._pause_s_max) if is_late else 0.0
            await self._wait(self._hint, pause_s or self._poll_s)

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            try:
                await self.refresh()
            except StoreUnavailable as no:
                log.error("outbox cannot read the store", extra={"reason": no.detail})
            await self._wait(self._look, self._poll_s)

    async def _begin(self, lane: str) -> None:
        route = self._routes[lane]
        route.floor = await self._ledger.floor(lane, route.floor or 0)
        route.cursor, route.is_suspect = route.floor, False

    async def _step(self, lane: str, passes: list[str]) -> bool:
        """One batch of one lane; at its end the lane leaves `passes`, or starts over if refusals
        left stubs to send. True if the centre put some of it off."""
        route = self._routes[lane]
        owed = _fitting(await self._ledger.owed(lane, route.cursor, route.limit))
        if not owed:
            passes.remove(lane)
            return False
        began_ms = self._clock.monotonic_ms()
        verdicts = await self._submit(lane, route, owed)
        if verdicts is None:
            return True
        at_ms = self._clock.now_ms()
        refused = await self._ledger.settle(lane, owed, verdicts.verdicts, PUSH, at_ms)
        route.marks += 1
        route.cursor = owed[-1].line.seq
        settled = sum(v.verdict != "retry" for v in verdicts.verdicts)
        self._measure(settled, self._clock.monotonic_ms() - began_ms)
        if refused:
            await self._begin(lane)
        if self._clock.monotonic_ms() - self._read_ms >= REFRESH_MS:
            await self.refresh()
        await self.heard(lane, verdicts.high_water, route.marks)
        return settled < len(owed)

    async def _submit(self, lane: str, route: _Route, owed: Sequence[Owed]) -> Verdicts | None:
        """None: this record alone got no verdict, so the pass goes on behind it, once."""
        try:
            verdicts = await self._patiently(lane, owed)
        except NotAVerdict:
            if len(owed) > 1 or route.is_suspect:
                route.limit = max(1, len(owed) // 2)
                raise
            route.is_suspect, route.cursor = True, owed[0].line.seq
            return None
        route.is_suspect, route.limit = False, min(BATCH_MAX, route.limit * 2)
        return verdicts

    async def _patiently(self, lane: str, owed: Sequence[Owed]) -> Verdicts:
        lines = [one.line for one in owed]
        again = AsyncRetrying(
            retry=retry_if_exception_type(CenterUnavailable),
            stop=stop_after_attempt(TRIES),
            wait=self._wait_s,
            sleep=self._clock.sleep,
            before_sleep=lambda _: self._tell(),
            reraise=True,
        )
        verdicts: Verdicts = await again(self._client.submit, lane, lines)
        return verdicts

    # ---- small things ----

    def _wait_s(self, call: RetryCallState) -> float:
        """The centre's own wish, if it named one, else longer each time."""
        fault = call.outcome.exception() if call.outcome else None
        wish_s = fault.retry_after_s if isinstance(fault, CenterUnavailable) else None
        return max(self._pause(wish_s), wait_random_exponential(0.5, self._pause_s_max)(call))

    def _pause(self, retry_after_s: float | None) -> float:
        """Never longer than 30 s, whatever is asked (interfaces.md §7.7)."""
        return min(retry_after_s or 0.0, 30.0)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the hint or the time, whichever is first."""
        waits = {
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _measure(self, count: int, took_ms: int) -> None:
        rate = count * 1000 / max(1, took_ms)
        self._rate = rate if not self._rate else 0.7 * self._rate + 0.3 * rate

    def _eta_s(self, unsent: int) -> int | None:
        if not unsent:
            return 0
        return math.ceil(unsent / self._rate) if self._rate and self._client.is_online else None

    def _tell(self) -> None:
        state = self.state()
        if state != self._told:
            self._told = state
            self._on_change()


def _fitting(owed: Sequence[Owed]) -> list[Owed]:
    """The first ones that stay within one body; at least one."""
    fitting: list[Owed] = []
    size = 0
    for one in owed:
        size += len(one.line.text.encode()) + 1
        if fitting and size > BATCH_BYTES_MAX:
            break
        fitting.append(one)
    return fitting

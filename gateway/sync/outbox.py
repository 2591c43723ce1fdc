"""Records owed to the centre, sent until each has its verdict. For ever.

One sender, no attempt limit, no expiry. A dead line is waited out and probed with one record; a
refused record is parked and its slot filled with a stub, so it never holds up the rest; what is
saved now does not wait behind a backlog (route.py), and how much goes at once follows the line
(pace.py). Wake-ups are hints: the loop also looks by itself (reliability.md rules 3, 5, 9, 12, 14).
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, NamedTuple

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient, Line, NotAVerdict, Verdicts
from gateway.sync.ledger import PUSH, Ledger, is_settled
from gateway.sync.route import Body, Route
from gateway.units import Clock

log = logging.getLogger(__name__)

TRIES = 3  # of one batch in one pass, while the line is good; the passes go on for ever
POLL_S = 2.0
PAUSE_S_MAX = 15.0
SHUT_FROM = 8  # passes in a row without a verdict, before photos wait for a lane no more
REFRESH_MS = 500  # counting a long backlog anew costs more than sending a batch


class Answered(NamedTuple):
    """What the centre said of a body, and the ledger does not know yet."""

    route: Route
    body: Body
    verdicts: Verdicts
    marks: int | None
    """Of the route, then; None: its high water is older than what else was heard."""


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
        self._routes = {lane: Route(lane) for lane in lanes}
        self._answered: Answered | None = None
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
        self._routes[lane].note(saved_ms)
        self.poke()

    def settled_elsewhere(self) -> None:
        """A consumer's or a receipt's verdicts changed the ledger: what the centre is just saying
        of its high water may be older."""
        for route in self._routes.values():
            route.marks += 1
        self.poke()

    def adopt(self, lanes: Iterable[str]) -> None:
        """Lanes that a configuration no longer names, and whose records are here."""
        for lane in lanes:
            self._routes.setdefault(lane, Route(lane, is_retired=True))

    async def is_refused(self, lane: str, seq: int) -> bool:
        """The centre refused this record, and it was not settled since."""
        return await self._ledger.is_refused(lane, seq)

    async def resend(self, lane: str, seq: int) -> bool:
        """Somebody wants a refused record sent once more, as it is. False if it is not refused."""
        if lane not in self._routes or not await self._ledger.resend(lane, seq):
            return False
        self._routes[lane].resent(seq)
        self.poke()
        return True

    async def owe_lost(self, lane: str, seqs: Sequence[int]) -> None:
        """The centre was found to lack these (sync/reconcile.py)."""
        await self._ledger.owe_lost(lane, seqs)
        self._routes[lane].resent(min(seqs))
        self.poke()

    @property
    def has_money_to_send(self) -> bool:
        """Something is owed that the centre has not just put off, and of a lane that it takes: an
        ill answer or two is no word against a lane."""
        taken = (r for r in self._routes.values() if r.shut < SHUT_FROM)
        return any(r.debt.unsent > r.put_off for r in taken)

    def state(self, lane: str | None = None) -> dict[str, Any]:
        """For the snapshot, without waiting: `{online, unsent, oldest_unsent_ms, eta_s, parked,
        newest_refused}`, of one lane or of all; the last is a number of one lane."""
        debts = [r.debt for name, r in self._routes.items() if lane in (None, name)]
        unsent = sum(debt.unsent for debt in debts)
        is_online = self._client.is_online if lane is None else self._client.is_taken(lane)
        return {
            "online": is_online,
            "unsent": unsent,
            "oldest_unsent_ms": min((d.oldest_ms for d in debts if d.oldest_ms), default=None),
            "eta_s": self._eta_s(unsent, is_online=is_online),
            "parked": sum(debt.parked for debt in debts),
            "newest_refused": max((debt.newest_refused for debt in debts), default=0),
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

    @property
    def by_broker(self) -> bool:
        """Records go by way of a broker."""
        return self._client.by_broker

    def delivered(self, lane: str | None = None) -> Set[tuple[str, int]]:
        """(lane, seq) of what a broker was given in this life and the centre did not answer by the
        same way. A consumer or a receipt may have: who counts asks `count_delivered`."""
        return self._client.delivered(lane)

    async def count_delivered(self) -> int:
        """How many of the backlog a broker holds."""
        count = 0
        for lane in self._routes:
            if seqs := {seq for _, seq in self.delivered(lane)}:
                count += await self._ledger.unanswered(lane, seqs)
        return count

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
            if high_water > max(route.floor or 0, route.cursor) and not route.is_retired:
                await self._raise(lane, high_water)
            return
        facts = {"lane": lane, "high_water": high_water, "count": lost}
        log.warning("centre lacks records it had acknowledged; they are owed again", extra=facts)
        route.doubt(high_water, now_ms)
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

        One body is on its way at a time. Meanwhile what was said of the one before it is stored,
        and the next one is made.
        Raises: CenterUnavailable; what was not acknowledged stays owed. A lane that gets no
        verdicts ends its own pass only, and this is raised when the others are through.
        """
        has_retries, self._answered, shut = False, None, None
        passes = list(self._routes.values())
        for route in passes:
            await route.begin(self._ledger)
        while passes:
            for route in tuple(passes):
                try:
                    has_retries |= await self._step(route, passes)
                except NotAVerdict as no:
                    shut, route.shut = no, route.shut + 1
                    passes.remove(route)
        await self.refresh()
        if shut is not None:
            raise shut
        return has_retries

    async def refresh(self) -> None:
        """Read the debt anew; tell the screen if it changed."""
        self._read_ms = self._clock.monotonic_ms()
        for route in tuple(self._routes.values()):
            await route.look(self._ledger)
        self._tell()

    async def _send(self) -> None:
        pause_s = 0.0
        while True:
            self._hint.clear()
            wish_s = 0.0
            try:
                is_late = await self.drain()
            except CenterUnavailable as no:
                is_late, wish_s = True, self._pause(no.retry_after_s)
                log.info("centre unavailable", extra={"reason": no.detail})
                await self._clock.sleep(wish_s)
            except StoreUnavailable as no:
                is_late = True
                log.error("outbox cannot use the store", extra={"reason": no.detail})
            self._tell()
            pause_s = min(max(self._poll_s, pause_s * 2), self._pause_s_max) if is_late else 0.0
            if (rest_s := (pause_s or self._poll_s) - wish_s) > 0:
                await self._wait(self._hint, rest_s)

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            try:
                await self.refresh()
            except StoreUnavailable as no:
                log.error("outbox cannot read the store", extra={"reason": no.detail})
            await self._wait(self._look, self._poll_s)

    async def _step(self, route: Route, passes: list[Route]) -> bool:
        """One batch of one lane; at its end the lane leaves `passes`, or starts over if refusals
        left stubs to send. True if the centre put some of it off."""
        if not (is_online := self._client.is_taken(route.lane)):
            await self._store_verdicts()  # the probe begins behind them
        body = await route.next(self._ledger, is_probe=not is_online)
        if body is None:
            await self._store_verdicts()
            if route.has_refused:
                await route.begin(self._ledger)
            else:
                route.put_off = route.late
                passes.remove(route)
            return False
        began_ms, marks, count = self._clock.monotonic_ms(), route.marks, len(body.lines)
        verdicts = await self._exchange(route, body, looks_ahead=is_online)
        if verdicts is None:
            return True
        took_s = self._since_s(began_ms)  # our own disk may be the slow one
        is_newest, route.marks = route.marks == marks, route.marks + 1
        self._answered = Answered(route, body, verdicts, route.marks if is_newest else None)
        settled = sum(map(is_settled, body.chosen.owed, verdicts.verdicts))
        route.pace.took(count, body.chosen.size, took_s)
        self._measure(settled, took_s)
        return settled < count

    async def _exchange(self, route: Route, body: Body, *, looks_ahead: bool) -> Verdicts | None:
        """This body's verdicts; what else is to be done is done while it is on its way."""
        sending = asyncio.create_task(self._submit(route, body))
        is_next = looks_ahead and not body.chosen.is_live
        making = [asyncio.create_task(route.prepare(self._ledger))] if is_next else []
        try:
            await self._store_verdicts()
            if self._clock.monotonic_ms() - self._read_ms >= REFRESH_MS:
                await self.refresh()
            for made in making:
                await made
            verdicts = await sending
        finally:
            await _gone(sending, *making)
        if verdicts is None:
            if route.is_suspect:
                route.passed(body.chosen, 0)
            route.retreat()
        return verdicts

    async def _store_verdicts(self) -> None:
        """Of the last body that was answered. If it fails its records are sent once more."""
        answered, self._answered = self._answered, None
        if answered is None:
            return
        route, body, verdicts, marks = answered
        said, owed, at_ms = verdicts.verdicts, body.chosen.owed, self._clock.now_ms()
        refused = await self._ledger.settle(route.lane, owed, said, PUSH, at_ms)
        route.has_refused |= bool(refused)
        route.passed(body.chosen, sum(map(is_settled, owed, said)))
        if marks is not None:
            await self.heard(route.lane, verdicts.high_water, marks)

    async def _submit(self, route: Route, body: Body) -> Verdicts | None:
        """None: these got no verdict, and the pass goes on, with fewer at once or behind one."""
        count = len(body.lines)
        try:
            verdicts = await self._patiently(route.lane, body.lines)
        except NotAVerdict:
            if route.is_suspect:
                raise
            route.pace.stumbled(count)
            route.is_suspect = count == 1
            return None
        except CenterUnavailable:
            route.pace.failed()
            raise
        route.is_suspect, route.shut = False, 0
        return verdicts

    async def _patiently(self, lane: str, lines: Sequence[Line]) -> Verdicts:
        """A line that was good a moment ago is tried again at once; a dead one is not."""
        again = AsyncRetrying(
            retry=retry_if_exception(_is_of_the_line),
            stop=stop_after_attempt(TRIES if self._client.is_taken(lane) else 1),
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

    def _since_s(self, began_ms: int) -> float:
        return (self._clock.monotonic_ms() - began_ms) / 1000

    def _measure(self, count: int, took_s: float) -> None:
        rate = count / max(0.001, took_s)
        self._rate = rate if not self._rate else 0.7 * self._rate + 0.3 * rate

    def _eta_s(self, unsent: int, *, is_online: bool) -> int | None:
        if not unsent:
            return 0
        return math.ceil(unsent / self._rate) if self._rate and is_online else None

    def _tell(self) -> None:
        state = self.state()
        if state != self._told:
            self._told = state
            self._on_change()


async def _gone(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_of_the_line(fault: BaseException) -> bool:
    """Nobody answered, or a centre that is busy."""
    return isinstance(fault, CenterUnavailable) and not isinstance(fault, NotAVerdict)

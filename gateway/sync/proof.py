"""A row without money, every few minutes, all the way: log, tables, line, centre, and back.

A box whose process runs and whose records go nowhere looks healthy to everybody who asks only
that (reliability.md rule 13). Makes no record, no passage and no number of the lane's.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.store import Draft, Store
from gateway.sync.center import NotAVerdict
from gateway.units import Clock

EVERY_S = 300.0
LATE_MS = 75_000  # two heartbeats and a slow line: who is not through by then has stopped
EVENT = PLACE = "proof"
"""`PLACE` stands where other rows name their passage: rows of none are searched at each start."""


class Station(IntEnum):
    """What the row comes by, in this order."""

    LOG = 1
    TABLES = 2
    LINE = 3
    CENTER = 4


class Mark(BaseModel):
    """What the heartbeat carries, read back from the tables: which row, and its hash."""

    model_config = ConfigDict(frozen=True)

    seq: int
    hash: str
    """SHA-256 of the journal up to this row, 64 hex digits (spool/frame.py)."""


@dataclass(frozen=True, slots=True)
class Proven:
    """How old the last whole proof is, and where the newest one stopped."""

    age_s: int | None = None
    """None: there was none since the start."""
    stopped_at: str = ""
    """log, tables, line, center; empty: nowhere."""
    detail: str = ""
    """Why, in Chinese. Without `stopped_at`: why none is made."""
    is_echoed: bool = False
    """The centre said back what it was told; an older one answers and says nothing of it."""


class Trail:
    """Where the newest proof stands. Asks nobody, and must be told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.mark: Mark | None = None
        """For the next heartbeat; None: nothing was read back yet."""
        self._station: Station | None = None
        self._begun_ms = 0
        self._whole_ms: int | None = None
        self._stop: tuple[Station, str] | None = None
        self._pause = ""
        self._is_echoed = False

    # ---- on the box ----

    def begin(self) -> None:
        self._station, self._begun_ms, self._pause = Station.LOG, self._clock.monotonic_ms(), ""

    def pause(self, why: str) -> None:
        """None is made now, on purpose."""
        self._pause = why

    def logged(self) -> None:
        self._reach(Station.TABLES)

    def read_back(self, mark: Mark) -> None:
        self.mark = mark
        self._reach(Station.LINE)

    def stop(self, why: str, at: Station | None = None) -> None:
        """Where it stands, or `at`."""
        if self._station is not None:
            self._stop = (at or self._station, why)

    # ---- at the centre ----

    def unanswered(self, no: CenterUnavailable) -> None:
        """A heartbeat had no proper answer: from nobody, or from somebody. Whatever it carried:
        the next one goes by the same line."""
        is_theirs = isinstance(no, NotAVerdict) or no.retry_after_s is not None
        if self._station is Station.LINE:
            self.stop(no.detail, Station.CENTER if is_theirs else Station.LINE)

    def answered(self, carried: Mark | None, echo: Any) -> None:
        """The centre answered, and `echo` is its `proof`: whatever came, None if nothing did."""
        if carried is None or not self._is_awaited(carried):
            return
        if echo not in (None, carried.model_dump()):
            self.stop("中心说回来的不是本机说的", Station.CENTER)
            return
        self._is_echoed = echo is not None
        self._station = self._stop = None
        self._whole_ms = self._clock.monotonic_ms()

    # ---- for people ----

    def told(self) -> Proven:
        now_ms = self._clock.monotonic_ms()
        age_s = None if self._whole_ms is None else (now_ms - self._whole_ms) // 1000
        stops = [stop for stop in (self._stop, self._late(now_ms)) if stop]
        # What hangs on the box does not hide behind a dead line.
        if stop := min(stops, key=lambda stop: stop[0], default=None):
            return Proven(age_s, stop[0].name.lower(), stop[1], self._is_echoed)
        return Proven(age_s, "", self._pause, self._is_echoed)

    def _late(self, now_ms: int) -> tuple[Station, str] | None:
        if self._station is None or now_ms - self._begun_ms < LATE_MS:
            return None
        return self._station, "一直没有回音"

    def _is_awaited(self, carried: Mark | None) -> bool:
        """It is the newest one, and is not through. What is read back later is another."""
        return self._station is Station.LINE and carried == self.mark

    def _reach(self, station: Station) -> None:
        """Beyond where one stopped before, that is no longer so."""
        self._station = station
        if self._stop and self._stop[0] < station:
            self._stop = None


class Proofs:
    """Makes them; the heartbeats (heartbeat.py) take them to the centre."""

    name = "proof"

    def __init__(
        self,
        store: Store,
        trail: Trail,
        clock: Clock,
        *,
        every_s: float = EVERY_S,
        refusal: Callable[[], str] = lambda: "",
    ) -> None:
        """`refusal`: why none is made now, in Chinese; empty while they are."""
        self._store, self.trail, self._clock = store, trail, clock
        self._every_s, self._refusal = every_s, refusal
        self._count = 0

    async def run(self) -> None:
        """Never returns. The first one late: a box that starts has other work."""
        while True:
            await self._clock.sleep(self._every_s)
            await self.prove()

    async def prove(self) -> None:
        """One row: into the log, and read back from the tables."""
        if why := self._refusal():
            self.trail.pause(why)
            return
        self.trail.begin()
        try:
            await self._come_by()
        except StoreUnavailable as no:
            self.trail.stop(no.detail)

    async def _come_by(self) -> None:
        self._count += 1
        body, clock = json.dumps({"number": self._count}), self._clock
        moment = (clock.now_ms(), clock.monotonic_ms(), clock.boot_id, "")
        seq = await self._store.log(partial(_draft, moment, body))
        self.trail.logged()
        rows = await self._store.rows("SELECT event, body, hash FROM journal WHERE seq = ?", seq)
        if [tuple(row)[:2] for row in rows] != [(EVENT, body)]:
            self.trail.stop(f"第 {seq} 条读回来的不是写下的")
            return
        self.trail.read_back(Mark(seq=seq, hash=rows[0]["hash"].hex().upper()))


def _draft(moment: tuple[int, int, str, str], body: str, draft: Draft) -> int:
    return draft.add("", PLACE, moment, EVENT, "", body)

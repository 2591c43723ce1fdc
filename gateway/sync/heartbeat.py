"""One line every half minute: I live, this is how, and what do you hold of mine?

The answer's high water is how an idle lane learns that the centre was restored (§7.4).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.sync.center import CenterClient, HeartbeatAnswer
from gateway.sync.outbox import Outbox
from gateway.sync.proof import Mark, Trail
from gateway.units import Clock, iso

log = logging.getLogger(__name__)

EVERY_S = 30.0


class Backlog(BaseModel):
    """What the lane owes."""

    count: int = Field(ge=0)
    oldest_age_s: int | None
    parked: int = Field(ge=0)


class Box(BaseModel):
    """What only the composition root knows; every part may be left out."""

    model_config = ConfigDict(frozen=True)

    versions: Mapping[str, str] = {}
    """`lane_gateway`, and each parameter table's version."""
    rejected: Mapping[str, str] = {}
    """Table and version of packages that were refused or rolled back → why."""
    disk_free_bytes: int | None = None
    devices: Mapping[str, str] = {}
    """Device → ok, degraded, missing; and `lane` → paused, closed, by somebody's word."""
    certificate_days_left: int | None = None
    lane_key: str = ""
    """Public key of this box's exports, 64 hex digits; empty if it has none."""


class Heartbeat(BaseModel):
    """POST {centre}/v1/heartbeat, one a lane. Times in wall ms, ages in s, offsets in ms."""

    lane: str
    at: str
    at_ms: int
    boot_id: str
    backlog: Backlog
    clock_offset_ms: int | None
    """Centre's clock minus ours, as of the last answer."""
    versions: Mapping[str, str]
    rejected: Mapping[str, str]
    disk_free_bytes: int | None
    devices: Mapping[str, str]
    certificate_days_left: int | None
    lane_key: str
    proof: Mark | None = None
    """The newest row without money (proof.py); None: none yet."""


EXAMPLE: dict[str, Any] = {
    "lane": "X03",
    "at": "2025-11-21T08:00:00+08:00",
    "at_ms": 1763683200000,
    "boot_id": "0f0e0d0c-0000-4000-8000-000000000000",
    "backlog": {"count": 2, "oldest_age_s": 41, "parked": 0},
    "clock_offset_ms": -120,
    "versions": {"lane_gateway": "0.1.0", "minimum_fares": "20251118001"},
    "rejected": {"minimum_fares 20251125001": "参数 minimum_fares 版本 20251125001 签名不对"},
    "disk_free_bytes": 51539607552,
    "devices": {"reader": "ok", "psam": "ok", "scale": "degraded"},
    "certificate_days_left": 211,
    "lane_key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "proof": {"seq": 20344, "hash": "9F" * 32},
}
"""What a centre receives. `{"lane": "X03", "high_water": 1042, "at_ms": …, "proof": {…}}` is the
answer; `proof` as it was told, out of what the centre keeps. One that knows nothing of it leaves it
out, and its answer alone must do."""


class Heartbeats:
    """Sends them, and hands the answers to the outbox."""

    name = "heartbeat"

    def __init__(
        self,
        client: CenterClient,
        outbox: Outbox,
        lanes: Sequence[str],
        clock: Clock,
        box: Callable[[str], Box] = lambda _: Box(),
        *,
        every_s: float = EVERY_S,
        trail: Trail | None = None,
    ) -> None:
        """`box(lane)` is asked anew for each heartbeat, and must not wait. `trail`: of the proofs
        that are to be carried; None: there are none."""
        self._trail = trail or Trail(clock)
        self._client, self._outbox, self.lanes = client, outbox, list(lanes)
        self._clock, self._box, self._every_s = clock, box, every_s
        self.clock_offset_ms: int | None = None

    async def run(self) -> None:
        while True:
            for lane in tuple(self.lanes):
                try:
                    await self.beat(lane)
                except (CenterUnavailable, StoreUnavailable) as no:
                    log.info("no heartbeat", extra={"lane": lane, "reason": no.detail})
            await self._clock.sleep(self._every_s)

    async def beat(self, lane: str) -> None:
        """One heartbeat. Raises: CenterUnavailable."""
        marks, was_online = self._outbox.marks(lane), self._client.is_online
        left_ms = self._clock.now_ms()
        answer = await self._exchange(self._compose(lane, left_ms))
        back_ms = self._clock.now_ms()
        if answer.at_ms is not None:
            self.clock_offset_ms = answer.at_ms - (left_ms + back_ms) // 2
        if not was_online:
            self._outbox.poke()  # the line is back: do not wait out the pause
        await self._outbox.heard(lane, answer.high_water, marks)

    async def _exchange(self, beat: Heartbeat) -> HeartbeatAnswer:
        try:
            answer = await self._client.heartbeat(beat)
        except CenterUnavailable as no:
            self._trail.unanswered(no)
            raise
        self._trail.answered(beat.proof, answer.proof)
        return answer

    def _compose(self, lane: str, now_ms: int) -> Heartbeat:
        state, box = self._outbox.state(lane), self._box(lane)
        oldest_ms = state["oldest_unsent_ms"]
        age_s = None if oldest_ms is None else max(0, now_ms - oldest_ms) // 1000
        return Heartbeat(
            lane=lane,
            at=iso(now_ms),
            at_ms=now_ms,
            boot_id=self._clock.boot_id,
            backlog=Backlog(count=state["unsent"], oldest_age_s=age_s, parked=state["parked"]),
            clock_offset_ms=self.clock_offset_ms,
            proof=self._trail.mark,
            **box.model_dump(),
        )

"""A collector at the booth: the commands of each state, and a note of every answer he got."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gateway.access import Who
from gateway.devices.sim.bench import Bench
from gateway.errors import GatewayError
from gateway.flow.commands import COMMAND
from gateway.flow.lane import Lane
from tests.powercut.world import Tell

BOOTH = Who("1001", "演示收费员", "collector", "booth")
MASTER = {"operator": "9001", "password": "9001"}
ANSWER_S, SLICE_S = 30.0, 0.5
STEPS_MAX = 20
AT_REST = ("idle", "saved")


class Stuck(AssertionError):
    """The lane gives no answer, or no way leads on."""


class Collector:
    """`name` makes his keys his own; `tell` hears of each answer."""

    def __init__(
        self, lane: Lane, running: "asyncio.Task[None]", bench: Bench, tell: Tell, name: str
    ) -> None:
        self.lane, self.bench = lane, bench
        self._running, self._tell, self._name = running, tell, name
        self._count = 0

    async def do(self, command: str, **body: Any) -> dict[str, Any]:
        """One press; the answer is noted. Raises: GatewayError, Stuck."""
        self._count += 1
        asked = {"command": command, **body}
        key = f"{self._name}-{self._count}"
        told = {"m": "answer", "key": key, "asked": asked}
        try:
            shot = await self.repeat(asked, key, self.lane.rev)
        except GatewayError as no:
            self._tell({**told, "refused": no.code, "rev": self.lane.rev})
            raise
        passage = shot["passage"] or {}
        self._tell(
            {
                **told,
                "rev": shot["rev"],
                "state": shot["state"],
                "passage": passage.get("id"),
                "record": passage.get("record"),
                "photo": passage.get("photo"),
            }
        )
        return shot

    async def repeat(self, asked: Mapping[str, Any], key: str, rev: int) -> dict[str, Any]:
        """The same press again, or for the first time; nothing is noted."""
        pressed = asyncio.ensure_future(
            self.lane.command(COMMAND.validate_python(asked), BOOTH, key, rev)
        )
        done = await self._first({pressed, self._running})
        if pressed not in done:
            pressed.cancel()
            died = self._running.exception() if self._running in done else None
            raise Stuck(f"no answer to {asked['command']}: {died!r}")
        try:
            return pressed.result()
        except RuntimeError as died:
            raise Stuck(f"{asked['command']}: {died}") from died

    async def _first(self, works: "set[asyncio.Future[Any]]") -> "set[asyncio.Future[Any]]":
        """Those that are done. In slices: a process that was stopped meanwhile, as who measures
        beside it does, has had no time to answer, whatever the clock says."""
        done = set["asyncio.Future[Any]"]()
        for _ in range(round(ANSWER_S / SLICE_S)):
            if not done:
                done, _ = await asyncio.wait(
                    works, timeout=SLICE_S, return_when=asyncio.FIRST_COMPLETED
                )
        return done

    async def onward(self, until: Callable[[str], bool] = lambda _: False) -> dict[str, Any]:
        """Whatever stands in front of the booth is brought to its end, or as far as `until`."""
        shot = self.lane.snapshot()
        for _ in range(STEPS_MAX):
            if shot["state"] in AT_REST or until(shot["state"]):
                return shot
            shot = await self.do(**self._next(shot))
        raise Stuck(f"nothing leads on from {shot['state']}: {shot['problem']}")

    async def serve(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A vehicle comes and is taken through."""
        self.bench.put(fields)
        await self.do("read")
        return await self.onward()

    def _next(self, shot: Mapping[str, Any]) -> dict[str, Any]:
        vehicle = self.bench.truth()["vehicle"] or {}

        def of(*names: str) -> dict[str, Any]:
            return {name: vehicle[name] for name in names}

        plate = (shot["passage"] or {}).get("plate")
        if plate and plate != vehicle.get("plate") and "cancel" in shot["allowed"]:
            return {"command": "cancel", "reason": "这辆车已经不在车道上"}
        match shot["state"]:
            case "checked":
                return {"command": "submit_plate", **of("plate", "colour"), "source": "lpr"}
            case "evidenced":
                return {"command": "classify", **of("vehicle_type", "vehicle_class")}
            case "classified" if "quote" in shot["allowed"]:
                return {"command": "quote"}
            case "classified":
                return {"command": "weigh", **of("axle_count", "weight_kg"), "source": "scale"}
            case "priced":
                return {"command": "confirm_entry", "station_hex": vehicle["entry_hex"]}
            case "unpriced" if vehicle["entry_hex"] is None:
                return {"command": "hand_over", "reason": "没有入口信息"}
            case "unpriced":
                return {"command": "minimum_fare", **MASTER}
            case "agreed":
                return {"command": "save"}
            case "doubtful":
                return {"command": "prove"}
            case "refused":
                return {"command": "cancel", "reason": "检查没有通过"}
            case "held" | "disputed":
                reason = "司机付现金"
                return {"command": "settle_by_hand", "means": "cash", "amount_fen": 500,
                        "reason": reason, **MASTER}  # fmt: skip
        raise Stuck(f"nobody knows what to do in {shot['state']}: {shot['problem']}")

"""The demo's bench over HTTP (interfaces.md §6): vehicles, truth, faults. Never mounted by `run`.

Knows no twin: the composition root hands in whatever can do what `Bench` says.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import RequestInvalid
from gateway.web.faults import answer


class Bench(Protocol):
    """What can be done to the devices of a demo lane, and what they really hold."""

    def put(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Put a vehicle there; what is there now. Raises: RequestInvalid."""

    def take_away(self) -> dict[str, Any]: ...

    def truth(self) -> dict[str, Any]:
        """Balances, counters and files that the chips hold."""

    def ledger(self) -> Sequence[Mapping[str, Any]]:
        """Every debit that any chip performed."""

    async def arm(
        self, device: str, fault: str, after: int | None = None, seconds: int | None = None
    ) -> dict[str, Any]:
        """Let a device fail; what was armed. Raises: RequestInvalid."""

    async def disarm(self) -> dict[str, Any]: ...


class FaultAsked(BaseModel):
    """The body of POST /bench/faults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: str = Field(min_length=1, max_length=20)
    fault: str = Field(min_length=1, max_length=40)
    after: int | None = None
    """At the n-th APDU from now; 0 = at once."""
    seconds: int | None = None
    """How far the clock jumps, how slow the centre is."""


routes = web.RouteTableDef()
BENCH: web.AppKey[Bench] = web.AppKey("bench", Bench)


@routes.post("/bench/vehicle")
async def put_vehicle(request: web.Request) -> web.Response:
    """A preset, or fields, or both. 422 if one is wrong; the lane is then as before."""
    return answer(request.app[BENCH].put(await _fields(request)))


@routes.get("/bench/vehicle")
async def tell_truth(request: web.Request) -> web.Response:
    return answer(request.app[BENCH].truth())


@routes.delete("/bench/vehicle")
async def take_away(request: web.Request) -> web.Response:
    return answer(request.app[BENCH].take_away())


@routes.get("/bench/ledger")
async def tell_ledger(request: web.Request) -> web.Response:
    return answer(request.app[BENCH].ledger())


@routes.post("/bench/faults")
async def arm(request: web.Request) -> web.Response:
    asked = FaultAsked.model_validate(await _fields(request))
    armed = await request.app[BENCH].arm(asked.device, asked.fault, asked.after, asked.seconds)
    return answer(armed)


@routes.delete("/bench/faults")
async def disarm(request: web.Request) -> web.Response:
    return answer(await request.app[BENCH].disarm())


async def _fields(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; nothing sent is an empty one. Raises: RequestInvalid."""
    raw = await request.read()
    try:
        fields = json.loads(raw) if raw else {}
    except ValueError as bad:
        raise RequestInvalid("请求不是完整的 JSON") from bad
    if not isinstance(fields, dict):
        raise RequestInvalid("请求应为一个 JSON 对象")
    return fields

"""Misbehaviour on demand, for demos and tests: only when the centre was started with it allowed."""

import asyncio
from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict, Field

HTML = "<!doctype html><title>login</title><p>请先登录网络"


class Fault(BaseModel):
    """`POST /test/faults`. Stays until another one, or for `count` requests."""

    model_config = ConfigDict(extra="forbid")

    fault: Literal[
        "none",
        "down",  # the connection breaks, no answer
        "slow",  # answers after `seconds`
        "busy",  # 503 with Retry-After: `seconds`
        "html",  # a captive portal's page, status 200
        "redirect",  # a captive portal's redirect
        "garbage",  # 200 and half a JSON document
        "denied",  # 403 for the whole request
        "refuse",  # every record is refused
        "retry",  # every record is put off
        "lost_answer",  # records are booked, the answer is lost
        "ack_and_drop",  # records are accepted and forgotten
    ]
    seconds: float = Field(default=5, ge=0, le=120)
    count: int | None = Field(default=None, ge=1)
    seqs: tuple[int, ...] = ()
    """Refuse or put off only these; empty = all."""

    def strikes(self, seq: int) -> bool:
        return not self.seqs or seq in self.seqs


@dataclass(slots=True)
class Faults:
    """The fault that is armed now."""

    armed: Fault

    def take(self, *kinds: str) -> Fault | None:
        """The armed fault if it is one of `kinds`; uses up one of its `count`."""
        fault = self.armed
        if fault.fault not in kinds:
            return None
        if fault.count is not None:
            left = fault.count - 1
            self.armed = fault.model_copy(update={"count": left}) if left else Fault(fault="none")
        return fault


FAULTS = web.AppKey("faults", Faults)
TRUTH = ("/test/", "/v1/lanes/")  # what was really booked can always be asked


@web.middleware
async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Before the handler: nothing has been booked yet."""
    is_question = request.path == "/v1/records" and request.method == "GET"
    if is_question or request.path.startswith(TRUTH):
        return await handler(request)
    faults = request.app[FAULTS]
    fault = faults.take("down", "slow", "busy", "html", "redirect", "garbage", "denied")
    if fault is None:
        return await handler(request)
    if fault.fault == "slow":
        await asyncio.sleep(fault.seconds)
        return await handler(request)
    return _instead(request, fault)


def _instead(request: web.Request, fault: Fault) -> web.StreamResponse:
    match fault.fault:
        case "busy":
            pause = {"Retry-After": str(round(fault.seconds))}
            return web.json_response({"code": "busy"}, status=503, headers=pause)
        case "html":
            return web.Response(text=HTML, content_type="text/html")
        case "redirect":
            return web.Response(status=302, headers={"Location": "/portal"})
        case "garbage":
            return web.Response(text='{"verdicts": [', content_type="application/json")
        case "denied":
            return web.json_response({"code": "denied"}, status=403)
        case _:
            return break_off(request)


def break_off(request: web.Request) -> web.StreamResponse:
    """Cut the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)

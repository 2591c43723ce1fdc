"""Whole snapshots to every screen, on every change: a reconnect needs no history.

A slow screen gets the newest only: nothing is queued, the next snapshot is made when the last
one has left.
"""

import asyncio
import logging
import socket
from contextlib import suppress

from aiohttp import web
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from gateway.errors import GatewayError
from gateway.flow.lane import Lane
from gateway.units import Clock
from gateway.web import page
from gateway.web.api import Api
from gateway.web.lane import STARTED_MS, dress, lane_of, only_lane
from gateway.web.session import ACCESS, COOKIE, owner_of

log = logging.getLogger(__name__)

SCREENS_MAX = 8
HEARTBEAT_S = 2.0
SEND_S_MAX = 10.0  # a screen that takes nothing for so long is gone
PING_S = 10.0  # a handheld that left the Wi-Fi says no goodbye, and must not keep its place
HEARD_BYTES_MAX = 1024  # a page has nothing to say here
SEND_BUFFER_BYTES = 32 * 1024  # in the kernel: stale snapshots are no use to a slow screen
SIGNED_OUT = 4401
GOING_AWAY = 1001

routes = Api()


class ScreensFull(GatewayError):
    """All places for live screens are taken."""

    code = "live.full"
    http_status = 503
    default_action = "请关闭不用的页面后重试"


class LiveQuery(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    lane: str | None = None
    lang: str | None = None


class Screens:
    """The open live connections of one listener."""

    def __init__(self, clock: Clock, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._clock, self._heartbeat_s = clock, heartbeat_s
        self._open: set[web.WebSocketResponse] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: web.Request, lane: Lane) -> web.WebSocketResponse:
        """One screen, until it goes, its person signs out, or the box stops.

        Raises: ScreensFull.
        """
        if len(self._open) >= SCREENS_MAX:
            raise ScreensFull(f"最多 {SCREENS_MAX} 个屏幕同时连接")
        # No compression: a snapshot is small, and latency is what a collector feels.
        screen = web.WebSocketResponse(
            max_msg_size=HEARD_BYTES_MAX,
            compress=False,
            timeout=2.0,
            writer_limit=0,
            heartbeat=PING_S,
        )
        self._open.add(screen)
        try:
            await screen.prepare(request)
            _keep_buffers_short(request)
            await self._talk(request, lane, screen)
        finally:
            self._open.discard(screen)
        return screen

    async def close(self) -> None:
        """Tell every screen that the box stops; they dial again."""
        goodbyes = [screen.close(code=GOING_AWAY, message=b"stopping") for screen in self._open]
        await asyncio.gather(*goodbyes, return_exceptions=True)

    async def _talk(self, request: web.Request, lane: Lane, screen: web.WebSocketResponse) -> None:
        telling = asyncio.create_task(self._tell(request, lane, screen))
        try:
            async for _ in screen:
                pass  # reading is what answers pings and notices that the screen has gone
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await telling

    async def _tell(self, request: web.Request, lane: Lane, screen: web.WebSocketResponse) -> None:
        """Snapshots on change, heartbeats in between; ends by closing the screen."""
        code = GOING_AWAY
        with suppress(ConnectionError, TimeoutError):
            seen = lane.changes.count
            await _send(screen, _picture(request, lane))
            while not screen.closed:
                if not await _is_signed_in(request):
                    code = SIGNED_OUT
                    break
                newer = await self._change(lane, seen)
                seen = seen if newer is None else newer
                await _send(
                    screen, self._beat(request, lane) if newer is None else _picture(request, lane)
                )
        with suppress(ConnectionError):
            await screen.close(code=code)

    async def _change(self, lane: Lane, seen: int) -> int | None:
        """The newer count, or None when it is time for a heartbeat."""
        try:
            return await asyncio.wait_for(lane.changes.wait(seen), self._heartbeat_s)
        except TimeoutError:
            return None

    def _beat(self, request: web.Request, lane: Lane) -> bytes:
        beat = {"type": "heartbeat", "rev": lane.rev, "at_ms": self._clock.now_ms()}
        return to_json({**beat, "gateway": _gateway(request)})


SCREENS = web.AppKey("screens", Screens)


@routes.api(
    "GET",
    "/api/live",
    summary="WebSocket：每次变化推送整张快照，每 2 秒一次心跳",
    query=LiveQuery,
    answers={101: None},
    faults=(400, 404),
)
async def live(request: web.Request, asked: LiveQuery) -> web.StreamResponse:
    """Messages: the snapshot, with `type: snapshot`; and {type: heartbeat, rev, at_ms}; both with
    `gateway` {ui: hash of the page's files, started_ms}."""
    lane = only_lane(request) if asked.lane is None else lane_of(request, asked.lane)
    return await request.app[SCREENS].serve(request, lane)


def _picture(request: web.Request, lane: Lane) -> bytes:
    shown = dress(request, lane.snapshot())
    return to_json({"type": "snapshot", **shown, "gateway": _gateway(request)})


def _gateway(request: web.Request) -> dict[str, object]:
    """By this a page knows that its files are old, and that the gateway was restarted."""
    return {"ui": page.shown().sha256, "started_ms": request.app[STARTED_MS]}


async def _send(screen: web.WebSocketResponse, message: bytes) -> None:
    """Returns when the message has left for the kernel. Raises: TimeoutError, ConnectionError."""
    await asyncio.wait_for(screen.send_str(message.decode()), SEND_S_MAX)


async def _is_signed_in(request: web.Request) -> bool:
    who = await request.app[ACCESS].who(request.cookies.get(COOKIE, ""), owner_of(request))
    return who is not None


def _keep_buffers_short(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    transport.set_write_buffer_limits(high=1)  # 0 stalls under TLS: an empty buffer is full
    plug = transport.get_extra_info("socket")
    if plug is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

"""What a person at a screen may ask of a lane: look, command, show it a photo, see its camera."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

from gateway.devices.ports import Frame
from gateway.errors import (
    DeviceUnavailable,
    GatewayError,
    HeaderMissing,
    NotFound,
    NotOwner,
    PhotoInvalid,
    RequestInvalid,
    UnexpectedEvent,
)
from gateway.evidence import Evidence
from gateway.flow.commands import COMMAND, Command
from gateway.flow.lane import Lane
from gateway.units import Clock
from gateway.web.answers import Conflict, LaneShown, PhotoShown, Snapshot
from gateway.web.api import Api, Header, Media, Needs, require
from gateway.web.drafts import DRAFTS, Draft, Kept
from gateway.web.faults import answer
from gateway.web.screens import dressed
from gateway.web.words import speech

PHOTO_SIZE_MAX = 2 * 1024 * 1024
WATCHERS_MAX = 4  # moving pictures at one time
FRAME_AGE_MS_MAX = 300  # several screens share a picture as young as this
MJPEG_EVERY_S = 0.5
KEY = Header("Idempotency-Key", r"^[!-~]{1,64}$")
MATCH = Header("If-Match", r'^("\d{1,15}"|\d{1,15})$')

routes = Api()
LANES: web.AppKey[Mapping[str, Lane]] = web.AppKey("lanes", Mapping)
EVIDENCE = web.AppKey("evidence", Evidence)
STARTED_MS = web.AppKey("started_ms", int)
HAS_BENCH = web.AppKey("has_bench", bool)
JPEG = Media("image/jpeg")


class PhotoTooLarge(PhotoInvalid):
    """More bytes than a photo may have; reading stopped there."""

    http_status = 413


class TooManyWatchers(DeviceUnavailable):
    """All places at the moving picture are taken."""

    code = "camera.busy"
    default_action = "请关闭其他屏幕上的视频"


def lane_of(request: web.Request, name: str) -> Lane:
    """Raises: NotFound."""
    lane = request.app[LANES].get(name)
    if lane is None:
        raise NotFound(f"没有这个车道：{name[:20]}")
    return lane


def dress(request: web.Request, bare: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot with the words for this screen, and what is half-typed on its passage."""
    app = request.app
    shown = dressed(bare, speech(request), app[STARTED_MS], app[HAS_BENCH])
    return {**shown, "draft": app[DRAFTS].of(bare)}


def only_lane(request: web.Request) -> Lane:
    """The one enabled lane of this box. Raises: RequestInvalid, if there is not exactly one."""
    enabled = [lane for lane in request.app[LANES].values() if lane.is_enabled]
    if len(enabled) != 1:
        raise RequestInvalid("请写明车道（lane）")
    return enabled[0]


@routes.api("GET", "/api/lanes", summary="本机的车道", answers={200: TypeAdapter(list[LaneShown])})
async def lanes(request: web.Request) -> web.Response:
    """Enabled or not, with the health of their devices."""
    return answer(
        [
            {
                "lane": lane.lane,
                "name": lane.title,
                "enabled": lane.is_enabled,
                "devices": lane.snapshot()["devices"],
            }
            for lane in request.app[LANES].values()
        ]
    )


@routes.api("GET", "/api/lanes/{lane}", summary="车道快照", answers={200: Snapshot}, faults=(404,))
async def snapshot(request: web.Request) -> web.Response:
    return answer(dress(request, lane_of(request, request.match_info["lane"]).snapshot()))


@routes.api(
    "POST",
    "/api/lanes/{lane}/commands",
    summary="一个命令；同一 Idempotency-Key 只做一次",
    needs=Needs.SELL,
    headers=(KEY, MATCH),
    body=COMMAND,
    answers={200: Snapshot, 409: Conflict},
    faults=(404, 422, 423, 428, 502),
)
async def command(request: web.Request, asked: Command) -> web.Response:
    """200 with the snapshot after it settled; 409 with the current one when it cannot be done."""
    key, rev = header_of(request, KEY), int(header_of(request, MATCH).strip('"'))
    lane = lane_of(request, request.match_info["lane"])
    if not lane.is_enabled:
        raise UnexpectedEvent(f"{lane.lane} 车道没有启用", "请到已启用的车道操作")
    return answer(dress(request, await lane.command(asked, require(request), key, rev)))


@routes.api(
    "PUT",
    "/api/lanes/{lane}/draft",
    summary="屏幕上还没有提交的字，只记在内存里",
    needs=Needs.SELL,
    body=Draft,
    answers={200: Kept},
    faults=(404, 409),
)
async def put_draft(request: web.Request, asked: Draft) -> web.Response:
    """Of the passage in work, from the screen that owns it; all other screens see it at once."""
    lane = lane_of(request, request.match_info["lane"])
    passage = lane.snapshot()["passage"]
    if passage is None or passage["id"] != asked.passage:
        raise NotFound("这一笔不在眼前")
    if passage["owner"] != require(request).owner:
        raise NotOwner("这一笔在另一个屏幕上办理")
    request.app[DRAFTS].keep(asked)
    lane.changes.publish()
    return answer(Kept(passage=asked.passage))


@routes.api(
    "PUT",
    "/api/lanes/{lane}/photos/{sha256}",
    summary="手持机照片；名字就是内容的 SHA-256",
    needs=Needs.SELL,
    body=JPEG,
    answers={200: PhotoShown},
    faults=(404, 413, 422),
)
async def put_photo(request: web.Request) -> web.Response:
    """Evidence JPEG, at most 2 MB. The same photo again is the same answer."""
    lane_of(request, request.match_info["lane"])
    sha256, body = _sha256(request), await _bounded(request)
    await request.app[EVIDENCE].keep_named(sha256, body)
    return answer(PhotoShown(sha256=sha256, size=len(body)))


@routes.api("GET", "/api/photos/{sha256}", summary="照片", answers={200: JPEG}, faults=(404, 422))
async def photo(request: web.Request) -> web.StreamResponse:
    sha256, evidence = _sha256(request), request.app[EVIDENCE]
    if not await evidence.has(sha256):
        raise NotFound("没有这张照片")
    return web.FileResponse(evidence.path(sha256))


@routes.api(
    "GET",
    "/api/lanes/{lane}/camera.jpg",
    summary="车道相机现在的画面",
    answers={200: JPEG},
    faults=(404,),
)
async def camera_jpg(request: web.Request) -> web.Response:
    lane = lane_of(request, request.match_info["lane"])
    frame = await request.app[VIEWS].frame(lane)
    return web.Response(body=frame.jpeg, content_type=JPEG.type)


@routes.api(
    "GET",
    "/api/lanes/{lane}/camera.mjpeg",
    summary="车道相机的活动画面，每秒两幅",
    answers={200: Media("multipart/x-mixed-replace")},
    faults=(404,),
)
async def camera_mjpeg(request: web.Request) -> web.StreamResponse:
    """Ends when the camera fails, the box stops, or the screen goes."""
    lane, views = lane_of(request, request.match_info["lane"]), request.app[VIEWS]
    with views.watcher():
        first = await views.frame(lane)
        stream = web.StreamResponse()
        stream.content_type = "multipart/x-mixed-replace; boundary=frame"
        await stream.prepare(request)
        await views.show(lane, first, stream)
    return stream


class Views:
    """Looking at the camera costs the lane one picture at a time, however many look."""

    def __init__(self, clock: Clock, every_s: float = MJPEG_EVERY_S) -> None:
        self._clock, self._every_s = clock, every_s
        self._closing = asyncio.Event()
        self._newest: dict[str, tuple[int, Frame]] = {}
        self._taking: dict[str, asyncio.Lock] = {}
        self._watchers = 0

    @contextmanager
    def watcher(self) -> Iterator[None]:
        """A place at the moving picture. Raises: TooManyWatchers."""
        if self._watchers >= WATCHERS_MAX:
            raise TooManyWatchers(f"最多 {WATCHERS_MAX} 个屏幕同时看视频")
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def frame(self, lane: Lane) -> Frame:
        """A picture at most 0.3 s old. Raises: DeviceUnavailable."""
        async with self._taking.setdefault(lane.lane, asyncio.Lock()):
            taken_ms, frame = self._newest.get(lane.lane, (None, None))
            now_ms = self._clock.monotonic_ms()
            if frame is None or taken_ms is None or now_ms - taken_ms > FRAME_AGE_MS_MAX:
                frame = await lane.frame()
                self._newest[lane.lane] = (self._clock.monotonic_ms(), frame)
            return frame

    async def show(self, lane: Lane, frame: Frame, stream: web.StreamResponse) -> None:
        """Write pictures until the screen goes, the camera fails or the box stops."""
        try:
            while not self._closing.is_set():
                head = f"--frame\r\nContent-Type: {JPEG.type}\r\nContent-Length: {len(frame.jpeg)}"
                await stream.write(head.encode() + b"\r\n\r\n" + frame.jpeg + b"\r\n")
                await self._pause()
                frame = await self.frame(lane)
        except (ConnectionError, GatewayError):  # half an answer cannot become another
            return

    async def close(self) -> None:
        """End every stream at its next picture."""
        self._closing.set()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), self._every_s)
        except TimeoutError:
            return


VIEWS = web.AppKey("views", Views)


def header_of(request: web.Request, header: Header) -> str:
    """Raises: HeaderMissing (428); RequestInvalid (422), when it is malformed."""
    value = request.headers.get(header.name, "").strip()
    if not value:
        raise HeaderMissing(f"缺少请求头 {header.name}")
    if not re.match(header.pattern, value):
        raise RequestInvalid(f"请求头 {header.name} 格式不对")
    return value


def _sha256(request: web.Request) -> str:
    name = request.match_info["sha256"]
    if not re.fullmatch(r"[0-9a-f]{64}", name):
        raise RequestInvalid("照片名应为 64 位小写十六进制的 SHA-256")
    return name


async def _bounded(request: web.Request) -> bytes:
    """The body, refused as soon as it is too long. Raises: PhotoTooLarge."""
    too_large = PhotoTooLarge(f"照片超过 {PHOTO_SIZE_MAX // 1024 // 1024} MB")
    if (request.content_length or 0) > PHOTO_SIZE_MAX:
        raise too_large
    body = bytearray()
    async for chunk in request.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > PHOTO_SIZE_MAX:
            raise too_large
    return bytes(body)

"""离线搬运: what a master carries when the line is down: an export out, the centre's receipt in.

The export is made by a program of its own (`lane-gateway journal export`), so that a lane that
sells does not wait for it; the browser at the master's hand writes it where he says, to a stick.
"""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from gateway.errors import GatewayError, NotFound
from gateway.units import Clock, beijing
from gateway.web.api import Api, Media, Needs, require
from gateway.web.blocks import line
from gateway.web.documents import AGAIN_MS, Document
from gateway.web.faults import answer
from gateway.web.receipts import RECEIPTS
from gateway.web.words import Say

SPANS = ("today", "yesterday", "week", "all")
SAID_MAX = 2000
PATIENCE_S = 1800.0

routes = Api()


class ExportRunning(GatewayError):
    """One is being made already."""

    code = "export.running"
    http_status = 409
    default_action = "请等它写完"


class Exports:
    """The one export that is being made or lies ready."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._data, self._clock = data, clock
        self._folder = data / "outgoing"
        self._making: asyncio.Task[None] | None = None
        self.file: Path | None = None
        self.said = ""
        """The program's own words."""
        self.is_refused = False

    @property
    def is_running(self) -> bool:
        return self._making is not None and not self._making.done()

    def begin(self, span: str, with_photos: bool) -> None:
        """Raises: ExportRunning."""
        if self.is_running:
            raise ExportRunning("正在写导出文件")
        self._making = asyncio.create_task(self._make(self._days(span), with_photos))

    async def close(self) -> None:
        if self._making:
            self._making.cancel()
            with suppress(asyncio.CancelledError):
                await self._making

    def _days(self, span: str) -> list[str]:
        today = beijing(self._clock.now_ms()).date()
        first = {"today": 0, "yesterday": 1, "week": 6}.get(span)
        if first is None:
            return []
        last = today - timedelta(days=1) if span == "yesterday" else today
        return ["--from", str(today - timedelta(days=first)), "--to", str(last)]

    async def _make(self, days: list[str], with_photos: bool) -> None:
        self.file, self.said, self.is_refused = None, "", False
        file = self._fresh()
        more = ["--photos"] if with_photos else []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "journal", "export", str(self._data)),
            *(*days, *more, "--out", str(file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self.said = said.decode(errors="replace").replace(str(file), file.name)[:SAID_MAX]
        self.is_refused = process.returncode != 0
        self.file = None if self.is_refused else file

    def _fresh(self) -> Path:
        """Where the next one goes; those before it are gone: they can be made again."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for old in self._folder.iterdir():
            with suppress(OSError):
                old.unlink()
        stamp = beijing(self._clock.now_ms()).strftime("%Y%m%d-%H%M%S")
        return self._folder / f"lane-export-{stamp}.tar"


EXPORTS = web.AppKey("exports", Exports)


class Wanted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    span: Literal["today", "yesterday", "week", "all"] = "today"
    photos: bool = False


class Begun(BaseModel):
    span: str


@routes.api(
    "POST",
    "/api/exports",
    summary="写一个离线导出文件；须站长登录",
    needs=Needs.SELL,
    body=Wanted,
    answers={200: Begun},
    faults=(409,),
)
async def begin(request: web.Request, asked: Wanted) -> web.Response:
    """It is made behind the selling; the place `carry` says when it lies ready."""
    require(request, "master")
    request.app[EXPORTS].begin(asked.span, asked.photos)
    return answer(Begun(span=asked.span))


@routes.api(
    "GET",
    "/api/exports/{name}",
    summary="写好的离线导出文件；须站长登录",
    needs=Needs.SELL,
    answers={200: Media("application/x-tar")},
    faults=(404,),
)
async def fetch(request: web.Request) -> web.StreamResponse:
    require(request, "master")
    file = request.app[EXPORTS].file
    if file is None or file.name != request.match_info["name"]:
        raise NotFound("没有这个导出文件")
    shown = web.FileResponse(file)
    shown.content_type = "application/x-tar"
    shown.headers["Content-Disposition"] = f'attachment; filename="{file.name}"'
    return shown


async def document(request: web.Request, say: Say) -> Document:
    require(request, "master")
    exports, tray = request.app[EXPORTS], request.app[RECEIPTS]
    asked = request.query
    span, photos = asked.get("span", "today"), asked.get("photos", "")
    spans = [[name, say(f"carry.{name}")] for name in SPANS]
    yes_no = [["", say("carry.bare")], ["1", say("carry.photos")]]
    begins = {
        "label": say("carry.export"),
        "method": "POST",
        "path": "/api/exports",
        "body": {"span": span, "photos": bool(photos)},
        "off": exports.is_running,
        "then": {},
    }
    return {
        "blocks": [
            {"h": say("carry.out")},
            {"choices": spans, "name": "span", "label": say("carry.span"), "chosen": span},
            {"choices": yes_no, "name": "photos", "label": say("photo"), "chosen": photos},
            *_state(exports, say),
            {"h": say("carry.in")},
            {"file": "/api/receipts", "label": say("carry.receipt")},
            *([line(f"✓ {_taken(tray.newest, say)}", "good")] if tray.newest else []),
        ],
        "primary": begins,
        "again_ms": AGAIN_MS if exports.is_running else None,
    }


def _state(exports: Exports, say: Say) -> list[dict[str, Any]]:
    if exports.is_running:
        return [line(say("carry.running"), "big")]
    told = [line(text, "bad" if exports.is_refused else "") for text in exports.said.splitlines()]
    if exports.file:
        size = exports.file.stat().st_size / 1e6
        label = say("carry.save", name=exports.file.name, size=f"{size:.1f}")
        told.insert(0, {"link": f"/api/exports/{exports.file.name}", "label": label})
    return told


def _taken(taken: dict[str, Any], say: Say) -> str:
    key = "carry.known" if taken["was_known"] else "carry.taken"
    return say(key, n=taken["number"], count=taken["settled"])

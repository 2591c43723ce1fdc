"""离线搬运: what a master carries when the line is down: an export out, the centre's receipt in.

The export is written to a stick in this box, or saved by the browser at the master's hand
(exports.py).
"""

from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import NotFound
from gateway.web.api import Api, Media, Needs, require
from gateway.web.blocks import Block, line
from gateway.web.documents import AGAIN_MS, Document
from gateway.web.exports import TROUBLES, ExportRunning, Exports, Sticks
from gateway.web.faults import answer
from gateway.web.receipts import RECEIPTS
from gateway.web.words import Say

SPANS = ("today", "yesterday", "week", "all")

routes = Api()
EXPORTS = web.AppKey("exports", Exports)
STICKS = web.AppKey("sticks", Sticks)


class Wanted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    span: Literal["today", "yesterday", "week", "all"] = "today"
    photos: bool = False


class Begun(BaseModel):
    span: str


class Where(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    stick: str = Field(max_length=255, description="U 盘的名字，如页面上所列")


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
    """It is made behind the selling; the place `carry` says when it lies ready. 503: the disk's
    room is for money now."""
    require(request, "master")
    if request.app[STICKS].is_running:
        raise ExportRunning("正在写到 U 盘")
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
    file = _asked(request)
    shown = web.FileResponse(file)
    shown.content_type = "application/x-tar"
    shown.headers["Content-Disposition"] = f'attachment; filename="{file.name}"'
    return shown


@routes.api(
    "POST",
    "/api/exports/{name}/copies",
    summary="把写好的离线导出文件写到本机的 U 盘；须站长登录",
    needs=Needs.SELL,
    body=Where,
    answers={200: Where},
    faults=(404, 409),
)
async def copy(request: web.Request, asked: Where) -> web.Response:
    """Written, read back and compared behind the selling; the place `carry` says how far."""
    require(request, "master")
    request.app[STICKS].begin(_asked(request), request.app[EXPORTS].size, asked.stick)
    return answer(asked)


def _asked(request: web.Request) -> Path:
    """Raises: NotFound."""
    file = request.app[EXPORTS].file
    if file is None or file.name != request.match_info["name"]:
        raise NotFound("没有这个导出文件")
    return file


async def document(request: web.Request, say: Say) -> Document:
    require(request, "master")
    exports, sticks, tray = request.app[EXPORTS], request.app[STICKS], request.app[RECEIPTS]
    asked = request.query
    span, photos = asked.get("span", "today"), asked.get("photos", "")
    spans = [[name, say(f"carry.{name}")] for name in SPANS]
    yes_no = [["", say("carry.bare")], ["1", say("carry.photos")]]
    is_busy = exports.is_running or sticks.is_running
    begins = {
        "label": say("carry.export"),
        "method": "POST",
        "path": "/api/exports",
        "body": {"span": span, "photos": bool(photos)},
        "off": is_busy,
        "then": {},
    }
    return {
        "blocks": [
            {"h": say("carry.out")},
            {"choices": spans, "name": "span", "label": say("carry.span"), "chosen": span},
            {"choices": yes_no, "name": "photos", "label": say("photo"), "chosen": photos},
            *_state(exports, say),
            *_on_stick(exports, sticks, say),
            {"h": say("carry.in")},
            {"file": "/api/receipts", "label": say("carry.receipt")},
            *([line(f"✓ {_taken(tray.newest, say)}", "good")] if tray.newest else []),
        ],
        "primary": begins,
        "again_ms": AGAIN_MS if is_busy or exports.file else None,  # a stick may be plugged in
    }


def _state(exports: Exports, say: Say) -> list[Block]:
    if exports.is_running:
        return [line(say("carry.running"), "big")]
    look = "bad" if exports.trouble else ""
    told = [line(text, look) for text in exports.said.splitlines()]
    if key := exports.trouble:
        words = {"alert": say(f"export.{key}"), "action": say(f"export.{key}.do")}
        return [{**words, "code": TROUBLES[key], "level": "bad"}, *told]
    if exports.file:
        size = f"{exports.size / 1e6:.1f}"
        label = say("carry.save", name=exports.file.name, size=size)
        told.insert(0, {"link": f"/api/exports/{exports.file.name}", "label": label})
    return told


def _on_stick(exports: Exports, sticks: Sticks, say: Say) -> list[Block]:
    """The sticks to choose from; how far it has come; what came of it, while that file is here."""
    if sticks.is_running:
        return [line(say("stick.running", name=sticks.name, n=sticks.percent), "big")]
    if exports.file is None:
        return []
    return [*_outcome(exports.file.name, sticks, say), _choice(exports.file.name, sticks, say)]


def _choice(file: str, sticks: Sticks, say: Say) -> Block:
    post = {"method": "POST", "path": f"/api/exports/{file}/copies"}
    tiles = [
        {"label": say("stick.to", name=name), **post, "body": {"stick": name}, "then": {}}
        for name in sticks.found()
    ]
    return {"options": tiles} if tiles else line(say("stick.none"))


def _outcome(file: str, sticks: Sticks, say: Say) -> list[Block]:
    if sticks.file != file:
        return []
    if key := sticks.fault:
        words = {"alert": say(f"stick.{key}", name=sticks.name), "action": say(f"stick.{key}.do")}
        return [{**words, "code": f"stick.{key}", "level": "bad"}]
    done = say("stick.done", name=sticks.name, sha=sticks.sha256[:8].upper())
    return [line(f"✓ {done}", "good")]


def _taken(taken: dict[str, Any], say: Say) -> str:
    key = "carry.known" if taken["was_known"] else "carry.taken"
    return say(key, n=taken["number"], count=taken["settled"])

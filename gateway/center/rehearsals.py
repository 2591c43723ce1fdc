"""What lanes found when they ran a coming table over their last passages: one file a table's
version and lane, the newest one kept."""

import json
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.center.wire import BadBody
from gateway.durable import replace

NAME = re.compile(r"[0-9A-Za-z_.-]{1,60}")
REHEARSALS: web.AppKey["Rehearsals"] = web.AppKey("rehearsals")

routes = web.RouteTableDef()


class Rehearsals:
    """One folder; its only writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, report: dict[str, Any]) -> None:
        """Raises: BadBody; OSError."""
        parts = [report.get(field) for field in ("lane", "table", "version")]
        if not all(isinstance(part, str) and NAME.fullmatch(part) for part in parts):
            raise BadBody(422, "试算报告没有 lane、table 或 version")
        self._folder.mkdir(exist_ok=True)
        name = "+".join(map(str, parts))
        replace(self._folder / f"{name}.json", json.dumps(report, ensure_ascii=False).encode())

    def all(self) -> list[dict[str, Any]]:
        files = sorted(self._folder.glob("*.json"))
        return [json.loads(path.read_bytes()) for path in files]


@routes.post("/v1/rehearsals")
async def take(request: web.Request) -> web.Response:
    """The same again replaces it."""
    report = json.loads(await request.read())
    if not isinstance(report, dict):
        raise BadBody(422, "请求内容不合要求")
    request.app[REHEARSALS].take(report)
    return web.json_response({"ok": True})


@routes.get("/v1/rehearsals")
async def show(request: web.Request) -> web.Response:
    return web.json_response({"rehearsals": request.app[REHEARSALS].all()})

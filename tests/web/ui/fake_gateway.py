"""A gateway of cardboard for the page's own tests: serves the static files under the real headers
and answers with scripted snapshots. It follows interfaces.md §2 in shape and nothing in substance.
"""

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tests.web.ui import fixtures

STATIC = Path(__file__).parents[3] / "gateway" / "web" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; font-src 'self'; media-src 'self'; manifest-src 'self';"
    " worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types lit-html"
)
Answer = tuple[int, dict[str, Any]]


class Script:
    """The lane as the test wants it: `obey` maps a command to the next snapshot or a refusal."""

    def __init__(self) -> None:
        self.snapshot: dict[str, Any] = fixtures.snapshot("idle")
        self.session: dict[str, Any] = fixtures.session()
        self.commands: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.answers: dict[str, Answer] = {}
        self.obey: dict[str, str | Answer] = {}
        self.lose_answers = 0
        self.delay_s = 0.0
        self.sockets: set[web.WebSocketResponse] = set()
        self.is_mute = False
        self.photos: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.vehicles = 1

    async def show(self, name: str, is_new: bool = False, **changes: Any) -> None:
        """Push another snapshot to every screen, of this vehicle or of a new one."""
        rev = self.snapshot["rev"] + 1
        self.vehicles += is_new
        self.snapshot = {**fixtures.snapshot(name), "rev": rev, **changes}
        if self.snapshot["passage"]:
            self.snapshot["passage"]["id"] = f"X03-{self.vehicles}"
        await self.push()

    async def push(self) -> None:
        for socket in list(self.sockets):
            await socket.send_json({"type": "snapshot", **self.snapshot})

    async def drop(self) -> None:
        """Close every live connection."""
        for socket in list(self.sockets):
            await socket.close()


SCRIPT = web.AppKey("script", Script)
Handler = Callable[[web.Request], Any]


def create_fake() -> web.Application:
    app = web.Application()
    script = app[SCRIPT] = Script()
    app.router.add_get("/api/live", _live)
    app.router.add_post("/api/lanes/{lane}/commands", _command)
    app.router.add_put("/api/lanes/{lane}/photos/{sha256}", _keep_photo)
    app.router.add_get("/api/lanes/{lane}/camera.jpg", _camera)
    app.router.add_get("/api/photos/{sha256}", _camera)
    for method in ("GET", "POST", "DELETE"):
        app.router.add_route(method, "/api/{path:.*}", _table)
    app.router.add_get("/{path:.*}", _file)
    app.on_response_prepare.append(_headers)
    app.on_shutdown.append(lambda _: script.drop())
    return app


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    request.app[SCRIPT].seen.append(request.path)
    response.headers["Content-Security-Policy"] = CSP
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-cache"


async def _file(request: web.Request) -> web.StreamResponse:
    path = STATIC / (request.match_info["path"] or "index.html")
    if not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(path)


async def _live(request: web.Request) -> web.WebSocketResponse:
    script = request.app[SCRIPT]
    socket = web.WebSocketResponse(timeout=1)
    await socket.prepare(request)
    script.sockets.add(socket)
    await socket.send_json({"type": "snapshot", **script.snapshot})
    beats = asyncio.create_task(_beat(script, socket))
    async for message in socket:
        if message.type is WSMsgType.ERROR:
            break
    beats.cancel()
    script.sockets.discard(socket)
    return socket


async def _beat(script: Script, socket: web.WebSocketResponse) -> None:
    while not socket.closed:
        await asyncio.sleep(1)
        if not script.is_mute:
            at_ms, rev = script.snapshot["at_ms"], script.snapshot["rev"]
            await socket.send_json({"type": "heartbeat", "rev": rev, "at_ms": at_ms})


async def _command(request: web.Request) -> web.Response:
    script = request.app[SCRIPT]
    body = await request.json()
    head = {name.lower(): value for name, value in request.headers.items()}
    is_repeat = any(old["idempotency-key"] == head["idempotency-key"] for old in script.heads)
    script.heads.append(head)
    if not is_repeat:
        script.commands.append(body)
        await asyncio.sleep(script.delay_s)
        fault = await _carry_out(script, body["command"])
        if fault:
            return web.json_response(fault[1], status=fault[0])
    if script.lose_answers:
        script.lose_answers -= 1
        assert request.transport is not None
        request.transport.abort()
    return web.json_response(script.snapshot)


async def _carry_out(script: Script, command: str) -> Answer | None:
    outcome = script.obey.get(command, fixtures.NEXT.get(command, "idle"))
    if isinstance(outcome, tuple):
        status, fault = outcome
        if status == 409:
            fault = {**fault, "snapshot": script.snapshot}
        return status, fault
    await script.show(outcome)
    return None


async def _keep_photo(request: web.Request) -> web.Response:
    request.app[SCRIPT].photos[request.match_info["sha256"]] = await request.read()
    return web.json_response({"sha256": request.match_info["sha256"], "size": 1})


async def _camera(_: web.Request) -> web.Response:
    return web.Response(body=fixtures.picture(), content_type="image/svg+xml")


async def _table(request: web.Request) -> web.Response:
    script = request.app[SCRIPT]
    script_name = f"{request.method} {request.path.removeprefix('/api/')}"
    if script_name in script.answers:
        status, body = script.answers[script_name]
        return web.json_response(body, status=status)
    if request.path == "/api/session":
        if request.method == "POST":
            script.session = fixtures.session()
        if request.method == "DELETE":
            script.session = fixtures.signed_out()
        return web.json_response(script.session)
    body = fixtures.ANSWERS.get(script_name)
    if request.path == f"/api/lanes/{script.snapshot['lane']}":
        body = script.snapshot
    if body is None:
        return web.json_response({"code": "not_found", "detail": "没有", "action": ""}, status=404)
    return web.json_response(copy.deepcopy(body))


def main() -> None:
    """By hand: `python -m tests.web.ui.fake_gateway`, then open http://127.0.0.1:8099/."""
    web.run_app(create_fake(), host="127.0.0.1", port=8099)


if __name__ == "__main__":
    main()

"""A gateway of cardboard for the page's own tests: serves the static files under the real headers
and answers with scripted snapshots, dressed as the real one dresses them. It follows
interfaces.md §2 in shape and nothing in substance.
"""

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from gateway.web.drafts import Draft
from gateway.web.forms import INITIALS, _question
from gateway.web.page import digests
from gateway.web.page_words import PAGE_ENGLISH, PAGE_WORDS
from gateway.web.screens import dressed
from gateway.web.words import REASONS, speaking
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
        self.asked: list[str] = []
        self.vehicles = 1
        self.started_ms = 0
        self.ui = "a" * 64
        self.is_pseudo = False
        self.wrong: list[str] = []
        self.drafts: dict[str, dict[str, Any]] = {}
        self.language = "zh-CN"

    def shown(self) -> dict[str, Any]:
        """The snapshot as a screen gets it."""
        shown = dressed(self.snapshot, speaking(self.language), self.started_ms, has_bench=True)
        passage = self.snapshot["passage"]
        return {**shown, "draft": passage and self.drafts.get(passage["id"])}

    def gateway(self) -> dict[str, Any]:
        return {"ui": self.ui, "started_ms": self.started_ms}

    def picture(self) -> dict[str, Any]:
        return {"type": "snapshot", **self.shown(), "gateway": self.gateway()}

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
            await socket.send_json(self.picture())

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
    app.router.add_put("/api/lanes/{lane}/draft", _keep_draft)
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
    request.app[SCRIPT].asked.append(request.path_qs)
    response.headers["Content-Security-Policy"] = CSP
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-cache"


async def _file(request: web.Request) -> web.StreamResponse:
    path = STATIC / (request.match_info["path"] or "index.html")
    if not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(path)


def longer(words: dict[str, str]) -> dict[str, str]:
    """Every Chinese word of the page 40 % longer: room for other languages."""
    return {key: text + "长" * -(-len(text) * 2 // 5) for key, text in words.items()}


async def _live(request: web.Request) -> web.WebSocketResponse:
    script = request.app[SCRIPT]
    socket = web.WebSocketResponse(timeout=1)
    await socket.prepare(request)
    script.sockets.add(socket)
    script.language = request.query.get("lang", script.language)
    await socket.send_json(script.picture())
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
            beat = {"type": "heartbeat", "rev": rev, "at_ms": at_ms, "gateway": script.gateway()}
            await socket.send_json(beat)


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
    return web.json_response(script.shown())


async def _carry_out(script: Script, command: str) -> Answer | None:
    outcome = script.obey.get(command, fixtures.NEXT.get(command, "idle"))
    if isinstance(outcome, tuple):
        status, fault = outcome
        if status == 409:
            fault = {**fault, "snapshot": script.shown()}
        return status, fault
    await script.show(outcome)
    return None


async def _keep_photo(request: web.Request) -> web.Response:
    request.app[SCRIPT].photos[request.match_info["sha256"]] = await request.read()
    return web.json_response({"sha256": request.match_info["sha256"], "size": 1})


async def _keep_draft(request: web.Request) -> web.Response:
    """Held to the real one's shape."""
    draft = Draft.model_validate_json(await request.text(), strict=True)
    script = request.app[SCRIPT]
    script.drafts[draft.passage] = draft.model_dump(by_alias=True)
    await script.push()
    return web.json_response({"passage": draft.passage})


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
    if request.path.startswith("/api/places/"):
        body = _place(request.match_info["path"].removeprefix("places/"), request) or body
    if request.path == f"/api/lanes/{script.snapshot['lane']}":
        body = script.shown()
    if request.path == "/api/ui":
        files = {"files": len(digests(STATIC)), "wrong": script.wrong, "api": 1, "version": "0.1.0"}
        words = longer(PAGE_WORDS) if script.is_pseudo else PAGE_WORDS
        body = {**files, "sha256": script.ui, "words": words, "english": PAGE_ENGLISH}
    if body is None:
        return web.json_response({"code": "not_found", "detail": "没有", "action": ""}, status=404)
    return web.json_response(copy.deepcopy(body))


def _place(name: str, request: web.Request) -> dict[str, Any] | None:
    """Those that answer to what they are asked; the others are fixtures."""
    asked = dict(request.query)
    if name == "why":
        field = "no_photo_reason" if asked["list"] == "photo" else "reason"
        command = "cancel" if asked["list"] == "cancel" else "hand_over"
        options: list[dict[str, Any]] = []
        for text in REASONS[asked["list"]].split():
            act: dict[str, Any] = {"command": {"command": command, field: text}}
            if asked["list"] == "photo":
                act = {"deed": "submitPlate", "value": {field: text}}
            options.append({"label": text, **act})
        say, is_cancel = speaking(request.app[SCRIPT].language), asked["list"] == "cancel"
        told = [{"p": say("cancel.safe"), "look": ""}] if is_cancel else []
        bar = ["suspend", "handOver"] if is_cancel else []
        return fixtures.place(say(f"why.{asked['list']}"), *told, {"options": options}, bar=bar)
    if name == "stations":
        wanted = asked.get("q", "").lower()
        found = [row for row in fixtures.STATIONS if wanted in row["pinyin"]]
        confirm = {"command": "confirm_entry", "source": "searched"}
        tiles = [
            {
                "label": f"{row['name']} {row['hex']}",
                "command": {**confirm, "station_hex": row["hex"]},
            }
            for row in found
        ]
        field = {"field": "q", "label": "拼音首字母或站名", "value": wanted, "is_start": True}
        return fixtures.place(
            "按站名找", field, {"options": tiles}, {"letters": "q", "keys": INITIALS, "value": ""}
        )
    if name == "shift":
        return fixtures.shift_place(int(asked.get("shift", "1")))
    if name == "master":
        return _master(asked, request.app[SCRIPT])
    return None


def _master(asked: dict[str, str], script: Script) -> dict[str, Any]:
    command: dict[str, Any] = {
        key: int(value) if key == "amount_fen" else value
        for key, value in asked.items()
        if key in ("command", "reason", "means", "amount_fen")
    }
    state = script.snapshot.get("approvals", [{"state": ""}])[-1]["state"]
    if state == "approved":
        go = {"label": "继续", "command": {**command, "approval": "A1"}}
        return fixtures.place("站长授权", {"p": "站长已同意"}, primary=go, is_auto=True)
    if state == "pending":
        return fixtures.place(
            "站长授权", {"p": "已通知站长，等待回复…", "look": "big"}, again_ms=300
        )
    reasons = [[text, text] for text in REASONS["override"].split()]
    chosen = {"choices": reasons, "name": "reason", "label": "原因", "chosen": asked.get("reason")}
    path = f"/api/lanes/{script.snapshot['lane']}/approvals"
    subject = {**fixtures.SUBJECT, "means": command.get("means", "")}
    return fixtures.place(
        "站长授权",
        *_question(subject, "1001", speaking(script.language)),
        *([chosen] if command["command"] == "override" else []),
        {"credentials": "站长工号"},
        bar=[{"label": "远程授权", "method": "POST", "path": path, "body": command}],
        primary={"label": "确定", "command": command, "needs_credentials": True},
    )


def main() -> None:
    """By hand: `python -m tests.web.ui.fake_gateway`, then open http://127.0.0.1:8099/."""
    web.run_app(create_fake(), host="127.0.0.1", port=8099)


if __name__ == "__main__":
    main()

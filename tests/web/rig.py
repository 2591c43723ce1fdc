"""A listener with everything real but the lane: store, access, shifts, evidence, HTTP.

Every JSON answer that passes through is held against the OpenAPI document.
"""

import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from argon2 import PasswordHasher

import gateway
from gateway.access import Access, Who
from gateway.devices.ports import Frame
from gateway.errors import DeviceUnavailable, StaleRevision, UnexpectedEvent
from gateway.evidence import Evidence
from gateway.flow.commands import Command
from gateway.flow.shift import Shifts
from gateway.params import Operator, Operators, Parameters, read_package
from gateway.runtime import Topic
from gateway.store import Store
from gateway.units import SystemClock
from gateway.web.app import DOCUMENT, Parts, create_app

PASSWORDS = {"1001": "c-word", "1002": "d-word", "9001": "m-word", "7001": "e-word"}
ROLES = {"1001": "collector", "1002": "collector", "9001": "master", "7001": "engineer"}
HASHER = PasswordHasher(memory_cost=64, time_cost=1, parallelism=1)
OPERATORS = Operators(
    rows=tuple(
        Operator(
            number=number, name=f"测试{number}", role=ROLES[number], password_hash=HASHER.hash(word)
        )
        for number, word in PASSWORDS.items()
    )
)
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300" + "01" * 64 +
    "ffc0000b080001000101011100ffc40014000100000000000000000000000000000009"
    "ffc40014100100000000000000000000000000000000ffda0008010100003f0054df"
    "ffd9"
)  # fmt: skip


class FakeLane:
    """The lane's outside: the same names and shapes, and a memory of what it was asked."""

    def __init__(self, name: str, is_enabled: bool = True) -> None:
        self.lane, self.title, self.is_enabled = name, f"{name} 出口", is_enabled
        self.rev = 17
        self.changes = Topic()
        self.asked: list[tuple[Command, Who, str, int]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.camera: list[Frame | DeviceUnavailable] = []
        self.frames_taken = 0
        self.allowed = ["read"]
        self.more: dict[str, Any] = {}
        self.subjects: dict[str, Any] | UnexpectedEvent = {}

    def snapshot(self) -> dict[str, Any]:
        return {
            "rev": self.rev,
            "lane": self.lane,
            "lane_name": self.title,
            "state": "idle",
            "at_ms": 1_700_000_000_000,
            "station": {"name": "兰州南"},
            "allowed": self.allowed,
            "busy": None,
            "passage": None,
            "suspended": [],
            "last": None,
            "shift": None,
            "devices": {"reader": {"name": "读卡器", "state": "ok", "text": ""}},
            "sync": {
                "online": True,
                "unsent": 0,
                "oldest_unsent_ms": None,
                "eta_s": None,
                "parked": 0,
            },
            "policy": {"hex_from_card": False},
            "parameters": {},
            "problem": None,
            **self.more,
        }

    def subject(self, command: Command) -> dict[str, Any]:
        if isinstance(self.subjects, UnexpectedEvent):
            raise self.subjects
        return {**self.subjects, "means": getattr(command, "means", "")}

    def change(self) -> None:
        self.rev += 1
        self.changes.publish()

    async def command(self, command: Command, who: Who, key: str, rev: int) -> dict[str, Any]:
        if key in self.answers:
            return self.answers[key]
        if rev != self.rev:
            raise StaleRevision(f"屏幕是第 {rev} 版，现在是第 {self.rev} 版，没有执行")
        if command.command not in self.allowed:
            raise UnexpectedEvent(f"现在不能 {command.command}")
        self.asked.append((command, who, key, rev))
        self.change()
        self.answers[key] = self.snapshot()
        return self.answers[key]

    async def frame(self) -> Frame:
        self.frames_taken += 1
        found = self.camera.pop(0) if self.camera else Frame(JPEG, 0, None)
        if isinstance(found, DeviceUnavailable):
            raise found
        return found


class FakeSync:
    by_broker = False

    def __init__(self) -> None:
        self.held: set[tuple[str, int]] = set()

    def state(self) -> dict[str, Any]:
        return {"online": False, "unsent": 2, "oldest_unsent_ms": 1, "eta_s": None, "parked": 1}

    async def backlog(self) -> dict[str, Any]:
        return {"count": 2, "oldest_age_s": 61.5, "drain_s": None}

    async def parked(self) -> list[Mapping[str, Any]]:
        return [{"seq": 4, "id": "R4", "reason": "站码不存在"}]

    def delivered(self, lane: str | None = None) -> Set[tuple[str, int]]:
        return {one for one in self.held if lane in (None, one[0])}

    async def count_delivered(self) -> int:
        return len(self.held)


DEMO = Path(gateway.__file__).parent / "parameters" / "demo"
PARAMETERS = Parameters.of(
    {package.name: package for package in (read_package(f.read_bytes()) for f in DEMO.glob("*"))}
)


class FakeShelf:
    def current(self) -> Parameters:
        return PARAMETERS

    def ages(self) -> list[Mapping[str, Any]]:
        return [{"name": "stations", "version": "20251118001", "age_s": 5}]


@dataclass
class Listener:
    """One running listener, its parts, and browsers to visit it."""

    app: web.Application
    parts: Parts
    x03: FakeLane
    x04: FakeLane
    server: TestServer
    clients: list[TestClient[Any, Any]] = field(default_factory=list)

    def browser(self) -> TestClient[Any, Any]:
        """A browser of its own cookies, signed out."""
        client = TestClient(self.server)
        self.clients.append(client)
        return client

    def cookie_of(self, client: TestClient[Any, Any]) -> dict[str, str]:
        """The header that a thief of this browser's cookie would send."""
        jar = client.session.cookie_jar.filter_cookies(self.server.make_url("/"))
        return {"Cookie": f"lane_session={jar['lane_session'].value}"}

    async def signed_in(self, number: str = "1001") -> TestClient[Any, Any]:
        client = self.browser()
        body = {"operator": number, "password": PASSWORDS[number]}
        answer = await client.post("/api/session", json=body)
        assert answer.status == 200, await answer.text()
        return client


async def build_parts(folder: Path, store: Store, lanes: Mapping[str, Any]) -> Parts:
    clock = SystemClock()
    return Parts(
        store=store,
        clock=clock,
        access=Access(store, lambda: OPERATORS, clock),
        shifts=Shifts(store, clock),
        lanes=lanes,
        evidence=Evidence(store, folder / "evidence", clock),
        sync=FakeSync(),
        shelf=FakeShelf(),
    )


@asynccontextmanager
async def listening(
    folder: Path, tls: ssl.SSLContext | None = None, **how: Any
) -> AsyncIterator[Listener]:
    """`how` goes to `create_app`."""
    store = await Store.open(folder / "lane.db")
    x03, x04 = FakeLane("X03"), FakeLane("X04", is_enabled=False)
    parts = await build_parts(folder, store, {"X03": x03, "X04": x04})
    app = create_app(parts, **how)
    app.middlewares.insert(0, as_promised)
    server = TestServer(app, host="127.0.0.1", scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    listener = Listener(app, parts, x03, x04, server)
    try:
        yield listener
    finally:
        for client in listener.clients:
            await client.session.close()
        await server.close()
        parts.access.close()
        await parts.evidence.close()
        await store.close()


@web.middleware
async def as_promised(request: web.Request, handler: Any) -> web.StreamResponse:
    """Fails the request, and with it the test, when an answer is not what the document says."""
    response = await handler(request)
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical.startswith("/api/"):
        hold_against(request.app[DOCUMENT](), request.method, resource.canonical, response)
    return response


def hold_against(
    document: dict[str, Any], method: str, path: str, response: web.StreamResponse
) -> None:
    operation = document["paths"][path].get(method.lower())
    if operation is None:
        assert response.status == 405, (method, path)
        return
    declared = operation["responses"]
    if "default" in declared:  # a route of a plain table: listed, without shapes
        return
    assert str(response.status) in declared, f"{method} {path} answered {response.status}"
    content = declared[str(response.status)].get("content", {})
    if isinstance(response, web.Response) and "application/json" in content:
        validate(document, content["application/json"]["schema"], response)


def validate(document: dict[str, Any], schema: dict[str, Any], response: web.Response) -> None:
    assert isinstance(response.body, bytes)
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(json.loads(response.body))


def chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None

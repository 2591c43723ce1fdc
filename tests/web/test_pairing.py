"""gateway/web/pairing.py over real TLS: the booth opens, a handheld pairs, the door stays shut."""

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar, web
from argon2 import PasswordHasher

from gateway.access import Access
from gateway.evidence import Evidence
from gateway.flow.shift import Shifts
from gateway.pairing import Pairings, digits_of
from gateway.params import Operator, Operators
from gateway.store import Store
from gateway.tls import Identity, prepare
from gateway.units import SystemClock
from gateway.web import pairing, session
from gateway.web.app import Parts, create_app
from gateway.web.pairing import COOKIE, LAN, PAIRINGS, Lan, lan_guard

CHROMIUM = Path("/usr/bin/chromium")
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NONCE = "n" * 22
PAGE = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><p>车道页面"


async def whoami(request: web.Request) -> web.Response:
    return web.json_response({"owner": session.owner_of(request)})


async def live(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("open")
    async for _ in socket:
        pass
    return socket


async def home(_: web.Request) -> web.Response:
    return web.Response(text="served")


@dataclass
class Box:
    """A gateway's two listeners, and how to reach them."""

    booth: str
    lan: str
    identity: Identity
    pairings: Pairings
    parts: Parts
    http: ClientSession
    trust: ssl.SSLContext

    async def as_booth(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.booth + path, **more) as answer:
            return answer.status, await _body(answer)

    async def as_stranger(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
            return await self.on_lan(http, method, path, **more)

    async def on_lan(
        self, http: ClientSession, method: str, path: str, **more: Any
    ) -> tuple[int, Any]:
        async with http.request(method, self.lan + path, ssl=self.trust, **more) as answer:
            return answer.status, await _body(answer)

    async def sign_in(self, number: str = "9001") -> None:
        given = {"operator": number, "password": number}
        status, _ = await self.as_booth("POST", "/api/session", json=given)
        assert status == 200


async def _body(answer: ClientResponse) -> Any:
    text = await answer.text()
    return json.loads(text) if answer.content_type == "application/json" else text


def application(
    parts: Parts, pairings: Pairings, lan: Lan | None, page: Path, *, is_lan: bool = False
) -> web.Application:
    """As the composition root wires it, with one handler of each kind behind the door."""
    guards = [lan_guard(pairings)] if is_lan else []
    app = create_app(parts, [pairing.routes], guards, is_loopback=not is_lan, static=page)
    app[PAIRINGS] = pairings
    if lan is not None:
        app[LAN] = lan
    app.router.add_get("/api/whoami", whoami)
    app.router.add_get("/api/line", live)
    for path in ("/metrics", "/bench/vehicle", "/center/v1/holdings"):
        app.router.add_get(path, home)
    return app


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with AsyncExitStack() as stack:
        store = await Store.open(tmp_path / "lane.db")
        stack.push_async_callback(store.close)
        rows = tuple(
            Operator(number=n, name=role, role=role, password_hash=HASHER.hash(n))  # type: ignore[arg-type]
            for n, role in (("1001", "collector"), ("9001", "master"))
        )
        clock = SystemClock()
        access = Access(store, lambda: Operators(rows=rows), clock)
        stack.callback(access.close)
        parts = Parts(
            store=store,
            clock=clock,
            access=access,
            shifts=Shifts(store, clock),
            lanes={},
            evidence=Evidence(store, tmp_path / "evidence", clock),
            sync=None,  # type: ignore[arg-type]
            shelf=None,  # type: ignore[arg-type]
        )
        (tmp_path / "page").mkdir()
        (tmp_path / "page" / "index.html").write_text(PAGE)
        identity = prepare(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC))
        pairings = Pairings(store, clock, identity.ca_sha256)

        async def listen(app: web.Application, tls: ssl.SSLContext | None) -> int:
            runner = web.AppRunner(app, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            return int(runner.addresses[0][1])

        # The QR names the listener's port, so the booth's application comes second.
        ours = Lan("127.0.0.1:0", identity.ca_pem)
        lan_app = application(parts, pairings, ours, tmp_path / "page", is_lan=True)
        lan_port = await listen(lan_app, identity.context())
        ours = Lan(f"127.0.0.1:{lan_port}", identity.ca_pem)
        booth_app = application(parts, pairings, ours, tmp_path / "page")
        booth_port = await listen(booth_app, None)
        http = await stack.enter_async_context(ClientSession(cookie_jar=CookieJar(unsafe=True)))
        trust = ssl.create_default_context(cadata=identity.ca_pem.decode())
        booth, lan = f"http://127.0.0.1:{booth_port}", f"https://127.0.0.1:{lan_port}"
        yield Box(booth, lan, identity, pairings, parts, http, trust)


@pytest.fixture
async def handheld() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
        yield http


async def pair(box: Box, handheld: ClientSession, name: str = "手持 1") -> str:
    """The whole way; the device's id."""
    _, offer = await box.as_booth("POST", "/api/pairings")
    claim = {"secret": offer["secret"], "nonce": NONCE, "name": name}
    _, waiting = await box.on_lan(handheld, "POST", "/pair", json=claim)
    await box.as_booth("POST", f"/api/pairings/{offer['id']}/confirm")
    status, _ = await box.on_lan(handheld, "POST", "/pair", json={"claim": waiting["claim"]})
    assert status == 200
    return str(offer["id"])


async def test_a_handheld_is_paired_and_is_its_own_owner(box: Box, handheld: ClientSession) -> None:
    await box.sign_in()
    status, offer = await box.as_booth("POST", "/api/pairings")
    assert status == 200
    assert offer["state"] == "open"

    given = dict(part.split("=") for part in offer["url"].partition("#")[2].split("&"))
    assert offer["url"].startswith(f"{box.lan}/pair#")
    assert given == {"s": offer["secret"], "ca": box.identity.ca_sha256}

    claim = {"secret": given["s"], "nonce": NONCE, "name": "手持 1"}
    status, waiting = await box.on_lan(handheld, "POST", "/pair", json=claim)
    assert (status, waiting["state"]) == (200, "waiting")
    assert waiting["digits"] == digits_of(given["s"], NONCE, given["ca"])
    _, listed = await box.as_booth("GET", "/api/pairings")
    assert listed["pairings"][0]["state"] == "waiting"
    assert listed["pairings"][0]["digits"] == waiting["digits"]
    assert listed["pairings"][0]["qr_svg"]  # the page keeps its picture while people compare
    assert (await box.on_lan(handheld, "GET", "/api/whoami"))[0] == 401

    status, _ = await box.as_booth("POST", f"/api/pairings/{offer['id']}/confirm")
    assert status == 200
    poll = {"claim": waiting["claim"]}
    async with handheld.post(f"{box.lan}/pair", json=poll, ssl=box.trust) as answer:
        cookie = answer.headers["Set-Cookie"]
        assert (await answer.json())["state"] == "paired"
    for property_ in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
        assert property_ in cookie
    assert await box.on_lan(handheld, "GET", "/api/whoami") == (
        200,
        {"owner": f"handheld:{offer['id']}"},
    )


async def test_the_qr_holds_the_address_and_nothing_leaves_the_page(box: Box) -> None:
    await box.sign_in()
    _, offer = await box.as_booth("POST", "/api/pairings")
    assert offer["qr_svg"].startswith("<svg xmlns=")
    assert "style=" not in offer["qr_svg"]  # the page's policy forbids it
    path = offer["url"].partition("#")[0]
    assert offer["secret"] not in path  # the fragment never reaches a log


async def test_without_a_credential_the_lan_shows_the_pairing_page_and_nothing_else(
    box: Box,
) -> None:
    for path in (
        "/",
        "/api/whoami",
        "/api/session",
        "/api/live",
        "/api/line",
        "/healthz",
        "/nothing",
    ):
        status, told = await box.as_stranger("GET", path)
        assert (path, status) == (path, 401)
        assert told["code"] == "device.not_paired"
        assert told["detail"]
        assert told["action"]
    status, page = await box.as_stranger("GET", "/pair")
    assert (status, "手持终端配对" in page) == (200, True)
    for file in re.findall(r'(?:href|src)="(/pair/[^"]+)"', page):
        assert (await box.as_stranger("GET", file))[0] == 200
    status, certificate = await box.as_stranger("GET", "/ca.crt")
    assert (status, certificate) == (200, box.identity.ca_pem.decode())
    assert "PRIVATE" not in certificate


async def test_a_made_up_cookie_opens_nothing(box: Box) -> None:
    for value in ("x" * 43, "", "../..", "'; DROP TABLE handheld; --"):
        status, _ = await box.as_stranger("GET", "/api/whoami", cookies={COOKIE: value})
        assert status == 401


async def test_bench_and_metrics_are_never_served_on_the_lan(
    box: Box, handheld: ClientSession
) -> None:
    await box.sign_in()
    await pair(box, handheld)
    for path in ("/metrics", "/bench/vehicle", "//bench/vehicle", "/bench%2Fvehicle"):
        status, _ = await box.on_lan(handheld, "GET", path)
        assert (path, status) == (path, 404)
    assert (await box.as_booth("GET", "/metrics"))[0] == 200


async def test_the_centres_pull_brings_its_own_token(box: Box) -> None:
    assert (await box.as_stranger("GET", "/center/v1/holdings"))[0] == 200


async def test_a_revoked_handheld_is_out_at_once_and_its_open_screen_ends(
    box: Box, handheld: ClientSession
) -> None:
    await box.sign_in()
    id_ = await pair(box, handheld)
    given = {"operator": "1001", "password": "1001"}
    assert (await box.on_lan(handheld, "POST", "/api/session", json=given))[0] == 200
    async with handheld.ws_connect(f"{box.lan}/api/line", ssl=box.trust) as screen:
        assert await screen.receive_str(timeout=5) == "open"
        assert (await box.as_booth("DELETE", f"/api/pairings/{id_}"))[0] == 200
        message = await screen.receive(timeout=5)
        assert screen.closed or message.type.name in ("CLOSE", "CLOSED", "CLOSING", "ERROR")
    assert (await box.on_lan(handheld, "GET", "/api/whoami"))[0] == 401
    _, listed = await box.as_booth("GET", "/api/pairings")
    assert listed["pairings"] == []
    assert (await box.as_booth("DELETE", f"/api/pairings/{id_}"))[0] == 404


async def test_only_a_signed_in_master_may_pair_or_revoke(box: Box) -> None:
    asked = [
        ("POST", "/api/pairings"),
        ("GET", "/api/pairings"),
        ("POST", "/api/pairings/H1/confirm"),
        ("DELETE", "/api/pairings/H1"),
    ]
    for method, path in asked:
        assert (await box.as_booth(method, path))[0] == 401
    await box.sign_in("1001")
    for method, path in asked:
        status, told = await box.as_booth(method, path)
        assert (status, told["code"]) == (403, "access.refused")
    await box.sign_in("9001")
    assert [(await box.as_booth(m, p))[0] for m, p in asked] == [200, 200, 404, 404]


async def test_five_wrong_secrets_close_the_offer(box: Box) -> None:
    await box.sign_in()
    _, offer = await box.as_booth("POST", "/api/pairings")
    for _ in range(5):
        wrong = {"secret": "A" * 26, "nonce": NONCE, "name": "x"}
        status, told = await box.as_stranger("POST", "/pair", json=wrong)
        assert (status, told["code"]) == (403, "pairing.refused")
    right = {"secret": offer["secret"], "nonce": NONCE, "name": "x"}
    assert (await box.as_stranger("POST", "/pair", json=right))[0] == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"claim": 5}',
        b'{"secret": "A", "nonce": "short", "name": "x"}',
        b'{"secret": "A", "nonce": "nnnnnnnnnnnnnnnn", "name": ""}',
        b'{"secret": "A", "nonce": "nnnnnnnnnnnnnnnn", "name": "x", "more": 1}',
        b'{"claim": "x", "secret": "A"}',
    ],
)
async def test_a_malformed_request_is_refused_in_chinese(box: Box, body: bytes) -> None:
    status, told = await box.as_stranger("POST", "/pair", data=body)
    assert status == 422
    assert told["code"] == "request.invalid"
    assert re.search(r"[一-鿿]", told["detail"])


async def test_a_credential_is_never_given_out_in_clear_text(box: Box) -> None:
    await box.sign_in()
    _, offer = await box.as_booth("POST", "/api/pairings")
    claim = {"secret": offer["secret"], "nonce": NONCE, "name": "x"}
    _, waiting = await box.as_booth("POST", "/pair", json=claim)
    await box.as_booth("POST", f"/api/pairings/{offer['id']}/confirm")
    async with box.http.post(f"{box.booth}/pair", json={"claim": waiting["claim"]}) as answer:
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


async def test_a_box_without_a_lan_says_how_to_get_one(tmp_path: Path, box: Box) -> None:
    await box.sign_in()
    runner = web.AppRunner(application(box.parts, box.pairings, None, tmp_path))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/pairings"
        async with box.http.post(url) as answer:
            assert answer.status == 404
            assert "[lan]" in (await answer.json())["action"]
    finally:
        await runner.cleanup()


@pytest.mark.browser
async def test_a_person_pairs_a_handheld_in_a_real_browser(box: Box) -> None:
    if not CHROMIUM.exists():
        assert "CI" not in os.environ, "chromium is missing"
        pytest.skip("apt-get install chromium")
    from playwright.async_api import async_playwright

    await box.sign_in()
    _, offer = await box.as_booth("POST", "/api/pairings")
    async with async_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = await play.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        context = await browser.new_context(
            viewport={"width": 360, "height": 740}, has_touch=True, ignore_https_errors=True
        )
        page = await context.new_page()
        noise: list[str] = []
        page.on("console", lambda m: noise.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: noise.append(str(e)))
        await page.goto(offer["url"])
        assert offer["secret"] not in page.url
        await page.fill("#name", "手持 7")
        await page.tap("button")
        await page.wait_for_selector("#waiting:not([hidden])")
        digits = await page.text_content("#digits")
        _, listed = await box.as_booth("GET", "/api/pairings")
        assert listed["pairings"][0]["digits"] == digits
        assert listed["pairings"][0]["name"] == "手持 7"
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(overflow) == 0
        await box.as_booth("POST", f"/api/pairings/{offer['id']}/confirm")
        await page.wait_for_url(f"{box.lan}/")
        assert "车道页面" in await page.content()
        assert noise == []
        await browser.close()


async def test_requests_of_many_strangers_do_not_write(box: Box) -> None:
    before = await box.pairings._store.rows("SELECT count(*) AS n FROM handheld")
    await asyncio.gather(*(box.as_stranger("GET", "/api/whoami") for _ in range(10)))
    after = await box.pairings._store.rows("SELECT count(*) AS n FROM handheld")
    assert before[0]["n"] == after[0]["n"] == 0

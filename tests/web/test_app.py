from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError, web
from yarl import URL

from gateway.errors import CardRefused
from gateway.web.api import OWNER
from gateway.web.app import BODY_BYTES_MAX, CSP
from tests.web.rig import Listener, chinese, listening


@pytest.fixture
def static(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    (folder / "vendor").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>车道</title>")
    (folder / "app.js").write_text("export {};")
    (folder / "vendor" / "lit.js").write_text("export {};")
    (folder / ".hidden").write_text("no")
    (folder / "link.js").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
async def listener(tmp_path: Path, static: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path, static=static) as running:
        yield running


async def raw(listener: Listener, method: str, path: str, **how: Any) -> Any:
    """A request as its bytes are, without a client tidying the path."""
    url = URL(f"http://127.0.0.1:{listener.server.port}{path}", encoded=True)
    return await listener.browser().session.request(method, url, **how)


async def test_the_page_and_its_files_are_served(listener: Listener) -> None:
    page = await listener.browser().get("/")
    assert page.status == 200
    assert page.content_type == "text/html"
    assert "车道" in await page.text()
    script = await listener.browser().get("/vendor/lit.js")
    assert script.content_type in ("text/javascript", "application/javascript")
    assert script.headers["Cache-Control"] == "no-cache"
    tag = {"If-None-Match": script.headers["ETag"]}
    assert (await listener.browser().get("/vendor/lit.js", headers=tag)).status == 304


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/vendor/../../secret.txt",
        "/vendor/%2e%2e/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "//etc/passwd",
        "/.hidden",
        "/link.js",
        "/vendor/",
        "/vendor",
        "/app.js/",
    ],
)
async def test_nothing_else_is_served(listener: Listener, path: str) -> None:
    answer = await raw(listener, "GET", path)
    assert answer.status == 404
    assert "secret" not in await answer.text()


async def test_every_answer_carries_the_policy(listener: Listener) -> None:
    for path in ("/", "/app.js", "/api/session", "/api/lanes", "/api/nothing", "/nothing"):
        headers = (await listener.browser().get(path)).headers
        assert headers["Content-Security-Policy"] == CSP
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "camera=(self)" in headers["Permissions-Policy"]
        is_api = path.startswith("/api/")
        assert headers["Cache-Control"] == ("no-store" if is_api else "no-cache")


def test_the_policy_is_the_designed_one() -> None:
    rules = {rule.strip().split(" ", 1)[0]: rule.strip() for rule in CSP.split(";")}
    assert rules["default-src"] == "default-src 'none'"
    assert rules["script-src"] == "script-src 'self'"
    assert rules["trusted-types"] == "trusted-types lit-html"
    assert "unsafe" not in CSP


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("POST", "/api/nothing", 404, "not_found"),
        ("GET", "/api/lanes/X99", 404, "not_found"),
        ("PATCH", "/api/session", 405, "request.method"),
        ("HEAD", "/api/lanes", 405, ""),
        ("GET", "/api/live", 400, "request.invalid"),
        ("GET", "/center/v1/nothing", 404, "not_found"),
        ("DELETE", "/pair", 404, "not_found"),
    ],
)
async def test_what_the_router_refuses_is_json_in_chinese_too(
    listener: Listener, method: str, path: str, status: int, code: str
) -> None:
    answer = await (await listener.signed_in()).request(method, path)
    assert answer.status == status
    if method != "HEAD":
        told = await answer.json()
        assert told["code"] == code
        assert chinese(told["detail"])
        assert chinese(told["action"])


async def test_a_refused_method_names_the_allowed_ones(listener: Listener) -> None:
    answer = await listener.browser().patch("/api/session")
    assert set(answer.headers["Allow"].split(",")) >= {"GET", "POST", "DELETE"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"command": "read"', b"[" * 5000, b'"\\ud800"', b"NaN"]
)
async def test_what_is_not_json_is_a_422(listener: Listener, body: bytes) -> None:
    answer = await listener.browser().post("/api/session", data=body)
    assert answer.status == 422
    told = await answer.json()
    assert told["code"] == "request.invalid"
    assert chinese(told["detail"])


async def test_a_body_that_cannot_be_unpacked_is_a_400_in_chinese(listener: Listener) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = await listener.browser().post("/api/session", data=b"no gzip", headers=headers)
    assert answer.status == 400
    assert chinese((await answer.json())["detail"])


async def test_a_body_above_the_limit_is_a_413(listener: Listener) -> None:
    fits = b'{"operator": "1001", "password": "%s"}' % (b"x" * (BODY_BYTES_MAX - 40))
    assert (await listener.browser().post("/api/session", data=fits)).status == 422
    told = await listener.browser().post("/api/session", data=b"x" * (BODY_BYTES_MAX + 1))
    assert told.status == 413
    assert (await told.json())["code"] == "request.too_large"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "192.168.1.5", "", "[::2]"],
)
async def test_a_foreign_name_for_loopback_is_refused(listener: Listener, host: str) -> None:
    for path in ("/", "/api/session"):
        answer = await raw(listener, "GET", path, headers={"Host": host})
        assert answer.status == 403
        assert (await answer.json())["code"] == "request.foreign"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9", "localhost:8080", "LOCALHOST", "[::1]:1"]
)
async def test_loopback_has_its_own_names_with_any_port(listener: Listener, host: str) -> None:
    assert (await raw(listener, "GET", "/", headers={"Host": host})).status == 200


async def test_another_sites_page_may_not_act(listener: Listener) -> None:
    browser = await listener.signed_in()
    port = listener.server.port
    foreign = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in foreign:
        answer = await browser.post("/api/shifts", json={"lane": "X03"}, headers=headers)
        assert answer.status == 403, headers
        assert (await answer.json())["code"] == "request.foreign"
    assert not await listener.parts.store.rows("SELECT * FROM shift")
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    answer = await browser.post("/api/shifts", json={"lane": "X03"}, headers=own)
    assert answer.status == 200


async def test_another_sites_page_may_not_listen_in(listener: Listener) -> None:
    browser = await listener.signed_in()
    with pytest.raises(WSServerHandshakeError) as refused:
        await browser.ws_connect("/api/live", headers={"Origin": "https://evil.example"})
    assert refused.value.status == 403


async def test_a_guard_of_the_lane_network_names_the_owner(tmp_path: Path) -> None:
    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        request[OWNER] = "handheld:7"
        return await handler(request)

    async with listening(tmp_path, guards=[guard], is_loopback=False) as listener:
        browser = await listener.signed_in()
        headers = {"Idempotency-Key": "k", "If-Match": "17"}
        answer = await browser.post(
            "/api/lanes/X03/commands", json={"command": "read"}, headers=headers
        )
        assert answer.status == 200
        assert listener.x03.asked[0][1].owner == "handheld:7"
        assert (await raw(listener, "GET", "/api/session", headers={"Host": "gw.lane"})).ok


async def test_other_tables_are_mounted_under_the_same_guards(tmp_path: Path) -> None:
    routes = web.RouteTableDef()

    @routes.get("/api/extra")
    async def extra(_: web.Request) -> web.Response:
        """Something more."""
        raise CardRefused(0x6A82, "读取")

    async with listening(tmp_path, tables=[routes]) as listener:
        browser = listener.browser()
        document = await (await browser.get("/api/openapi.json")).json()
        assert document["paths"]["/api/extra"]["get"]["summary"] == "Something more."
        answer = await browser.get("/api/extra")
        assert answer.status == 502
        told = await answer.json()
        assert (told["code"], told["detail"]) == ("card.refused", "卡片拒绝了读取（SW=6A82）")
        foreign = await browser.get("/api/extra", headers={"Host": "evil.example"})
        assert foreign.status == 403

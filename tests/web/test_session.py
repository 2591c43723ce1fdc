import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.web.rig import Listener, chinese, listening


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path) as running:
        yield running


async def post(client: Any, path: str, body: Any, status: int = 200) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status == status, await answer.text()
    return await answer.json()


async def test_signed_out_is_an_answer_and_not_a_fault(listener: Listener) -> None:
    answer = await listener.browser().get("/api/session")
    assert answer.status == 200
    assert (await answer.json())["operator"] is None


async def test_sign_in_says_who_and_what_they_may_do(listener: Listener) -> None:
    browser = listener.browser()
    told = await post(browser, "/api/session", {"operator": "9001", "password": "m-word"})
    assert (told["operator"], told["role"], told["owner"]) == ("9001", "master", "booth")
    assert "approve" in told["allowed"]
    assert await (await browser.get("/api/session")).json() == told


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(listener: Listener) -> None:
    browser = listener.browser()
    answer = await browser.post("/api/session", json={"operator": "1001", "password": "c-word"})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("lane_session=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie  # plain HTTP on loopback


async def test_sign_out_ends_the_session_for_whoever_kept_the_cookie(listener: Listener) -> None:
    browser = await listener.signed_in()
    stolen = listener.cookie_of(browser)
    thief = listener.browser()
    assert (await thief.get("/api/lanes", headers=stolen)).status == 200
    answer = await browser.delete("/api/session")
    assert (await answer.json())["operator"] is None
    assert (await browser.get("/api/lanes")).status == 401
    assert (await thief.get("/api/lanes", headers=stolen)).status == 401


async def test_the_next_person_at_a_browser_ends_the_session_before(listener: Listener) -> None:
    browser = await listener.signed_in("1001")
    late = listener.cookie_of(browser)
    await post(browser, "/api/session", {"operator": "1002", "password": "d-word"})
    assert (await listener.browser().get("/api/lanes", headers=late)).status == 401


async def test_a_wrong_password_says_how_many_tries_are_left_and_then_locks(
    listener: Listener,
) -> None:
    browser, wrong = listener.browser(), {"operator": "1001", "password": "no"}
    for left in (4, 3, 2, 1):
        told = await post(browser, "/api/session", wrong, 401)
        assert told["code"] == "session.refused"
        assert f"还可以试 {left} 次" in told["detail"]
    told = await post(browser, "/api/session", wrong, 423)
    assert told["code"] == "access.locked"
    right = {"operator": "1001", "password": "c-word"}
    assert (await post(browser, "/api/session", right, 423))["code"] == "access.locked"
    await listener.signed_in("9001")  # nobody else is locked out


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"operator": "1001"}, "密码（password）没有填"),
        ({"operator": "张三", "password": "x"}, "工号（operator）格式不对"),
        ({"operator": "1001", "password": "x", "extra": 1}, "extra"),
        ({"operator": 1001, "password": "x"}, "工号（operator）应为文字"),
        ([], "应为一个 JSON 对象"),
    ],
)
async def test_a_malformed_sign_in_names_the_field(
    listener: Listener, body: Any, says: str
) -> None:
    told = await post(listener.browser(), "/api/session", body, 422)
    assert told["code"] == "request.invalid"
    assert says in told["detail"]
    assert "x" not in told["detail"].replace("extra", "")  # a password is never told back


PRIVATE = [
    ("GET", "/api/lanes"),
    ("GET", "/api/lanes/X03"),
    ("POST", "/api/lanes/X03/commands"),
    ("PUT", f"/api/lanes/X03/photos/{'0' * 64}"),
    ("PUT", "/api/lanes/X03/draft"),
    ("GET", f"/api/photos/{'0' * 64}"),
    ("GET", "/api/lanes/X03/camera.jpg"),
    ("GET", "/api/lanes/X03/camera.mjpeg"),
    ("GET", "/api/live"),
    ("GET", "/api/passages"),
    ("GET", "/api/passages/P1"),
    ("GET", "/api/passages/P1/timeline"),
    ("GET", "/api/devices"),
    ("GET", "/api/sync"),
    ("GET", "/api/receipts"),
    ("GET", "/api/parameters"),
    ("GET", "/api/tables/stations"),
    ("GET", "/api/places/menu"),
    ("GET", "/api/places/passage/P1"),
    ("GET", "/api/places/correct/P1"),
    ("GET", "/api/places/resend/R1"),
    ("POST", "/api/settings/open"),
    ("POST", "/api/shifts"),
    ("GET", "/api/shifts/1"),
    ("POST", "/api/shifts/1/close"),
]
PUBLIC = {
    ("GET", "/api/session"),
    ("POST", "/api/session"),
    ("DELETE", "/api/session"),
    ("GET", "/api/ui"),
}


async def test_without_a_session_every_other_route_answers_401(listener: Listener) -> None:
    browser = listener.browser()
    for method, path in PRIVATE:
        answer = await browser.request(method, path)
        assert answer.status == 401, path
        told = await answer.json()
        assert told["code"] == "session.missing"
        assert chinese(told["detail"])
        assert chinese(told["action"])


async def test_that_list_of_routes_is_complete(listener: Listener) -> None:
    listed = {
        (route.method, route.resource.canonical)
        for route in listener.app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/api/")
    }
    listed -= PUBLIC | {("GET", "/api/openapi.json")}
    assert len(listed) == len(PRIVATE)


async def test_an_engineer_may_look_and_not_sell(listener: Listener) -> None:
    browser = await listener.signed_in("7001")
    assert (await browser.get("/api/lanes/X03")).status == 200
    told = await post(browser, "/api/lanes/X03/commands", {"command": "read"}, 403)
    assert (told["code"], told["number"]) == ("access.refused", "E-224")
    assert "收费" in told["detail"]
    assert (await browser.put(f"/api/lanes/X03/photos/{'0' * 64}", data=b"x")).status == 403
    await post(browser, "/api/shifts", {"lane": "X03"}, 403)
    assert not listener.x03.asked


async def test_over_tls_the_cookie_is_for_tls_only(tmp_path: Path) -> None:
    authority, server_side = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    browser_side = ssl.create_default_context()
    authority.configure_trust(browser_side)
    async with listening(tmp_path, is_loopback=False, tls=server_side) as listener:
        body = {"operator": "1001", "password": "c-word"}
        answer = await listener.browser().post("/api/session", json=body, ssl=browser_side)
        assert answer.status == 200
        assert "Secure" in answer.headers["Set-Cookie"]

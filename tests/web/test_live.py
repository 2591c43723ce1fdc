import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError

from gateway.web.live import SCREENS, SCREENS_MAX
from tests.web.rig import Listener, listening


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path) as running:
        running.app[SCREENS]._heartbeat_s = 0.2
        yield running


async def heard(screen: ClientWebSocketResponse) -> dict[str, Any]:
    told: dict[str, Any] = await screen.receive_json(timeout=5)
    return told


async def heard_until(screen: ClientWebSocketResponse, rev: int) -> list[dict[str, Any]]:
    """All messages up to the snapshot of this rev."""
    messages = [await heard(screen)]
    while messages[-1]["type"] != "snapshot" or messages[-1]["rev"] != rev:
        messages.append(await heard(screen))
    return messages


async def test_a_screen_hears_the_snapshot_at_once_and_on_every_change(
    listener: Listener,
) -> None:
    browser = await listener.signed_in()
    async with browser.ws_connect("/api/live?lane=X03") as screen:
        shown = {"type": "snapshot", **listener.x03.snapshot()}
        assert (await heard(screen)).items() >= shown.items()
        for _ in range(3):
            listener.x03.change()
            await heard_until(screen, listener.x03.rev)


async def test_a_quiet_lane_sends_heartbeats_with_rev_and_time(listener: Listener) -> None:
    browser = await listener.signed_in()
    async with browser.ws_connect("/api/live") as screen:
        await heard(screen)
        beat = await heard(screen)
        assert beat["type"] == "heartbeat"
        assert beat["rev"] == 17
        assert beat["at_ms"] > 1_600_000_000_000
        assert set(beat["gateway"]) == {"ui", "started_ms"}


async def test_many_changes_at_once_are_one_snapshot_of_the_newest(listener: Listener) -> None:
    browser = await listener.signed_in()
    async with browser.ws_connect("/api/live") as screen:
        await heard(screen)
        for _ in range(100):
            listener.x03.change()
        messages = await heard_until(screen, 117)
        assert sum(message["type"] == "snapshot" for message in messages) == 1


async def test_a_screen_that_does_not_read_gets_the_newest_and_not_the_backlog(
    listener: Listener,
) -> None:
    browser = await listener.signed_in()
    slow = await dial_by_hand(listener, browser)
    loop = asyncio.get_running_loop()
    listener.x03.allowed = ["x" * 2000]  # a large snapshot fills the pipe soon
    for _ in range(3000):
        listener.x03.change()
        await asyncio.sleep(0)
    got = b""
    newest = f'"rev":{listener.x03.rev},"lane"'.encode()
    async with asyncio.timeout(20):
        while newest not in got:
            got += await loop.sock_recv(slow, 65536)
    slow.close()
    assert got.count(b'"type":"snapshot"') < 300  # of 3000


async def dial_by_hand(listener: Listener, browser: Any) -> socket.socket:
    """A WebSocket whose receiver reads nothing until told to, with small buffers."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    plug.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plug, ("127.0.0.1", listener.server.port))
    lines = [
        "GET /api/live HTTP/1.1",
        f"Host: 127.0.0.1:{listener.server.port}",
        f"Cookie: {listener.cookie_of(browser)['Cookie']}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    await loop.sock_sendall(plug, "\r\n".join([*lines, "", ""]).encode())
    assert b"101" in await loop.sock_recv(plug, 12)
    return plug


async def test_without_a_session_there_is_nothing_to_hear(listener: Listener) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await listener.browser().ws_connect("/api/live")
    assert refused.value.status == 401


async def test_a_lane_that_is_not_there_is_refused(listener: Listener) -> None:
    browser = await listener.signed_in()
    for query, status in (("lane=X99", 404), ("line=X03", 422)):
        with pytest.raises(WSServerHandshakeError) as refused:
            await browser.ws_connect(f"/api/live?{query}")
        assert refused.value.status == status


async def test_without_a_lane_named_there_must_be_one_enabled(listener: Listener) -> None:
    browser = await listener.signed_in()
    listener.x04.is_enabled = True
    with pytest.raises(WSServerHandshakeError) as refused:
        await browser.ws_connect("/api/live")
    assert refused.value.status == 422


async def test_signing_out_ends_the_screens_of_that_session(listener: Listener) -> None:
    browser, other = await listener.signed_in(), await listener.signed_in("9001")
    async with browser.ws_connect("/api/live") as screen, other.ws_connect("/api/live") as kept:
        await heard(screen)
        await browser.delete("/api/session")
        assert await closed_with(screen) == 4401
        await heard_until(kept, 17)
        listener.x03.change()
        await heard_until(kept, 18)


async def closed_with(screen: ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(5):
        while (message := await screen.receive()).type is WSMsgType.TEXT:
            pass
    assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
    # The code that came; `close_code` is another one when our own goodbye finds nobody any more.
    return message.data if message.type is WSMsgType.CLOSE else screen.close_code


async def test_the_ninth_screen_is_refused_and_a_place_becomes_free(listener: Listener) -> None:
    browser = await listener.signed_in()
    screens = [await browser.ws_connect("/api/live") for _ in range(SCREENS_MAX)]
    with pytest.raises(WSServerHandshakeError) as refused:
        await browser.ws_connect("/api/live")
    assert refused.value.status == 503
    await screens.pop().close()
    async with asyncio.timeout(5):
        while len(listener.app[SCREENS]) == SCREENS_MAX:
            await asyncio.sleep(0.01)
    screens.append(await browser.ws_connect("/api/live"))
    for screen in screens:
        await screen.close()


async def test_a_screen_that_vanishes_gives_its_place_back(listener: Listener) -> None:
    browser = await listener.signed_in()
    plug = await dial_by_hand(listener, browser)
    assert len(listener.app[SCREENS]) == 1
    plug.close()
    async with asyncio.timeout(5):
        while len(listener.app[SCREENS]):
            await asyncio.sleep(0.01)


async def test_a_screen_that_talks_too_much_is_hung_up_on(listener: Listener) -> None:
    browser = await listener.signed_in()
    async with browser.ws_connect("/api/live") as screen:
        await screen.send_str("x" * 5000)
        assert await closed_with(screen) == 1009


async def test_a_stopping_box_says_goodbye_and_stops_quickly(tmp_path: Path) -> None:
    async with listening(tmp_path) as listener:
        browser = await listener.signed_in()
        screen = await browser.ws_connect("/api/live")
        silent = await dial_by_hand(listener, browser)
        await heard(screen)
        stopping = asyncio.create_task(listener.server.close())
        assert await closed_with(screen) == 1001
        async with asyncio.timeout(10):
            await stopping
        silent.close()


async def test_messages_are_as_the_page_expects_them(listener: Listener) -> None:
    browser = await listener.signed_in()
    async with browser.ws_connect("/api/live") as screen:
        message = await screen.receive(timeout=5)
        assert message.type is WSMsgType.TEXT
        assert set(json.loads(message.data)) >= {"type", "gateway", *listener.x03.snapshot()}

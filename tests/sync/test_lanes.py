"""Lanes of one box do not wait for each other at the centre."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.errors import CenterUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.outbox import SHUT_FROM, Outbox
from gateway.sync.photos import PhotoPusher
from tests.sync.rig import HurriedClock, save
from tests.sync.test_center import server
from tests.sync.test_outbox import verdicts

OWED = 90
PHOTO = b"\xff\xd8 a photo"


class Choosy:
    """Takes what it gets, but nothing of the lanes it does not know."""

    def __init__(self) -> None:
        self.unknown, self.bodies, self.photos = {"X03"}, list[tuple[str, int]](), 0

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            self.photos += 1
            return web.Response(status=201)
        if request.path == "/v1/heartbeat":
            return web.json_response({})
        lane, text = request.headers["Lane"], await request.read()
        lines = [json.loads(line) for line in text.splitlines()]
        self.bodies.append((lane, len(lines)))
        if lane in self.unknown:
            return web.Response(status=403)
        said = [{"seq": one["seq"], "id": one["id"], "verdict": "accepted"} for one in lines]
        return web.json_response({"verdicts": said})


@pytest.fixture
def choosy() -> Choosy:
    return Choosy()


@pytest.fixture
async def client(choosy: Choosy, clock: HurriedClock) -> AsyncIterator[CenterClient]:
    async with server(choosy.answer) as url, CenterClient(url, "", clock) as client:
        yield client


@pytest.fixture
async def outbox(store: Store, client: CenterClient, clock: HurriedClock) -> Outbox:
    """What X03 owes is taken by nobody, and X04 has a long backlog behind it."""
    for seq in range(1, 4):
        await save(store, seq)
    for seq in range(1, OWED + 1):
        await save(store, seq, lane="X04")
    return Outbox(store, client, ["X03", "X04"], clock)


async def test_a_lane_that_the_centre_does_not_take_holds_up_no_other(
    store: Store, outbox: Outbox, choosy: Choosy
) -> None:
    with pytest.raises(CenterUnavailable):
        await outbox.drain()
    assert len(await verdicts(store, "X04")) == OWED
    assert [count for lane, count in choosy.bodies if lane == "X03"] == [1, 1]
    assert len(choosy.bodies) < 12, "X04 did not go one by one"
    assert outbox.state("X03")["online"] is False
    assert outbox.state("X04") | {"online": True, "unsent": 0} == outbox.state("X04")
    assert outbox.state()["online"] is True


async def test_once_the_lane_is_taken_everything_arrives(
    store: Store, outbox: Outbox, choosy: Choosy
) -> None:
    with pytest.raises(CenterUnavailable):
        await outbox.drain()
    choosy.unknown.clear()
    await outbox.drain()
    assert len(await verdicts(store, "X03")) == 3
    assert outbox.state("X03")["online"] is True


async def test_photos_do_not_wait_for_a_lane_that_is_not_taken_and_do_for_one_that_is(
    store: Store, outbox: Outbox, choosy: Choosy, client: CenterClient, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(PHOTO).hexdigest()
    (tmp_path / sha256).write_bytes(PHOTO)
    row: tuple[Any, ...] = (sha256, len(PHOTO), 1)
    insert = "INSERT INTO evidence (sha256, size, at_ms, source) VALUES (?, ?, ?, 'camera')"
    await store.write(lambda db: db.execute(insert, row).rowcount)
    pusher = PhotoPusher(
        store, client, tmp_path.joinpath, lambda: outbox.has_money_to_send, HurriedClock()
    )
    await outbox.refresh()
    await pusher.drain()
    assert choosy.photos == 0
    for _ in range(SHUT_FROM):
        assert choosy.photos == 0, "an ill answer or two is no word against a lane"
        with pytest.raises(CenterUnavailable):
            await outbox.drain()
        await pusher.drain()
    assert choosy.photos == 1


async def test_nobody_there_is_nobody_for_all_lanes(store: Store, clock: HurriedClock) -> None:
    for lane in ("X03", "X04"):
        await save(store, 1, lane=lane)
    async with CenterClient("http://127.0.0.1:9", "", clock) as dead:
        dead.is_online = True
        outbox = Outbox(store, dead, ["X03", "X04"], clock)
        with pytest.raises(CenterUnavailable):
            await outbox.drain()
    assert [outbox.state(lane)["online"] for lane in ("X03", "X04", None)] == [False] * 3

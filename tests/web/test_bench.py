"""The bench's routes over real HTTP and real twins, with the faults as the API words them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.web import bench
from gateway.web.faults import faults_as_json
from tests.devices.test_bench import Lane

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
async def client(lane: Lane) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[faults_as_json(lambda _: None)])
    app[bench.BENCH] = lane.bench
    app.add_routes(bench.routes)
    async with TestClient(TestServer(app)) as client:
        yield client


async def ask(client: Client, method: str, path: str, **body: Any) -> Any:
    response = await client.request(method, path, json=body or None)
    told = await response.json()
    assert response.status == 200, told
    return told


async def test_vehicle_is_put_told_and_taken_away(client: Client) -> None:
    put = await ask(client, "POST", "/bench/vehicle", preset="truck")
    wanted = {
        "plate",
        "colour",
        "vehicle_type",
        "vehicle_class",
        "card_id",
        "card_kind",
        "balance_fen",
        "entry_hex",
        "entry_station",
        "obu",
        "weight_kg",
        "axle_count",
    }
    assert wanted <= set(put)

    truth = await ask(client, "GET", "/bench/vehicle")
    assert truth["present"] is True
    assert truth["card"]["card_id"] == put["card_id"]
    assert set(truth["card"]) >= {"plate", "balance_fen", "card_seq", "station_hex", "debits"}
    assert set(truth["psam"]) >= {"terminal_no", "terminal_seq", "locked"}

    assert await ask(client, "DELETE", "/bench/vehicle") == {"present": False}
    assert (await ask(client, "GET", "/bench/vehicle"))["present"] is False


async def test_ledger_has_each_debit(client: Client, lane: Lane) -> None:
    put = await ask(client, "POST", "/bench/vehicle", preset="car")
    await lane.pay(1_234)
    (debit,) = await ask(client, "GET", "/bench/ledger")
    assert (debit["card_id"], debit["plate"]) == (put["card_id"], put["plate"])
    assert (debit["amount_fen"], debit["terminal_seq"]) == (1_234, 1)
    assert set(debit) >= {"card_seq", "terminal_no", "tac", "at"}


async def test_faults_are_armed_and_disarmed(client: Client) -> None:
    await ask(client, "POST", "/bench/vehicle", preset="car")
    armed = await ask(client, "POST", "/bench/faults", device="card", fault="pulled", after=0)
    assert armed == {"device": "card", "fault": "pulled", "after": 0}
    assert (await ask(client, "GET", "/bench/vehicle"))["card"]["on_reader"] is False
    await ask(client, "DELETE", "/bench/faults")
    assert (await ask(client, "GET", "/bench/vehicle"))["card"]["on_reader"] is True


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/bench/vehicle", b'{"preset": "tank"}', "preset"),
        ("/bench/vehicle", b'{"preset"', "JSON"),
        ("/bench/vehicle", b"[1]", "JSON 对象"),
        ("/bench/vehicle", b"\xff\xfe", "JSON"),
        ("/bench/vehicle", b'{"colour": true}', "colour"),
        ("/bench/vehicle", b'{"wings": 1}', "wings"),
        ("/bench/faults", b'{"device": "card"}', "fault"),
        ("/bench/faults", b'{"device": "card", "fault": "fire"}', "没有这种故障"),
        ("/bench/faults", b'{"device": "oven", "fault": "on"}', "没有这个设备"),
        ("/bench/faults", b'{"device": "card", "fault": "mute", "after": "1"}', "after"),
        ("/bench/faults", b"", "device"),
    ],
)
async def test_malformed_request_is_422_in_chinese(
    client: Client, path: str, body: bytes, words: str
) -> None:
    response = await client.post(path, data=body)
    told = await response.json()
    assert response.status == 422
    assert set(told) == {"code", "detail", "action", "number"}
    assert words in told["detail"]


async def test_empty_request_is_an_ordinary_car(client: Client) -> None:
    response = await client.post("/bench/vehicle")
    assert (await response.json())["vehicle_type"] == 1

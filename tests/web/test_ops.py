"""gateway/web/ops.py: ready means progress, and the numbers are ones Prometheus can read."""

import re
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.sync.proof import Proven
from gateway.web import ops
from gateway.web.ops import DeviceSign, Progress
from tests.still_clock import StillClock

WELL = Progress(
    last_commit_ms=0.4,
    loop_lag_ms=3,
    journal_seq=1_234_567_890,
    unsent=2,
    oldest_unsent_ms=1_700_000_000_000 - 90_000,
    parked=1,
    closed_lanes={},
    devices=(
        DeviceSign("X03", "reader", "ok", 1_700_000_000_000 - 1_500),
        DeviceSign("X03", "scale", "missing", None),
    ),
)


class Patient:
    def __init__(self) -> None:
        self.now = WELL

    def progress(self) -> Progress:
        return self.now


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
async def client(patient: Patient, aiohttp_client: Any) -> TestClient[Any, Any]:
    app = web.Application()
    app[ops.VITALS], app[ops.CLOCK] = patient, StillClock()
    app.add_routes(ops.routes)
    return await aiohttp_client(app)  # type: ignore[no-any-return]


async def test_a_working_gateway_is_ready_and_says_what_moves(client: TestClient[Any, Any]) -> None:
    async with client.get("/readyz") as answer:
        told = await answer.json()
    assert (answer.status, told["ready"], told["problems"]) == (200, True, [])
    assert told["progress"]["journal_seq"] == 1_234_567_890
    assert told["progress"]["devices"][0]["device"] == "reader"


@pytest.mark.parametrize(
    ("ill", "word"),
    [
        ({"closed_lanes": {"X03": "磁盘不能写"}}, "X03"),
        ({"last_commit_ms": 2_500.0}, "磁盘太慢"),
        ({"loop_lag_ms": 1_200}, "卡顿"),
        ({"proof": Proven(901, "log", "磁盘不能写")}, "自检流水停在流水日志：磁盘不能写"),
        ({"proof": Proven(901, "tables", "读不回来")}, "自检流水停在数据表：读不回来"),
    ],
)
async def test_a_gateway_that_makes_no_progress_is_not_ready(
    client: TestClient[Any, Any], patient: Patient, ill: dict[str, Any], word: str
) -> None:
    patient.now = replace(WELL, **ill)
    async with client.get("/readyz") as answer:
        told = await answer.json()
    assert (answer.status, told["ready"]) == (503, False)
    assert word in told["problems"][0]
    async with client.get("/healthz") as answer:
        assert answer.status == 200  # alive all the same


async def test_an_unsent_backlog_does_not_stop_selling(
    client: TestClient[Any, Any], patient: Patient
) -> None:
    patient.now = replace(WELL, unsent=50_000, oldest_unsent_ms=0)
    async with client.get("/readyz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("station", ["line", "center"])
async def test_a_proof_that_stops_outside_the_box_does_not_stop_selling(
    client: TestClient[Any, Any], patient: Patient, station: str
) -> None:
    patient.now = replace(WELL, proof=Proven(901, station, "连不上中心", is_echoed=True))
    async with client.get("/readyz") as answer:
        told = await answer.json()
    assert (answer.status, told["ready"]) == (200, True)
    assert told["progress"]["proof"] == {
        "age_s": 901, "stopped_at": station, "detail": "连不上中心", "is_echoed": True,
    }  # fmt: skip
    async with client.get("/metrics") as answer:
        text = await answer.text()
    assert "lane_gateway_proof_age_seconds 901\n" in text
    assert f'lane_gateway_proof_stopped{{station="{station}"}} 1\n' in text


async def test_the_metrics_are_prometheus_text(
    client: TestClient[Any, Any], patient: Patient
) -> None:
    patient.now = replace(WELL, closed_lanes={'X"0\\3\n': "停"})
    async with client.get("/metrics") as answer:
        text = await answer.text()
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert text.endswith("\n")
    sample = re.compile(
        r'^[a-z_]+(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? \S+$'
    )
    names = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            names.add(line.split()[2])
        elif not line.startswith("# HELP "):
            assert sample.match(line), line
            assert line.partition(" ")[0].partition("{")[0] in names
            float(line.rpartition(" ")[2])
    assert "lane_gateway_journal_seq 1234567890\n" in text
    assert "lane_gateway_oldest_unsent_seconds 90\n" in text
    assert 'lane_gateway_device_silence_seconds{lane="X03",device="reader"} 1.5\n' in text
    assert 'device_silence_seconds{lane="X03",device="scale"}' not in text
    assert 'state="missing"} 1\n' in text
    resident = re.search(r"^lane_gateway_resident_bytes (\d+)$", text, re.MULTILINE)
    assert resident is not None
    assert int(resident[1]) > 10_000_000


async def test_a_clock_that_jumped_back_gives_no_negative_age(
    client: TestClient[Any, Any], patient: Patient
) -> None:
    patient.now = replace(WELL, oldest_unsent_ms=1_800_000_000_000)
    async with client.get("/metrics") as answer:
        assert "lane_gateway_oldest_unsent_seconds 0\n" in await answer.text()

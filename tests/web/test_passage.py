"""A real lane behind the real routes: what is promised is what a collector's page gets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings

from gateway.access import Access
from gateway.units import SystemClock
from gateway.web.app import Parts, create_app
from tests.flow.rig import ENTRY_HEX, Box, World
from tests.web.junk import bodies
from tests.web.rig import OPERATORS, FakeShelf, FakeSync, as_promised

COMMANDS = "/api/lanes/X03/commands"
AROUND = {
    "devices": {"reader": {"name": "读卡器", "state": "simulated", "text": ""}},
    "sync": FakeSync().state(),
    "parameters": {},
}


@dataclass
class Booth:
    """A collector's browser at a lane with a car in it."""

    box: Box
    browser: TestClient[Any, Any]
    asked: int = field(default=0)

    async def snapshot(self) -> dict[str, Any]:
        told: dict[str, Any] = await (await self.browser.get("/api/lanes/X03")).json()
        return told

    async def ask(self, command: str, status: int = 200, key: str = "", **body: Any) -> Any:
        self.asked += 1
        rev = (await self.snapshot())["rev"]
        headers = {"Idempotency-Key": key or f"t-{self.asked}", "If-Match": f'"{rev}"'}
        body = {"command": command, **body}
        answer = await self.browser.post(COMMANDS, json=body, headers=headers)
        assert answer.status == status, await answer.text()
        return await answer.json()

    async def up_to_save(self) -> None:
        await self.ask("read")
        await self.ask("submit_plate", plate="甘A12345", colour=0, source="lpr")
        await self.ask("classify", vehicle_type=1, vehicle_class=0)
        told = await self.ask("quote")
        if told["state"] == "unpriced":
            await self.ask("minimum_fare", operator="9001", password="9001")
        else:
            await self.ask("confirm_entry", station_hex=ENTRY_HEX)


@pytest.fixture
async def booth(tmp_path: Path) -> AsyncIterator[Booth]:
    box = await Box.power_on(World(), tmp_path / "box")
    box.lane._surroundings = lambda: AROUND
    clock = SystemClock()
    parts = Parts(
        store=box.store,
        clock=clock,
        access=Access(box.store, lambda: OPERATORS, clock),
        shifts=box.lane._shifts,
        lanes={"X03": box.lane},
        evidence=box._evidence,
        sync=FakeSync(),
        shelf=FakeShelf(),
    )
    app = create_app(parts)
    app.middlewares.insert(0, as_promised)
    running = asyncio.create_task(box.lane.run())
    async with TestClient(TestServer(app)) as browser:
        body = {"operator": "1001", "password": "c-word"}
        assert (await browser.post("/api/session", json=body)).status == 200
        yield Booth(box, browser)
    assert not running.done(), running
    running.cancel()
    parts.access.close()
    await box.power_off()


async def test_a_car_is_taken_through_by_http_and_every_answer_is_as_promised(
    booth: Booth,
) -> None:
    before = booth.box.world.card.balance
    await booth.up_to_save()
    told = await booth.ask("save")
    assert told["state"] == "saved"
    assert told["passage"]["card"]["number"].count("*") == 4
    (record,) = await booth.box.records()
    assert before - booth.box.world.card.balance == record["fee"]

    passage = told["passage"]["id"]
    facts = await (await booth.browser.get(f"/api/passages/{passage}")).json()
    assert (facts["state"], facts["record_id"]) == ("saved", record["id"])
    assert facts["record"]["tac"] == record["tac"]
    assert facts["delivery"] == "未传"
    answer = await booth.browser.get(f"/api/passages/{passage}/timeline")
    text = await answer.text()
    entries = (await answer.json())["entries"]
    assert entries[0]["event"] == "ReadRequested"
    assert entries[-1]["state"] == "saved"
    assert record["cardId"][4:] not in text

    session = await (await booth.browser.get("/api/session")).json()
    closed = await booth.browser.post(f"/api/shifts/{session['shift']['id']}/close")
    assert (await closed.json())["sum_fen"] == record["fee"]
    assert (await booth.snapshot())["shift"] is None


async def test_a_second_tap_on_save_is_the_same_answer_and_pays_once(booth: Booth) -> None:
    await booth.up_to_save()
    rev = (await booth.snapshot())["rev"]
    headers = {"Idempotency-Key": "tap", "If-Match": f'"{rev}"'}
    taps = [
        booth.browser.post(COMMANDS, json={"command": "save"}, headers=headers) for _ in range(2)
    ]
    answers = await asyncio.gather(*taps)
    assert [answer.status for answer in answers] == [200, 200]
    assert len(booth.box.world.card.ledger) == 1
    assert len(await booth.box.records()) == 1


async def test_a_stale_page_gets_the_snapshot_of_now(booth: Booth) -> None:
    rev = (await booth.snapshot())["rev"]
    await booth.ask("read")
    headers = {"Idempotency-Key": "late", "If-Match": f'"{rev}"'}
    answer = await booth.browser.post(COMMANDS, json={"command": "read"}, headers=headers)
    assert answer.status == 409
    told = await answer.json()
    assert told["code"] == "flow.stale"
    assert told["snapshot"]["state"] == "checked"


async def test_a_wrong_hex_names_the_field_and_changes_nothing(booth: Booth) -> None:
    await booth.ask("read")
    await booth.ask("submit_plate", plate="甘A12345", colour=0, source="lpr")
    await booth.ask("classify", vehicle_type=1, vehicle_class=0)
    told = await booth.ask("quote")
    if told["state"] == "priced":
        await booth.ask("confirm_entry", 422, station_hex="62010C07")
    await booth.ask("minimum_fare", 403, operator="9001", password="wrong")
    assert (await booth.snapshot())["state"] == told["state"]


async def test_a_shift_cannot_close_over_a_vehicle(booth: Booth) -> None:
    told = await booth.ask("read")
    answer = await booth.browser.post(f"/api/shifts/{told['shift']['id']}/close")
    assert answer.status == 409
    await booth.ask("cancel", reason="车辆倒车离开")
    assert (await booth.browser.post(f"/api/shifts/{told['shift']['id']}/close")).status == 200


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=bodies())
async def test_the_lane_lives_through_anything_a_page_may_send(booth: Booth, body: Any) -> None:
    booth.asked += 1
    rev = (await booth.snapshot())["rev"]
    headers = {"Idempotency-Key": f"j-{booth.asked}", "If-Match": f'"{rev}"'}
    answer = await booth.browser.post(COMMANDS, json=body, headers=headers)
    assert answer.status in (200, 403, 404, 409, 422, 423), await answer.text()

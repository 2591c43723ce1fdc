"""更正 through HTTP against a real demo: box, page and centre tell the same chain."""

from typing import Any

import pytest

from tests.e2e.booth import Booth

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
MASTER = {"operator": "9001", "password": "9001", "reason": "车牌认错"}


async def ask(booth: Booth, passage: str, key: str | None = "k", **body: Any) -> Any:
    headers = {"Idempotency-Key": f"{passage}-{key}"} if key else {}
    path = f"/api/passages/{passage}/corrections"
    return await booth.call("POST", path, {**MASTER, **body}, headers=headers)


async def test_a_correction_is_told_alike_by_box_and_centre(booth: Booth) -> None:
    car = await booth.put("car")
    await booth.drive()
    record = await booth.saved()
    passage = record["passageId"]
    made = await ask(booth, passage, plate="甘A54321")
    assert made.status == 200
    assert made.body["changed"] == {"vehicleId": [f"{car['plate']}_0", "甘A54321_0"]}
    assert (await ask(booth, passage, plate="甘A54321")).body == made.body

    held = await booth.center.arrived(made.body["record_id"])
    assert (held["corrects"], held["vehicleId"]) == (record["id"], "甘A54321_0")
    assert held["tac"] == record["tac"]
    rows = {row["id"]: row for row in await booth.center.lines()}
    assert rows[record["id"]]["corrected_by"] == held["id"]
    assert rows[record["id"]]["record"] == record

    facts = await booth.get(f"/api/passages/{passage}")
    assert (facts["plate"], facts["record_id"]) == ("甘A54321", record["id"])
    (told,) = facts["corrections"]
    assert (told["record_id"], told["corrects"]) == (held["id"], record["id"])
    assert told["approval"]["operator"] == "9001"
    assert told["changed"] == made.body["changed"]
    timeline = (await booth.get(f"/api/passages/{passage}/timeline"))["entries"]
    assert timeline[-1]["event"] == "corrected"
    assert timeline[-1]["body"]["record_id"] == held["id"]
    assert [row["id"] for row in (await booth.get("/api/passages"))["passages"]].count(passage) == 1
    lane = await booth.center.lane()
    assert (lane["holes"], lane["corrections"]) == ([], 1)


async def test_what_is_wrong_with_a_correction_is_said(booth: Booth) -> None:
    await booth.put("car")
    shot = await booth.drive("checked")
    passage = shot["passage"]["id"]
    said = [
        (await ask(booth, passage, plate="甘A54321"), 409, "flow.unexpected"),
        (await ask(booth, passage, key=None, plate="甘A54321"), 428, "request.header_missing"),
        (await ask(booth, "X03-none", plate="甘A54321"), 404, "not_found"),
        (await ask(booth, passage, reason="  ", plate="甘A54321"), 422, "request.invalid"),
        (await ask(booth, passage, tac="00000000"), 422, "request.invalid"),
    ]
    await booth.do("cancel", reason="走错车道")
    passage = (await booth.drive())["passage"]["id"]
    said += [
        (await ask(booth, passage, "a"), 422, "request.invalid"),
        (await ask(booth, passage, "b", amount_fen=1), 422, "request.invalid"),
        (await ask(booth, passage, "c", plate="甘A54321", password="1"), 403, "master.refused"),
        (await ask(booth, passage, "d", plate="甘A5432I"), 422, "plate.invalid"),
    ]
    for answer, status, code in said:
        assert (answer.status, answer.body["code"]) == (status, code)
        assert answer.body["detail"]
        assert answer.body["action"]
    assert (await booth.get(f"/api/passages/{passage}"))["corrections"] == []

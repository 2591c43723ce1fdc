from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.rig import Listener, listening


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path) as running:
        yield running


async def post(client: Any, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status == status, await answer.text()
    return await answer.json()


async def record(listener: Listener, seq: int, shift_id: int, fee: int) -> None:
    row = ("X03", seq, f"R{seq}", f"P{seq}", shift_id, "paid", "etc_card", fee, "", 0, "{}", "")
    values = ",".join("?" * len(row))
    await listener.parts.store.write(
        lambda db: db.execute(f"INSERT INTO record VALUES ({values}, NULL, NULL)", row)
    )


async def test_a_shift_from_open_to_signed_off(listener: Listener) -> None:
    browser = await listener.signed_in()
    opened = await post(browser, "/api/shifts", {"lane": "X03", "shift": 2})
    assert (opened["operator"], opened["shift"], opened["closed_at_ms"]) == ("1001", 2, None)
    session = await (await browser.get("/api/session")).json()
    assert session["shift"]["id"] == opened["id"]

    await record(listener, 1, opened["id"], 4280)
    looked = await (await browser.get(f"/api/shifts/{opened['id']}")).json()
    assert (looked["count"], looked["sum_fen"]) == (1, 4280)
    assert looked["kinds"] == [{"kind": "paid", "means": "etc_card", "count": 1, "sum_fen": 4280}]
    assert looked["unsent"] == {"count": 1, "sum_fen": 4280}

    closed = await post(browser, f"/api/shifts/{opened['id']}/close")
    assert closed["signed_off"]["sum_fen"] == 4280
    assert (await (await browser.get("/api/session")).json())["shift"] is None


async def test_without_a_number_the_hour_decides(listener: Listener) -> None:
    browser = await listener.signed_in()
    assert (await post(browser, "/api/shifts", {"lane": "X03"}))["shift"] in (1, 2, 3)


async def test_a_second_shift_is_refused_until_the_first_is_closed(listener: Listener) -> None:
    browser = await listener.signed_in()
    first = await post(browser, "/api/shifts", {"lane": "X03"})
    told = await post(browser, "/api/shifts", {"lane": "X03"}, 409)
    assert told["code"] == "shift.open"
    await post(browser, f"/api/shifts/{first['id']}/close")
    await post(browser, "/api/shifts", {"lane": "X03"})


async def test_only_its_own_collector_or_a_master_closes_a_shift(listener: Listener) -> None:
    browser = await listener.signed_in("1001")
    opened = await post(browser, "/api/shifts", {"lane": "X03"})
    other = await listener.signed_in("1002")
    told = await post(other, f"/api/shifts/{opened['id']}/close", None, 403)
    assert "1001" in told["detail"]
    await post(await listener.signed_in("9001"), f"/api/shifts/{opened['id']}/close")


async def test_a_vehicle_that_is_not_settled_keeps_the_shift_open(listener: Listener) -> None:
    browser = await listener.signed_in()
    opened = await post(browser, "/api/shifts", {"lane": "X03"})
    row = ("P1", "X03", "checked", 0, 0, "1001", opened["id"], "", "", None, None, None)
    await listener.parts.store.write(
        lambda db: db.execute(f"INSERT INTO passage VALUES ({','.join('?' * len(row))})", row)
    )
    told = await post(browser, f"/api/shifts/{opened['id']}/close", None, 409)
    assert "1 辆车" in told["detail"]
    assert "snapshot" not in told


@pytest.mark.parametrize("shift_id", ["7", "x", "-1", "9" * 30, "１"])
async def test_a_shift_nobody_opened_is_a_404(listener: Listener, shift_id: str) -> None:
    browser = await listener.signed_in()
    assert (await browser.get(f"/api/shifts/{shift_id}")).status == 404
    await post(browser, f"/api/shifts/{shift_id}/close", None, 404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"lane": "X99"}, 404),
        ({"lane": "X03", "shift": 4}, 422),
        ({"lane": "X03", "shift": True}, 422),
        ({}, 422),
    ],
)
async def test_a_shift_that_cannot_be_is_not_opened(
    listener: Listener, body: Any, status: int
) -> None:
    browser = await listener.signed_in()
    await post(browser, "/api/shifts", body, status)
    assert not await listener.parts.store.rows("SELECT * FROM shift")


async def test_screens_hear_of_a_shift_at_once(listener: Listener) -> None:
    browser, before = await listener.signed_in(), listener.x03.changes.count
    opened = await post(browser, "/api/shifts", {"lane": "X03"})
    assert listener.x03.changes.count == before + 1
    await post(browser, f"/api/shifts/{opened['id']}/close")
    assert listener.x03.changes.count == before + 2

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.history_rows import CARD, insert, passage, record
from tests.web.rig import PARAMETERS, Listener, listening

SERIAL = "62010101A9009001"


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path) as running:
        yield running


@pytest.fixture
async def browser(listener: Listener) -> Any:
    return await listener.signed_in()


async def delivery(listener: Listener, n: int, verdict: str, reason: str | None = None) -> None:
    await insert(
        listener,
        "delivery",
        lane="X03",
        seq=n,
        verdict=verdict,
        reason=reason,
        via="push",
        at_ms=4000 + n,
    )


async def get(browser: Any, path: str, status: int = 200) -> Any:
    answer = await browser.get(path)
    assert answer.status == status, await answer.text()
    return await answer.json()


async def ids(browser: Any, query: str) -> list[str]:
    return [row["id"] for row in (await get(browser, f"/api/passages?{query}"))["passages"]]


async def test_pages_follow_each_other_without_gap_or_repeat(
    browser: Any, listener: Listener
) -> None:
    for n in range(1, 8):
        await passage(listener, n, opened_ms=5000 if n < 6 else 6000)  # many at the same time
    seen: list[str] = []
    query = "limit=3"
    while True:
        page = await get(browser, f"/api/passages?{query}")
        seen += [row["id"] for row in page["passages"]]
        if page["next"] is None:
            break
        query = f"limit=3&before={page['next']}"
    assert seen == [f"X03-P{n}" for n in (7, 6, 5, 4, 3, 2, 1)]


async def test_a_last_page_that_is_just_full_has_no_next(browser: Any, listener: Listener) -> None:
    for n in (1, 2):
        await passage(listener, n)
    assert (await get(browser, "/api/passages?limit=2"))["next"] is None


async def test_filters_narrow_what_is_found(browser: Any, listener: Listener) -> None:
    await passage(listener, 1)
    await passage(listener, 2, shift_id=2, plate="川B54321")
    await passage(listener, 3, ended="cancelled", state="cancelled", record_id=None)
    await passage(listener, 4, ended=None, state="priced", record_id=None)
    await passage(listener, 5, lane="X04")
    assert await ids(browser, "plate=川B") == ["X03-P2"]
    assert await ids(browser, "plate=4321") == ["X03-P2"]
    assert await ids(browser, "shift=2") == ["X03-P2"]
    assert await ids(browser, "state=cancelled") == ["X03-P3"]
    assert await ids(browser, "state=priced") == ["X03-P4"]
    assert await ids(browser, "lane=X04") == ["X03-P5"]
    assert await ids(browser, "from_ms=1002&to_ms=1004") == ["X03-P3", "X03-P2"]
    assert await ids(browser, "state=saved&shift=1&lane=X03") == ["X03-P1"]
    assert await ids(browser, "plate=%25") == []  # no wildcard


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "before=1", "before=x.y", "colour=1", "shift=-1",
     "from_ms=1e3", "before=%27%3B--"],
)  # fmt: skip
async def test_a_malformed_query_is_a_422(browser: Any, query: str) -> None:
    assert (await get(browser, f"/api/passages?{query}", 422))["code"] == "request.invalid"


async def test_a_passage_tells_what_became_of_its_record(browser: Any, listener: Listener) -> None:
    for n in (1, 2, 3, 4):
        await passage(listener, n)
        await record(listener, n)
    await delivery(listener, 2, "accepted")
    await delivery(listener, 3, "duplicate")
    await delivery(listener, 4, "refused", "站码不存在")
    rows = (await get(browser, "/api/passages"))["passages"]
    assert [row["delivery"] for row in rows] == ["被退回", "已确认", "已确认", "未传"]
    told = await get(browser, "/api/passages/X03-P4")
    assert (told["state"], told["record_id"]) == ("saved", "R4")
    assert told["fate"] == {
        "verdict": "refused",
        "reason": "站码不存在",
        "via": "push",
        "at_ms": 4004,
    }
    assert told["record"]["tac"] == "E5383359"


async def test_what_a_broker_holds_is_delivered_until_the_centre_has_spoken(
    browser: Any, listener: Listener
) -> None:
    for n in (1, 2, 3):
        await passage(listener, n)
        await record(listener, n)
    await delivery(listener, 3, "accepted")
    listener.parts.sync.held = {("X03", 2), ("X03", 3), ("X04", 1)}
    rows = (await get(browser, "/api/passages"))["passages"]
    assert [row["delivery"] for row in rows] == ["已确认", "已送达", "未传"]
    assert (await get(browser, "/api/sync"))["delivered"] == 3


async def test_an_open_passage_has_no_record_yet(browser: Any, listener: Listener) -> None:
    await passage(listener, 1, ended=None, state="priced", record_id=None, amount_fen=None)
    told = await get(browser, "/api/passages/X03-P1")
    assert (told["state"], told["record"], told["delivery"], told["fate"]) == (
        "priced",
        None,
        None,
        None,
    )


async def test_card_numbers_leave_masked(browser: Any, listener: Listener) -> None:
    await passage(listener, 1)
    await record(listener, 1)
    body = {
        "media": {
            "card": {"issue": {"network": "6201", "card_number": CARD[4:]}},
            "tag": {"system": {"contract_serial": SERIAL}},
        },
        "ticket": {"card_id": CARD, "terminal_no": "016200000123", "amount_fen": 4280},
        "findings": [{"code": 41, "text": f"卡 {CARD} 不符"}, [f"{CARD[4:]}"]],
        "at": "20201111103000",
    }
    await insert(
        listener,
        "journal",
        lane="X03",
        passage_id="X03-P1",
        at_ms=1,
        mono_ms=1,
        boot_id="b",
        operator="1001",
        event="ChecksPassed",
        state="checked",
        body=json.dumps(body, ensure_ascii=False),
        hash=b"",
    )
    assert (await get(browser, "/api/passages/X03-P1"))["card"] == "6201****3456"
    for path in ("", "/X03-P1", "/X03-P1/timeline"):
        text = json.dumps(await get(browser, f"/api/passages{path}"), ensure_ascii=False)
        assert CARD not in text
        assert CARD[4:] not in text
        assert SERIAL not in text
    (entry,) = (await get(browser, "/api/passages/X03-P1/timeline"))["entries"]
    assert entry["body"]["ticket"] == {
        "card_id": "6201****3456",
        "terminal_no": "016200000123",
        "amount_fen": 4280,
    }
    assert entry["body"]["findings"][0]["text"] == "卡 6201****3456 不符"
    assert entry["body"]["at"] == "20201111103000"


async def test_the_timeline_is_every_row_in_order(browser: Any, listener: Listener) -> None:
    await passage(listener, 1)
    for n in (1, 2, 3):
        await insert(
            listener,
            "journal",
            lane="X03",
            passage_id="X03-P1" if n != 2 else "X03-P2",
            at_ms=n,
            mono_ms=n,
            boot_id="b",
            operator="1001",
            event=f"Event{n}",
            state="checked",
            body="{}",
            hash=b"",
        )
    entries = (await get(browser, "/api/passages/X03-P1/timeline"))["entries"]
    assert [(entry["seq"], entry["event"]) for entry in entries] == [(1, "Event1"), (3, "Event3")]


async def test_what_is_not_there_is_a_404(browser: Any) -> None:
    for path in ("/api/passages/none", "/api/passages/none/timeline", "/api/tables/operators"):
        assert (await get(browser, path, 404))["code"] == "not_found"


async def test_devices_sync_parameters_and_receipts_are_shown(browser: Any) -> None:
    devices = await get(browser, "/api/devices")
    assert [lane["lane"] for lane in devices["lanes"]] == ["X03", "X04"]
    sync = await get(browser, "/api/sync")
    assert sync == {
        "online": False,
        "backlog": {"count": 2, "oldest_age_s": 61.5, "drain_s": None},
        "parked": [{"seq": 4, "id": "R4", "reason": "站码不存在"}],
        "by_broker": False,
        "delivered": 0,
    }
    assert (await get(browser, "/api/receipts"))["receipts"] == sync["parked"]
    assert (await get(browser, "/api/parameters"))["parameters"][0]["name"] == "stations"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("stations", {"hex", "name", "pinyin"}),
        ("vehicle_types", {"code", "name", "is_truck", "axle_counts"}),
        ("vehicle_classes", {"code", "name", "is_free"}),
        ("colours", {"code", "name"}),
    ],
)
async def test_tables_are_served_for_the_page(browser: Any, name: str, fields: set[str]) -> None:
    told = await get(browser, f"/api/tables/{name}")
    assert told["rows"]
    assert set(told["rows"][0]) == fields
    assert told["version"] == PARAMETERS.versions.get(name, "")

"""The places around the lane: documents for every role and in both languages."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import UnexpectedEvent
from gateway.flow.approvals import Approvals
from gateway.flow.commands import COMMAND
from gateway.flow.standing import Standing
from gateway.pairing import Pairings
from gateway.params import Operator
from gateway.plate import check_plate
from gateway.sync.proof import Proven
from gateway.web import approvals, carry, ops, pairing, receipts
from gateway.web.exports import Exports, Sticks
from gateway.web.places import PLACES
from gateway.web.settings import OPEN_MS, Lock
from gateway.web.words import REASONS
from tests.still_clock import StillClock
from tests.web.history_rows import passage, record
from tests.web.rig import OPERATORS, PASSWORDS, Listener, listening

OPEN = set(PLACES) - {"why", "master", "approvals", "pairing", "carry"}
KINDS = {
    "p", "h", "facts", "rows", "image", "digits", "choices", "field", "letters", "setting",
    "options", "credentials", "keymap", "file", "link", "alert",
}  # fmt: skip


async def _approve(number: str, _: str) -> Operator:
    found = OPERATORS.find(number)
    assert found is not None
    return found


@pytest.fixture
async def around(tmp_path: Path) -> AsyncIterator[Listener]:
    tables = [approvals.routes, pairing.routes, carry.routes]
    async with listening(tmp_path, tables=tables) as listener:
        parts = listener.parts
        asked = Approvals(_approve, lambda: None, parts.clock)
        listener.app._frozen = False
        listener.app[approvals.APPROVALS] = asked
        listener.app[pairing.PAIRINGS] = Pairings(parts.store, parts.clock, "ab" * 32)
        listener.app[carry.EXPORTS] = Exports(tmp_path, parts.clock)
        listener.app[carry.STICKS] = Sticks(tmp_path / "media")
        listener.app[receipts.RECEIPTS] = receipts.Tray(_no_receipts(), tmp_path / "incoming")
        yield listener


def _no_receipts() -> Any:
    return None


async def look(browser: Any, place: str, status: int = 200, **query: str) -> dict[str, Any]:
    answer = await browser.get(f"/api/places/{place}", params={"lane": "X03", **query})
    assert answer.status == status, await answer.text()
    told: dict[str, Any] = await answer.json()
    return told


async def test_every_place_is_a_document_of_known_blocks(around: Listener) -> None:
    browser = await around.signed_in("9001")
    for name in sorted(OPEN | {"approvals", "pairing", "carry"}):
        told = await look(browser, name)
        assert told["title"], name
        assert {next(iter(block)) for block in told["blocks"]} <= KINDS, name


async def test_engineers_read_english(around: Listener) -> None:
    browser = await around.signed_in("7001")
    assert (await look(browser, "sync"))["title"] == "同步"
    answer = await browser.get("/api/places/sync", headers={"Accept-Language": "en"})
    assert (await answer.json())["title"] == "Sync"


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (Proven(), "启动后还没有做"),
        (Proven(125), "2 分钟前走通"),
        (Proven(125, "tables", "读不回来"), "停在数据表：读不回来"),
        (Proven(125, "line", "连不上中心"), "停在到中心的线路：连不上中心"),
        (Proven(125, detail="磁盘空间不够，自检流水先不做"), "磁盘空间不够，自检流水先不做"),
    ],
)
async def test_how_far_the_newest_proof_came_stands_with_the_sync(
    around: Listener, proof: Proven, words: str
) -> None:
    now = SimpleNamespace(progress=lambda: SimpleNamespace(proof=proof))
    around.app[ops.VITALS] = now  # type: ignore[assignment]
    told = await look(await around.signed_in(), "sync")
    (facts,) = (block["facts"] for block in told["blocks"] if "facts" in block)
    assert ["全程自检", words] in facts


async def test_what_belongs_to_masters_is_not_offered_to_collectors(around: Listener) -> None:
    collector, master = await around.signed_in("1001"), await around.signed_in("9001")
    seen = {who: json.dumps(await look(b, "menu")) for who, b in (("c", collector), ("m", master))}
    assert '"pairing"' not in seen["c"]
    assert '"pairing"' in seen["m"]
    for name in ("pairing", "approvals", "carry"):
        await look(collector, name, 403)


async def test_a_shift_is_not_asked_of_who_only_looks_nor_of_a_master_for_the_menu(
    around: Listener,
) -> None:
    engineer, master = await around.signed_in("7001"), await around.signed_in("9001")
    assert (await look(engineer, "shift"))["primary"] == {"label": "只看", "enter": "X03"}
    told = await look(master, "shift")
    assert told["primary"]["path"] == "/api/shifts"
    assert {"label": "功能", "enter": "X03", "go": "menu"} in told["bar"]
    assert "功能" not in json.dumps(await look(await around.signed_in(), "shift"))


async def test_a_pairing_has_nothing_to_confirm_before_a_handheld_waits(around: Listener) -> None:
    master, pairings = await around.signed_in("9001"), around.app[pairing.PAIRINGS]
    around.app[pairing.LAN] = pairing.Lan("192.0.2.10:8443", b"")
    assert (await look(master, "pairing"))["primary"]["label"] == "取配对码"
    pairings.open("9001")
    assert (await look(master, "pairing"))["primary"] is None
    told = json.dumps((await look(master, "pairing"))["blocks"], ensure_ascii=False)
    assert "https://192.0.2.10:8443/pair" in told
    typed = json.loads(told)[2]["facts"][1][1]
    pairings.claim(typed.lower(), "n" * 16, "手持 3")
    assert (await look(master, "pairing"))["primary"]["label"] == "数字一致"


async def test_a_handheld_is_thrown_out_only_after_a_second_look(around: Listener) -> None:
    master, pairings = await around.signed_in("9001"), around.app[pairing.PAIRINGS]
    offer = pairings.open("9001")
    claimed = pairings.claim(offer.secret, "n" * 16, "手持 3")
    pairings.confirm(offer.id)
    await pairings.poll(claimed.claim)
    blocks = (await look(master, "pairing"))["blocks"]
    (row,) = next(block["rows"] for block in blocks if "rows" in block)
    assert "手持 3" in row["button"]["sure"]


async def test_nobody_signs_off_over_vehicles_put_aside(around: Listener) -> None:
    browser = await around.signed_in()
    opened = await browser.post("/api/shifts", json={"lane": "X03"})
    id_ = str((await opened.json())["id"])
    assert "path" in (await look(browser, "shiftEnd", shift=id_))["primary"]
    around.x03.more = {"suspended": [{"passage": "X03-1"}]}
    told = await look(browser, "shiftEnd", shift=id_)
    assert told["primary"] == {"label": "挂起的车", "go": "suspended"}


async def test_parked_records_come_with_the_centres_words(around: Listener) -> None:
    told = await look(await around.signed_in(), "sync")
    rows = next(block["rows"] for block in told["blocks"] if "rows" in block)
    assert rows[0]["parts"][0] == {"b": "#4 站码不存在"}


async def test_as_many_are_refused_as_the_bar_above_says(
    around: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those whose correction the centre has: they wait for nobody."""
    listed = [
        {"seq": 4, "id": "R4", "reason": "站码不存在", "state": "parked"},
        {"seq": 6, "id": "R6", "reason": "站码不存在", "state": "corrected"},
    ]

    async def parked() -> list[dict[str, Any]]:
        return listed

    monkeypatch.setattr(around.parts.sync, "parked", parked)
    browser = await around.signed_in()
    shown = dict((await look(browser, "sync"))["blocks"][0]["facts"])["被退回"]
    async with browser.get("/api/lanes/X03") as told:
        assert shown == f"{(await told.json())['sync']['parked']} 笔"


async def test_what_is_settled_stands_apart_and_limits_are_told_offline_only(
    around: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [
        {"seq": 4, "id": "R4", "reason": "站码不存在", "state": "parked"},
        {"seq": 6, "id": "R6", "reason": "站码不存在", "state": "corrected"},
    ]

    async def parked() -> list[dict[str, Any]]:
        return listed

    monkeypatch.setattr(around.parts.sync, "parked", parked)
    browser = await around.signed_in()
    blocks = (await look(browser, "sync"))["blocks"]
    heads = [block["h"] for block in blocks if "h" in block]
    rows = [block["rows"] for block in blocks if "rows" in block]
    assert heads == ["被退回", "已更正"]
    assert [row["parts"][1] for found in rows for row in found] == ["R4", "R6"]
    assert "不能做" in json.dumps(blocks, ensure_ascii=False)
    told = {**around.parts.sync.state(), "online": True}
    monkeypatch.setattr(around.parts.sync, "state", lambda: told)
    blocks = (await look(browser, "sync"))["blocks"]
    assert "不能做" not in json.dumps(blocks, ensure_ascii=False)


RECORD = {
    "vehicleId": "甘A12341_4", "vehicleType": 1, "vehicleClass": 0, "axleCount": 2, "exWeight": 0,
    "means": "cash", "fee": 4280,
}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "plate"),
    [
        (["无牌"], "无牌"),
        ([*"甘A123", "应急"], "甘A123应急"),
        (["民航", *"12345"], "民航12345"),
        (["军", *"VA12345"], "VA12345"),
        (["WJ", *"甘12345"], "WJ甘12345"),
    ],
)
async def test_every_kind_of_plate_can_be_corrected_by_touch(
    around: Listener, keys: list[str], plate: str
) -> None:
    await passage(around, 1)
    await record(around, 1, RECORD, kind="by_hand", means="cash")
    browser, typed = await around.signed_in(), ""
    for key in keys:
        told = await look(browser, "correct/X03-P1", plate=typed)
        (pad,) = (block for block in told["blocks"] if block.get("letters") == "plate")
        assert key in pad["keys"], typed
        typed += key
    told = await look(browser, "correct/X03-P1", plate=typed, reason="车牌录错")
    assert told["primary"]["body"] == {"plate": plate, "reason": "车牌录错"}
    assert told["primary"]["off"] is False
    assert check_plate(plate, 0) == plate
    at = [next(iter(block)) for block in told["blocks"]].index("credentials")
    assert told["blocks"][at - 1] == {"facts": [["车牌", f"甘A12341 → {plate}"]]}


async def test_what_waits_at_a_broker_is_told_apart(around: Listener) -> None:
    browser, sync = await around.signed_in(), around.parts.sync
    facts = (await look(browser, "sync"))["blocks"][0]["facts"]
    assert "已送达" not in str(facts)
    sync.by_broker, sync.held = True, {("X03", 5)}
    facts = dict((await look(browser, "sync"))["blocks"][0]["facts"])
    assert (facts["未传"], facts["已送达，等中心确认"]) == ("1 笔", "1 笔")


async def test_a_refused_record_is_sent_again_as_it_is_by_a_masters_word(around: Listener) -> None:
    browser = await around.signed_in()
    told = await look(browser, "resend/R4")
    assert "站码不存在" in str(told["blocks"][0])
    assert told["primary"]["off"] is True
    told = await look(browser, "resend/R4", reason="中心已改好")
    assert told["primary"]["path"] == "/api/parked/R4/resend"
    assert told["primary"]["body"] == {"reason": "中心已改好"}
    assert told["primary"]["needs_credentials"] is True
    await look(browser, "resend/R5", 404)


@pytest.mark.parametrize("name", [n for n in REASONS if n in ("cancel", "gone", "handover")])
async def test_a_reason_is_a_command_ready_to_go(around: Listener, name: str) -> None:
    around.x03.allowed = ["cancel", "hand_over"]
    told = await look(await around.signed_in(), "why", list=name)
    options = next(block["options"] for block in told["blocks"] if "options" in block)
    expected = "cancel" if name == "cancel" else "hand_over"
    assert {option["command"]["command"] for option in options} == {expected}
    assert [option["label"] for option in options] == REASONS[name].split()
    assert not any(option["off"] for option in options)


async def test_reasons_for_what_cannot_be_done_are_off(around: Listener) -> None:
    around.x03.allowed = []
    told = await look(await around.signed_in(), "why", list="cancel")
    options = next(block["options"] for block in told["blocks"] if "options" in block)
    assert all(option["off"] for option in options)
    await look(await around.signed_in(), "why", 404, list="none")


async def test_a_station_is_found_by_initials_name_and_hex(around: Listener) -> None:
    browser = await around.signed_in()
    for query in ("lzd", "兰州东", "62010a"):
        told = await look(browser, "stations", q=query)
        options = told["blocks"][1]["options"]
        assert any("兰州东" in option["label"] for option in options), query
        assert options[0]["command"]["source"] == "searched"
        assert told["blocks"][1]["from"] > 9, "a digit goes into the field"
    assert "options" not in (await look(browser, "stations", q="zzzz"))["blocks"][1]


async def test_a_master_is_asked_about_one_command_and_no_other(around: Listener) -> None:
    browser = await around.signed_in()
    told = await look(browser, "master", command="minimum_fare")
    assert told["primary"]["command"] == {"command": "minimum_fare"}
    assert told["primary"]["needs_credentials"] is True
    by_hand = {"command": "settle_by_hand", "means": "cash", "amount_fen": "4280", "reason": "其他"}
    told = await look(browser, "master", **by_hand)
    assert told["primary"]["command"] == {**by_hand, "amount_fen": 4280}
    told = await look(browser, "master", command="override", reason="")
    assert told["primary"]["off"] is True
    await look(browser, "master", 422, command="save")


SUBJECT = {
    "plate": "甘A12345",
    "colour": 0,
    "amount_fen": 4280,
    "station_name": "兰州东",
    "reason": "其他",
    "findings": [{"code": 24, "text": "卡在状态名单内"}],
    "photo": "ab" * 32,
}


async def test_a_master_at_the_booth_reads_what_he_signs(around: Listener) -> None:
    around.x03.allowed, around.x03.subjects = ["settle_by_hand", "override"], SUBJECT
    browser = await around.signed_in()
    asked = {"command": "settle_by_hand", "means": "cash", "amount_fen": "4280", "reason": "其他"}
    blocks = (await look(browser, "master", **asked))["blocks"]
    (facts,) = (dict(block["facts"]) for block in blocks if "facts" in block)
    assert facts["车牌"] == {"plate": "甘A12345", "colour": 0}
    assert (facts["金额 元"], facts["收费方式"], facts["原因"]) == ("42.80", "现金", "其他")
    assert "卡在状态名单内" in json.dumps(blocks, ensure_ascii=False)
    told = await look(browser, "master", command="override", reason="")
    assert "甘A12345" in json.dumps(told["blocks"], ensure_ascii=False)
    assert told["primary"]["off"] is True
    await look(browser, "master", 422, command="settle_by_hand", means="gold", reason="其他")


async def test_no_password_is_asked_for_what_would_be_refused(around: Listener) -> None:
    around.x03.allowed = ["minimum_fare"]
    around.x03.subjects = UnexpectedEvent("卡里没有可用的入口信息", "请先输入入口站 Hex 码")
    told = await look(await around.signed_in(), "master", command="minimum_fare")
    assert told["primary"]["off"] is True
    assert told["bar"][0]["off"] is True
    assert told["blocks"][0]["action"] == "请先输入入口站 Hex 码"


async def test_a_shift_is_begun_and_signed_off_from_documents(around: Listener) -> None:
    browser = await around.signed_in()
    begin = (await look(browser, "shift", shift="2"))["primary"]
    assert begin["body"] == {"lane": "X03", "shift": 2}
    opened = await browser.post(begin["path"], json=begin["body"])
    assert opened.status == 200
    told = await look(browser, "shiftEnd", shift=str((await opened.json())["id"]))
    assert told["primary"]["sure"]
    closed = await browser.post(told["primary"]["path"], json={})
    assert closed.status == 200
    told = await look(
        browser, "shiftEnd", **{k: str(v) for k, v in told["primary"]["then"].items()}
    )
    assert told["primary"]["deed"] == "signOut"


async def test_history_asks_for_more_and_for_less(around: Listener) -> None:
    told = await look(await around.signed_in(), "history", state="saved", span="all", plate="甘")
    blocks = {block.get("name", next(iter(block))): block for block in told["blocks"]}
    assert blocks["state"]["chosen"] == "saved"
    assert blocks["span"]["chosen"] == "all"
    assert blocks["field"]["value"] == "甘"
    assert [button["with"] for button in told["bar"]] == [{"keys": 1}]
    assert (blocks["span"]["label"], blocks["rows"]["empty"][:5]) == ("时间", "没有这样的")
    told = await look(await around.signed_in(), "history", keys="1")
    assert told["blocks"][1]["letters"] == "plate"
    assert told["blocks"][-1]["empty"].startswith("还没有交易")


async def test_the_oldest_row_of_the_history_can_be_reached(around: Listener) -> None:
    for n in range(130):
        await passage(around, n)
    browser, query, seen = await around.signed_in(), {"span": "all"}, []
    for _ in range(9):
        told = await look(browser, "history", **query)
        seen = [row["go"] for row in told["blocks"][-1]["rows"]]
        more = [button["with"] for button in told["bar"] if button["label"] == "更早的"]
        if not more:
            break
        query |= {name: str(value) for name, value in more[0].items()}
    assert seen[-1] == "passage/X03-P0"
    assert {"before": "", "limit": 20} in [button["with"] for button in told["bar"]]
    told = await look(browser, "history", **{**query, "state": "saved"})
    assert told["blocks"][-1]["rows"][0]["go"] == "passage/X03-P129", "another question begins anew"


@pytest.mark.parametrize(
    ("ended", "made", "amount", "how"),
    [
        ("saved", {"kind": "paid", "means": "etc_card", "fee_fen": 4280}, "42.80", "ETC 卡"),
        ("saved", {"kind": "by_hand", "means": "cash", "fee_fen": 5000}, "50.00", "现金"),
        ("saved", {"kind": "unpaid", "means": "none", "fee_fen": 0}, "0.00", "不收费"),
        ("saved", {"kind": "doubtful", "means": "none", "fee_fen": 0}, "0.00", "▲ 存疑 · 不收费"),
        ("cancelled", {"kind": "cancelled", "means": "none", "fee_fen": 0}, "—", "—"),
    ],
)
async def test_the_history_says_what_was_taken_and_how(
    around: Listener, ended: str, made: dict[str, Any], amount: str, how: str
) -> None:
    await passage(around, 1, ended=ended)
    await record(around, 1, {"vehicleId": "甘A12341_4"}, **made)
    browser = await around.signed_in()
    (row,) = (await look(browser, "history", span="all"))["blocks"][-1]["rows"]
    _, plate, taken, _, means, _ = row["parts"]
    assert plate == {"plate": "甘A12341", "colour": 4}
    assert (taken["b"], means or "—") == (amount, how)
    facts = dict((await look(browser, "passage/X03-P1"))["blocks"][0]["facts"])
    assert (facts["金额 元"], facts["收费方式"]) == (amount, how)


async def test_there_is_no_other_place(around: Listener) -> None:
    browser = await around.signed_in()
    await look(browser, "nowhere", 404)
    await look(browser, "passage/none", 404)


async def test_settings_open_by_a_masters_word_and_shut_again(around: Listener) -> None:
    browser = await around.signed_in("1001")
    shut = await look(browser, "settings")
    assert [next(iter(block)) for block in shut["blocks"]] == ["p", "credentials"]
    opens = shut["primary"]
    wrong = {"operator": "9001", "password": "wrong"}
    refused = await browser.post(opens["path"], json=wrong)
    assert (refused.status, (await refused.json())["number"]) == (403, "E-221")
    own = {"operator": "1001", "password": PASSWORDS["1001"]}
    assert (await browser.post(opens["path"], json=own)).status == 403
    right = {"operator": "9001", "password": PASSWORDS["9001"]}
    assert (await browser.post(opens["path"], json=right)).status == 200
    told = await look(browser, "settings")
    assert {"setting", "keymap"} == {next(iter(block)) for block in told["blocks"]}
    other = await around.signed_in("1002")
    assert "primary" in await look(other, "settings")
    assert (await look(other, "settings"))["primary"]["needs_credentials"]


async def test_a_master_opens_the_settings_by_his_own_password(around: Listener) -> None:
    browser = await around.signed_in("9001")
    assert (await look(browser, "settings"))["blocks"][1] == {"credentials": ""}
    answer = await browser.post("/api/settings/open", json={"password": PASSWORDS["9001"]})
    assert answer.status == 200


def test_settings_shut_by_themselves() -> None:
    clock = StillClock()
    lock = Lock(clock)
    lock.open("1001", "booth")
    assert lock.is_open("1001", "booth")
    assert not lock.is_open("1001", "handheld:2")
    clock.ms += OPEN_MS
    assert not lock.is_open("1001", "booth")


async def test_a_lane_is_paused_by_a_tap_and_a_reason(around: Listener) -> None:
    said = Standing()
    around.x03.more = {"standing": {**said._asdict(), "allowed": [*said.allowed]}}
    told = await look(await around.signed_in(), "standing")
    commands = [
        option["command"]
        for block in told["blocks"]
        if "options" in block
        for option in block["options"]
    ]
    assert {each["command"] for each in commands} == {"pause_lane", "close_lane"}
    assert all(COMMAND.validate_python(each) for each in commands)
    assert told["primary"] is None
    said = Standing("closed", "设备故障", "1001", 0)
    around.x03.more = {"standing": {**said._asdict(), "allowed": [*said.allowed]}}
    told = await look(await around.signed_in(), "standing")
    assert told["primary"]["command"] == {"command": "open_lane"}


async def test_one_person_has_one_shift(around: Listener) -> None:
    shifts = around.parts.shifts
    await shifts.open("X04", "1001", 1)
    browser = await around.signed_in("1001")
    told = await look(browser, "shift")
    assert told["blocks"][0]["code"] == "E-403"
    assert "X04" in told["blocks"][0]["alert"]
    assert told["primary"]["off"] is True
    refused = await browser.post("/api/shifts", json={"lane": "X03"})
    assert (refused.status, (await refused.json())["number"]) == (409, "E-403")
    other = await around.signed_in("1002")
    assert "alert" not in (await look(other, "shift"))["blocks"][0]

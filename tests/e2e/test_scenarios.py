"""Every kind of vehicle and every kind of mistake, through HTTP, against a real demo process.

Each ends with the question to the chips and to the centre: was it so?
"""

import asyncio
import gzip
import hashlib
import json
from io import BytesIO
from typing import Any

import pytest

from tests.e2e.booth import MASTER, Booth, is_chinese, picture, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

NEAR = "兰州东"
OTHER_HEX, OTHER = "62010C07", "定西"
REASON = "收费员核对过实车"
Json = dict[str, Any]


def codes(shot: Json) -> dict[int, str]:
    return {f["code"]: f["level"] for f in shot["passage"]["findings"]}


# ---- vehicles that pass -----------------------------------------------------------------------


async def test_a_car_pays_what_the_gantries_added_up(booth: Booth) -> None:
    car = await booth.put("car")
    shot = await booth.drive()
    record = await booth.saved()
    assert shot["passage"]["quote"]["kind"] == record["exitFeeType"] == 1
    assert record["fee"] == car["paid_fen"]
    assert record["payFee"] == car["accumulated_fen"]
    assert record["discountFee"] > 0
    assert (record["enTollStationName"], record["entrySource"]) == (NEAR, "typed")
    assert record["mac2"] == "verified"
    assert record["photo"] == shot["passage"]["photo"]
    assert shot["passage"]["plate_source"] == record["plateSource"] == "lpr"


async def test_a_new_energy_car_pays_as_any_other(booth: Booth) -> None:
    car = await booth.put("new_energy")
    await booth.drive()
    record = await booth.saved()
    assert record["vehicleId"] == f"{car['plate']}_4"


async def test_a_credit_card_pays_from_its_virtual_purse_which_is_never_shown_as_money(
    booth: Booth,
) -> None:
    await booth.put("car", card_kind="credit")
    shot = await booth.drive()
    assert shot["passage"]["card"]["kind"] == "credit"
    assert shot["passage"]["card"]["balance_fen"] is None
    assert (await booth.saved())["etcCardType"] == 2


async def test_a_truck_is_weighed_before_it_is_priced(booth: Booth) -> None:
    car = await booth.put("truck")
    shot = await booth.drive("classified")
    assert shot["passage"]["needs_weight"]
    assert "quote" not in shot["allowed"]
    await booth.refused(409, "flow.unexpected", "quote")
    await booth.drive_on("saved")
    record = await booth.saved()
    assert (record["exWeight"], record["axleCount"]) == (car["weight_kg"], car["axle_count"])
    assert record["limitWeight"] == 25_000
    assert record["weightSource"] == "scale"
    assert record["vehicleType"] == car["vehicle_type"]


async def test_an_overweight_truck_passes_and_its_record_says_by_how_much(booth: Booth) -> None:
    await booth.put("truck", weight_kg=27_500)
    shot = await booth.drive()
    assert codes(shot)[207] == "warns"
    record = await booth.saved()
    assert record["overweightRate"] == 10.0
    assert "207" in record["specialType"].split("|")


async def test_the_minimum_fare_needs_the_master_and_says_who(booth: Booth) -> None:
    await booth.put("minimum_fare")
    shot = await booth.drive("unpriced")
    assert is_chinese(shot["problem"]["detail"])
    await booth.refused(403, "master.refused", "minimum_fare")
    await booth.drive_on("saved")
    record = await booth.saved()
    assert booth.shot["passage"]["quote"]["kind"] == record["exitFeeType"] == 6
    assert record["approval"]["operator"] == MASTER["operator"]
    assert record["fee"] == record["shortFee"]
    assert record["feeRate"] == 1.0
    assert sum(part["pFee"] for part in record["splitProvince"]) == record["fee"]


async def test_a_collector_is_no_master(booth: Booth) -> None:
    await booth.put("minimum_fare")
    await booth.drive("unpriced")
    await booth.refused(403, "master.refused", "minimum_fare", operator="1001", password="1001")
    await booth.not_debited()


async def test_a_fare_of_nothing_is_debited_too_and_leaves_its_tac(booth: Booth) -> None:
    car = await booth.put("zero_fare")
    shot = await booth.drive()
    record = await booth.saved()
    card = (await booth.truth())["card"]
    assert (record["fee"], record["payFee"], record["exitFeeType"]) == (0, 0, 0)
    assert record["tac"] == card["debits"][0]["tac"]
    assert card["card_seq"] == car["card_seq"] + 1
    assert card["balance_fen"] == car["balance_fen"]
    assert shot["passage"]["quote"]["kind_name"] == "免费"


async def test_a_free_class_only_claimed_on_the_screen_is_not_free(booth: Booth) -> None:
    """The card was not issued for it: people decide, nothing is debited."""
    await booth.put("car")
    await booth.drive("evidenced")
    await booth.do("classify", vehicle_type=1, vehicle_class=12)
    shot = await booth.do("quote")
    assert shot["state"] == "unpriced"
    assert codes(shot)[53] == "warns"
    await booth.not_debited()


# ---- vehicles that need a decision ------------------------------------------------------------


async def test_a_listed_card_without_an_entry_stops(booth: Booth) -> None:
    await booth.put("listed", has_entry=False)
    shot = await booth.drive("refused")
    assert codes(shot)[24] == "stops"
    assert "override" not in shot["allowed"]
    await booth.refused(409, "flow.unexpected", "override", reason=REASON, **MASTER)
    await booth.not_debited()


async def test_a_listed_card_with_its_entry_passes_by_the_masters_word(booth: Booth) -> None:
    await booth.put("listed")
    shot = await booth.drive("refused")
    assert codes(shot)[24] == "master"
    await booth.refused(
        403, "master.refused", "override", reason=REASON, operator="9001", password="wrong"
    )
    await booth.do("override", reason=REASON, **MASTER)
    await booth.drive_on("saved")
    record = await booth.saved()
    assert "24" in record["specialType"].split("|")
    assert record["approval"]["operator"] == MASTER["operator"]
    assert REASON in record["reason"]


async def test_a_card_on_the_wrong_car_is_settled_by_hand_and_never_debited(booth: Booth) -> None:
    car = await booth.put("mismatch")
    shot = await booth.drive("refused")
    assert codes(shot)[41] == "stops"
    assert car["plate"] in next(f["text"] for f in shot["passage"]["findings"] if f["code"] == 41)
    shot = await booth.do("hand_over", reason="卡签车牌不符")
    assert shot["state"] == "held"
    by_hand = {"means": "cash", "amount_fen": 4500, "reason": "现金收取"}
    await booth.refused(403, "master.refused", "settle_by_hand", **by_hand)
    await booth.refused(422, "request.invalid", "settle_by_hand", means="cash", reason="x")
    shot = await booth.do("settle_by_hand", **by_hand, **MASTER)
    assert shot["state"] == "saved"
    record = await booth.center.arrived(shot["passage"]["record"]["id"])
    assert (record["outcome"], record["means"], record["tac"]) == ("by_hand", "cash", None)
    assert (record["fee"], record["payFee"], record["transFee"]) == (4500, 4500, 0)
    assert record["approval"]["operator"] == MASTER["operator"]
    await booth.not_debited()


async def test_a_vehicle_let_go_unpaid_has_its_record_too(booth: Booth) -> None:
    await booth.put("mismatch")
    await booth.drive("refused")
    await booth.do("hand_over", reason="卡签车牌不符")
    shot = await booth.do("settle_by_hand", means="unpaid", reason="军车，值班站长同意", **MASTER)
    record = await booth.center.arrived(shot["passage"]["record"]["id"])
    assert (record["outcome"], record["means"], record["fee"]) == ("unpaid", "none", 0)
    await booth.not_debited()


async def test_an_expired_card_stops(booth: Booth) -> None:
    await booth.put("expired")
    shot = await booth.drive("refused")
    assert codes(shot)[21] == "stops"
    assert "override" not in shot["allowed"]
    await booth.not_debited()


async def test_a_removed_tag_passes_by_the_masters_word_at_full_price(booth: Booth) -> None:
    await booth.put("removed_obu")
    shot = await booth.drive("refused")
    assert codes(shot)[2] == "master"
    await booth.do("override", reason=REASON, **MASTER)
    await booth.drive_on("saved")
    record = await booth.saved()
    assert record["discountFee"] == 0
    assert record["exitFeeType"] != 1, "a removed tag's sums are not believed"


async def test_a_car_without_a_tag_is_priced_online_at_full_price(booth: Booth) -> None:
    await booth.put("car", obu=False)
    shot = await booth.drive()
    assert codes(shot)[123] == "warns"
    record = await booth.saved()
    assert record["exitFeeType"] in (4, 5)
    assert (record["discountFee"], record["obuSign"]) == (0, 0)


async def test_too_little_money_on_the_card_moves_nothing(booth: Booth) -> None:
    await booth.put("low_balance")
    await booth.drive("agreed")
    shot = await booth.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-215")
    assert is_chinese(shot["problem"]["detail"])
    await booth.not_debited()
    shot = await booth.do("hand_over", reason="余额不足")
    shot = await booth.do(
        "settle_by_hand", means="mobile", amount_fen=4505, reason="改扫码", **MASTER
    )
    record = await booth.center.arrived(shot["passage"]["record"]["id"])
    assert (record["outcome"], record["means"], record["transFee"]) == ("by_hand", "mobile", 0)


async def test_without_an_entry_on_the_card_the_collector_names_it_and_the_fare_is_asked_anew(
    booth: Booth,
) -> None:
    await booth.put("no_entry")
    shot = await booth.drive("unpriced")
    assert shot["problem"]["code"] == "E-110"
    assert "minimum_fare" not in shot["allowed"]
    shot = await booth.do("confirm_entry", station_hex="62010A12", source="searched")
    assert (shot["state"], shot["passage"]["quote"]["station_name"]) == ("priced", NEAR)
    await booth.do("confirm_entry", station_hex="62010A12")
    shot = await booth.do("save")
    record = await booth.saved()
    assert record["exitFeeType"] in (4, 5)
    assert (record["enTollStationHex"], record["enTime"]) == ("62010A12", "")
    assert record["discountFee"] == 0


async def test_the_same_card_within_ten_minutes_needs_the_master(booth: Booth) -> None:
    car = await booth.put("car")
    await booth.drive()
    await booth.saved()
    await booth.put("car", plate=car["plate"])
    shot = await booth.drive("refused")
    assert codes(shot)[141] == "master"
    await booth.arm("clock", "jump", seconds=11 * 60)
    await booth.do("cancel", reason="等十分钟")
    shot = await booth.drive("checked")
    assert 141 not in codes(shot)


# ---- keying -----------------------------------------------------------------------------------


async def test_a_wrong_hex_is_refused_with_both_names_and_the_right_one_still_works(
    booth: Booth,
) -> None:
    car = await booth.put("car")
    await booth.drive("priced")
    rev = booth.shot["rev"]
    told = await booth.refused(422, "entry.mismatch", "confirm_entry", station_hex=OTHER_HEX)
    assert OTHER in told["detail"]
    assert NEAR in told["detail"]
    answer = await booth.tap("confirm_entry", rev=rev, station_hex=car["entry_hex"])
    assert (answer.status, answer.body["state"]) == (200, "agreed")
    await booth.do("save")
    record = await booth.saved()
    told = await booth.get(f"/api/passages/{record['passageId']}/timeline")
    events = [entry["event"] for entry in told["entries"]]
    assert "refused_confirm_entry" in events


async def test_a_station_that_does_not_exist_is_refused_with_the_tables_version(
    booth: Booth,
) -> None:
    await booth.put("car")
    await booth.drive("priced")
    told = await booth.refused(422, "station.unknown", "confirm_entry", station_hex="62FFFFFF")
    assert "62FFFFFF" in told["detail"]
    for malformed in ("62010A1", "62010A12 ", "六二零一", ""):
        await booth.refused(422, "request.invalid", "confirm_entry", station_hex=malformed)
    await booth.refused(
        422, "request.invalid", "confirm_entry", station_hex="62010A12", source="card"
    )


@pytest.mark.parametrize("plate", ["A12345", "甘A1234", "甘A1234567", "甘O12345'", "<script>", " "])
async def test_a_malformed_plate_is_refused(booth: Booth, plate: str) -> None:
    await booth.put("car")
    await booth.drive("checked")
    before = await booth.look()
    answer = await booth.tap("submit_plate", plate=plate, colour=0, source="typed")
    assert answer.status == 422
    assert is_chinese(answer.body["detail"])
    assert picture(await booth.look()) == picture(before)


async def test_another_plate_than_the_cards_is_warned_of_and_loses_the_discount(
    booth: Booth,
) -> None:
    await booth.put("car")
    await booth.drive("checked")
    shot = await booth.do("submit_plate", plate="甘A99999", colour=0, source="lpr")
    assert codes(shot)[52] == "warns"
    assert shot["passage"]["plate_source"] == "lpr_edited", "the page's word is not taken"
    await booth.drive_on("saved")
    record = await booth.saved()
    assert record["vehicleId"] == "甘A99999_0"
    assert record["discountFee"] == 0


async def test_a_weight_that_is_not_the_scales_is_refused(booth: Booth) -> None:
    car = await booth.put("truck")
    await booth.drive("classified")
    right = {"axle_count": car["axle_count"], "weight_kg": car["weight_kg"]}
    told = await booth.refused(
        422, "weight.differs", "weigh", axle_count=3, weight_kg=car["weight_kg"] - 5000
    )
    assert str(car["weight_kg"]) in told["detail"]
    await booth.refused(
        422, "request.reason_missing", "weigh", source="typed", axle_count=3, weight_kg=20_000
    )
    await booth.refused(422, "request.reason_missing", "weigh", limit_kg=49_000, **right)
    await booth.refused(422, "request.invalid", "weigh", axle_count=1, weight_kg=20_000)
    shot = await booth.do("weigh", limit_kg=24_000, reason="桥梁限重", **right)
    assert shot["passage"]["vehicle"]["limit_kg"] == 24_000


async def test_a_weight_typed_with_its_reason_is_in_the_record_as_typed(booth: Booth) -> None:
    await booth.put("truck")
    await booth.arm("scale", "unstable")
    await booth.drive("classified")
    await booth.refused(422, "weight.differs", "weigh", axle_count=3, weight_kg=21_460)
    await booth.do("weigh", axle_count=3, weight_kg=20_100, source="typed", reason="称台故障")
    await booth.drive_on("saved")
    record = await booth.saved()
    assert (record["exWeight"], record["weightSource"]) == (20_100, "typed")
    assert "称台故障" in record["reason"]


async def test_correcting_an_earlier_step_asks_the_fare_anew(booth: Booth) -> None:
    car = await booth.put("car")
    shot = await booth.drive("agreed")
    first = shot["passage"]["quote"]["amount_fen"]
    shot = await booth.do("classify", vehicle_type=2, vehicle_class=0)
    assert (shot["state"], shot["passage"]["quote"]) == ("classified", None)
    assert not shot["passage"]["entry_confirmed"]
    assert "save" not in shot["allowed"]
    shot = await booth.do("quote")
    assert shot["passage"]["quote"]["amount_fen"] != first
    shot = await booth.do("submit_plate", plate=car["plate"], colour=0, source="lpr")
    assert (shot["state"], shot["passage"]["quote"]) == ("evidenced", None)
    await booth.do("classify", vehicle_type=1, vehicle_class=0)
    await booth.drive_on("saved")
    assert (await booth.saved())["fee"] == first


# ---- the same twice, and too late -------------------------------------------------------------


async def test_a_second_tap_on_save_gets_the_first_answer_byte_for_byte(booth: Booth) -> None:
    await booth.put("car")
    await booth.drive("agreed")
    rev, key = booth.shot["rev"], booth.next_key()
    taps = await asyncio.gather(*(booth.tap("save", key=key, rev=rev) for _ in range(4)))
    taps.append(await booth.tap("save", key=key, rev=rev))
    assert (taps[0].status, taps[0].body["state"]) == (200, "saved")
    assert len({tap.raw for tap in taps}) == 1
    record = await booth.saved()

    stale = await booth.tap("save", rev=rev)
    assert (stale.status, stale.body["code"]) == (409, "flow.stale")
    assert stale.body["snapshot"]["passage"]["record"]["id"] == record["id"]
    fresh = await booth.tap("save")
    assert (fresh.status, fresh.body["code"]) == (409, "flow.unexpected")
    assert len((await booth.truth())["card"]["debits"]) == 1
    mine = [r for r in await booth.center.lines() if r["record"].get("cardId") == record["cardId"]]
    assert len(mine) == 1


async def test_two_pages_that_save_at_once_pay_once(booth: Booth) -> None:
    await booth.put("car")
    await booth.drive("agreed")
    rev = booth.shot["rev"]
    answers = await asyncio.gather(*(booth.tap("save", rev=rev) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    await booth.saved()


async def test_a_stale_page_changes_nothing_and_is_shown_how_it_stands(booth: Booth) -> None:
    await booth.put("car")
    old = (await booth.look())["rev"]
    await booth.drive("evidenced")
    answer = await booth.tap("cancel", rev=old, reason="看错了")
    assert (answer.status, answer.body["code"]) == (409, "flow.stale")
    assert answer.body["snapshot"]["state"] == "evidenced"
    assert is_chinese(answer.body["detail"])
    assert (await booth.look())["state"] == "evidenced"


async def test_a_key_belongs_to_one_command(booth: Booth) -> None:
    car = await booth.put("car")
    await booth.look()
    key = booth.next_key()
    assert (await booth.tap("read", key=key)).status == 200
    other = await booth.tap("submit_plate", key=key, plate=car["plate"], colour=0, source="lpr")
    assert (other.status, other.body["code"]) == (422, "request.key_reused")
    assert (await booth.look())["state"] == "checked"


async def test_a_command_without_its_headers_is_refused(booth: Booth) -> None:
    path, body = "/api/lanes/X03/commands", {"command": "read"}
    rev = (await booth.look())["rev"]
    for headers in (
        {},
        {"If-Match": f'"{rev}"'},
        {"Idempotency-Key": "k-1"},
    ):
        answer = await booth.call("POST", path, body, headers=headers)
        assert (answer.status, answer.body["code"]) == (428, "request.header_missing")
    for headers in (
        {"If-Match": '"seventeen"', "Idempotency-Key": "k-1"},
        {"If-Match": f'"{rev}"', "Idempotency-Key": "k" * 65},
    ):
        answer = await booth.call("POST", path, body, headers=headers)
        assert answer.status == 422
        assert is_chinese(answer.body["detail"])
    assert (await booth.look())["rev"] == rev


async def test_rubbish_for_a_body_is_refused_in_chinese(booth: Booth) -> None:
    path = "/api/lanes/X03/commands"
    rev = (await booth.look())["rev"]
    rubbish: list[bytes] = [
        b"", b"{", b"[]", b"null", b'"read"', b"{}", b'{"command": null}', b"\xff\xfe",
        b'{"command": "sell_everything"}', b'{"command": "read", "extra": 1}',
        b'{"command": "cancel", "reason": ""}', b'{"command": "cancel", "reason": 7}',
        b"[" * 5000,
    ]  # fmt: skip
    for body in rubbish:
        headers = {
            "If-Match": f'"{rev}"',
            "Idempotency-Key": booth.next_key(),
            "Content-Type": "application/json",
        }
        answer = await booth.call("POST", path, headers=headers, data=body)
        assert (answer.status, answer.body["code"]) == (422, "request.invalid"), body[:40]
        assert is_chinese(answer.body["detail"]), answer.body
    large = await booth.call("POST", path, headers=headers, data=BytesIO(bytes(3_000_000)))
    assert large.status == 413
    assert is_chinese(large.body["detail"])
    assert (await booth.look())["rev"] == rev


# ---- photos -----------------------------------------------------------------------------------


async def test_a_photo_that_is_none_is_refused_and_a_true_one_is_bound(booth: Booth) -> None:
    async def send(name: str, body: bytes) -> Any:
        headers = {"Content-Type": "image/jpeg"}
        path = f"/api/lanes/X03/photos/{name}"
        return await booth.call("PUT", path, data=BytesIO(body), headers=headers)

    def named(body: bytes) -> str:
        return hashlib.sha256(body).hexdigest()

    large = b"\xff\xd8" + bytes(2 * 1024 * 1024)
    answer = await send(named(large), large)
    assert (answer.status, answer.body["code"]) == (413, "photo.invalid")
    for name, body in ((named(b"no picture"), b"no picture"), ("0" * 64, b"x"), (named(b""), b"")):
        answer = await send(name, body)
        assert (answer.status, answer.body["code"]) == (422, "photo.invalid"), body
        assert is_chinese(answer.body["detail"])
    car = await booth.put("car")
    picture_ = (await booth.call("GET", "/api/lanes/X03/camera.jpg")).raw
    answer = await send(named(picture_), picture_)
    assert answer.status == 200
    await booth.drive("checked")
    plate = {"plate": car["plate"], "colour": 0}
    await booth.refused(422, "photo.invalid", "submit_plate", photo="0" * 64, **plate)
    shot = await booth.do("submit_plate", photo=named(picture_), **plate)
    assert shot["passage"]["photo"] == named(picture_)
    assert (await booth.call("GET", f"/api/photos/{named(picture_)}")).raw == picture_
    await booth.drive_on("saved")
    assert (await booth.saved())["photo"] == named(picture_)


async def test_a_camera_that_is_mute_is_named_and_a_reason_lets_it_pass(booth: Booth) -> None:
    car = await booth.put("car")
    await booth.arm("camera", "mute")
    await booth.drive("checked")
    plate = {"plate": car["plate"], "colour": 0}
    shot = await booth.do("submit_plate", **plate)
    assert (shot["state"], shot["problem"]["code"]) == ("checked", "E-203")
    await booth.do("submit_plate", no_photo_reason="相机故障", **plate)
    await booth.drive_on("saved")
    record = await booth.saved()
    assert record["photo"] is None
    assert "相机故障" in record["reason"]


# ---- aside and away ---------------------------------------------------------------------------


async def test_a_suspended_car_waits_while_another_pays(booth: Booth) -> None:
    first = await booth.put("car")
    shot = await booth.drive("priced")
    aside = shot["passage"]["id"]
    shot = await booth.do("suspend")
    assert (shot["state"], shot["passage"]) == ("idle", None)
    assert [one["passage"] for one in shot["suspended"]] == [aside]
    assert shot["suspended"][0]["plate"] == first["plate"]

    second = await booth.put("car")
    await booth.drive()
    record = await booth.saved()
    assert record["vehicleId"] == f"{second['plate']}_0"

    await booth.refused(404, "not_found", "resume", passage="X03-none")
    shot = await booth.do("resume", passage=aside)
    assert (shot["state"], shot["passage"]["id"]) == ("priced", aside)
    await booth.do("confirm_entry", station_hex=first["entry_hex"])
    shot = await booth.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-102"), (
        "another card lies there"
    )
    assert len((await booth.truth())["card"]["debits"]) == 1

    put_back = await booth.put("car", plate=first["plate"])
    assert put_back["card_id"] == first["card_id"]
    await booth.do("save")
    record = await booth.saved()
    assert (record["passageId"], record["cardId"]) == (aside, first["card_id"])


async def test_a_cancelled_passage_leaves_the_card_alone_and_is_remembered(booth: Booth) -> None:
    await booth.put("car")
    shot = await booth.drive("agreed")
    passage = shot["passage"]["id"]
    await booth.refused(422, "request.invalid", "cancel", reason="")
    shot = await booth.do("cancel", reason="车主改走人工")
    assert (shot["state"], shot["passage"]) == ("idle", None)
    await booth.not_debited()
    facts = await booth.get(f"/api/passages/{passage}")
    stub = facts["record"]
    assert (facts["state"], stub["kind"], stub["fee_fen"]) == ("cancelled", "cancelled", 0)
    line = await booth.center.arrived(stub["id"])
    assert (line["passageId"], line["isStub"], line["reason"]) == (passage, True, "车主改走人工")


async def test_a_card_pulled_during_the_debit_is_proved_when_it_comes_back(booth: Booth) -> None:
    """The debit reached the card, its answer did not reach us."""
    car = await booth.put("car")
    await booth.drive("agreed")
    await booth.arm("card", "pulled_after", after=5)
    shot = await booth.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("doubtful", "E-301")
    assert len((await booth.truth())["card"]["debits"]) == 1
    await booth.refused(409, "flow.unexpected", "save")
    shot = await booth.do("prove")
    assert shot["state"] == "doubtful", "no card, no proof"
    await booth.call("POST", "/bench/vehicle", {"plate": car["plate"]})
    shot = await booth.do("prove")
    assert shot["state"] == "saved"
    assert (await booth.saved())["tacSource"] == "proved"


# ---- who ---------------------------------------------------------------------------------------


async def test_a_wrong_login_opens_nothing(booth: Booth) -> None:
    stranger = Booth(booth.data)
    stranger.url = booth.url
    try:
        for number, password in (("1001", "1002"), ("4444", "4444")):
            body = {"operator": number, "password": password}
            answer = await stranger.call("POST", "/api/session", body)
            assert (answer.status, answer.body["code"]) == (401, "session.refused")
            assert is_chinese(answer.body["detail"])
        assert (await stranger.get("/api/session"))["operator"] is None
        headers = {"Idempotency-Key": "s", "If-Match": f'"{booth.shot["rev"]}"'}
        path = "/api/lanes/X03/commands"
        answer = await stranger.call("POST", path, {"command": "read"}, headers=headers)
        assert (answer.status, answer.body["code"]) == (401, "session.missing")
        assert (await stranger.call("GET", "/api/lanes/X03")).status == 401
        await stranger.sign_in("7001")
        answer = await stranger.call("POST", path, {"command": "read"}, headers=headers)
        assert answer.status == 403, "an engineer looks and does not sell"
    finally:
        await stranger.close()


async def test_a_master_whose_password_is_guessed_is_locked_and_the_passage_goes_on(
    booth: Booth,
) -> None:
    await booth.put("minimum_fare")
    await booth.drive("unpriced")
    guess = {"operator": "9001", "password": "guess"}
    told = [await booth.refused(403, "master.refused", "minimum_fare", **guess)]
    statuses = []
    for _ in range(5):
        answer = await booth.tap("minimum_fare", **guess)
        statuses.append(answer.status)
        told.append(answer.body)
    assert statuses[-1] == 423
    assert told[-1]["code"] == "access.locked"
    assert "guess" not in json.dumps(told)
    await booth.refused(423, "access.locked", "minimum_fare", **MASTER)
    await booth.not_debited()
    await booth.restart()  # also ends the lock, whose time is the process's own
    assert booth.shot["state"] == "unpriced"
    await booth.drive_on("saved")
    await booth.saved()


async def test_the_same_wrong_password_with_the_same_key_is_counted_once(booth: Booth) -> None:
    await booth.put("minimum_fare")
    await booth.drive("unpriced")
    key = booth.next_key()
    tries = [
        await booth.tap("minimum_fare", key=key, operator="9001", password="guess")
        for _ in range(8)
    ]
    assert {(one.status, one.body["detail"]) for one in tries} == {(403, tries[0].body["detail"])}
    await booth.do("minimum_fare", **MASTER)


# ---- looking back ------------------------------------------------------------------------------


async def test_a_passage_tells_its_story_without_a_whole_card_number(booth: Booth) -> None:
    await booth.put("car")
    await booth.drive()
    record = await booth.saved()
    answer = await booth.call("GET", f"/api/passages/{record['passageId']}/timeline")
    assert record["cardId"].encode() not in answer.raw
    assert record["cardId"][4:].encode() not in answer.raw
    entries = answer.body["entries"]
    states = [entry["state"] for entry in entries if entry["state"]]
    assert states == [
        "reading", "checked", "evidenced", "evidenced", "classified", "classified", "priced",
        "agreed", "preparing", "debiting", "saved",
    ]  # fmt: skip
    assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries)
    listed = await booth.get(f"/api/passages?plate={booth.car['plate']}")
    assert [row["id"] for row in listed["passages"]] == [record["passageId"]]

    async def sent() -> bool:
        facts = await booth.get(f"/api/passages/{record['passageId']}")
        return facts["delivery"] == "已确认" and facts["fate"]["via"] == "push"

    await until(sent, "the history says that it was sent")


async def test_the_photo_of_a_passage_reaches_the_centre(booth: Booth) -> None:
    await booth.put("car")
    await booth.drive()
    record = await booth.saved()

    async def held() -> bytes | None:
        url = f"{booth.center.url}/v1/evidence/{record['photo']}"
        async with booth.http.get(url) as got:
            return await got.read() if got.status == 200 else None

    photo = await until(held, "the photo at the centre")
    assert hashlib.sha256(photo).hexdigest() == record["photo"]


async def test_a_shift_adds_up_to_its_records(booth: Booth) -> None:
    session = await booth.get("/api/session")
    if session["shift"]:
        path = f"/api/shifts/{session['shift']['id']}/close"
        assert (await booth.call("POST", path)).status == 200
    opened = await booth.call("POST", "/api/shifts", {"lane": "X03"})
    assert opened.status == 200
    shift = opened.body["id"]
    again = await booth.call("POST", "/api/shifts", {"lane": "X03"})
    assert (again.status, again.body["code"]) == (409, "shift.open")

    fees = []
    for preset in ("car", "zero_fare"):
        await booth.put(preset)
        await booth.drive()
        fees.append((await booth.saved())["fee"])
    await booth.put("mismatch")
    await booth.drive("refused")
    held = await booth.call("POST", f"/api/shifts/{shift}/close")
    assert held.status == 409, "a vehicle of this shift is not settled"
    await booth.look()
    await booth.do("hand_over", reason="卡签车牌不符")
    await booth.do("settle_by_hand", means="cash", amount_fen=3000, reason="现金", **MASTER)
    assert (await booth.look())["shift"]["sum_fen"] == sum(fees) + 3000

    closed = await booth.call("POST", f"/api/shifts/{shift}/close")
    assert closed.status == 200, closed
    assert (closed.body["count"], closed.body["sum_fen"]) == (3, sum(fees) + 3000)
    assert (await booth.look())["shift"] is None


async def test_batches_are_pulled_with_their_token_and_hold_what_the_centre_holds(
    booth: Booth,
) -> None:
    await booth.put("car")
    await booth.drive()
    record = await booth.saved()
    pull = {"Authorization": "Bearer demo-pull"}
    refused = await booth.call("GET", "/center/v1/batches")
    assert refused.status == 401
    await booth.arm("clock", "jump", seconds=3600)  # a batch is sealed by its age

    async def sealed() -> Json | None:
        told = await booth.get("/center/v1/batches?after=0", headers=pull)
        return next((b for b in told["batches"] if b["last_seq"] >= record["seq"]), None)

    batch = await until(sealed, "a sealed batch", 60)
    path = f"/center/v1/batches/{batch['batch']}"
    bodies = [(await booth.call("GET", path, headers=pull)).raw for _ in range(2)]
    assert bodies[0] == bodies[1]
    assert hashlib.sha256(bodies[0]).hexdigest() == batch["sha256"]
    lines = [json.loads(line) for line in gzip.decompress(bodies[0]).splitlines()]
    assert record in lines
    assert (len(lines), sum(line["fee"] for line in lines)) == (batch["count"], batch["sum_fen"])
    arrived = {line["id"]: line["record"] for line in await booth.center.lines()}
    assert all(arrived[line["id"]] == line for line in lines)


async def test_the_document_is_served_and_names_what_is_used_here(booth: Booth) -> None:
    document = await booth.get("/api/openapi.json")
    assert document["openapi"].startswith("3.1")
    for path in ("/api/lanes/{lane}/commands", "/api/session", "/api/passages/{id}"):
        assert path in document["paths"]

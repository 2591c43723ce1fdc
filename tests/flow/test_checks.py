"""Each finding of 读卡: its code, its level, and that a sound card has none."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.devices.etc_files import (
    CardFacts,
    GantryTotals,
    IssueInfo,
    ObuSystemInfo,
    ObuVehicleInfo,
    TagFacts,
)
from gateway.flow import checks
from gateway.flow.messages import Level, Media
from gateway.params import Hits, ListDamaged, Listed, Parameters, StatusList, look_up
from tests.flow.rig import NOW_MS, demo_parameters, entry

PARAMETERS = demo_parameters()
ISSUE = IssueInfo(
    issuer="B8CACBE062010001",
    card_kind=22,
    card_version=0x40,
    network="6201",
    card_number="2045220000123456",
    valid_from="20201102",
    valid_to="20401101",
    plate="甘A12345",
    user_type=0,
    plate_colour=0,
    vehicle_type=1,
)
CARD = CardFacts(ISSUE, entry(), "", 10_000)
TAG = TagFacts(
    ObuSystemInfo("B8CACBE062010001", 0, 0x40, "6201012145230123", "20201102", "20401101", True),
    ObuVehicleInfo("甘A12345", 0, 1, 0, 2),
    GantryTotals(
        entry=entry(),
        entry_prefix="AA2900",
        card_network="6201",
        card_number="2045220000123456",
        province_count=1,
        due_fen=4256,
        paid_fen=4043,
        success_count=3,
        mileage_m=95_000,
        no_card_count=0,
    ),
)


def media(card: CardFacts = CARD, tag: TagFacts | None = TAG) -> Media:
    return Media(card, tag, "" if tag else "没有读到标签（OBU）", NOW_MS)


def codes(m: Media, parameters: Parameters = PARAMETERS, **facts: Any) -> dict[int, Level]:
    paid_at_ms, age_s = facts.get("paid_at_ms"), facts.get("age_s", 0)
    hits = look_up(
        parameters.status_list,
        m.card.issue.card_id,
        m.tag.system.contract_serial if m.tag else None,
    )
    found = checks.check_media(m, parameters, paid_at_ms, age_s, hits)
    return {f.code: f.level for f in found}


def with_issue(**changes: Any) -> Media:
    return media(replace(CARD, issue=replace(ISSUE, **changes)))


def with_toll(**changes: Any) -> Media:
    return media(replace(CARD, toll=entry(**changes)))


def with_totals(**changes: Any) -> Media:
    assert TAG.totals
    return media(tag=replace(TAG, totals=replace(TAG.totals, **changes)))


def test_card_and_tag_that_agree_have_no_finding() -> None:
    assert codes(media()) == {}


@pytest.mark.parametrize(
    ("m", "code", "level"),
    [
        (with_issue(valid_to="20200101"), 21, Level.STOPS),
        (with_issue(valid_from="20990101"), 22, Level.STOPS),
        (with_issue(card_kind=99), 25, Level.STOPS),
        (media(replace(CARD, toll=None)), 26, Level.WARNS),
        (with_toll(status=4), 55, Level.WARNS),
        (with_toll(at_s=NOW_MS // 1000 + 60), 54, Level.WARNS),
        (with_toll(at_s=0), 54, Level.WARNS),
        (media(tag=replace(TAG, system=replace(TAG.system, is_installed=False))), 2, Level.MASTER),
        (media(tag=replace(TAG, system=replace(TAG.system, valid_to="20200101"))), 3, Level.MASTER),
        (media(tag=replace(TAG, system=replace(TAG.system, valid_from="20990101"))), 4,
         Level.MASTER),
        (media(tag=replace(TAG, vehicle=replace(TAG.vehicle, plate="甘A54321"))), 41, Level.STOPS),
        (media(tag=replace(TAG, vehicle=replace(TAG.vehicle, plate_colour=1))), 41, Level.STOPS),
        (media(tag=replace(TAG, vehicle=replace(TAG.vehicle, vehicle_type=2))), 42, Level.MASTER),
        (media(tag=replace(TAG, system=replace(TAG.system, issuer="C9BDB6AB37010001"))), 43,
         Level.MASTER),
        (with_totals(card_number="2045220000999999"), 44, Level.MASTER),
        (with_totals(entry=entry("62010C07")), 45, Level.WARNS),
        (with_totals(entry=entry(gantry_hex="62A104")), 46, Level.WARNS),
        (media(tag=replace(TAG, vehicle=replace(TAG.vehicle, user_type=14))), 47, Level.WARNS),
        (media(tag=None), 123, Level.WARNS),
    ],
)  # fmt: skip
def test_each_fault_has_its_code_and_its_level(m: Media, code: int, level: Level) -> None:
    assert codes(m).get(code) is level


def listed(number: str) -> Parameters:
    rows = (Listed(number=number, type=1, reason="挂失", listed_at="2025-01-01"),)
    return PARAMETERS.model_copy(update={"status_list": StatusList(rows=rows)})


@pytest.mark.parametrize(
    ("number", "code"), [("62012045220000123456", 24), ("6201012145230123", 6)]
)
def test_a_listed_card_or_tag_needs_the_master_and_without_its_entry_it_stops(
    number: str, code: int
) -> None:
    assert codes(media(), listed(number)) == {code: Level.MASTER}
    bare = media(replace(CARD, toll=None))
    assert codes(bare, listed(number))[code] is Level.STOPS


def test_a_day_stands_on_the_screen_not_a_machines_time() -> None:
    entry = Listed(number="6", type=1, reason="挂失", listed_at="2025-01-01T08:00:00+08:00")
    said = checks.check_media(media(), PARAMETERS, None, 0, Hits(card=entry, tag=entry))
    assert {found.text for found in said} == {
        "卡在状态名单内：挂失（2025-01-01 起）",
        "标签在状态名单内：挂失（2025-01-01 起）",
    }


def test_the_same_card_within_ten_minutes_needs_the_master_and_after_that_nobody() -> None:
    assert codes(media(), paid_at_ms=NOW_MS - 599_000) == {141: Level.MASTER}
    assert codes(media(), paid_at_ms=NOW_MS - 600_000) == {}


def test_an_old_status_list_warns_and_stops_nobody() -> None:
    assert codes(media(), age_s=73 * 3600) == {149: Level.WARNS}


class Unreadable:
    """A list whose blocks are not those which were written."""

    def find(self, number: str) -> Listed | None:
        raise ListDamaged("状态名单第 7 块损坏")


def test_a_list_that_cannot_be_read_bars_nobody_and_is_said() -> None:
    parameters = PARAMETERS.model_copy(update={"status_list": Unreadable()})
    assert codes(media(), parameters) == {149: Level.WARNS}
    hits = look_up(Unreadable(), "62012045220000123456", None)
    assert "第 7 块" in hits.fault
    assert (hits.card, hits.tag) == (None, None)


def test_the_policy_table_moves_a_level() -> None:
    policy = PARAMETERS.policy.model_copy(update={"finding_levels": {41: "warns"}})
    parameters = PARAMETERS.model_copy(update={"policy": policy})
    m = media(tag=replace(TAG, vehicle=replace(TAG.vehicle, plate="甘A54321")))
    assert codes(m, parameters) == {41: Level.WARNS}


def test_a_master_may_let_pass_only_where_nothing_stops() -> None:
    removed = checks.check_media(
        media(tag=replace(TAG, system=replace(TAG.system, is_installed=False))),
        PARAMETERS,
        None,
        0,
        Hits(),
    )
    expired = checks.check_media(with_issue(valid_to="20200101"), PARAMETERS, None, 0, Hits())
    assert checks.may_be_overridden(removed)
    assert not checks.may_be_overridden(removed + expired)
    assert not checks.may_be_overridden(())


def test_over_the_limit_says_by_how_much() -> None:
    kind = PARAMETERS.vehicle_types.find(12)
    assert kind is not None
    (found,) = checks.check_weight(kind, 2, 21_400, 18_000, PARAMETERS.policy)
    assert (found.code, found.text) == (207, "总重 21.40 吨，限重 18.00 吨，超 18.9%")
    assert checks.overweight_percent(18_000, 18_000) == 0

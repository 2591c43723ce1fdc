"""The checks at 读卡 and after: each finding with its 特情 code and what it does. Pure.

Codes: domain.md §3.5 and §9. Levels are the careful reading of sources that disagree or are
silent (§12); a province changes them in the `policy` table, not here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.devices.etc_files import CardKind, IssueInfo, TagFacts, TollInfo
from gateway.flow.messages import Finding, Level, Media
from gateway.params import AxleLimits, Hits, Parameters, Policy, VehicleType
from gateway.plate import COLOURS
from gateway.units import beijing, yuan

ENTRY_STATUSES = frozenset({0x01, 0x03, 0x10})
"""0019 byte 13: closed mixed entry, closed ETC entry, self-service entry (domain.md §1.4)."""
ENTRY_AGE_DAYS_MAX = 30
ISSUER_DIGITS_COMPARED = 8
"""The region name, 4 of 8 bytes; whether code 43 means 4 or 8 is open (domain.md §12.21)."""
DAY_MS = 86_400_000

LEVELS: dict[int, Level] = {
    2: Level.MASTER,  # OBU removed
    3: Level.MASTER,  # OBU expired
    4: Level.MASTER,  # OBU not yet valid
    6: Level.MASTER,  # OBU on the status list
    14: Level.WARNS,  # accumulated amount above the ceiling
    15: Level.WARNS,  # accumulated amount below the minimum
    21: Level.STOPS,  # card expired
    22: Level.STOPS,  # card not yet valid
    24: Level.MASTER,  # card on the status list (with entry information)
    25: Level.STOPS,  # not a card of a kind we know
    26: Level.WARNS,  # no usable entry on the card: the fare step asks for it
    41: Level.STOPS,  # plate or colour differ
    42: Level.MASTER,  # vehicle type differs
    43: Level.MASTER,  # issuer differs
    44: Level.MASTER,  # the tag saw another card
    45: Level.WARNS,  # entry differs: accumulated amounts are not believed
    46: Level.WARNS,  # last gantry differs: the same
    47: Level.WARNS,  # vehicle class differs
    51: Level.WARNS,  # vehicle type differs from the card's
    52: Level.WARNS,  # plate differs from the card's
    53: Level.WARNS,  # vehicle class differs from the card's
    54: Level.WARNS,  # entry time abnormal
    55: Level.WARNS,  # entry status abnormal
    60: Level.WARNS,  # axle count and type disagree
    97: Level.STOPS,  # no PSAM that works: this lane cannot debit, people still can collect
    123: Level.WARNS,  # no tag
    141: Level.MASTER,  # paid here a moment ago
    148: Level.WARNS,  # not weighed
    149: Level.WARNS,  # the status list is old
    207: Level.WARNS,  # over the weight limit (our own code: the sources name none)
    208: Level.MASTER,  # a debit of this card is in doubt at this box (our own code, too)
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """A debit of this card, at some lane of this box, of which nobody knows if it happened."""

    lane: str
    at_ms: int
    amount_fen: int
    is_open: bool
    """That lane may still ask the card; else people closed it by hand."""


def finding(code: int, text: str, policy: Policy, level: Level | None = None) -> Finding:
    """One finding at its level: the policy's, else the given one, else the table's."""
    chosen = policy.finding_levels.get(code)
    return Finding(code, Level(chosen) if chosen else level or LEVELS[code], text)


def check_media(
    media: Media,
    parameters: Parameters,
    paid_here_at_ms: int | None,
    list_age_s: int,
    hits: Hits,
    doubt: Doubt | None = None,
) -> tuple[Finding, ...]:
    """All that is wrong with card and tag.

    Args:   paid_here_at_ms: when this card last paid here. list_age_s: since the centre last
            said that this status list is the newest. hits: what the list says of both.
            doubt: a debit of this card that may have happened.
    """
    policy = parameters.policy
    codes = [
        *_card(media.card.issue, media.read_at_ms),
        *_entry(media.card.toll, media.read_at_ms),
        *_listed(hits, list_age_s, policy),
        *_repeat(media.read_at_ms, paid_here_at_ms, policy),
        *_in_doubt(doubt),
    ]
    if media.tag is None:
        codes.append((123, media.tag_fault or "没有读到标签（OBU）"))
    else:
        codes += [*_tag(media.tag, media.read_at_ms), *_agreement(media, media.tag)]
    has_entry = is_entry_usable(media.card.toll, media.read_at_ms)
    found = []
    for code, text in codes:
        # 状态名单 alone may pass where this trip has its entry (domain.md §0.1-5)
        level = Level.STOPS if code in (6, 24) and not has_entry else None
        found.append(finding(code, text, policy, level))
    return tuple(found)


def check_psam(trouble: str, policy: Policy) -> tuple[Finding, ...]:
    """Said at 读卡, not five steps later; `trouble` is empty if the PSAM works."""
    return (finding(97, f"本车道不能扣款：{trouble}", policy),) if trouble else ()


def is_entry_usable(toll: TollInfo | None, now_ms: int) -> bool:
    """Entry status right and its time sane."""
    return toll is not None and not list(_entry(toll, now_ms))


def does_pass(findings: tuple[Finding, ...]) -> bool:
    return all(f.level is Level.WARNS for f in findings)


def may_be_overridden(findings: tuple[Finding, ...]) -> bool:
    """A master may let it pass: something stands in the way, and nothing of it stops."""
    return not does_pass(findings) and all(f.level is not Level.STOPS for f in findings)


def check_plate_against_card(
    plate: str, colour: int, media: Media, policy: Policy
) -> list[Finding]:
    """The step exists to catch a card on the wrong vehicle (ui.md §0-3)."""
    card = media.card.issue
    if plate == card.plate and colour == card.plate_colour:
        return []
    text = f"实车：{_plate(plate, colour)} 卡：{_plate(card.plate, card.plate_colour)}"
    return [finding(52, text, policy)]


def check_class_against_card(
    vehicle_type: int, vehicle_class: int, media: Media, parameters: Parameters
) -> list[Finding]:
    card, policy = media.card.issue, parameters.policy
    found = []
    if vehicle_type != card.vehicle_type:
        names = parameters.vehicle_types
        chosen, on_card = names.find(vehicle_type), names.find(card.vehicle_type)
        text = f"选择：{_name(chosen, vehicle_type)} 卡：{_name(on_card, card.vehicle_type)}"
        found.append(finding(51, text, policy))
    if vehicle_class != card.user_type:
        found.append(finding(53, f"选择车种 {vehicle_class} 卡：{card.user_type}", policy))
    return found


def check_weight(
    vehicle_type: VehicleType, axle_count: int, weight_kg: int, limit_kg: int, policy: Policy
) -> list[Finding]:
    found = []
    if axle_count not in vehicle_type.axle_counts:
        found.append(finding(60, f"{vehicle_type.name}，轴数 {axle_count}", policy))
    if weight_kg == 0:
        found.append(finding(148, "没有称重数据", policy))
    if weight_kg > limit_kg:
        over = overweight_percent(weight_kg, limit_kg)
        text = f"总重 {_tons(weight_kg)} 吨，限重 {_tons(limit_kg)} 吨，超 {over:.1f}%"
        found.append(finding(207, text, policy))
    return found


def overweight_percent(weight_kg: int, limit_kg: int) -> float:
    """超限率, 0 when not over (domain.md §5.3)."""
    if limit_kg <= 0 or weight_kg <= limit_kg:
        return 0.0
    return round((weight_kg - limit_kg) / limit_kg * 100, 1)


def limit_of(axle_count: int, limits: AxleLimits) -> int:
    return limits.limit_kg(axle_count)


Found = Iterator[tuple[int, str]]


def _card(issue: IssueInfo, now_ms: int) -> Found:
    today = beijing(now_ms).strftime("%Y%m%d")
    if issue.card_kind not in set(CardKind):
        yield 25, f"卡片类型 {issue.card_kind} 不能使用"
    if issue.valid_to < today:
        yield 21, f"卡有效期到 {_date(issue.valid_to)}"
    if issue.valid_from > today:
        yield 22, f"卡 {_date(issue.valid_from)} 起才有效"


def _entry(toll: TollInfo | None, now_ms: int) -> Found:
    if toll is None:
        yield 26, "卡里没有入口信息"
        return
    if toll.status not in ENTRY_STATUSES:
        yield 55, f"卡里不是入口信息（状态 {toll.status:02X}）"
    age_ms = now_ms - toll.at_s * 1000
    if age_ms < 0 or age_ms > ENTRY_AGE_DAYS_MAX * DAY_MS:
        yield 54, f"入口时间 {beijing(toll.at_s * 1000):%Y-%m-%d %H:%M} 不合理"


def _listed(hits: Hits, list_age_s: int, policy: Policy) -> Found:
    """A list that cannot be asked bars nobody and is said, as an old one is (domain.md §7.3)."""
    if hit := hits.card:
        yield 24, f"卡在状态名单内：{hit.reason}（{_day(hit.listed_at)} 起）"
    if hit := hits.tag:
        yield 6, f"标签在状态名单内：{hit.reason}（{_day(hit.listed_at)} 起）"
    if hits.fault:
        yield 149, f"状态名单没有查到结果：{hits.fault}"
    elif list_age_s > policy.status_list_stale_hours * 3600:
        yield 149, f"状态名单 {list_age_s // 3600} 小时没有更新"


def _repeat(now_ms: int, paid_here_at_ms: int | None, policy: Policy) -> Found:
    if paid_here_at_ms is None:
        return
    ago_s = max(0, (now_ms - paid_here_at_ms) // 1000)
    if ago_s < policy.duplicate_minutes * 60:
        yield 141, f"这张卡 {ago_s // 60} 分 {ago_s % 60} 秒前已在本站缴费"


def _in_doubt(doubt: Doubt | None) -> Found:
    """It may be this very trip that was paid then (domain.md §1.9)."""
    if doubt is None:
        return
    what = (
        f"{doubt.lane} 车道 {beijing(doubt.at_ms):%m-%d %H:%M} 扣这张卡 {yuan(doubt.amount_fen)} 元"
    )
    if doubt.is_open:
        yield (
            208,
            f"{what}，结果未知，可能已经扣过：请先到该车道放回卡片查清，再来读卡；查不清由站长决定",
        )
    else:
        yield 208, f"{what}，结果未知，已按特情办完，可能已经扣过：请站长核对后决定"


def _tag(tag: TagFacts, now_ms: int) -> Found:
    today = beijing(now_ms).strftime("%Y%m%d")
    if not tag.system.is_installed:
        yield 2, "标签防拆标志为已拆"
    if tag.system.valid_to < today:
        yield 3, f"标签有效期到 {_date(tag.system.valid_to)}"
    if tag.system.valid_from > today:
        yield 4, f"标签 {_date(tag.system.valid_from)} 起才有效"


def _agreement(media: Media, tag: TagFacts) -> Found:
    """卡签一致性, 41–47."""
    card, vehicle = media.card.issue, tag.vehicle
    if (card.plate, card.plate_colour) != (vehicle.plate, vehicle.plate_colour):
        on_card = _plate(card.plate, card.plate_colour)
        yield 41, f"卡：{on_card} 标签：{_plate(vehicle.plate, vehicle.plate_colour)}"
    if card.vehicle_type != vehicle.vehicle_type:
        yield 42, f"车型 卡：{card.vehicle_type} 标签：{vehicle.vehicle_type}"
    if card.issuer[:ISSUER_DIGITS_COMPARED] != tag.system.issuer[:ISSUER_DIGITS_COMPARED]:
        yield 43, "卡和标签的发行方不同"
    if card.user_type != vehicle.user_type:
        yield 47, f"车种 卡：{card.user_type} 标签：{vehicle.user_type}"
    if tag.totals:
        yield from _trip_agreement(media, tag)


def _trip_agreement(media: Media, tag: TagFacts) -> Found:
    card, toll, totals = media.card.issue, media.card.toll, tag.totals
    assert totals is not None
    if (totals.card_network, totals.card_number) != (card.network, card.card_number):
        yield 44, "标签里记的不是这张卡"
    if toll is None:
        return
    if (totals.entry.station_hex, totals.entry.at_s) != (toll.station_hex, toll.at_s):
        yield 45, "卡和标签的入口信息不同"
    elif totals.entry.gantry_hex != toll.gantry_hex:
        yield 46, "卡和标签的最后门架不同"


def _plate(plate: str, colour: int) -> str:
    return f"{plate}（{COLOURS.get(colour, str(colour))}）"


def _day(listed_at: str) -> str:
    """Of an ISO 8601 time; what is none is shown as it came."""
    return listed_at.partition("T")[0]


def _date(yyyymmdd: str) -> str:
    return f"{yyyymmdd[:4]}-{yyyymmdd[4:6]}-{yyyymmdd[6:]}"


def _name(kind: VehicleType | None, code: int) -> str:
    return kind.name if kind else str(code)


def _tons(weight_kg: int) -> str:
    return f"{weight_kg / 1000:.2f}"

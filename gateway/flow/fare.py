"""Card, tag, vehicle and tables → a fare, or a named reason why not. Pure.

Sources in order (domain.md §6.1–6.2): what card and tag accumulated where the rules allow it;
the province's service; the ministry's; the minimum-fare table with the master's authority.
The ETC price comes from a table (`fee95`), never from a multiplication.
"""

from dataclasses import dataclass, replace

from gateway.errors import FareUnknown
from gateway.flow.checks import finding, is_entry_usable
from gateway.flow.messages import Finding, Problem, Quote, Share
from gateway.flow.passage import Passage
from gateway.params import MinimumFare, Parameters, Station, TableDamaged
from gateway.records import FareAnswer
from gateway.units import FEN_MAX, yuan

KIND_NAMES = {0: "免费", 1: "门架累计", 4: "省中心在线计费", 5: "部中心在线计费", 6: "最小费额"}
NOT_THIS_TRIP = frozenset({2, 3, 4, 41, 42, 43, 44, 45, 46, 51, 52})
"""Findings that make the tag's sums somebody else's or some other trip's."""
NO_DISCOUNT = frozenset({2, 3, 4, 26, 41, 52, 54, 55, 123})
"""No tag, a tag that is not this car's, or no valid entry: the ETC price is not given (§0.1-4)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the trip began, and who says so."""

    station: Station
    at_ms: int | None
    """None where only the station is known."""
    source: str
    """card, typed or searched."""


def entry_of(p: Passage, parameters: Parameters) -> Entry:
    """The entry station of this passage.

    Raises: FareUnknown no_entry, if neither the card nor the collector names one;
    unknown_station, if the card names one that is not in the table.
    """
    media = p.media
    assert media is not None
    toll = media.card.toll if is_entry_usable(media.card.toll, media.read_at_ms) else None
    if p.entry_hex and not (toll and toll.station_hex == p.entry_hex):
        station = parameters.stations.by_hex(p.entry_hex)
        assert station is not None, "the command was checked against the same table"
        return Entry(station, None, p.entry_source)
    if toll is None:
        raise FareUnknown("no_entry", "卡里没有可用的入口信息，不能按路径算费")
    station = parameters.stations.by_hex(toll.station_hex)
    if station is None:
        version = parameters.versions["stations"]
        detail = f"站码表里没有卡内入口站 {toll.station_hex}（表 {version}）"
        raise FareUnknown("unknown_station", detail)
    return Entry(station, toll.at_s * 1000, "card")


def knows_entry(p: Passage, parameters: Parameters) -> bool:
    """Without one there is no fare at all, a minimum fare neither."""
    try:
        entry_of(p, parameters)
    except FareUnknown:
        return False
    return True


def gets_discount(p: Passage, entry: Entry, parameters: Parameters) -> bool:
    """ETC price: a tag of this car, and an entry the card itself knows (domain.md §0.1-4)."""
    barred = NO_DISCOUNT | set(parameters.policy.full_price_findings)
    return entry.source == "card" and not barred & {f.code for f in p.all_findings}


def is_free(p: Passage, parameters: Parameters) -> bool:
    """A free class, and the card was issued for it. Raises: FareUnknown, if only claimed."""
    chosen = parameters.vehicle_classes.find(p.vehicle_class or 0)
    if not (chosen and chosen.is_free):
        return False
    assert p.media is not None
    issued = parameters.vehicle_classes.find(p.media.card.issue.user_type)
    if not (issued and issued.is_free):
        raise FareUnknown("class_not_on_card", "卡内不是免费车种，免费放行须按特情由站长处理")
    return True


def free(entry: Entry, parameters: Parameters) -> Quote:
    """0 分, and still a composite purchase: it writes the exit into the card."""
    return Quote(
        kind=0,
        pay_fee_fen=0,
        fee_fen=0,
        station_hex=entry.station.hex,
        station_name=entry.station.name,
        mileage_m=0,
        table_version=parameters.versions["vehicle_classes"],
        shares=(),
        explained=("免费车种，不收费", "仍写卡：把出口信息写入 ETC 卡"),
    )


def accumulated(p: Passage, entry: Entry, parameters: Parameters) -> Quote:
    """What the gantries added up in the tag (exitFeeType 1).

    Raises: FareUnknown, with the reason why the sums cannot be used.
    """
    assert p.media is not None
    tag = p.media.tag
    if tag is None or tag.totals is None:
        raise FareUnknown("no_totals", "没有标签累计信息")
    if entry.source != "card" or NOT_THIS_TRIP & {f.code for f in p.all_findings}:
        raise FareUnknown("not_this_trip", "卡签信息不一致，不能用累计金额")
    totals = tag.totals
    if totals.paid_fen > totals.due_fen:
        raise _contradictory(1, totals.due_fen, totals.paid_fen)
    if totals.no_card_count or not totals.success_count:
        raise FareUnknown("gantry_gaps", "门架交易不完整，不能用累计金额")
    if p.media.card.toll and p.media.card.toll.accumulated_fen not in (
        0,  # not filled by this province (domain.md §12.1)
        totals.due_fen,
        totals.paid_fen,
    ):
        raise FareUnknown("sums_differ", "卡内累计与标签累计不同，不能用累计金额")
    discount = gets_discount(p, entry, parameters)
    fee = totals.paid_fen if discount else totals.due_fen
    floor = _minimum(p, entry, parameters)
    _check_plausible(fee, floor, discount, parameters)
    quote = Quote(
        kind=1,
        pay_fee_fen=totals.due_fen,
        fee_fen=fee,
        station_hex=entry.station.hex,
        station_name=entry.station.name,
        mileage_m=totals.mileage_m,
        table_version=parameters.versions["minimum_fares"],
        shares=(),
        explained=(
            f"门架累计 {totals.success_count} 次，{totals.mileage_m / 1000:.1f} 公里",
            f"应收 {yuan(totals.due_fen)} 元",
            _discount_line(discount, totals.due_fen - fee),
            f"在最小费额的 100%～{parameters.policy.ceiling_percent}% 之间，可用",
        ),
        short_fee_fen=floor.fee95 if discount else floor.fee,
        short_mileage_m=floor.mileage_m,
    )
    return _sound(quote)


def online(p: Passage, entry: Entry, answer: FareAnswer, parameters: Parameters) -> Quote:
    """A fare from the province's or the ministry's service (exitFeeType 4, 5).

    Raises: FareUnknown inconsistent.
    """
    discount = gets_discount(p, entry, parameters)
    priced95 = answer.fee95_fen
    fee = answer.amount_fen if not discount or priced95 is None else priced95
    quote = Quote(
        kind=answer.kind,
        pay_fee_fen=answer.amount_fen,
        fee_fen=fee,
        station_hex=entry.station.hex,
        station_name=entry.station.name,
        mileage_m=answer.mileage_m,
        table_version=answer.version,
        shares=tuple(Share(s.prov, s.p_fee, s.p_pay_fee, s.p_m) for s in answer.split),
        explained=(
            f"{KIND_NAMES[answer.kind]}：{entry.station.name} → 本站",
            f"应收 {yuan(answer.amount_fen)} 元",
            _discount_line(discount, answer.amount_fen - fee),
        ),
    )
    return _sound(quote)


def minimum(p: Passage, entry: Entry, parameters: Parameters) -> Quote:
    """最小费额 (exitFeeType 6). Whoever calls this has the master's authority.

    Raises: FareUnknown no_minimum, if the table has no row; inconsistent.
    """
    row = _minimum(p, entry, parameters)
    discount = gets_discount(p, entry, parameters)
    fee = row.fee95 if discount else row.fee
    version = parameters.versions["minimum_fares"]
    quote = Quote(
        kind=6,
        pay_fee_fen=row.fee,
        fee_fen=fee,
        station_hex=entry.station.hex,
        station_name=entry.station.name,
        mileage_m=row.mileage_m,
        table_version=version,
        shares=tuple(
            Share(s.province, s.fee95 if discount else s.fee, s.fee, s.mileage_m)
            for s in row.shares
        ),
        explained=(
            f"全网最小费额：{entry.station.name} → 本站，{row.mileage_m / 1000:.1f} 公里",
            f"最小费额 {yuan(row.fee)} 元（表 {version}）",
            _discount_line(discount, row.fee - fee),
        ),
        short_fee_fen=fee,
        short_mileage_m=row.mileage_m,
    )
    return _sound(quote)


def with_findings(quote: Quote, findings: tuple[Finding, ...]) -> Quote:
    return replace(quote, findings=findings)


def why_not_accumulated(no: FareUnknown, parameters: Parameters) -> tuple[Finding, ...]:
    """The 特情 that an unbelievable sum leaves in the record (domain.md §6.1: 14, 15)."""
    codes = {"above": 14, "below": 15}
    code = codes.get(no.reason)
    if code is None:
        return ()
    return (finding(code, no.detail, parameters.policy),)


def problem_of(no: FareUnknown) -> Problem:
    """What the screen says when no path fare can be had."""
    code = {"no_entry": "E-110", "unknown_station": "E-213"}.get(no.reason, "E-211")
    action = {
        "E-110": "请输入实际入口站的 Hex 码，或按站名找",
        "E-213": "按站名选入口站",
    }.get(code, "请站长授权按最小费额计费，或选入口站重算")
    return Problem(code, no.detail, action)


def _minimum(p: Passage, entry: Entry, parameters: Parameters) -> MinimumFare:
    assert p.vehicle_type is not None
    try:
        row = parameters.minimum_fares.find(entry.station.hex, p.vehicle_type)
    except TableDamaged as bad:
        raise FareUnknown("table_unavailable", bad.detail) from bad
    if row is None:
        version = parameters.versions["minimum_fares"]
        detail = f"最小费额表 {version} 里没有 {entry.station.name} 到本站的这种车型"
        raise FareUnknown("no_minimum", detail)
    return row


def _sound(quote: Quote) -> Quote:
    """Of any other no record could be made, after the card was debited.

    Raises: FareUnknown inconsistent.
    """
    if 0 <= quote.fee_fen <= quote.pay_fee_fen <= FEN_MAX:
        return quote
    raise _contradictory(quote.kind, quote.pay_fee_fen, quote.fee_fen)


def _contradictory(kind: int, due_fen: int, fee_fen: int) -> FareUnknown:
    sums = f"应收 {yuan(due_fen)} 元，实收 {yuan(fee_fen)} 元"
    return FareUnknown("inconsistent", f"{KIND_NAMES[kind]}前后矛盾：{sums}，没有采用")


def _check_plausible(
    fee_fen: int, floor: MinimumFare, discount: bool, parameters: Parameters
) -> None:
    low = floor.fee95 if discount else floor.fee
    high = low * parameters.policy.ceiling_percent // 100
    if fee_fen < low:
        raise FareUnknown("below", f"累计 {yuan(fee_fen)} 元低于最小费额 {yuan(low)} 元")
    if fee_fen > high:
        raise FareUnknown("above", f"累计 {yuan(fee_fen)} 元高于上限 {yuan(high)} 元")


def _discount_line(discount: bool, amount_fen: int) -> str:
    if discount:
        return f"ETC 优惠 {yuan(amount_fen)} 元"
    return "没有 ETC 优惠：卡签不全、不一致或入口信息不可用"

"""A finished passage → the record that is owed to the centre. Pure but for the counter it is given.

Ids: domain.md §4 (37 characters: exit lane id ‖ yyyymmddHH ‖ six digits; passId 36 characters).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from gateway import __version__
from gateway.flow.checks import overweight_percent
from gateway.flow.messages import Authority
from gateway.flow.passage import Owed, Passage
from gateway.records import Approval, ClockReading, ExitRecord, ProvinceSplit
from gateway.units import beijing, compact, iso

UNKNOWN_PLATE = "默A00000_9"
ALGORITHMS = {0x00: 1, 0x04: 2}
"""INITIALIZE names it; 1 3DES, 2 SM4 in records (unconfirmed, domain.md §1.8)."""
ID_COUNT_MAX = 999_999
PAY_TYPES = {"etc_card": 2, "cash": 11, "mobile": 13, "none": 0}
"""TRANSPAYTYPE (domain.md §8.1): 2 is ETC by swiping the card."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this lane is: what every record says of it."""

    lane: str
    lane_id: str
    """21 characters (domain.md §4)."""
    lane_no: int
    exit_hex: str
    exit_name: str
    is_training: bool = False
    """Its devices are twins: no real money moves here, and every record says so."""


def record_id_prefix(lane_id: str, at_ms: int) -> str:
    """31 characters: lane id ‖ yyyymmddHH of the batch."""
    return lane_id + beijing(at_ms).strftime("%Y%m%d%H")


def next_record_id(last: str, lane_id: str, at_ms: int) -> str:
    """37 characters; the last six count within the hour (domain.md §4).

    The hour never goes back behind the lane id's last record (`last`, empty for none; by whatever
    lane it was made), whatever the clock did: ids stay unique and in order.
    """
    prefix = record_id_prefix(lane_id, at_ms)
    if last.startswith(lane_id):
        prefix = max(prefix, last[:31])
    number = int(last[31:]) + 1 if last.startswith(prefix) else 1
    if number > ID_COUNT_MAX:
        hour = datetime.strptime(f"{prefix[21:]}+0800", "%Y%m%d%H%z") + timedelta(hours=1)
        return f"{lane_id}{hour:%Y%m%d%H}{1:06d}"
    return f"{prefix}{number:06d}"


def pass_id_of(p: Passage) -> str:
    """01 ‖ network ‖ card number ‖ entry time. Without an entry, the time we first saw it."""
    assert p.media is not None
    toll = p.media.card.toll
    at_ms = toll.at_s * 1000 if toll else p.opened_at_ms
    return f"01{p.media.card.issue.card_id}{compact(at_ms)}"


def exit_record(
    p: Passage,
    owed: Owed,
    place: Place,
    *,
    seq: int,
    record_id: str,
    operator_name: str,
    shift: int,
    prev_chain: str,
    clock: ClockReading,
) -> ExitRecord:
    """The record of a settled passage, or the stub of a cancelled one.

    `owed.at_ms` is when the vehicle was let go, or was sent away.
    """
    assert p.media is not None
    return ExitRecord.model_validate(
        {
            "id": record_id,
            "seq": seq,
            "lane": place.lane,
            "passage_id": p.id,
            "outcome": owed.outcome,
            "means": p.means or "none",
            "ex_time": iso(owed.at_ms),
            "ex_toll_station_hex": place.exit_hex,
            "ex_toll_station_name": place.exit_name,
            "operator": p.operator,
            "operator_name": operator_name,
            "shift": shift,
            "shift_date": beijing(owed.at_ms).strftime("%Y-%m-%d"),
            "param_versions": p.parameters,
            "clock": clock,
            "prev_chain": prev_chain,
            "is_training": place.is_training,
            "lane_app_ver": __version__,
            **_medium(p),
            **_trip(p),
            **_vehicle(p),
            **_money(p, owed.outcome),
            "is_stub": owed.outcome == "cancelled",
            **_proof(p),
            **_people(p, owed.reason),
        }
    )


def _medium(p: Passage) -> dict[str, Any]:
    assert p.media is not None
    card, tag = p.media.card, p.media.tag
    return {
        "media_type": 1,
        "media_no": tag.system.contract_serial if tag else "",
        "obu_sign": 2 if tag else 0,
        "card_id": card.issue.card_id,
        "etc_card_type": 1 if card.issue.card_kind == 22 else 2,
        "card_version": card.issue.card_version,
        "card_total_amount": card.toll.accumulated_fen if card.toll else 0,
        "obu_total_amount": tag.totals.due_fen if tag and tag.totals else 0,
        "obu_total_discount_amount": tag.totals.paid_fen if tag and tag.totals else 0,
        "total_count": tag.totals.success_count if tag and tag.totals else 0,
        "no_card_count": tag.totals.no_card_count if tag and tag.totals else 0,
        "province_count": tag.totals.province_count if tag and tag.totals else 0,
    }


def _trip(p: Passage) -> dict[str, Any]:
    assert p.media is not None
    toll, quote = p.media.card.toll, p.quote
    station_hex = quote.station_hex if quote else (toll.station_hex if toll else "")
    knows_lane = toll is not None and toll.station_hex == station_hex
    return {
        "pass_id": pass_id_of(p),
        "en_toll_station_hex": station_hex,
        "en_toll_station_name": quote.station_name if quote else "",
        "en_toll_lane_hex": f"{toll.station_hex}{toll.lane_no:02X}" if toll and knows_lane else "",
        "en_time": iso(toll.at_s * 1000) if toll else "",
        "en_weight": toll.weight_kg if toll else 0,
        "en_axle_count": toll.axle_count if toll else 0,
        "vehicle_sign": f"0x{toll.vehicle_status:02x}" if toll else "0xff",
        "entry_source": p.entry_source or "card",
    }


def _vehicle(p: Passage) -> dict[str, Any]:
    read = p.reading
    return {
        "vehicle_id": f"{p.plate}_{p.plate_colour}" if p.plate else UNKNOWN_PLATE,
        "identify_vehicle_id": f"{read.plate}_{read.colour}" if read else UNKNOWN_PLATE,
        "vehicle_type": p.vehicle_type or 0,
        "vehicle_class": p.vehicle_class or 0,
        "ex_weight": p.weight_kg or 0,
        "axle_count": p.axle_count or 0,
        "limit_weight": p.limit_kg or 0,
        "overweight_rate": overweight_percent(p.weight_kg or 0, p.limit_kg or 0),
        "special_type": "|".join(str(f.code) for f in p.all_findings),
        "photo": p.photo,
        "plate_source": p.plate_source,
        "weight_source": p.weight_source,
    }


Outcome = Literal["paid", "doubtful", "by_hand", "unpaid", "cancelled"]


NO_MONEY: dict[str, Any] = {
    "trans_pay_type": 0,
    "exit_fee_type": 0,
    "trans_fee": 0,
    "pay_fee": 0,
    "fee": 0,
    "discount_fee": 0,
    "fee_mileage": 0,
}
"""A stub's: whatever was quoted, nothing came of it."""


def _money(p: Passage, outcome: Outcome) -> dict[str, Any]:
    """What was due and what was taken: from the card, by hand, or not at all."""
    if outcome == "cancelled":
        return NO_MONEY
    quote, ticket = p.quote, p.ticket
    if outcome == "paid":
        assert quote is not None
        assert ticket is not None
        fee, pay_fee = quote.fee_fen, quote.pay_fee_fen
        balances = {
            "pre_balance": ticket.balance_before,
            "post_balance": ticket.balance_before - fee,
        }
        trans_fee = ticket.amount_fen
    else:
        # What a doubtful debit asked for stays on the record, beside what was taken by hand.
        fee = pay_fee = p.amount_by_hand_fen
        trans_fee = ticket.amount_fen if ticket else 0
        balances = {"pre_balance": ticket.balance_before} if ticket else {}
    return {
        "trans_pay_type": PAY_TYPES[p.means],
        "exit_fee_type": quote.kind if quote and outcome == "paid" else 0,
        "trans_fee": trans_fee,
        "pay_fee": pay_fee,
        "fee": fee,
        "discount_fee": pay_fee - fee,
        "fee_mileage": quote.mileage_m if quote else 0,
        "short_fee": quote.short_fee_fen if quote else 0,
        "short_fee_mileage": quote.short_mileage_m if quote else 0,
        "fee_rate": _fee_rate(p),
        "spc_rate_version": quote.table_version if quote else "",
        "split_province": _split(p),
        **balances,
    }


def _fee_rate(p: Passage) -> float:
    """fee / shortFee, 0 where there is none (domain.md §0.1-2)."""
    if p.quote is None or not p.quote.short_fee_fen:
        return 0
    return round(p.quote.fee_fen / p.quote.short_fee_fen, 4)


def _split(p: Passage) -> tuple[ProvinceSplit, ...]:
    shares = p.quote.shares if p.quote else ()
    return tuple(
        ProvinceSplit(prov=s.province, p_fee=s.fee_fen, p_pay_fee=s.pay_fee_fen, p_m=s.mileage_m)
        for s in shares
    )


def _proof(p: Passage) -> dict[str, Any]:
    """What an auditor needs to check the debit against both chips."""
    ticket = p.ticket
    if ticket is None:
        return {}
    return {
        "terminal_no": ticket.terminal_no,
        "terminal_trans_no": f"{ticket.terminal_seq:08X}",
        "card_trans_no": f"{ticket.card_seq:04X}",
        "tac": p.tac,
        "tac_source": p.how_paid,
        "mac2": p.mac2,
        "key_version": ticket.key_version,
        "algorithm_identifier": ALGORITHMS.get(ticket.algorithm, 0),
    }


def _people(p: Passage, last_word: str) -> dict[str, Any]:
    said = [p.override_reason, p.no_photo_reason, p.weight_reason, p.reason, last_word]
    approval = p.authority or p.override
    described = [f"{f.code} {f.text}" for f in p.all_findings]
    if p.quote and p.quote.kind == 6 and p.authority:
        described.append(f"最小费额，站长 {p.authority.operator} 授权")
    if p.override:
        described.append(f"站长 {p.override.operator} 放行检查发现")
    return {
        "reason": "；".join(text for text in said if text),
        "description": "；".join(described),
        "approval": _approval(approval),
    }


def _approval(authority: Authority | None) -> Approval | None:
    if authority is None:
        return None
    return Approval(
        operator=authority.operator, name=authority.name, how=authority.how, at_ms=authority.at_ms
    )

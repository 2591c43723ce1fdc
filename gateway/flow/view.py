"""A passage as the screen sees it. Pure: the same passage gives the same picture, years later."""

from typing import Any

from gateway.flow.fare import KIND_NAMES
from gateway.flow.messages import Media, Problem, Quote
from gateway.flow.passage import Passage, State
from gateway.params import Parameters
from gateway.units import iso

CREDIT = 23


def masked(number: str) -> str:
    """6201****3456: what a screen, a log and an answer may show of a card or tag."""
    return f"{number[:4]}****{number[-4:]}" if len(number) > 8 else number


def view(p: Passage, parameters: Parameters) -> dict[str, Any]:
    """The `passage` of a snapshot. The entry station's Hex is never in it: keying it is a check."""
    return {
        "id": p.id,
        "owner": p.owner,
        "opened_at_ms": p.opened_at_ms,
        "plate": p.plate,
        "colour": p.plate_colour if p.plate else None,
        "plate_source": p.plate_source,
        "photo": p.photo,
        "lpr": _reading(p),
        **_media(p.media),
        "entry": _entry(p, parameters),
        "findings": [
            {"code": f.code, "level": f.level.value, "text": f.text} for f in p.all_findings
        ],
        "vehicle": _vehicle(p, parameters),
        "needs_weight": needs_weight(p, parameters),
        "quote": _quote(p.quote),
        "entry_confirmed": p.is_entry_confirmed,
        "approval": _approval(p),
        "reason": p.reason,
        "paid": _paid(p),
        "record": None,
    }


def needs_weight(p: Passage, parameters: Parameters) -> bool:
    """A truck that has not been weighed."""
    if p.vehicle_type is None or p.axle_count is not None:
        return False
    kind = parameters.vehicle_types.find(p.vehicle_type)
    return kind is not None and kind.is_truck


def problem_view(problem: Problem | None) -> dict[str, str] | None:
    if problem is None:
        return None
    return {"code": problem.code, "detail": problem.detail, "action": problem.action}


def _reading(p: Passage) -> dict[str, Any] | None:
    if p.reading is None:
        return None
    return {
        "plate": p.reading.plate,
        "colour": p.reading.colour,
        "confidence": list(p.reading.confidence),
    }


def _media(media: Media | None) -> dict[str, Any]:
    if media is None:
        return {"card": None, "tag": None, "tag_fault": ""}
    issue = media.card.issue
    is_credit = issue.card_kind == CREDIT
    card = {
        "kind": "credit" if is_credit else "stored",
        "number": masked(issue.card_id),
        # A 记账卡's purse is virtual: never shown as money (domain.md §0.1-7).
        "balance_fen": None if is_credit else media.card.balance,
        "plate": issue.plate,
        "colour": issue.plate_colour,
        "vehicle_type": issue.vehicle_type,
        "vehicle_class": issue.user_type,
        "valid_to": issue.valid_to,
    }
    tag = media.tag and {
        "number": masked(media.tag.system.contract_serial),
        "plate": media.tag.vehicle.plate,
        "colour": media.tag.vehicle.plate_colour,
        "vehicle_type": media.tag.vehicle.vehicle_type,
    }
    return {"card": card, "tag": tag, "tag_fault": media.tag_fault}


def _entry(p: Passage, parameters: Parameters) -> dict[str, Any] | None:
    toll = p.media.card.toll if p.media else None
    if p.entry_hex and not (toll and toll.station_hex == p.entry_hex):
        station = parameters.stations.by_hex(p.entry_hex)
        name = station.name if station else p.entry_hex
        return {"station_name": name, "time": None, "at_ms": None, "source": p.entry_source}
    if toll is None:
        return None
    station = parameters.stations.by_hex(toll.station_hex)
    return {
        "station_name": station.name if station else "站码表里没有",
        "time": iso(toll.at_s * 1000),
        "at_ms": toll.at_s * 1000,
        "source": "card",
    }


def _vehicle(p: Passage, parameters: Parameters) -> dict[str, Any]:
    kind = parameters.vehicle_types.find(p.vehicle_type) if p.vehicle_type is not None else None
    group = (
        parameters.vehicle_classes.find(p.vehicle_class) if p.vehicle_class is not None else None
    )
    return {
        "type": p.vehicle_type,
        "type_name": kind.name if kind else "",
        "class": p.vehicle_class,
        "class_name": group.name if group else "",
        "axle_count": p.axle_count,
        "weight_kg": p.weight_kg,
        "limit_kg": p.limit_kg,
        "weight_source": p.weight_source,
    }


def _quote(quote: Quote | None) -> dict[str, Any] | None:
    if quote is None:
        return None
    return {
        "amount_fen": quote.fee_fen,
        "pay_fee_fen": quote.pay_fee_fen,
        "discount_fen": quote.discount_fen,
        "kind": quote.kind,
        "kind_name": KIND_NAMES[quote.kind],
        "station_name": quote.station_name,
        "mileage_m": quote.mileage_m,
        "table_version": quote.table_version,
        "explained": list(quote.explained),
    }


def _approval(p: Passage) -> dict[str, Any] | None:
    authority = p.authority or p.override
    if authority is None:
        return None
    return {
        "operator": authority.operator,
        "name": authority.name,
        "how": authority.how,
        "at_ms": authority.at_ms,
    }


def _paid(p: Passage) -> dict[str, Any] | None:
    """How it ended, as its record says it; None before the end."""
    if not p.means:
        return None
    by_card = p.means == "etc_card"
    quoted_fen = p.quote.fee_fen if p.quote else 0
    return {
        "means": p.means,
        "amount_fen": quoted_fen if by_card else p.amount_by_hand_fen,
        "is_doubtful": p.ticket is not None and not by_card,
    }


SCREEN_BUSY = {
    State.READING: "read",
    State.EVIDENCED: "photo",
    State.CLASSIFIED: "quote",
    State.PREPARING: "debit",
    State.DEBITING: "debit",
    State.DOUBTFUL: "proof",
}
"""What the box is doing while an effect of this state runs."""

STATE_NAMES = {
    State.IDLE: "等待来车",
    State.READING: "正在读卡",
    State.REFUSED: "检查没有通过",
    State.HELD: "特情处理",
    State.CHECKED: "车牌照片",
    State.EVIDENCED: "车型车种",
    State.CLASSIFIED: "算费",
    State.PRICED: "核对入口站",
    State.UNPRICED: "算不出路径费",
    State.AGREED: "数据保存",
    State.PREPARING: "正在准备扣款",
    State.DEBITING: "正在扣款",
    State.DOUBTFUL: "扣款结果未知",
    State.DISPUTED: "存疑转人工",
    State.SAVED: "缴费成功",
    State.SUSPENDED: "挂起",
}

E_DISK = Problem(
    "E-303", "没有保存成功：磁盘不能写", "请不要放行；系统正在重试，仍不行请关闭车道并打电话"
)
E_RESTART = Problem(
    "E-301",
    "扣款时断过电，结果还不知道",
    "请放回同一张卡，系统查清后再放行，不会重复扣",
)


def aside(p: Passage) -> dict[str, Any]:
    """A suspended passage in the list of those to resume."""
    return {
        "passage": p.id,
        "plate": p.plate or (p.media.card.issue.plate if p.media else ""),
        "colour": p.plate_colour if p.plate or not p.media else p.media.card.issue.plate_colour,
        "state": (p.suspended_in or p.state).value,
        "opened_at_ms": p.opened_at_ms,
    }

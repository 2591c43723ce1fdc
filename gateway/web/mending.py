"""更正 on screen: what the newest record of a passage says, changed by tapping; sent by a master.

What is tapped lives in the page's question only; the record that comes of it is made elsewhere
(flow/corrections.py), which also has the last word on each value.
"""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from secrets import token_hex
from typing import Any

from aiohttp import web

from gateway.errors import NotFound
from gateway.flow.corrections import chain_of
from gateway.plate import COLOURS, PROVINCES
from gateway.units import yuan
from gateway.web import history
from gateway.web.blocks import Block, facts, line
from gateway.web.documents import Document
from gateway.web.words import REASONS, Say, is_known

PLATE_KEYS = [*"ABCDEFGHJKLMNPQRSTUVWXYZ1234567890挂学警港澳领使试超临", "应急", "O", "退", "清"]
BARE = "军"
"""Key of the plates that begin with letters or digits; it is no part of them."""
FIRST_KEYS = [*PROVINCES, "使", "WJ", BARE, "民航", "无牌", "退", "清"]
AMOUNT_KEYS = [*"123456789.0退"]
BY_HAND = ("cash", "mobile", "none")


async def document(request: web.Request, say: Say) -> Document:
    """Of the passage in the path. Raises: NotFound."""
    id_ = request.match_info["id"]
    rows = await chain_of(request.app[history.STORE], id_)
    if not rows:
        raise NotFound("这一笔没有流水可以更正")
    newest, asked = rows[-1], {**request.query}
    if "plate" in asked:
        asked["letters"], asked["plate"] = asked["plate"], asked["plate"].removeprefix(BARE)
    now = _values(json.loads(newest["line"]))
    changes = _changed(now, asked)
    reason = asked.get("reason", "")
    send = {
        "label": say("correct"),
        "method": "POST",
        "path": f"/api/passages/{id_}/corrections",
        "key": token_hex(8),  # a lost answer is asked again with it, and answered alike
        "body": {**changes, "reason": reason},
        "needs_credentials": True,
        "leaves": True,
        "off": not changes or not reason,
    }
    return {
        "title": say("correct"),
        "blocks": [
            facts((say("seq"), f"#{newest['seq']}"), *_before(now, changes, say)),
            line(say("correct.hint")),
            *_plate(now, asked, say),
            *_vehicle(now, asked, request, say),
            *(_money(now, asked, say) if newest["kind"] != "paid" else [line(say("correct.paid"))]),
            _choices("reason", [[text, text] for text in REASONS["correct"].split()], reason, say),
            *([facts(*_before(now, changes, say))] if changes else []),  # in a master's sight
            {"credentials": say("master.number")},
        ],
        "primary": send,
    }


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
    """What may be corrected, under the names of the request."""
    plate, _, colour = record["vehicleId"].rpartition("_")
    return {
        "plate": plate,
        "colour": int(colour),
        "vehicle_type": record["vehicleType"],
        "vehicle_class": record["vehicleClass"],
        "axle_count": record["axleCount"],
        "weight_kg": record["exWeight"],
        "means": record["means"],
        "amount_fen": record["fee"],
    }


def _changed(now: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, Any]:
    """What was tapped and is another value than the record's."""
    wanted: dict[str, Any] = {name: asked[name] for name in ("plate", "means") if asked.get(name)}
    for name in ("colour", "vehicle_type", "vehicle_class", "axle_count", "weight_kg"):
        if asked.get(name, "").isdecimal():
            wanted[name] = int(asked[name])
    if (fen := _fen(asked.get("yuan", ""))) is not None:
        wanted["amount_fen"] = fen
    if asked.get("means") == "none":
        wanted["amount_fen"] = 0
    return {name: value for name, value in wanted.items() if value != now[name]}


def _fen(text: str) -> int | None:
    try:
        fen = Decimal(text) * 100
    except InvalidOperation:
        return None
    return int(fen) if fen == fen.to_integral_value() and 0 <= fen <= 10**8 else None


def _before(now: Mapping[str, Any], changes: Mapping[str, Any], say: Say) -> list[tuple[str, Any]]:
    """Each value that changes: before → now."""
    shown = {**now, **changes}
    return [(_label(n, say), f"{_text(n, now[n])} → {_text(n, shown[n])}") for n in changes]


def _label(name: str, say: Say) -> str:
    return say(f"field.{name}" if is_known(f"field.{name}") else f"correct.{name}")


def _text(name: str, value: Any) -> str:
    return yuan(value) if name == "amount_fen" else COLOURS[value] if name == "colour" else value


def _plate(now: Mapping[str, Any], asked: Mapping[str, str], say: Say) -> list[Block]:
    plate = asked.get("plate", now["plate"])
    keys = PLATE_KEYS if asked.get("letters", plate) else FIRST_KEYS
    if plate == "WJ":
        keys = [*PROVINCES, *PLATE_KEYS]
    pairs = [[code, name] for code, name in COLOURS.items()]
    return [
        {"field": "plate", "label": say("plate"), "value": plate, "is_start": True},
        {"letters": "plate", "value": plate, "keys": keys},
        _choices("colour", pairs, _chosen(now, asked, "colour"), say),
    ]


def _vehicle(
    now: Mapping[str, Any], asked: Mapping[str, str], request: web.Request, say: Say
) -> list[Block]:
    parameters = request.app[history.SHELF].current()
    blocks = []
    tables = (("vehicle_type", "vehicle_types"), ("vehicle_class", "vehicle_classes"))
    for name, table in tables:
        pairs = [[row.code, row.name] for row in getattr(parameters, table).rows]
        blocks.append(_choices(name, pairs, _chosen(now, asked, name), say))
    if now["weight_kg"] or _chosen(now, asked, "vehicle_type") > 10:
        axles = [[n, n] for n in range(2, 9)]
        blocks.append(_choices("axle_count", axles, _chosen(now, asked, "axle_count"), say))
        weight = asked.get("weight_kg", str(now["weight_kg"]))
        blocks += _number("weight_kg", weight, say)
    return blocks


def _money(now: Mapping[str, Any], asked: Mapping[str, str], say: Say) -> list[Block]:
    """Only what hands took."""
    pairs = [[name, say(f"means.{name}")] for name in BY_HAND]
    amount = asked.get("yuan", yuan(now["amount_fen"]))
    means = asked.get("means", now["means"])
    return [
        _choices("means", pairs, means, say),
        *(_number("yuan", amount, say) if means != "none" else []),
    ]


def _number(name: str, value: str, say: Say) -> list[Block]:
    return [
        {"field": name, "label": _label(name, say), "value": value},
        {"letters": name, "value": value, "keys": AMOUNT_KEYS},
    ]


def _choices(name: str, pairs: list[list[Any]], chosen: Any, say: Say) -> Block:
    return {"choices": pairs, "name": name, "label": _label(name, say), "chosen": chosen}


def _chosen(now: Mapping[str, Any], asked: Mapping[str, str], name: str) -> int:
    return int(asked[name]) if asked.get(name, "").isdecimal() else int(now[name])

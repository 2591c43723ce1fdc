"""Snapshots of every screen and state the page can draw, in the shape of interfaces.md §2."""

import copy
import time
from typing import Any

from gateway.flow.standing import Standing
from gateway.web import drawing, mending
from gateway.web.carry import SPANS
from gateway.web.pairing import _qr
from gateway.web.places import FOR_MASTERS, MENU
from gateway.web.settings import SETTINGS
from gateway.web.words import REASONS, speaking

SAY = speaking("zh-CN")

ALLOWED = {
    "idle": ["read"],
    "reading": [],
    "checked": ["submit_plate", "hand_over", "suspend", "cancel"],
    "evidenced": ["submit_plate", "classify", "hand_over", "suspend", "cancel"],
    "classified": ["submit_plate", "classify", "weigh", "quote", "hand_over", "suspend", "cancel"],
    "priced": [
        "submit_plate",
        "classify",
        "weigh",
        "quote",
        "confirm_entry",
        "minimum_fare",
        "hand_over",
        "suspend",
        "cancel",
    ],
    "agreed": [
        "submit_plate",
        "classify",
        "weigh",
        "quote",
        "save",
        "hand_over",
        "suspend",
        "cancel",
    ],
    "preparing": [],
    "debiting": [],
    "doubtful": ["prove", "hand_over"],
    "disputed": ["prove", "settle_by_hand"],
    "saved": ["read"],
    "refused": ["override", "hand_over", "suspend", "cancel"],
    "held": ["settle_by_hand", "suspend", "cancel"],
}
ALLOWED["unpriced"] = ALLOWED["priced"]
NEXT = {
    "read": "plate",
    "submit_plate": "vehicle",
    "classify": "classified",
    "weigh": "classified_weighed",
    "quote": "priced",
    "confirm_entry": "agreed",
    "minimum_fare": "agreed_minimum",
    "override": "plate",
    "save": "saved",
    "prove": "agreed",
    "hand_over": "held",
    "settle_by_hand": "saved_by_hand",
    "suspend": "idle_suspended",
    "pause_lane": "idle_paused",
    "close_lane": "idle_closed",
    "open_lane": "idle",
    "resume": "priced",
    "cancel": "idle",
}
OK = {"state": "ok", "text": ""}
QUOTE = {
    "amount_fen": 4280,
    "pay_fee_fen": 4505,
    "discount_fen": 225,
    "kind": 1,
    "kind_name": "门架累计",
    "station_name": "兰州东",
    "mileage_m": 87400,
    "table_version": "20251118001",
    "explained": ["卡内累计 45.05 元，不低于最小费额 40.00 元", "ETC 优惠按费额表，不按比例计算"],
}
PAID = {"means": "etc_card", "amount_fen": 4280, "is_doubtful": False}
RECORD = {
    "id": "G0030620010020102010020201111103000000001",
    "seq": 1042,
    "chain": "7f3a91c2",
    "tac": "E5383359",
}

SUBJECT = {
    "plate": "甘A12345",
    "colour": 0,
    "amount_fen": 4000,
    "station_name": "兰州东",
    "reason": "",
    "findings": [{"code": 24, "text": "卡在状态名单内：挂失，名单更新于 09:12"}],
    "photo": None,
}
"""What a master decides about."""


def now_ms() -> int:
    return int(time.time() * 1000)


def passage(**changes: Any) -> dict[str, Any]:
    whole = {
        "id": "X03-20201111103000-1A2B3C4D",
        "owner": "booth",
        "opened_at_ms": now_ms(),
        "plate": "",
        "colour": None,
        "plate_source": "",
        "photo": None,
        "lpr": {"plate": "甘A12345", "colour": 0, "confidence": [0.99] * 7},
        "card": {
            "kind": "stored",
            "number": "6201****3456",
            "balance_fen": 50000,
            "plate": "甘A12345",
            "colour": 0,
            "vehicle_type": 1,
            "valid_to": "20301101",
        },
        "tag": {"number": "6201****0123", "plate": "甘A12345", "colour": 0, "vehicle_type": 1},
        "tag_fault": "",
        "entry": {
            "station_name": "兰州东",
            "time": "2020-11-11T09:30:00+08:00",
            "at_ms": now_ms() - 3_600_000,
            "source": "card",
        },
        "findings": [],
        "vehicle": {
            "type": None,
            "type_name": "",
            "class": None,
            "class_name": "",
            "axle_count": None,
            "weight_kg": None,
            "limit_kg": None,
            "weight_source": "",
        },
        "needs_weight": False,
        "quote": None,
        "entry_confirmed": False,
        "approval": None,
        "paid": None,
        "record": None,
        "reason": "",
    }
    return {**whole, **changes}


def snapshot(name: str = "idle") -> dict[str, Any]:
    """One of STATES, whole."""
    base = {
        "rev": 1,
        "lane": "X03",
        "lane_name": "X03 出口",
        "state": "idle",
        "at_ms": now_ms(),
        "station": {"name": "兰州南"},
        "allowed": [],
        "busy": None,
        "passage": None,
        "suspended": [],
        "last": None,
        "shift": {
            "id": 3,
            "operator": "1001",
            "shift": 1,
            "opened_at_ms": now_ms(),
            "count": 12,
            "sum_fen": 51200,
        },
        "devices": {
            "reader": {"name": "读卡器", **OK},
            "psam": {"name": "PSAM", **OK},
            "obu": {"name": "OBU", **OK},
            "camera": {"name": "相机", **OK},
            "scale": {"name": "称台", **OK, "weight_kg": 16420, "is_stable": True},
        },
        "sync": {"online": True, "unsent": 0, "oldest_unsent_ms": None, "eta_s": None, "parked": 0},
        "policy": {"hex_from_card": False},
        "parameters": {},
        "standing": standing(),
        "problem": None,
    }
    changes = copy.deepcopy(STATES[name]())
    whole = {**base, **changes}
    if "allowed" not in changes:
        whole["allowed"] = ALLOWED[whole["state"]]
    return whole


def standing(state: str = "open", reason: str = "") -> dict[str, Any]:
    """Whether the lane takes vehicles, as gateway/flow/standing.py tells it."""
    said = Standing(state, reason, "1001", now_ms() - 600_000)  # type: ignore[arg-type]
    return {**said._asdict(), "allowed": [*said.allowed]}


def _not_open(state: str, reason: str) -> dict[str, Any]:
    said = standing(state, reason)
    lamp = {"lane": {"name": "车道", "state": state, "text": reason}}
    return {"standing": said, "devices": {**snapshot("idle_first")["devices"], **lamp}}


def problem(code: str, detail: str, action: str) -> dict[str, Any]:
    return {"problem": {"code": code, "detail": detail, "action": action}}


PLATED = {"plate": "甘A12345", "colour": 0, "plate_source": "lpr", "photo": "ab" * 32}
CAR = {
    "type": 1,
    "type_name": "客一",
    "class": 0,
    "class_name": "普通",
    "axle_count": None,
    "weight_kg": None,
    "limit_kg": None,
    "weight_source": "",
}
TRUCK = {**CAR, "type": 12, "type_name": "货二"}
WEIGHED = {**TRUCK, "axle_count": 2, "weight_kg": 21400, "limit_kg": 18000}
TRUCK_CARD = {
    "kind": "credit",
    "number": "6201****7788",
    "balance_fen": None,
    "plate": "甘A6F528",
    "colour": 1,
    "vehicle_type": 12,
    "valid_to": "20301101",
}
OFFLINE = {
    "online": False,
    "unsent": 12,
    "oldest_unsent_ms": 1,
    "eta_s": None,
    "parked": 1,
}


def _at(state: str, passage_changes: dict[str, Any] | None = None, **more: Any) -> Any:
    return lambda: {"state": state, "passage": passage(**(passage_changes or {})), **more}


def _plain(state: str, **more: Any) -> Any:
    return lambda: {"state": state, **more}


def _last(ago_ms: int = 20_000) -> dict[str, Any]:
    return {
        "plate": "甘A12345",
        "colour": 0,
        "amount_fen": 4280,
        "saved_at_ms": now_ms() - ago_ms,
        "record_id": RECORD["id"],
        "seq": 1042,
    }


def _ended(**paid: Any) -> dict[str, Any]:
    """A vehicle that people settled."""
    whole = passage(**PLATED, vehicle=CAR, quote=QUOTE, paid={**PAID, **paid}, record=RECORD)
    return {"state": "saved", "passage": whole, "last": _last(ago_ms=0)}


MISSING = {"name": "读卡器", "state": "missing", "text": "串口没有应答"}
STATES: dict[str, Any] = {
    "idle": lambda: {"state": "idle", "last": _last()},
    "idle_first": _plain("idle"),
    "idle_offline": lambda: {
        "state": "idle",
        "sync": {**OFFLINE, "oldest_unsent_ms": now_ms() - 2_400_000},
    },
    "idle_suspended": lambda: {
        "state": "idle",
        "allowed": ["read", "resume"],
        "suspended": [
            {"passage": f"X03-{n}", "plate": plate, "state": "priced", "opened_at_ms": now_ms()}
            for n, plate in enumerate(("甘A12345", "甘AD12345"))
        ],
    },
    "idle_no_card": _plain(
        "idle", **problem("E-101", "没有读到卡", "请把卡平放在读卡区中间，再读一次")
    ),
    "idle_reader_missing": lambda: {
        "state": "idle",
        "devices": {
            "reader": MISSING,
            "camera": {"name": "相机", "state": "degraded", "text": "画面慢"},
            "scale": {"name": "称台", **OK, "weight_kg": None, "is_stable": False},
        },
    },
    "idle_paused": lambda: {
        "state": "idle",
        "allowed": [],
        "last": _last(),
        **_not_open("paused", "临时离开"),
    },
    "idle_closed": lambda: {
        "state": "idle",
        "allowed": [],
        **_not_open("closed", "设备故障"),
    },
    "reading": _at("reading", {"card": None, "tag": None, "lpr": None, "entry": None}, busy="read"),
    "plate": _at("checked"),
    "plate_unsure": _at(
        "checked",
        {
            "lpr": {
                "plate": "甘A12B45",
                "colour": 0,
                "confidence": [0.99, 0.98, 0.95, 0.7, 0.6, 0.99, 0.99],
            }
        },
    ),
    "plate_no_lpr": _at("checked", {"lpr": None}),
    "plate_no_photo": _at(
        "checked",
        PLATED | {"photo": None},
        **problem(
            "E-203", "没有拍到照片：相机没有应答", "再拍一次，用手持机拍，或记原因后无照片继续"
        ),
    ),
    "plate_energy": _at(
        "checked", {"lpr": {"plate": "甘AD12345", "colour": 4, "confidence": [0.99] * 8}}
    ),
    "plate_other_screen": _at("checked", {"owner": "handheld:2"}),
    "vehicle": _at("evidenced", PLATED),
    "vehicle_differs": _at(
        "evidenced", PLATED | {"vehicle": {**CAR, "type": 2, "type_name": "客二"}}
    ),
    "vehicle_truck": _at(
        "evidenced",
        {"plate": "甘A6F528", "colour": 1, "photo": "ab" * 32, "card": TRUCK_CARD, "tag": None},
    ),
    "classified": _at("classified", PLATED | {"vehicle": CAR}),
    "classified_truck": _at(
        "classified", PLATED | {"vehicle": TRUCK, "needs_weight": True, "card": TRUCK_CARD}
    ),
    "classified_weighed": _at("classified", PLATED | {"vehicle": WEIGHED, "card": TRUCK_CARD}),
    "priced": _at("priced", PLATED | {"vehicle": CAR, "quote": QUOTE}),
    "priced_pausing": lambda: {
        "state": "priced",
        "passage": passage(**PLATED, vehicle=CAR, quote=QUOTE),
        **_not_open("paused", "交接班"),
    },
    "priced_from_card": _at(
        "priced", PLATED | {"vehicle": CAR, "quote": QUOTE}, policy={"hex_from_card": True}
    ),
    "priced_short": _at(
        "priced",
        PLATED
        | {
            "vehicle": WEIGHED,
            "quote": QUOTE,
            "card": {**TRUCK_CARD, "kind": "stored", "balance_fen": 3120},
            "findings": [
                {"code": 61, "level": "warns", "text": "超限 18.9%：总重 21.40 吨，限重 18.00 吨"}
            ],
        },
    ),
    "unpriced": _at(
        "unpriced",
        PLATED | {"vehicle": CAR},
        **problem("E-211", "路径还原失败，上级也算不出", "请核对入口站，或按最小费额计费"),
    ),
    "agreed": _at("agreed", PLATED | {"vehicle": CAR, "quote": QUOTE, "entry_confirmed": True}),
    "agreed_minimum": _at(
        "agreed",
        PLATED
        | {
            "vehicle": CAR,
            "quote": {**QUOTE, "kind": 6, "kind_name": "最小费额"},
            "approval": {"operator": "9001", "name": "演示站长", "how": "booth", "at_ms": 0},
        },
    ),
    "agreed_refused": _at(
        "agreed",
        PLATED | {"vehicle": CAR, "quote": QUOTE, "entry_confirmed": True},
        **problem("E-102", "卡拿早了，没有扣款", "请放回同一张卡，再保存一次"),
    ),
    "debiting": _at("debiting", PLATED | {"vehicle": CAR, "quote": QUOTE}, busy="debit"),
    "doubtful": _at(
        "doubtful",
        PLATED | {"vehicle": CAR, "quote": QUOTE},
        **problem("E-301", "扣款时断过电，结果还不知道", "请放回同一张卡"),
    ),
    "disputed": _at("disputed", PLATED | {"vehicle": CAR, "quote": QUOTE, "reason": "司机拿走卡"}),
    "saved": lambda: {
        "state": "saved",
        "passage": passage(**PLATED, vehicle=CAR, quote=QUOTE, paid=PAID, record=RECORD),
        "last": _last(ago_ms=0),
    },
    "saved_by_hand": lambda: _ended(means="mobile"),
    "saved_unpaid": lambda: _ended(means="none", amount_fen=0),
    "saved_doubtful": lambda: _ended(means="cash", is_doubtful=True),
    "saved_offline": lambda: {
        "state": "saved",
        "passage": passage(**PLATED, vehicle=CAR, quote=QUOTE, paid=PAID, record=RECORD),
        "last": _last(ago_ms=0),
        "sync": {**OFFLINE, "oldest_unsent_ms": now_ms()},
    },
    "refused_master": _at(
        "refused",
        {
            "findings": [
                {"code": 24, "level": "master", "text": "卡在状态名单内：挂失，名单更新于 09:12"}
            ]
        },
    ),
    "refused_stops": _at(
        "refused",
        {
            "findings": [
                {"code": 41, "level": "stops", "text": "卡：甘A12345 标签：甘A54321"},
                {"code": 55, "level": "master", "text": "卡里没有可用的入口信息"},
                {"code": 165, "level": "warns", "text": "这张卡 2 分钟前已在本站缴费 42.80 元"},
            ],
            "tag": {"number": "6201****0123", "plate": "甘A54321", "colour": 0, "vehicle_type": 1},
        },
        allowed=["hand_over", "suspend", "cancel"],
    ),
    "held": _at(
        "held",
        {
            "findings": [{"code": 41, "level": "stops", "text": "卡：甘A12345 标签：甘A54321"}],
            "reason": "卡与标签车牌不一致",
        },
    ),
}


def session(role: str = "collector") -> dict[str, Any]:
    shift = {
        "id": 3,
        "lane": "X03",
        "operator": "1001",
        "shift": 1,
        "opened_at_ms": now_ms(),
        "closed_at_ms": None,
    }
    return {
        "operator": "1001",
        "name": "演示收费员",
        "role": role,
        "owner": "booth",
        "shift": shift,
        "allowed": ["look", "sell"],
    }


def signed_out() -> dict[str, Any]:
    return {
        "operator": None,
        "name": None,
        "role": None,
        "owner": "booth",
        "shift": None,
        "allowed": [],
    }


def picture() -> bytes:
    """What the lane camera sees, drawn."""
    return """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 260">
<rect width="400" height="260" fill="#5b6770"/>
<rect x="60" y="40" width="280" height="170" rx="24" fill="#30404d"/>
<rect x="110" y="150" width="180" height="46" rx="4" fill="#0a4fa3"/>
<text x="200" y="184" font-size="30" fill="#fff" text-anchor="middle">甘A·12345</text>
</svg>""".encode()


TYPES = [f"客{n}" for n in "一二三四"] + [f"{k}{n}" for k in "货专" for n in "一二三四五六"]
CODES = [1, 2, 3, 4, *range(11, 17), *range(21, 27)]
CLASSES = {
    0: "普通",
    6: "公务",
    8: "军警",
    10: "紧急",
    12: "免费",
    14: "车队",
    21: "绿通",
    22: "联合收割机",
    23: "抢险救灾",
    24: "集装箱 J1",
    25: "大件",
    26: "应急",
    27: "货车列车",
    28: "集装箱 J2",
}
COLOURS = {
    0: "蓝",
    1: "黄",
    2: "黑",
    3: "白",
    4: "渐变绿",
    5: "黄绿双拼",
    6: "蓝白渐变",
    7: "临时",
    9: "未确定",
    11: "绿",
    12: "红",
}
STATIONS = [
    {"hex": "62010A12", "name": "兰州东", "pinyin": "lzd"},
    {"hex": "62010B31", "name": "兰州南", "pinyin": "lzn"},
    {"hex": "62010C07", "name": "定西", "pinyin": "dx"},
    {"hex": "62010D20", "name": "天水", "pinyin": "ts"},
    {"hex": "63010A02", "name": "西宁东", "pinyin": "xnd"},
]


PAIRING_CODE = _qr(f"https://192.0.2.10:8443/pair#s={'0' * 26}&ca={'00' * 32}")
SHIFT = {
    **session()["shift"],
    "count": 12,
    "sum_fen": 51200,
    "kinds": [
        {"kind": "paid", "means": "etc_card", "count": 11, "sum_fen": 48200},
        {"kind": "by_hand", "means": "cash", "count": 1, "sum_fen": 3000},
    ],
    "unsent": {"count": 2, "sum_fen": 8560},
    "signed_off": None,
}


def place(title: str, *blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document as the gateway makes it for a place around the lane."""
    return {"title": title, "blocks": list(blocks), "bar": [], "primary": None, **more}


def shift_place(chosen: int) -> dict[str, Any]:
    """上班, with this shift chosen."""
    shifts = [[1, "早班"], [2, "中班"], [3, "晚班"]]
    begin = {"method": "POST", "path": "/api/shifts", "body": {"lane": "X03", "shift": chosen}}
    return place(
        "上班",
        {"choices": [["X03", "X03 出口"]], "name": "lane", "label": "车道", "chosen": "X03"},
        {"choices": shifts, "name": "shift", "label": "班次", "chosen": chosen},
        {"h": "设备自检"},
        {"rows": [{"parts": [{"b": "✓ 读卡器"}, "正常"]}]},
        bar=[{"label": "退出登录", "deed": "signOut"}],
        primary={"label": "上班", "enter": "X03", **begin},
    )


def _vehicle(plate: str, amount: str, means: str, fate: str) -> list[Any]:
    return ["11-18 09:30:00", {"plate": plate, "colour": 0}, {"b": amount}, "已保存", means, fate]


def _journal() -> list[dict[str, Any]]:
    """A car that was put aside for a while, as its timeline tells it."""
    rows = (
        ("ReadRequested", 0), ("ChecksPassed", 900), ("PlateSubmitted", 5200),
        ("PhotoBound", 5500), ("Suspended", 9000), ("Resumed", 309_000),
        ("VehicleClassified", 312_000), ("QuoteRequested", 312_100), ("FareQuoted", 312_500),
        ("EntryConfirmed", 318_000), ("SaveRequested", 320_000), ("DebitPrepared", 320_300),
        ("DebitConfirmed", 320_900),
    )  # fmt: skip
    return [{"event": event, "at_ms": at_ms} for event, at_ms in rows]


ANSWERS: dict[str, Any] = {
    "GET lanes": [
        {
            "lane": "X03",
            "name": "X03 出口",
            "enabled": True,
            "devices": snapshot("idle")["devices"],
        },
        {"lane": "X04", "name": "X04 出口", "enabled": False, "devices": {}},
    ],
    "POST shifts": SHIFT,
    "GET shifts/3": SHIFT,
    "POST shifts/3/close": SHIFT,
    "GET tables/stations": {"version": "1", "rows": STATIONS},
    "GET tables/vehicle_types": {
        "version": "1",
        "rows": [{"code": c, "name": n} for c, n in zip(CODES, TYPES, strict=True)],
    },
    "GET tables/vehicle_classes": {
        "version": "1",
        "rows": [{"code": c, "name": n} for c, n in CLASSES.items()],
    },
    "GET tables/colours": {
        "version": "",
        "rows": [{"code": c, "name": n} for c, n in COLOURS.items()],
    },
    "GET tables/reasons": {
        "version": "",
        "rows": [
            {"list": name, "name": text}
            for name, texts in REASONS.items()
            for text in texts.split()
        ],
    },
    "GET places/menu": place(
        "功能",
        {"options": [{"label": SAY(name), "go": name} for name in MENU + FOR_MASTERS]},
        bar=[{"label": SAY("signOut"), "deed": "signOut"}],
    ),
    "GET places/devices": place(
        "设备",
        {"p": "▲ 设备是模拟的", "look": "warn"},
        {
            "rows": [
                {"parts": [{"b": "✓ 读卡器"}, "正常"]},
                {"look": "bad", "parts": [{"b": "▲ 称台"}, "未连接 重量可人工填写"]},
            ]
        },
    ),
    "GET places/history": place(
        "历史",
        {"field": "plate", "label": "车牌", "value": ""},
        {
            "choices": [["", "全部"], ["saved", "已保存"], ["cancelled", "已取消"]],
            "name": "state",
            "label": "状态",
            "chosen": "",
        },
        {
            "rows": [
                {"parts": _vehicle("甘A12345", "42.80", "ETC 卡", "已送达"), "go": "passage/X03-4"},
                {
                    "look": "bad",
                    "parts": _vehicle("青B50271", "23.40", "现金", "被退回"),
                    "go": "passage/1",
                },
            ]
        },
        bar=[
            {"label": SAY("history.keys"), "with": {"keys": 1}},
            {"label": SAY("history.more"), "with": {"limit": 40}},
        ],
    ),
    "GET places/passage/X03-4": place(
        "这一笔",
        {"facts": [["车牌", {"plate": "甘A12345", "colour": 0}], ["金额 元", "42.80"]]},
        {"image": "/api/photos/" + "ab" * 32, "alt": "照片"},
        {"h": SAY("timeline")},
        {"image": drawing.drawn(_journal(), SAY), "alt": drawing.summary(_journal(), SAY)},
        {"h": "经过"},
        {
            "rows": [
                {"parts": ["1. 11-18 09:30:01 #1 1001", {"b": "读卡"}, ""]},
                {"parts": ["2. 11-18 09:30:05 #2 1001", {"b": "提交车牌"}, "车牌 甘A12345"]},
            ]
        },
        bar=[{"label": SAY("correct"), "go": "correct/X03-4"}],
    ),
    "GET places/correct/X03-4": place(
        SAY("correct"),
        {"facts": [[SAY("seq"), "#1042"], [SAY("field.plate"), "甘A12345 → 甘A12346"]]},
        {"p": SAY("correct.hint"), "look": ""},
        {"field": "plate", "label": SAY("plate"), "value": "甘A12346", "is_start": True},
        {"letters": "plate", "value": "甘A12346", "keys": mending.PLATE_KEYS},
        {
            "choices": [[code, name] for code, name in COLOURS.items()],
            "name": "colour",
            "label": SAY("correct.colour"),
            "chosen": 0,
        },
        {
            "choices": [[text, text] for text in REASONS["correct"].split()],
            "name": "reason",
            "label": SAY("reason"),
            "chosen": "车牌录错",
        },
        {"credentials": SAY("master.number")},
        primary={
            "label": SAY("correct"),
            "method": "POST",
            "path": "/api/passages/X03-4/corrections",
            "key": "5f1e0c77a9d23b44",
            "body": {"plate": "甘A12346", "reason": "车牌录错"},
            "needs_credentials": True,
            "leaves": True,
        },
    ),
    "POST passages/X03-4/corrections": {"record_id": "R2", "seq": 1043},
    "GET places/carry": place(
        SAY("carry"),
        {"h": SAY("carry.out")},
        {
            "choices": [[name, SAY(f"carry.{name}")] for name in SPANS],
            "name": "span",
            "label": SAY("carry.span"),
            "chosen": "today",
        },
        {
            "choices": [["", SAY("carry.bare")], ["1", SAY("carry.photos")]],
            "name": "photos",
            "label": SAY("photo"),
            "chosen": "",
        },
        {
            "link": "/api/exports/lane-export-20251118-093000.tar",
            "label": SAY("carry.save", name="lane-export-20251118-093000.tar", size="1.2"),
        },
        {"p": "流水第 1 到 1042 条", "look": ""},
        {"p": f"✓ {SAY('stick.done', name='USB-sdb1', sha='7F3A99C2')}", "look": "good"},
        {
            "options": [
                {
                    "label": SAY("stick.to", name="USB-sdb1"),
                    "method": "POST",
                    "path": "/api/exports/lane-export-20251118-093000.tar/copies",
                    "body": {"stick": "USB-sdb1"},
                    "then": {},
                }
            ]
        },
        {"h": SAY("carry.in")},
        {"file": "/api/receipts", "label": SAY("carry.receipt")},
        {"p": f"✓ {SAY('carry.taken', n=3, count=12)}", "look": "good"},
        primary={
            "label": SAY("carry.export"),
            "method": "POST",
            "path": "/api/exports",
            "body": {"span": "today", "photos": False},
            "then": {},
        },
    ),
    "POST exports": {"span": "today"},
    "POST receipts": {"number": 3, "settled": 12, "said": {}, "was_known": False},
    "GET places/standing": place(
        SAY("standing"),
        {"p": SAY("standing.keeps"), "look": ""},
        *(
            block
            for name in ("pause", "close")
            for block in (
                {"h": SAY(f"standing.{name}")},
                {
                    "options": [
                        {
                            "label": text,
                            "command": {"command": f"{name}_lane", "reason": text},
                            "sure": SAY("standing.sure") if name == "close" else "",
                        }
                        for text in REASONS[name].split()
                    ],
                    "from": 1 if name == "pause" else 1 + len(REASONS["pause"].split()),
                },
            )
        ),
    ),
    "GET places/suspended": place(
        "挂起的车",
        {
            "rows": [
                {
                    "parts": [{"plate": "甘A12345", "colour": 0}, "停在“核对入口站”"],
                    "button": {"label": "续办", "resume": "X03-0"},
                }
            ]
        },
    ),
    "GET places/sync": place(
        "同步",
        {"facts": [["未传", "9 笔"], [SAY("sync.delivered"), "3 笔"], [SAY("parked"), "1 笔"]]},
        {"p": "✓ 可以做：照常收费、照相、站长授权", "look": "good"},
        {"h": "被退回"},
        {
            "rows": [
                {
                    "look": "bad",
                    "parts": [{"b": "#1040 车牌颜色不符"}, RECORD["id"]],
                    "button": [
                        {"label": SAY("correct.again"), "go": "correct/X03-4"},
                        {"label": SAY("resend"), "go": "resend/R1"},
                    ],
                },
            ]
        },
        {"h": SAY("corrected")},
        {
            "rows": [
                {
                    "look": "warn",
                    "parts": [
                        {"b": "#1038 站码不存在"},
                        SAY("correct.since", seq=1041, fate="已确认"),
                    ],
                    "button": {"label": SAY("passage"), "go": "passage/X03-4"},
                },
            ]
        },
        {"h": SAY("resent")},
        {
            "rows": [
                {
                    "look": "good",
                    "parts": [
                        {"b": f"#1035 {SAY('resend.taken')}"},
                        SAY("resend.by", who="9001", at="11-18 09:12:40"),
                        "中心已改好",
                    ],
                }
            ]
        },
    ),
    "GET places/resend/R1": place(
        SAY("resend"),
        {"facts": [[SAY("seq"), "#1040"], [SAY("resend.words"), "车牌颜色不符"]]},
        {"p": SAY("resend.hint"), "look": ""},
        {
            "choices": [[text, text] for text in REASONS["resend"].split()],
            "name": "reason",
            "label": SAY("reason"),
            "chosen": "中心已改好",
        },
        {"credentials": SAY("master.number")},
        primary={
            "label": SAY("resend"),
            "method": "POST",
            "path": "/api/parked/R1/resend",
            "body": {"reason": "中心已改好"},
            "needs_credentials": True,
            "leaves": True,
        },
    ),
    "POST parked/R1/resend": {"lane": "X03", "seq": 1040, "id": "R1", "state": "resending"},
    "GET places/versions": place(
        "版本",
        {"rows": [{"look": "warn", "parts": [{"b": "状态名单"}, "20251118001 · 3 天前更新"]}]},
    ),
    "GET places/pairing": place(
        "配对手持机",
        {"image": PAIRING_CODE, "alt": "配对二维码"},
        {"digits": "123456"},
        primary={
            "label": "数字一致",
            "method": "POST",
            "path": "/api/pairings/offer-1/confirm",
            "body": {},
        },
    ),
    "GET places/approvals": place(
        "最小费额计费",
        {"facts": [["车牌", {"plate": "甘A12345", "colour": 0}], ["金额 元", "40.00"]]},
        {"credentials": ""},
        bar=[
            {
                "label": "不同意",
                "method": "POST",
                "path": "/api/approvals/A1",
                "body": {"decision": "refuse"},
            }
        ],
        primary={
            "label": "同意",
            "method": "POST",
            "path": "/api/approvals/A1",
            "body": {"decision": "approve"},
        },
    ),
    "GET places/settings": place(
        "设置",
        *(
            {
                "setting": name,
                "label": SAY(name),
                "pairs": [[value, SAY(f"{name}.{value}")] for value in values],
            }
            for name, values in SETTINGS.items()
        ),
        {"keymap": SAY("keymap")},
    ),
    "GET places/shiftEnd": place(
        "下班交接",
        {"facts": [["班次", "早班"], ["已收", 12], ["金额 元", "512.00"]]},
        {"p": "▲ 还有 2 辆车挂起", "look": "warn"},
        primary={
            "label": "下班",
            "method": "POST",
            "path": "/api/shifts/3/close",
            "body": {},
            "sure": "数据已保存在本机。确认下班？",
            "then": {"shift": 3},
        },
    ),
    "POST approvals/A1": {"state": "approved"},
    "POST pairings/offer-1/confirm": {"state": "confirmed"},
    "POST lanes/X03/approvals": {"id": "A1", "state": "pending"},
}

"""Writes gateway/parameters/demo/*.json: invented codes and amounts, public place names.

Run it again after a change here: `python -m tests.tools.demo_parameters`; a test compares.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from argon2.low_level import Type, hash_secret

FOLDER = Path(__file__).parents[2] / "gateway" / "parameters" / "demo"
VERSION = "20251118001"
EFFECTIVE_FROM = "2025-11-18T00:00:00+08:00"
EXIT_HEX = "62010B31"

STATIONS = (
    # hex, id, name, initials, metres to the exit by the shortest way, of these in province 62
    ("62010B31", "G0030620010020", "兰州南", "lzn", 6_000, 6_000),
    ("62010A12", "G0030620010010", "兰州东", "lzd", 95_000, 95_000),
    ("62010C07", "G0030620010030", "定西", "dx", 128_400, 128_400),
    ("62010D20", "G0030620010040", "天水", "ts", 309_600, 309_600),
    ("62010E05", "G0006620010050", "白银东", "byd", 103_700, 103_700),
    ("62010F11", "G0075620010060", "临洮", "lt", 84_300, 84_300),
    ("62011A08", "G0075620010070", "渭源", "wy", 121_900, 121_900),
    ("62011B16", "G0030620010080", "陇西", "lx", 176_500, 176_500),
    ("62011C22", "G0022620010090", "平凉", "pl", 402_800, 402_800),
    ("62011D03", "G0030620010100", "武威", "ww", 288_100, 288_100),
    ("62011E19", "G0030620010110", "张掖", "zy", 512_600, 512_600),
    ("62012A14", "G0030620010120", "永登", "yd", 117_200, 117_200),
    ("62012B25", "G0022620010130", "榆中", "yz", 56_800, 56_800),
    ("62012C09", "G0075620010140", "临夏", "lx", 139_500, 139_500),
    ("63010A02", "G0006630010010", "西宁东", "xnd", 231_700, 131_700),
    ("63010B06", "G0006630010020", "海东", "hd", 187_400, 131_700),
    ("61010A21", "G0030610010010", "宝鸡", "bj", 468_900, 398_200),
)
LORRY_FEN_PER_KM = {1: 45, 2: 85, 3: 125, 4: 165, 5: 185, 6: 200}
FEN_PER_KM = {
    **dict(enumerate((40, 60, 80, 100), start=1)),
    **{10 + size: fen for size, fen in LORRY_FEN_PER_KM.items()},
    **{20 + size: fen for size, fen in LORRY_FEN_PER_KM.items()},
}
NAMES = {
    **{n: f"客{word}" for n, word in enumerate("一二三四", start=1)},
    **{10 + n: f"货{word}" for n, word in enumerate("一二三四五六", start=1)},
    **{20 + n: f"专{word}" for n, word in enumerate("一二三四五六", start=1)},
}
LORRY_AXLES = {1: (2,), 2: (2,), 3: (3,), 4: (4,), 5: (5,), 6: (6,)}
AXLES = {
    **dict(enumerate(((2,), (2, 3, 4), (2, 3), (2, 3)), start=1)),
    **{10 + size: axles for size, axles in LORRY_AXLES.items()},
    **{20 + size: axles for size, axles in LORRY_AXLES.items()},
    26: (6, 7, 8, 9, 10),
}
CLASSES = (
    (0, "普通"),
    (6, "公务"),
    (8, "军警"),
    (10, "紧急"),
    (12, "免费"),
    (14, "车队"),
    (21, "绿通"),
    (22, "联合收割机"),
    (23, "抢险救灾"),
    (24, "集装箱 J1"),
    (25, "大件"),
    (26, "应急"),
    (27, "货车列车"),
    (28, "集装箱 J2"),
)
FREE_CLASSES = (8, 10, 12)
OPERATORS = (
    ("1001", "演示收费员", "collector"),
    ("9001", "演示站长", "master"),
    ("7001", "演示工程师", "engineer"),
)


def packages() -> dict[str, dict[str, Any]]:
    """Table name → the whole document of its file."""
    bodies = {
        "stations": {
            "rows": [
                {"hex": row[0], "id": row[1], "name": row[2], "pinyin": row[3]} for row in STATIONS
            ]
        },
        "minimum_fares": {"exit_hex": EXIT_HEX, "rows": list(_minimum_fares())},
        "axle_limits": {"rows": _axle_limits()},
        "vehicle_types": {"rows": [_vehicle_type(code) for code in FEN_PER_KM]},
        "vehicle_classes": {
            "rows": [{"code": c, "name": n, "is_free": c in FREE_CLASSES} for c, n in CLASSES]
        },
        "status_list": {"rows": _status_list()},
        "operators": {"rows": [_operator(*who) for who in OPERATORS]},
        "policy": _policy(),
    }
    head = {"version": VERSION, "effective_from": EFFECTIVE_FROM}
    return {name: {"name": name, **head, "body": body} for name, body in bodies.items()}


def _minimum_fares() -> Iterator[dict[str, Any]]:
    for station_hex, _, _, _, way_m, home_m in STATIONS:
        for vehicle_type, fen_per_km in FEN_PER_KM.items():
            parts = [("62", home_m)]
            if way_m > home_m:
                parts.append((station_hex[:2], way_m - home_m))
            shares = [_share(prov, part_m, vehicle_type, fen_per_km) for prov, part_m in parts]
            yield {
                "entry_hex": station_hex,
                "vehicle_type": vehicle_type,
                "fee": sum(share["fee"] for share in shares),
                "fee95": sum(share["fee95"] for share in shares),
                "mileage_m": way_m,
                "shares": shares,
            }


def _share(province: str, way_m: int, vehicle_type: int, fen_per_km: int) -> dict[str, Any]:
    """Full fares in steps of 5 fen. The ETC price is rounded down at every gantry, and some
    lorry rows are cheaper still, as in real tables (domain.md §6.3): never 0.95 for sure."""
    fee = max(way_m * fen_per_km // 1000 // 5 * 5, 500)
    percent = 92 if vehicle_type > 10 and way_m > 200_000 else 95
    gantries = way_m // 19_000 if way_m != 95_000 else 0
    return {
        "province": province,
        "fee": fee,
        "fee95": fee * percent // 100 - gantries // 2,
        "mileage_m": way_m,
    }


def _axle_limits() -> list[dict[str, int]]:
    limits = ((2, 18_000), (3, 25_000), (4, 31_000), (5, 43_000), (6, 49_000))  # domain.md §5.3
    return [{"axle_count": axles, "limit_kg": limit_kg} for axles, limit_kg in limits]


def _vehicle_type(code: int) -> dict[str, Any]:
    is_truck = code > 10
    return {"code": code, "name": NAMES[code], "is_truck": is_truck, "axle_counts": AXLES[code]}


def _status_list() -> list[dict[str, Any]]:
    listed_at = "2025-11-10T08:00:00+08:00"
    return [
        {"number": "62012045220000009001", "type": 1, "reason": "卡挂失", "listed_at": listed_at},
        {"number": "6201010199009001", "type": 1, "reason": "标签挂失", "listed_at": listed_at},
    ]


def _operator(number: str, name: str, role: str) -> dict[str, str]:
    """The demo's password is the number itself; the salt is fixed so that the file is, too."""
    salt = hashlib.sha256(f"demo {number}".encode()).digest()[:16]
    hashed = hash_secret(number.encode(), salt, 2, 19_456, 1, 32, Type.ID)
    return {"number": number, "name": name, "role": role, "password_hash": hashed.decode()}


def _policy() -> dict[str, Any]:
    return {
        "finding_levels": {},
        "hex_from_card": False,
        "duplicate_minutes": 10,
        "ceiling_percent": 150,
        "full_price_findings": [],
        "weight_tolerance_kg": 20,
        "status_list_stale_hours": 72,
    }


def text(document: dict[str, Any]) -> str:
    """One row a line: a change shows as one line in a diff."""
    rows = document["body"].get("rows")
    if rows is None:
        return json.dumps(document, ensure_ascii=False) + "\n"
    body = {**document["body"], "rows": []}
    frame = json.dumps({**document, "body": body}, ensure_ascii=False).removesuffix("]}}")
    listed = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"{frame}\n{listed}\n]}}}}\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, document in packages().items():
        (FOLDER / f"{name}.json").write_text(text(document), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The centre's own fares: the priced way from entry to exit, as province and ministry know it.

Small and invented, like the demo's minimum fares, but another table: the real way is longer than
the shortest one. The lane never sees this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from gateway.records import FareAnswer, FareRequest, ProvinceSplit

VERSION = "20251118001"
HOME = "62"
EXITS = ("62010B31",)
UNRESTORABLE = ("62010E05",)
FREE_CLASSES = (8, 10, 12)  # 军警 紧急 免费 (domain.md §5.2)

ROUTES: Mapping[str, tuple[tuple[str, int], ...]] = {
    # entry Hex: metres by the way really taken, per province
    "62010B31": (("62", 6_000),),
    "62010A12": (("62", 97_500),),
    "62010C07": (("62", 131_000),),
    "62010D20": (("62", 312_400),),
    "62010F11": (("62", 86_000),),
    "62011A08": (("62", 124_300),),
    "62011B16": (("62", 180_200),),
    "62011C22": (("62", 409_000),),
    "62011D03": (("62", 291_500),),
    "62011E19": (("62", 518_300),),
    "62012A14": (("62", 119_900),),
    "62012B25": (("62", 58_400),),
    "62012C09": (("62", 142_700),),
    "63010A02": (("62", 133_200), ("63", 102_100)),
    "63010B06": (("62", 133_200), ("63", 56_900)),
    "61010A21": (("62", 401_500), ("61", 72_000)),
}
_LORRY = {1: 45, 2: 85, 3: 125, 4: 165, 5: 185, 6: 200}
FEN_PER_KM: Mapping[int, int] = {
    **dict(enumerate((40, 60, 80, 100), start=1)),
    **{10 + size: fen for size, fen in _LORRY.items()},
    **{20 + size: fen for size, fen in _LORRY.items()},
}


class Question(FareRequest):
    """A `FareRequest` as the centre reads it: fields it does not know are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, alias_generator=to_camel
    )


EXAMPLE: dict[str, Any] = {
    "passageId": "X03-20251121080000-1A2B3C4D",
    "passId": "016201204523000012345620251121070000",
    "entryHex": "63010A02",
    "exitHex": "62010B31",
    "vehicleType": 1,
    "vehicleClass": 0,
    "axleCount": 2,
    "entryTime": "2025-11-21T07:00:00+08:00",
    "plate": "甘A12345",
    "plateColour": 0,
    "kind": 5,
}
EXAMPLE_ANSWER: dict[str, Any] = {
    "amount_fen": 9405,
    "fee95_fen": 8934,
    "kind": 5,
    "mileage_m": 235300,
    "version": VERSION,
    "split": [
        {"prov": "62", "pFee": 5058, "pPayFee": 5325, "pM": 133200},
        {"prov": "63", "pFee": 3876, "pPayFee": 4080, "pM": 102100},
    ],
}
"""POST /v1/fares and its answer; a fare that cannot be had is 422 `{"code": "994", "detail": …,
"action": …}`."""


@dataclass(frozen=True, slots=True)
class NoFare:
    """Why there is no fare; codes as seen in the field (domain.md §6.2)."""

    code: int
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"code": str(self.code), "detail": self.detail, "action": "请用其他计费方式"}


def price(question: FareRequest) -> FareAnswer | NoFare:
    """The fare of one way, or why not. All amounts fen; split sums to the amounts."""
    if question.entry_hex in UNRESTORABLE:
        return NoFare(994, "门架记录连不成路径")
    route = ROUTES.get(question.entry_hex)
    if route is None or question.exit_hex not in EXITS:
        return NoFare(996, "门架记录连不成路径")
    if question.kind == 4 and len(route) > 1:
        return NoFare(701, "路径出了本省")
    fen_per_km = FEN_PER_KM.get(question.vehicle_type)
    if fen_per_km is None:
        return NoFare(997, "没有这种车型的费率")
    if question.vehicle_class in FREE_CLASSES:
        fen_per_km = 0
    return _answer(question, [_share(*part, fen_per_km) for part in route])


def _share(province: str, way_m: int, fen_per_km: int) -> ProvinceSplit:
    """`p_pay_fee` is the full price in steps of 5 fen, `p_fee` the ETC price, rounded down."""
    full = way_m * fen_per_km // 1000 // 5 * 5
    return ProvinceSplit(prov=province, p_pay_fee=full, p_fee=full * 95 // 100, p_m=way_m)


def _answer(question: FareRequest, shares: list[ProvinceSplit]) -> FareAnswer:
    return FareAnswer(
        amount_fen=sum(share.p_pay_fee for share in shares),
        fee95_fen=sum(share.p_fee for share in shares),
        kind=question.kind,
        mileage_m=sum(share.p_m for share in shares),
        version=VERSION,
        split=tuple(shares),
    )

"""What the bench can put on the lane: fields a person may give, presets, and the whole vehicle.

Pure: fields and tables in, one vehicle as a value out. Chips and devices are the bench's.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from gateway.devices.etc_files import TollInfo
from gateway.devices.sim.crypto import AlgorithmName
from gateway.errors import RequestInvalid
from gateway.params import Parameters, VehicleType
from gateway.plate import check_plate

Preset = Literal[
    "car",
    "truck",
    "new_energy",
    "minimum_fare",
    "zero_fare",
    "no_entry",
    "listed",
    "mismatch",
    "expired",
    "removed_obu",
    "low_balance",
]
CardKindName = Literal["stored", "credit"]

NEAR, UNPRICED = "62010A12", "62010E05"  # stations of the demo's parameter set
LISTED_CARD = "2045220000009001"  # on the demo's status list
BLUE, YELLOW, NEW_ENERGY = 0, 1, 4  # plate colours
PRESETS: Mapping[str, dict[str, Any]] = {
    "car": {},
    "truck": {"vehicle_type": 13, "colour": YELLOW, "axles": 3, "weight_kg": 21_460},
    "new_energy": {"colour": NEW_ENERGY},
    "minimum_fare": {"entry_hex": UNPRICED, "accumulated_fen": 0, "paid_fen": 0},
    "zero_fare": {"vehicle_class": 12, "accumulated_fen": 0, "paid_fen": 0},
    "no_entry": {"has_entry": False},
    "listed": {"card_number": LISTED_CARD, "card_kind": "stored"},
    "mismatch": {},
    "expired": {"valid_to": "20240630"},
    "removed_obu": {"obu_removed": True},
    "low_balance": {"card_kind": "stored", "balance_fen": 100},
}

ENTRY_STATUS = 0x03  # closed ETC entry (domain.md §1.4)
ENTRY_LANE = 3
GANTRY, NO_GANTRY = "62A103", "000000"
GANTRY_AFTER_S = 15 * 60
ABOVE_MINIMUM_PERCENT = 112  # what gantries add up lies between the minimum and 1.5 times it
GANTRIES = 3
AXLE_KG = 6_000
STORED_FEN, CREDIT_PURSE = 2_000_00, 0xFFFFBD56
VALID_TO = "20351231"
ENTRY_MIN_AGO, ENTRY_SPREAD_MIN = 40, 31


class VehicleFields(BaseModel):
    """The body of POST /bench/vehicle. What is not given comes from preset, card or chance."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    preset: Preset | None = None
    plate: str | None = Field(default=None, min_length=1, max_length=9)
    colour: int | None = None
    vehicle_type: int | None = None
    vehicle_class: int | None = None
    """车种; the card's 用户类型."""
    card_kind: CardKindName | None = None
    algorithm: AlgorithmName | None = None
    """Of a new card, and of the tag: 3des unless said otherwise."""
    card_number: str | None = Field(default=None, pattern=r"^\d{16}$")
    balance_fen: int | None = Field(default=None, ge=0, le=0xFFFFFFFF)
    valid_to: str | None = Field(default=None, pattern=r"^\d{8}$")
    has_entry: bool = True
    entry_hex: str | None = Field(default=None, pattern=r"^\d{4}[0-9A-Fa-f]{4}$")
    entry_at_ms: int | None = Field(default=None, ge=0, le=0xFFFFFFFF * 1000)
    entry_status: int = Field(default=ENTRY_STATUS, ge=0, le=255)
    obu: bool = True
    tag_plate: str | None = Field(default=None, min_length=1, max_length=9)
    obu_removed: bool = False
    obu_valid_to: str | None = Field(default=None, pattern=r"^\d{8}$")
    obu_serial: str | None = Field(default=None, pattern=r"^\d{16}$")
    weight_kg: int | None = Field(default=None, ge=0, le=500_000)
    axles: int | None = Field(default=None, ge=2, le=40)
    accumulated_fen: int | None = Field(default=None, ge=0, le=0xFFFFFF)
    paid_fen: int | None = Field(default=None, ge=0, le=0xFFFFFF)
    mileage_m: int | None = Field(default=None, ge=0, le=0xFFFFFF)
    no_card_count: int = Field(default=0, ge=0, le=255)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """The request's fields over the preset's. Raises: RequestInvalid, naming the first."""
        try:
            asked = cls.model_validate(given)
            named = {k: v for k, v in given.items() if v is not None}
            return cls.model_validate({**PRESETS.get(asked.preset or "", {}), **named})
        except ValidationError as bad:
            fault = bad.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "请求"
            raise RequestInvalid(f"车辆字段 {where} 不对：{_expected(fault)}") from bad


class Vehicle(BaseModel):
    """One vehicle on the lane, whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    plate: str
    colour: int
    vehicle_type: int
    vehicle_class: int
    card_number: str
    obu_serial: str | None
    tag_plate: str
    obu_removed: bool
    obu_valid_to: str
    valid_to: str
    entry_hex: str | None
    entry_at_ms: int
    entry_status: int
    weight_kg: int
    axle_count: int
    accumulated_fen: int
    paid_fen: int
    mileage_m: int
    success_count: int
    no_card_count: int

    def toll(self) -> TollInfo | None:
        """What the entry lane and the gantries wrote into 0019; None = blank."""
        if self.entry_hex is None:
            return None
        at_s = self.entry_at_ms // 1000
        return TollInfo(
            station_hex=self.entry_hex,
            lane_no=ENTRY_LANE,
            at_s=at_s,
            vehicle_type=self.vehicle_type,
            status=self.entry_status,
            gantry_hex=GANTRY if self.success_count else NO_GANTRY,
            gantry_at_s=at_s + GANTRY_AFTER_S if self.success_count else 0,
            plate=self.plate,
            plate_colour=self.colour,
            axle_count=self.axle_count,
            weight_kg=self.weight_kg,
            vehicle_status=0xFF,
            accumulated_fen=self.accumulated_fen,
        )


class OnCard(BaseModel):
    """What the card of this plate holds already; the card decides where nothing else is said."""

    model_config = ConfigDict(frozen=True)

    number: str
    colour: int
    vehicle_type: int
    vehicle_class: int
    valid_to: str


def complete(
    f: VehicleFields, number: int, card: OnCard | None, parameters: Parameters, now_ms: int
) -> Vehicle:
    """Fields → vehicle.

    Args:   number: the running number of this vehicle's plate; it decides what chance would.
            card: of this plate, if there is one.
    Raises: RequestInvalid, if plate, colour, type or class do not exist.
    """
    kind, vehicle_class, colour = _kind(f, card, parameters)
    plate = check_plate(f.plate or invented_plate(number, colour), colour)
    entry_hex = (f.entry_hex or NEAR).upper() if f.has_entry else None
    due, paid, mileage = _sums(f, entry_hex, kind.code, parameters)
    axles = f.axles or kind.axle_counts[0]
    ago_ms = (ENTRY_MIN_AGO + number * 7 % ENTRY_SPREAD_MIN) * 60_000
    return Vehicle(
        preset=f.preset or "",
        plate=plate,
        colour=colour,
        vehicle_type=kind.code,
        vehicle_class=vehicle_class,
        card_number=f.card_number or (card.number if card else card_number(number, f.card_kind)),
        obu_serial=(f.obu_serial or f"62010101{number:08d}") if f.obu else None,
        tag_plate=_tag_plate(f, plate, colour),
        obu_removed=f.obu_removed,
        obu_valid_to=f.obu_valid_to or VALID_TO,
        valid_to=f.valid_to or (card.valid_to if card else VALID_TO),
        entry_hex=entry_hex,
        entry_at_ms=_first(f.entry_at_ms, now_ms - ago_ms),
        entry_status=f.entry_status,
        weight_kg=_first(f.weight_kg, axles * AXLE_KG if kind.is_truck else 0),
        axle_count=axles,
        accumulated_fen=due,
        paid_fen=paid,
        mileage_m=mileage,
        success_count=GANTRIES if due or paid else 0,
        no_card_count=f.no_card_count,
    )


def invented_plate(number: int, colour: int) -> str:
    """A plate for a running number: plausible, never the same twice within 1 500 000."""
    letter = "ABCDEFGHJKLMNPQ"[number // 100_000 % 15]
    digits = f"{(number * 7919 + 12_345) % 100_000:05d}"
    return f"甘{letter}D{digits}" if colour == NEW_ENERGY else f"甘{letter}{digits}"


def card_number(number: int, kind: CardKindName | None) -> str:
    """Year, week, kind (22 储值卡, 23 记账卡) and ten digits (domain.md §1.3)."""
    return f"2045{23 if kind == 'credit' else 22}{number:010d}"


def _kind(
    f: VehicleFields, card: OnCard | None, parameters: Parameters
) -> tuple[VehicleType, int, int]:
    """Type, class and plate colour: as asked, else as on the card, else an ordinary blue car."""
    code = _first(f.vehicle_type, card.vehicle_type if card else 1)
    kind = parameters.vehicle_types.find(code)
    if kind is None:
        raise RequestInvalid(f"没有这种车型：{code}")
    vehicle_class = _first(f.vehicle_class, card.vehicle_class if card else 0)
    if parameters.vehicle_classes.find(vehicle_class) is None:
        raise RequestInvalid(f"没有这种车种：{vehicle_class}")
    usual = YELLOW if kind.is_truck else BLUE
    return kind, vehicle_class, _first(f.colour, card.colour if card else usual)


def _tag_plate(f: VehicleFields, plate: str, colour: int) -> str:
    if f.tag_plate is not None:
        return check_plate(f.tag_plate, colour)
    return _another(plate) if f.preset == "mismatch" else plate


def _another(plate: str) -> str:
    """A neighbour's plate: one digit differs."""
    at = max((place for place, char in enumerate(plate) if char.isdigit()), default=-1)
    other = str((int(plate[at]) + 1) % 10) if at >= 0 else "8"
    return plate[:at] + other + plate[at:][1:]


def _sums(
    f: VehicleFields, entry_hex: str | None, vehicle_type: int, parameters: Parameters
) -> tuple[int, int, int]:
    """Due, paid and metres that the gantries would have added up on this way."""
    row = parameters.minimum_fares.find(entry_hex, vehicle_type) if entry_hex else None
    due = row.fee * ABOVE_MINIMUM_PERCENT // 100 if row else 0
    paid = row.fee95 * ABOVE_MINIMUM_PERCENT // 100 if row else 0
    if f.accumulated_fen is not None:
        due, paid = f.accumulated_fen, f.accumulated_fen * paid // due if due else 0
    return due, _first(f.paid_fen, paid), _first(f.mileage_m, row.mileage_m if row else 0)


def _first(given: int | None, otherwise: int) -> int:
    return otherwise if given is None else given


_EXPECTED = {
    "extra_forbidden": "没有这个字段",
    "literal_error": "只能是 {expected}",
    "int_type": "应为整数",
    "string_type": "应为文字",
    "bool_type": "应为 true 或 false",
    "greater_than_equal": "不能小于 {ge}",
    "less_than_equal": "不能大于 {le}",
    "string_pattern_mismatch": "应符合 {pattern}",
    "string_too_long": "最多 {max_length} 个字",
    "string_too_short": "至少 {min_length} 个字",
}


def _expected(fault: ErrorDetails) -> str:
    words = _EXPECTED.get(fault["type"], "内容不对")
    return words.format_map({key: str(value) for key, value in fault.get("ctx", {}).items()})

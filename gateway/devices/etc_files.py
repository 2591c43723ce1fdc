"""Files of the ETC card and the OBU ⇄ values. No I/O, no rules.

Layouts: domain.md §1.3 (0015), §1.4 (0019), §3.2–3.4 (OBU). Vectors in tests/devices/.
"""

from dataclasses import dataclass
from enum import IntEnum


class CardKind(IntEnum):
    """Byte 8 of EF0015 (domain.md §1.1)."""

    STORED = 22  # 储值卡
    CREDIT = 23  # 记账卡


@dataclass(frozen=True, slots=True)
class IssueInfo:
    """EF0015 发行基本信息 (43 bytes; domain.md §1.3)."""

    issuer: str
    """8 bytes as 16 hex digits, e.g. B8CACBE062010001."""
    card_kind: int
    """22 or 23 (`CardKind`); any other byte is kept as it is."""
    card_version: int
    network: str
    """4 BCD digits, e.g. 6201."""
    card_number: str
    """16 BCD digits. The 20-digit card id of records is network + card_number."""
    valid_from: str
    """yyyymmdd"""
    valid_to: str
    """yyyymmdd"""
    plate: str
    user_type: int
    plate_colour: int
    vehicle_type: int

    @property
    def card_id(self) -> str:
        return self.network + self.card_number


@dataclass(frozen=True, slots=True)
class TollInfo:
    """EF0019 record 1, layout of 2019 (43 bytes; domain.md §1.4)."""

    station_hex: str
    """8 hex digits: network + station."""
    lane_no: int
    """The lane byte; lane Hex is station_hex + 2 hex digits of it."""
    at_s: int
    """Entry (or exit) time, seconds since 1970 UTC."""
    vehicle_type: int
    status: int
    """入出口状态: 1, 3, 10 are entries (domain.md §1.4)."""
    gantry_hex: str
    """6 hex digits; 000000 = no gantry yet."""
    gantry_at_s: int
    plate: str
    plate_colour: int
    axle_count: int
    weight_kg: int
    vehicle_status: int
    """车辆状态标识; 255 = default."""
    accumulated_fen: int
    """累计金额. What lanes and gantries put here is uncertain (domain.md §12.1)."""
    lock: int = 0


@dataclass(frozen=True, slots=True)
class ObuSystemInfo:
    """OBU MF/EF01 (27 bytes; domain.md §3.2)."""

    issuer: str
    contract_type: int
    contract_version: int
    contract_serial: str
    """16 hex digits: the OBU id."""
    valid_from: str
    valid_to: str
    is_installed: bool
    """Removal byte 01 in the ESAM file (the RSU's status bit is the opposite: §12.2)."""


@dataclass(frozen=True, slots=True)
class ObuVehicleInfo:
    """OBU DF01/EF01 (79 bytes plain; domain.md §3.3), the fields a lane needs."""

    plate: str
    plate_colour: int
    vehicle_type: int
    user_type: int
    axle_count: int | None
    """None for trucks: their file has no axle count."""


@dataclass(frozen=True, slots=True)
class GantryTotals:
    """OBU DF01/EF04 累计信息 (91 bytes; domain.md §3.4), the fields a lane needs."""

    entry: TollInfo
    """The copy's 39 bytes; accumulated_fen is 0 (the copy ends before it)."""
    entry_prefix: str
    """AA2900 normal, BB2900 entry without card, CC2900 gantry wrote the entry."""
    card_network: str
    card_number: str
    province_count: int
    due_fen: int
    """应收"""
    paid_fen: int
    """实收: after discount."""
    success_count: int
    mileage_m: int
    no_card_count: int


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that one reading of the user card yields."""

    issue: IssueInfo
    toll: TollInfo | None
    """None if record 1 of 0019 is blank or unreadable as one."""
    toll_hex: str
    """The 43 raw bytes, for the auditor."""
    balance: int
    """Fen, unsigned. A 记账卡's is a virtual purse near 2^31 or 2^32 (domain.md §0.1-7)."""


@dataclass(frozen=True, slots=True)
class TagFacts:
    """All that one reading of the OBU yields."""

    system: ObuSystemInfo
    vehicle: ObuVehicleInfo
    totals: GantryTotals | None
    """None if EF04 could not be read."""

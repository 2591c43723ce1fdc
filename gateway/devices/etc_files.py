"""Files of the ETC card and the OBU ⇄ values. No I/O, no rules.

Layouts: domain.md §1.3 (0015), §1.4 (0019), §3.2–3.4 (OBU). Vectors in tests/devices/.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from gateway.errors import DeviceGarbled

ISSUE_LENGTHS = (43, 50)  # the newest variant has 7 more bytes nobody documents (domain.md §12.21)
TOLL_LENGTH = 43
DETAIL_LENGTH = 23
SYSTEM_LENGTHS = (27, 99)
VEHICLE_LENGTHS = (59, 79)
TOTALS_LENGTH = 91
TRUCK_FROM = 0x0A
"""Vehicle type bytes from here on have the truck layout (domain.md §3.3)."""
NO_GANTRY = "000000"
TOLL_TAG = b"\xaa\x29"
ENTRY_PREFIXES = (b"\xaa\x29", b"\xbb\x29", b"\xcc\x29")


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
class DebitDetail:
    """One record of EF0018, what the card itself noted of a debit (23 bytes; domain.md §1.2)."""

    card_seq: int
    """Before the debit or behind it: card families differ (domain.md §12.5)."""
    amount_fen: int
    kind: int
    """交易类型: 9 is 复合消费."""
    terminal_no: str
    """12 hex digits."""
    at: str
    """yyyymmddHHMMSS, as the terminal said it."""


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


# ---- EF0015 ---------------------------------------------------------------------------------


def decode_issue(raw: bytes) -> IssueInfo:
    """EF0015, 43 or 50 bytes → values. Raises: DeviceGarbled. Source: domain.md §1.3."""
    _check_length(raw, ISSUE_LENGTHS, "卡片发行信息")
    return IssueInfo(
        issuer=_hex(raw[0:8]),
        card_kind=raw[8],
        card_version=raw[9],
        network=_bcd(raw[10:12], "卡网络编号"),
        card_number=_bcd(raw[12:20], "卡号"),
        valid_from=_bcd(raw[20:24], "卡启用日期"),
        valid_to=_bcd(raw[24:28], "卡到期日期"),
        plate=_plate(raw[28:40], "卡内车牌"),
        user_type=raw[40],
        plate_colour=raw[41],
        vehicle_type=raw[42],
    )


def encode_issue(issue: IssueInfo) -> bytes:
    """43 bytes of EF0015. Raises: ValueError, if a field does not fit."""
    return _joined(
        TOLL_LENGTH,
        bytes.fromhex(issue.issuer),
        bytes([issue.card_kind, issue.card_version]),
        bytes.fromhex(issue.network + issue.card_number + issue.valid_from + issue.valid_to),
        _plate_bytes(issue.plate),
        bytes([issue.user_type, issue.plate_colour, issue.vehicle_type]),
    )


# ---- EF0019 ---------------------------------------------------------------------------------


def is_blank_toll(raw: bytes) -> bool:
    """Whether record 1 holds no trip: nothing but 00 or FF after its head, as issued."""
    return not raw[3:].strip(b"\x00") or not raw[3:].strip(b"\xff")


def decode_toll(raw: bytes) -> TollInfo:
    """EF0019 record 1, 43 bytes → values. Raises: DeviceGarbled. Source: domain.md §1.4."""
    _check_length(raw, (TOLL_LENGTH,), "入口信息")
    if raw[:2] != TOLL_TAG:
        raise DeviceGarbled(f"入口信息的标识是 {_hex(raw[:2])}，应为 AA29")
    _bcd(raw[3:5], "路网号")
    return replace(_trip(raw), accumulated_fen=int.from_bytes(raw[39:43]))


def encode_toll(toll: TollInfo) -> bytes:
    """43 bytes of EF0019 record 1. Raises: ValueError, OverflowError, if a field does not fit."""
    head = TOLL_TAG + bytes([toll.lock])
    return _joined(TOLL_LENGTH, head, _trip_bytes(toll), toll.accumulated_fen.to_bytes(4))


def exit_record(
    entry: TollInfo, station_hex: str, lane_no: int, at_s: int, status: int
) -> TollInfo:
    """What the exit writes over the entry: gantry and accumulated amount zeroed, rest kept.

    Args: at_s: exit time, seconds since 1970 UTC. status: 2 mixed exit, 4 ETC exit.
    Source: domain.md §1.4, last paragraph (marked b M there, §12.8).
    """
    return replace(
        entry,
        station_hex=station_hex.upper(),
        lane_no=lane_no,
        at_s=at_s,
        status=status,
        gantry_hex=NO_GANTRY,
        gantry_at_s=0,
        accumulated_fen=0,
    )


def _trip(raw: bytes) -> TollInfo:
    """Bytes 2..38, which record 1 and its copy in the OBU share."""
    return TollInfo(
        lock=raw[2],
        station_hex=_hex(raw[3:7]),
        lane_no=raw[7],
        at_s=int.from_bytes(raw[8:12]),
        vehicle_type=raw[12],
        status=raw[13],
        gantry_hex=_hex(raw[14:17]),
        gantry_at_s=int.from_bytes(raw[17:21]),
        plate=_plate(raw[21:33], "入口车牌"),
        plate_colour=raw[33],
        axle_count=raw[34],
        weight_kg=int.from_bytes(raw[35:38]),
        vehicle_status=raw[38],
        accumulated_fen=0,
    )


def _trip_bytes(toll: TollInfo) -> bytes:
    return _joined(
        36,
        bytes.fromhex(toll.station_hex),
        bytes([toll.lane_no]),
        toll.at_s.to_bytes(4),
        bytes([toll.vehicle_type, toll.status]),
        bytes.fromhex(toll.gantry_hex),
        toll.gantry_at_s.to_bytes(4),
        _plate_bytes(toll.plate),
        bytes([toll.plate_colour, toll.axle_count]),
        toll.weight_kg.to_bytes(3),
        bytes([toll.vehicle_status]),
    )


# ---- EF0018 ---------------------------------------------------------------------------------


def decode_detail(raw: bytes) -> DebitDetail | None:
    """A record of EF0018, 23 bytes → values; None of a blank one.

    Raises: DeviceGarbled. Source: domain.md §1.2.
    """
    _check_length(raw, (DETAIL_LENGTH,), "卡片交易明细")
    if not raw.strip(b"\x00") or not raw.strip(b"\xff"):
        return None
    return DebitDetail(
        card_seq=int.from_bytes(raw[0:2]),
        amount_fen=int.from_bytes(raw[5:9]),
        kind=raw[9],
        terminal_no=_hex(raw[10:16]),
        at=_hex(raw[16:23]),
    )


# ---- OBU ------------------------------------------------------------------------------------


def decode_obu_system(raw: bytes) -> ObuSystemInfo:
    """OBU MF/EF01, 27 or 99 bytes → values. Raises: DeviceGarbled. Source: domain.md §3.2."""
    _check_length(raw, SYSTEM_LENGTHS, "标签系统信息")
    return ObuSystemInfo(
        issuer=_hex(raw[0:8]),
        contract_type=raw[8],
        contract_version=raw[9],
        contract_serial=_hex(raw[10:18]),
        valid_from=_bcd(raw[18:22], "标签签署日期"),
        valid_to=_bcd(raw[22:26], "标签到期日期"),
        is_installed=raw[26] == 1,
    )


def encode_obu_system(system: ObuSystemInfo) -> bytes:
    """27 bytes of OBU MF/EF01. Raises: ValueError, if a field does not fit."""
    return _joined(
        SYSTEM_LENGTHS[0],
        bytes.fromhex(system.issuer),
        bytes([system.contract_type, system.contract_version]),
        bytes.fromhex(system.contract_serial + system.valid_from + system.valid_to),
        bytes([system.is_installed]),
    )


def decode_vehicle(raw: bytes) -> ObuVehicleInfo:
    """OBU DF01/EF01 in plain, 59 or 79 bytes, either layout → values.

    Raises: DeviceGarbled. Source: domain.md §3.3.
    """
    _check_length(raw, VEHICLE_LENGTHS, "标签车辆信息")
    return ObuVehicleInfo(
        plate=_plate(raw[0:12], "标签内车牌"),
        plate_colour=int.from_bytes(raw[12:14]),
        vehicle_type=raw[14],
        user_type=raw[15],
        axle_count=raw[21] if raw[14] < TRUCK_FROM else None,
    )


def encode_vehicle(vehicle: ObuVehicleInfo) -> bytes:
    """79 bytes of OBU DF01/EF01; what `ObuVehicleInfo` does not hold is zero.

    Raises: ValueError, OverflowError, if a field does not fit.
    """
    head = _joined(
        16,
        _plate_bytes(vehicle.plate),
        vehicle.plate_colour.to_bytes(2),
        bytes([vehicle.vehicle_type, vehicle.user_type]),
    )
    if vehicle.vehicle_type >= TRUCK_FROM or vehicle.axle_count is None:
        return head.ljust(79, b"\x00")
    return (head + bytes(5) + bytes([vehicle.axle_count])).ljust(79, b"\x00")


def decode_totals(raw: bytes) -> GantryTotals:
    """The 91 bytes at offset 314 of OBU DF01/EF04 → values.

    Raises: DeviceGarbled. Source: domain.md §3.4.
    """
    _check_length(raw, (TOTALS_LENGTH,), "标签累计信息")
    if raw[:2] not in ENTRY_PREFIXES:
        raise DeviceGarbled(f"标签累计信息的标识是 {_hex(raw[:3])}，应为 AA2900、BB2900 或 CC2900")
    return GantryTotals(
        entry=_trip(raw[:39]),
        entry_prefix=_hex(raw[:3]),
        card_network=_hex(raw[49:51]),
        card_number=_hex(raw[51:59]),
        province_count=raw[60],
        due_fen=int.from_bytes(raw[61:64]),
        paid_fen=int.from_bytes(raw[64:67]),
        success_count=int.from_bytes(raw[67:69]),
        mileage_m=int.from_bytes(raw[69:72]),
        no_card_count=raw[72],
    )


def encode_totals(totals: GantryTotals, issuer: str = "0" * 16, card_kind: int = 0) -> bytes:
    """91 bytes for OBU DF01/EF04; province part and digest are zero.

    Args: issuer, card_kind: of the card whose identity is copied (EF0015 bytes 0..8).
    Raises: ValueError, OverflowError, if a field does not fit.
    """
    return _joined(
        73,
        bytes.fromhex(totals.entry_prefix),
        _trip_bytes(totals.entry),
        bytes.fromhex(issuer) + bytes([card_kind, 0]),
        bytes.fromhex(totals.card_network + totals.card_number),
        bytes([0, totals.province_count]),
        totals.due_fen.to_bytes(3) + totals.paid_fen.to_bytes(3),
        totals.success_count.to_bytes(2) + totals.mileage_m.to_bytes(3),
        bytes([totals.no_card_count]),
    ).ljust(TOTALS_LENGTH, b"\x00")


# ---- pieces ---------------------------------------------------------------------------------


def _check_length(raw: bytes, allowed: tuple[int, ...], name: str) -> None:
    if len(raw) not in allowed:
        wanted = "或 ".join(f"{length} " for length in allowed)
        raise DeviceGarbled(f"{name}有 {len(raw)} 字节，应为 {wanted}字节")


def _joined(length: int, *parts: bytes) -> bytes:
    whole = b"".join(parts)
    if len(whole) != length:
        raise ValueError(f"fields make {len(whole)} bytes, want {length}")
    return whole


def _hex(raw: bytes) -> str:
    return raw.hex().upper()


def _bcd(raw: bytes, name: str) -> str:
    digits = raw.hex()
    if not digits.isdecimal():
        raise DeviceGarbled(f"{name}不是十进制数字：{digits.upper()}")
    return digits


def _plate(raw: bytes, name: str) -> str:
    """GBK up to the first zero; blank files (all FF) have no plate."""
    text = b"" if raw == b"\xff" * 12 else raw.split(b"\x00", 1)[0]
    try:
        plate = text.decode("gbk")
    except UnicodeDecodeError:
        raise DeviceGarbled(f"{name}不是汉字编码：{_hex(raw)}") from None
    if not plate.isprintable():
        raise DeviceGarbled(f"{name}有不可显示的字符：{_hex(raw)}")
    return plate


def _plate_bytes(plate: str) -> bytes:
    raw = plate.encode("gbk")
    if len(raw) > 12:
        raise ValueError(f"plate {plate} is {len(raw)} bytes in GBK, 12 fit")
    return raw.ljust(12, b"\x00")

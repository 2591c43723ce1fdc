"""Files of card and OBU: the vectors of domain.md byte for byte, round trips, garbage."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.devices.etc_files import (
    DebitDetail,
    GantryTotals,
    IssueInfo,
    ObuSystemInfo,
    ObuVehicleInfo,
    TollInfo,
    decode_detail,
    decode_issue,
    decode_obu_system,
    decode_toll,
    decode_totals,
    decode_vehicle,
    encode_issue,
    encode_obu_system,
    encode_toll,
    encode_totals,
    encode_vehicle,
    exit_record,
    is_blank_toll,
)
from gateway.errors import DeviceGarbled
from gateway.units import BEIJING

ISSUE_HEX = "B8CACBE0620100011740620120452300001234562020110220301101B8CA41313233343500000000000001"
ISSUE = IssueInfo(
    issuer="B8CACBE062010001",
    card_kind=23,
    card_version=0x40,
    network="6201",
    card_number="2045230000123456",
    valid_from="20201102",
    valid_to="20301101",
    plate="甘A12345",
    user_type=0,
    plate_colour=0,
    vehicle_type=1,
)
ENTRY_HEX = "AA290062010A12035FAB3E98010362A1035FAB421CB8CA413132333435000000000002000000FF000004E2"
ENTRY = TollInfo(
    station_hex="62010A12",
    lane_no=3,
    at_s=int(datetime(2020, 11, 11, 9, 30, tzinfo=BEIJING).timestamp()),
    vehicle_type=1,
    status=3,
    gantry_hex="62A103",
    gantry_at_s=int(datetime(2020, 11, 11, 9, 45, tzinfo=BEIJING).timestamp()),
    plate="甘A12345",
    plate_colour=0,
    axle_count=2,
    weight_kg=0,
    vehicle_status=0xFF,
    accumulated_fen=1250,
)
EXIT_HEX = "AA290062010B31155FAB4CA8010400000000000000B8CA413132333435000000000002000000FF00000000"
SYSTEM = ObuSystemInfo(
    "B8CACBE062010001", 0, 0x40, "6201012145230123", "20201102", "20301101", True
)
CAR = ObuVehicleInfo("京A12345", 0, 1, 0, 2)
TOTALS = GantryTotals(
    entry=replace(ENTRY, accumulated_fen=0),
    entry_prefix="AA2900",
    card_network="6201",
    card_number="2045230000123456",
    province_count=2,
    due_fen=9274,
    paid_fen=8810,
    success_count=11,
    mileage_m=95_000,
    no_card_count=0,
)


# ---- vectors --------------------------------------------------------------------------------


def test_the_issue_info_vector_decodes_and_encodes() -> None:
    assert decode_issue(bytes.fromhex(ISSUE_HEX)) == ISSUE
    assert encode_issue(ISSUE).hex().upper() == ISSUE_HEX
    assert ISSUE.card_id == "62012045230000123456"


def test_the_50_byte_issue_info_has_the_same_fields() -> None:
    assert decode_issue(bytes.fromhex(ISSUE_HEX) + bytes(7)) == ISSUE


def test_the_entry_record_vector_decodes_and_encodes() -> None:
    assert decode_toll(bytes.fromhex(ENTRY_HEX)) == ENTRY
    assert encode_toll(ENTRY).hex().upper() == ENTRY_HEX


def test_the_exit_record_vector_follows_from_the_entry() -> None:
    at_s = int(datetime(2020, 11, 11, 10, 30, tzinfo=BEIJING).timestamp())
    assert encode_toll(exit_record(ENTRY, "62010b31", 0x15, at_s, 4)).hex().upper() == EXIT_HEX


def test_a_plate_is_gbk_padded_with_zeros() -> None:
    assert encode_vehicle(CAR)[:12].hex().upper() == "BEA941313233343500000000"


def test_a_new_energy_plate_of_eight_characters_fits() -> None:
    green = replace(CAR, plate="甘AD12345", plate_colour=4)
    raw = encode_vehicle(green)
    assert raw[12:14] == b"\x00\x04"
    assert decode_vehicle(raw) == green


def test_the_system_file_decodes_from_27_and_from_99_bytes() -> None:
    raw = encode_obu_system(SYSTEM)
    assert len(raw) == 27
    assert decode_obu_system(raw) == decode_obu_system(raw.ljust(99, b"\x00")) == SYSTEM


@pytest.mark.parametrize(("byte", "is_installed"), [(1, True), (0, False), (2, False)])
def test_only_a_removal_byte_of_one_means_installed(byte: int, is_installed: bool) -> None:
    raw = encode_obu_system(SYSTEM)[:26] + bytes([byte])
    assert decode_obu_system(raw).is_installed is is_installed


def test_a_car_has_its_axles_in_the_old_59_bytes_too() -> None:
    assert decode_vehicle(encode_vehicle(CAR)[:59]) == CAR


@pytest.mark.parametrize("vehicle_type", [0x0B, 0x10, 0x15, 0x1A])
def test_a_truck_file_has_no_axle_count(vehicle_type: int) -> None:
    truck = ObuVehicleInfo("甘B54321", 1, vehicle_type, 27, None)
    raw = bytearray(encode_vehicle(truck))
    raw[16:32] = bytes.fromhex("2EE009C40FA0 0061A8 003A98 00BF68 02".replace(" ", ""))
    assert decode_vehicle(bytes(raw)) == truck


def test_the_totals_block_has_its_fields_where_the_document_says() -> None:
    raw = encode_totals(TOTALS, ISSUE.issuer, ISSUE.card_kind)
    assert len(raw) == 91
    assert raw[:39].hex().upper() == ENTRY_HEX[:78]
    assert raw[39:48].hex().upper() == "B8CACBE06201000117"
    assert raw[49:59].hex() == "62012045230000123456"
    assert (raw[60], raw[61:64], raw[64:67]) == (2, (9274).to_bytes(3), (8810).to_bytes(3))
    assert (raw[67:69], raw[69:72], raw[72]) == ((11).to_bytes(2), (95_000).to_bytes(3), 0)
    assert decode_totals(raw) == TOTALS


@pytest.mark.parametrize("prefix", ["AA2900", "BB2900", "CC2900"])
def test_the_prefix_of_the_entry_copy_is_kept(prefix: str) -> None:
    totals = replace(TOTALS, entry_prefix=prefix)
    assert decode_totals(encode_totals(totals)) == totals


@pytest.mark.parametrize(
    "raw", [bytes.fromhex("AA2900") + bytes(40), bytes(43), b"\xaa\x29\x00" + b"\xff" * 40]
)
def test_a_record_as_issued_is_blank(raw: bytes) -> None:
    assert is_blank_toll(raw)


def test_a_record_with_a_trip_is_not_blank() -> None:
    assert not is_blank_toll(bytes.fromhex(ENTRY_HEX))


# ---- round trips ----------------------------------------------------------------------------

byte = st.integers(0, 255)
plates = st.text("京甘沪粤ABCXYZ0123456789学警临", max_size=6)


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=count, max_size=count)


def hexes(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789ABCDEF", min_size=count, max_size=count)


issues = st.builds(
    IssueInfo,
    issuer=hexes(16),
    card_kind=byte,
    card_version=byte,
    network=digits(4),
    card_number=digits(16),
    valid_from=digits(8),
    valid_to=digits(8),
    plate=plates,
    user_type=byte,
    plate_colour=byte,
    vehicle_type=byte,
)
tolls = st.builds(
    TollInfo,
    station_hex=st.tuples(digits(4), hexes(4)).map("".join),
    lane_no=byte,
    at_s=st.integers(0, 2**32 - 1),
    vehicle_type=byte,
    status=byte,
    gantry_hex=hexes(6),
    gantry_at_s=st.integers(0, 2**32 - 1),
    plate=plates,
    plate_colour=byte,
    axle_count=byte,
    weight_kg=st.integers(0, 2**24 - 1),
    vehicle_status=byte,
    accumulated_fen=st.integers(0, 2**32 - 1),
    lock=byte,
)
systems = st.builds(
    ObuSystemInfo, hexes(16), byte, byte, hexes(16), digits(8), digits(8), st.booleans()
)


@given(issues)
def test_issue_info_survives_the_round_trip(issue: IssueInfo) -> None:
    assert decode_issue(encode_issue(issue)) == issue


@given(tolls)
def test_toll_info_survives_the_round_trip(toll: TollInfo) -> None:
    assert decode_toll(encode_toll(toll)) == toll


@given(systems)
def test_obu_system_info_survives_the_round_trip(system: ObuSystemInfo) -> None:
    assert decode_obu_system(encode_obu_system(system)) == system


@given(plates, st.integers(0, 0xFFFF), byte, byte, byte)
def test_vehicle_info_survives_the_round_trip(
    plate: str, colour: int, vehicle_type: int, user_type: int, axles: int
) -> None:
    axle_count = axles if vehicle_type < 0x0A else None
    vehicle = ObuVehicleInfo(plate, colour, vehicle_type, user_type, axle_count)
    assert decode_vehicle(encode_vehicle(vehicle)) == vehicle


@given(tolls, hexes(20), byte, st.integers(0, 2**24 - 1), st.integers(0, 0xFFFF))
def test_totals_survive_the_round_trip(
    toll: TollInfo, card: str, count: int, large: int, small: int
) -> None:
    entry = replace(toll, accumulated_fen=0, lock=0)
    totals = GantryTotals(
        entry, "AA2900", card[:4], card[4:], count, large, large, small, large, count
    )
    assert decode_totals(encode_totals(totals)) == totals


# ---- garbage --------------------------------------------------------------------------------

DECODERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (decode_issue, bytes.fromhex(ISSUE_HEX)),
    (decode_toll, bytes.fromhex(ENTRY_HEX)),
    (decode_obu_system, encode_obu_system(SYSTEM)),
    (decode_vehicle, encode_vehicle(CAR)),
    (decode_totals, encode_totals(TOTALS)),
    (decode_detail, bytes.fromhex("004C00000000000E1A090162000012AB20201111103000")),
]
ALLOWED = {23, 27, 43, 50, 59, 79, 91, 99}


@pytest.mark.parametrize(("decode", "good"), DECODERS)
def test_a_truncated_file_is_garbled_and_says_so_in_chinese(
    decode: Callable[[bytes], object], good: bytes
) -> None:
    for length in set(range(len(good))) - ALLOWED:
        with pytest.raises(DeviceGarbled, match=f"{length} 字节，应为") as fault:
            decode(good[:length])
        assert any("\u4e00" <= char <= "\u9fff" for char in fault.value.detail)


@pytest.mark.parametrize(("decode", "_"), DECODERS)
@settings(deadline=None)
@given(st.data())
def test_garbage_is_either_a_value_or_garbled_never_another_fault(
    decode: Callable[[bytes], object], _: bytes, data: st.DataObject
) -> None:
    raw = data.draw(
        st.one_of(
            st.binary(max_size=100), *(st.binary(min_size=n, max_size=n) for n in sorted(ALLOWED))
        )
    )
    with suppress(DeviceGarbled):
        decode(raw)


@pytest.mark.parametrize(
    ("at", "name"), [(10, "卡网络编号"), (12, "卡号"), (20, "卡启用日期"), (24, "卡到期日期")]
)
def test_a_number_that_is_not_decimal_is_garbled(at: int, name: str) -> None:
    raw = bytearray.fromhex(ISSUE_HEX)
    raw[at] = 0xFA
    with pytest.raises(DeviceGarbled, match=name):
        decode_issue(bytes(raw))


def test_a_note_of_a_debit_names_terminal_moment_and_amount() -> None:
    """The debit of domain.md §1.7's own vector, as 0018 has it (§1.2)."""
    raw = bytes.fromhex("004C00000000000E1A090162000012AB20201111103000")
    assert decode_detail(raw) == DebitDetail(0x4C, 3610, 9, "0162000012AB", "20201111103000")
    assert decode_detail(bytes(23)) is decode_detail(b"\xff" * 23) is None


def test_a_plate_that_is_not_gbk_is_garbled() -> None:
    raw = bytearray.fromhex(ISSUE_HEX)
    raw[28:40] = b"\xff\x31" * 6
    with pytest.raises(DeviceGarbled, match="卡内车牌不是汉字编码"):
        decode_issue(bytes(raw))


def test_a_plate_with_control_characters_is_garbled() -> None:
    raw = bytearray.fromhex(ISSUE_HEX)
    raw[30] = 0x07
    with pytest.raises(DeviceGarbled, match="不可显示"):
        decode_issue(bytes(raw))


@pytest.mark.parametrize("head", ["AB29", "AA28", "0000", "FFFF"])
def test_a_toll_record_with_another_tag_is_garbled(head: str) -> None:
    with pytest.raises(DeviceGarbled, match=f"标识是 {head}"):
        decode_toll(bytes.fromhex(head + ENTRY_HEX[4:]))


def test_a_station_whose_network_is_not_decimal_is_garbled() -> None:
    with pytest.raises(DeviceGarbled, match="路网号"):
        decode_toll(bytes.fromhex(ENTRY_HEX.replace("62010A12", "6F010A12")))


def test_a_blank_totals_block_is_garbled() -> None:
    with pytest.raises(DeviceGarbled, match="AA2900"):
        decode_totals(bytes(91))


def test_a_plate_too_long_for_its_field_is_refused_by_the_encoder() -> None:
    with pytest.raises(ValueError, match="12 fit"):
        encode_issue(replace(ISSUE, plate="甘甘甘甘甘甘甘"))

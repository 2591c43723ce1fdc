"""Commands byte for byte as in domain.md §1.5, §1.7, §2; status words; T=0 manners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devices import apdu
from gateway.devices.apdu import StatusWord
from gateway.devices.ports import Answer
from gateway.errors import CardRefused, DeviceGarbled

TERMINAL = bytes.fromhex("0162000012AB")
COMMANDS = [
    (apdu.read_binary(0x15, 43), "00B095002B"),
    (apdu.read_record(0x19, 1, 43), "00B201CC2B"),
    (apdu.read_record(0x18, 2, 23), "00B202C417"),
    (apdu.get_balance(), "805C000204"),
    (apdu.select(apdu.DF_ETC), "00A4000002100100"),
    (apdu.init_purchase(3610, TERMINAL), "805003020B0100000E1A0162000012AB0F"),
    (
        apdu.debit(0x183713, "20201111103000", bytes.fromhex("832BD9E9")),
        "805401000F0018371320201111103000832BD9E908",
    ),
    (apdu.get_proof(0x004D), "805A000902004D08"),
    (apdu.psam_check_mac2(bytes.fromhex("87D05C35")), "807200000487D05C35"),
    (apdu.read_binary(0x16, 6), "00B0960006"),
    (apdu.read_binary(0x17, 25), "00B0970019"),
    (apdu.select_quietly(apdu.EF_TOTALS), "00A4000002EF04"),
    (apdu.read_at(314, 91), "00B0013A5B"),
    (apdu.read_vehicle(bytes(range(8)), 59), "00B400000A00010203040506073B0000"),
    (
        apdu.psam_deliver_key(bytes.fromhex("6201012145230123"), bytes.fromhex("B8CACBE0")),
        "801A5903106201012145230123B8CACBE0B8CACBE0",
    ),
]


@pytest.mark.parametrize(("command", "wanted"), COMMANDS)
def test_a_command_is_byte_for_byte_the_documented_one(command: bytes, wanted: str) -> None:
    assert command.hex().upper() == wanted


def test_toll_update_carries_the_whole_record() -> None:
    record = bytes.fromhex("AA2900") + bytes(40)
    assert apdu.update_toll(record) == bytes.fromhex("80DCAAC82B") + record


@pytest.mark.parametrize("length", [0, 42, 44])
def test_a_toll_record_of_another_length_is_never_sent(length: int) -> None:
    with pytest.raises(ValueError, match="toll record"):
        apdu.update_toll(bytes(length))


@pytest.mark.parametrize("amount_fen", [-1, 2**32])
def test_an_amount_that_does_not_fit_is_never_sent(amount_fen: int) -> None:
    with pytest.raises(OverflowError):
        apdu.init_purchase(amount_fen, TERMINAL)


def test_expect_gives_the_data_of_a_good_answer() -> None:
    assert apdu.expect(Answer(b"\x01\x02", 0x9000), "读", 2) == b"\x01\x02"


def test_a_refusal_says_command_word_and_meaning_in_chinese() -> None:
    with pytest.raises(CardRefused, match="复合消费初始化被拒绝：金额不足（SW=9401）") as refused:
        apdu.expect(Answer(b"", 0x9401), "复合消费初始化")
    assert refused.value.sw == StatusWord.AMOUNT_SHORT


def test_a_good_answer_of_the_wrong_length_is_garbled() -> None:
    with pytest.raises(DeviceGarbled, match="3 字节，应为 4 字节"):
        apdu.expect(Answer(bytes(3), 0x9000), "读余额", 4)


@pytest.mark.parametrize(
    ("sw", "wanted"), [(0x9302, "MAC 不对"), (0x63C2, "还可试 2 次"), (0x1234, "未知的状态字")]
)
def test_every_status_word_has_a_chinese_meaning(sw: int, wanted: str) -> None:
    assert wanted in apdu.meaning(sw)


@pytest.mark.parametrize("sw", [0x6985, 0x9302, 0x9401, 0x6700, 0x6400, 0x6D00, 0x9303])
def test_a_clear_refusal_proves_that_nothing_happened(sw: int) -> None:
    assert apdu.proves_nothing_happened(sw)


@pytest.mark.parametrize("sw", [0x6581, 0x6281, 0x6300, 0x63C1, 0x6F00, 0x6F42, 0x1234, 0x61FF])
def test_an_ambiguous_word_proves_nothing(sw: int) -> None:
    assert not apdu.proves_nothing_happened(sw)


def test_t0_leaves_the_le_of_a_case_4_command_at_home() -> None:
    assert apdu.t0_form(bytes.fromhex("805A000902004D08")).hex() == "805a000902004d"


@pytest.mark.parametrize("command", ["00B095002B", "807200000487D05C35", "00840000"])
def test_t0_leaves_other_commands_alone(command: str) -> None:
    assert apdu.t0_form(bytes.fromhex(command)).hex().upper() == command


def test_61xx_is_answered_with_get_response() -> None:
    assert apdu.t0_next(bytes.fromhex("805A000902004D"), 0x6108) == bytes.fromhex("00C0000008")


def test_6cxx_repeats_a_read_with_the_right_length() -> None:
    assert apdu.t0_next(bytes.fromhex("00B0950032"), 0x6C2B) == bytes.fromhex("00B095002B")


@given(st.binary(min_size=1, max_size=60), st.integers(0, 0xFF))
def test_a_command_with_data_is_never_repeated_by_the_link(data: bytes, low: int) -> None:
    command = b"\x80\x54\x01\x00" + bytes([len(data)]) + data
    assert apdu.t0_next(command, 0x6C00 | low) is None

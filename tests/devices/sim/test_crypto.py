"""Published examples and the end-to-end vectors of domain.md §1.7 and §1.8, byte for byte."""

import pytest

from gateway.devices.sim import crypto
from gateway.devices.sim.crypto import SM4, TRIPLE_DES

DPK = bytes.fromhex("11223344556677888877665544332211")
AT = bytes.fromhex("20201111103000")
TERMINAL = bytes.fromhex("0162000012AB")
REGION = bytes.fromhex("B8CACBE0")
NUMBER = bytes.fromhex("2045230000123456")
RANDOM = bytes.fromhex("A1B2C3D4")
BOTH = pytest.mark.parametrize("suite", [TRIPLE_DES, SM4], ids=["3des", "sm4"])


def upper(value: bytes) -> str:
    return value.hex().upper()


def test_the_published_purchase_example() -> None:
    session = TRIPLE_DES.session_key(DPK, bytes.fromhex("11223344"), 0, 1)
    assert upper(session) == "003238ABC57659DD"
    terminal = bytes.fromhex("001122334455")
    mac1 = TRIPLE_DES.mac1(session, 0x1000, 6, terminal, bytes.fromhex("20120229135100"))
    assert upper(mac1) == "F15CAB75"
    assert upper(TRIPLE_DES.mac2(session, 0x1000)) == "56988A13"


def test_the_published_load_example() -> None:
    session = TRIPLE_DES.encipher(DPK, bytes.fromhex("1122334400008000"))
    assert upper(session) == "9B1D924E05595603"
    body = bytes.fromhex("000000000000100001001122334455")
    assert upper(TRIPLE_DES.mac(session, body)) == "2988AE5A"
    body = bytes.fromhex("000010000100112233445520111221214822")
    assert upper(TRIPLE_DES.mac(session, body)) == "3A845BF0"


def test_sm4_is_the_cipher_of_the_standard() -> None:
    """GB/T 32907, the standard's own example."""
    plain = key = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
    assert upper(SM4.encipher(key, plain)) == "681EDF34D206965E86B3E94F536E4246"


@pytest.mark.parametrize(
    ("suite", "level1_purchase", "level1_tac", "card", "tac"),
    [
        (
            TRIPLE_DES,
            "DC1C8C8422404F2B58FF83D6A1319B98",
            "A7007C295ECE646723E3737BDDBFB0D4",
            "A3EA4C37AEB6CDA8B0CC819E7C7DD328",
            "12780E8AC189FFC9C847EE9E194C60FE",
        ),
        (
            SM4,
            None,
            None,
            "37D76E1CC8346C7A07DB3D00B99C5195",
            "96A1F07C0D00F61A3976FD2829766696",
        ),
    ],
    ids=["3des", "sm4"],
)
def test_keys_are_diversified_by_region_then_number(
    suite: crypto.Suite, level1_purchase: str | None, level1_tac: str | None, card: str, tac: str
) -> None:
    keys = crypto.DEMO_KEYS
    if level1_purchase:
        assert upper(suite.diversify(keys.purchase, REGION * 2)) == level1_purchase
        assert upper(suite.diversify(keys.tac, REGION * 2)) == level1_tac
    assert upper(suite.card_key(keys.purchase, REGION, NUMBER)) == card
    assert upper(suite.card_key(keys.tac, REGION, NUMBER)) == tac


@pytest.mark.parametrize(
    ("suite", "session", "mac1", "mac2", "tac"),
    [
        (TRIPLE_DES, "C9EDB6A3C5F6204A", "832BD9E9", "87D05C35", "E5383359"),
        (SM4, "C4D58057676070DC7099CD9E333B0E72", "D20C3D12", "7D4C30B0", "480940AE"),
    ],
    ids=["3des", "sm4"],
)
def test_the_end_to_end_vector(
    suite: crypto.Suite, session: str, mac1: str, mac2: str, tac: str
) -> None:
    key = suite.card_key(crypto.DEMO_KEYS.purchase, REGION, NUMBER)
    sespk = suite.session_key(key, RANDOM, 0x4C, 0x183713)
    assert upper(sespk) == session
    assert upper(suite.mac1(sespk, 3610, 9, TERMINAL, AT)) == mac1
    assert upper(suite.mac2(sespk, 3610)) == mac2
    tac_key = suite.card_key(crypto.DEMO_KEYS.tac, REGION, NUMBER)
    assert upper(suite.tac(tac_key, 3610, 9, TERMINAL, bytes.fromhex("00183713") + AT)) == tac


@BOTH
def test_padding_always_adds_at_least_one_byte(suite: crypto.Suite) -> None:
    size = suite.block
    assert suite.pad(bytes(size)) == bytes(size) + b"\x80" + bytes(size - 1)
    assert suite.pad(bytes(size - 1)) == bytes(size - 1) + b"\x80"


@BOTH
def test_what_is_enciphered_can_be_deciphered(suite: crypto.Suite) -> None:
    key = crypto.DEMO_KEYS.vehicle
    assert suite.decipher(key, suite.encipher(key, b"0123456789ABCDEF")) == b"0123456789ABCDEF"


def test_the_algorithm_byte_tells_them_apart() -> None:
    assert {name: suite.wire for name, suite in crypto.SUITES.items()} == {"3des": 0, "sm4": 4}
    assert all(suite.name == name for name, suite in crypto.SUITES.items())

"""The published worked example and the end-to-end vector of domain.md §1.7, byte for byte."""

from gateway.devices.sim import crypto

DPK = bytes.fromhex("11223344556677888877665544332211")
AT = bytes.fromhex("20201111103000")
TERMINAL = bytes.fromhex("0162000012AB")
REGION = bytes.fromhex("B8CACBE0")
NUMBER = bytes.fromhex("2045230000123456")


def test_the_published_purchase_example() -> None:
    session = crypto.session_key(DPK, bytes.fromhex("11223344"), 0, 1)
    assert session.hex().upper() == "003238ABC57659DD"
    terminal = bytes.fromhex("001122334455")
    mac1 = crypto.mac1(session, 0x1000, 6, terminal, bytes.fromhex("20120229135100"))
    assert mac1.hex().upper() == "F15CAB75"
    assert crypto.mac2(session, 0x1000).hex().upper() == "56988A13"


def test_the_published_load_example() -> None:
    session = crypto._ecb(DPK, bytes.fromhex("1122334400008000"))
    assert session.hex().upper() == "9B1D924E05595603"
    body = bytes.fromhex("000000000000100001001122334455")
    assert crypto.mac(session, body).hex().upper() == "2988AE5A"
    body = bytes.fromhex("000010000100112233445520111221214822")
    assert crypto.mac(session, body).hex().upper() == "3A845BF0"


def test_keys_are_diversified_by_region_then_number() -> None:
    keys = crypto.DEMO_KEYS
    level1 = crypto.diversify(keys.purchase, REGION * 2)
    assert level1.hex().upper() == "DC1C8C8422404F2B58FF83D6A1319B98"
    card = crypto.card_key(keys.purchase, REGION, NUMBER)
    assert card.hex().upper() == "A3EA4C37AEB6CDA8B0CC819E7C7DD328"
    assert crypto.diversify(keys.tac, REGION * 2).hex().upper() == (
        "A7007C295ECE646723E3737BDDBFB0D4"
    )
    tac_key = crypto.card_key(keys.tac, REGION, NUMBER)
    assert tac_key.hex().upper() == "12780E8AC189FFC9C847EE9E194C60FE"


def test_the_end_to_end_vector() -> None:
    key = crypto.card_key(crypto.DEMO_KEYS.purchase, REGION, NUMBER)
    session = crypto.session_key(key, bytes.fromhex("A1B2C3D4"), 0x4C, 0x183713)
    assert session.hex().upper() == "C9EDB6A3C5F6204A"
    assert crypto.mac1(session, 3610, 9, TERMINAL, AT).hex().upper() == "832BD9E9"
    assert crypto.mac2(session, 3610).hex().upper() == "87D05C35"
    tac_key = crypto.card_key(crypto.DEMO_KEYS.tac, REGION, NUMBER)
    tac = crypto.tac(tac_key, 3610, 9, TERMINAL, bytes.fromhex("00183713") + AT)
    assert tac.hex().upper() == "E5383359"


def test_padding_always_adds_at_least_one_byte() -> None:
    assert crypto.pad(bytes(8)) == bytes(8) + b"\x80" + bytes(7)
    assert crypto.pad(bytes(7)) == bytes(7) + b"\x80"


def test_what_is_enciphered_can_be_deciphered() -> None:
    key = crypto.DEMO_KEYS.vehicle
    assert crypto.decipher(key, crypto.encipher(key, b"0123456789ABCDEF")) == b"0123456789ABCDEF"

"""The PSAM in words, against its twin: who it is, MAC1, MAC2, reconnecting, locking."""

from dataclasses import replace

import pytest

from gateway.devices.psam import Psam, Purchase
from gateway.devices.sim import crypto
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.psam import SimPsam
from gateway.errors import CardAbsent, CardRefused, DeviceUnavailable

PURCHASE = Purchase(
    random=bytes.fromhex("A1B2C3D4"),
    card_seq=0x4C,
    amount_fen=3610,
    at="20201111103000",
    key_version=1,
    algorithm=0,
    card_number="2045230000123456",
    issuer="B8CACBE062010001",
)
MAC2 = bytes.fromhex("87D05C35")


@pytest.fixture
def chip() -> SimPsam:
    return SimPsam.issue(terminal_seq=0x183712)


@pytest.fixture(params=[False, True], ids=["t1", "t0"])
def link(chip: SimPsam, request: pytest.FixtureRequest) -> SimLink:
    link = SimLink("PSAM", is_t0=request.param)
    link.insert(chip)
    return link


async def test_it_says_who_it_is(link: SimLink) -> None:
    facts = await Psam(link).open()
    assert facts.serial == "62010000000000000001"
    assert facts.terminal_no.hex().upper() == "0162000012AB"
    assert facts.region == "B8CACBE0"


async def test_it_is_asked_who_it_is_only_once(link: SimLink) -> None:
    psam = Psam(link)
    await psam.open()
    sent = link.sent
    await psam.open()
    assert link.sent == sent


async def test_the_vectors_mac1_and_mac2(link: SimLink) -> None:
    psam = Psam(link)
    terminal_seq, mac1 = await psam.mac1(PURCHASE)
    assert (terminal_seq, mac1.hex().upper()) == (0x183713, "832BD9E9")
    assert await psam.check_mac2(MAC2)


async def test_its_number_advances_whether_or_not_anything_comes_of_it(link: SimLink) -> None:
    psam = Psam(link)
    seqs = [(await psam.mac1(PURCHASE))[0] for _ in range(3)]
    assert seqs == [0x183713, 0x183714, 0x183715]


async def test_a_wrong_mac2_is_said_and_the_third_in_a_row_locks(
    link: SimLink, chip: SimPsam
) -> None:
    psam = Psam(link)
    for _ in range(3):
        await psam.mac1(PURCHASE)
        assert not await psam.check_mac2(bytes(4))
    assert chip.is_locked
    with pytest.raises(CardRefused, match="密钥已锁定"):
        await psam.mac1(PURCHASE)


async def test_a_right_mac2_forgives_the_wrong_ones_before(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    for _ in range(2):
        await psam.mac1(PURCHASE)
        await psam.check_mac2(bytes(4))
    terminal_seq, _ = await psam.mac1(PURCHASE)
    key = crypto.TRIPLE_DES.card_key(
        crypto.DEMO_KEYS.purchase, bytes.fromhex("B8CACBE0"), bytes.fromhex("2045230000123456")
    )
    session = crypto.TRIPLE_DES.session_key(key, PURCHASE.random, PURCHASE.card_seq, terminal_seq)
    assert await psam.check_mac2(crypto.TRIPLE_DES.mac2(session, PURCHASE.amount_fen))
    assert chip.wrong_mac2 == 0


async def test_a_mac2_without_a_purchase_is_neither_right_nor_wrong(link: SimLink) -> None:
    psam = Psam(link)
    await psam.open()
    with pytest.raises(CardRefused, match="没有进行中的交易"):
        await psam.check_mac2(MAC2)


async def test_it_is_connected_anew_after_a_fault(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    await psam.open()
    link.arm("pulled_before")
    with pytest.raises(DeviceUnavailable):
        await psam.mac1(PURCHASE)
    with pytest.raises(CardAbsent, match="PSAM上没有卡"):
        await psam.open()
    link.insert(chip)
    assert (await psam.mac1(PURCHASE))[0] == 0x183713


async def test_a_connection_that_died_since_the_last_car_is_made_anew(
    link: SimLink, chip: SimPsam
) -> None:
    psam = Psam(link)
    await psam.open()
    link.arm("mute")
    assert (await psam.mac1(PURCHASE))[0] == 0x183713
    link.insert(chip)
    assert (await psam.mac1(PURCHASE))[0] == 0x183714


async def test_another_psam_in_the_slot_is_not_used_for_a_purchase_of_the_first(
    link: SimLink,
) -> None:
    psam = Psam(link)
    await psam.open()
    link.insert(SimPsam.issue(terminal_no="0162000099FF"))
    with pytest.raises(DeviceUnavailable, match="没有发出"):
        await psam.mac1(PURCHASE)
    assert (await psam.open()).terminal_no.hex().upper() == "0162000099FF"


async def test_mac2_is_not_checked_on_another_connection(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    await psam.mac1(PURCHASE)
    link.insert(chip)
    with pytest.raises(DeviceUnavailable):
        await psam.check_mac2(MAC2)
    with pytest.raises(DeviceUnavailable, match="没有可核对的交易"):
        await psam.check_mac2(MAC2)
    assert chip.wrong_mac2 == 0


async def test_another_algorithm_than_its_keys_is_refused() -> None:
    link = SimLink("PSAM")
    link.insert(SimPsam.issue(algorithms=("3des",)))
    with pytest.raises(CardRefused, match="没有这把密钥"):
        await Psam(link).mac1(replace(PURCHASE, algorithm=4))

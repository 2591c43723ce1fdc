"""The user card in words, against its twin: reading, damaged files, debit without an answer."""

from dataclasses import replace

import pytest

from gateway.devices.etc_files import CardKind
from gateway.devices.sim.card import SimUserCard
from gateway.errors import (
    CardAbsent,
    CardRefused,
    DeviceGarbled,
    DeviceUnavailable,
    NoAnswer,
    OutcomeUnknown,
)
from tests.rig.booth import ENTRY, Booth

TERMINAL = bytes.fromhex("0162000012AB")


@pytest.fixture(params=[False, True], ids=["t1", "t0"])
def booth(request: pytest.FixtureRequest) -> Booth:
    return Booth(is_t0=request.param)


async def test_reading_yields_issue_entry_and_balance(booth: Booth) -> None:
    facts = await booth.etc_card.read()
    assert facts.issue == booth.card.info
    assert facts.toll == ENTRY
    assert facts.toll_hex == booth.card.toll.hex().upper()
    assert facts.balance == 10_000


async def test_a_virtual_purse_is_unsigned(booth: Booth) -> None:
    booth.card_link.insert(
        SimUserCard.issue(card_kind=CardKind.CREDIT, balance_fen=0xFFFFBD56, entry=ENTRY)
    )
    facts = await booth.etc_card.read()
    assert (facts.issue.card_kind, facts.balance) == (CardKind.CREDIT, 4_294_950_230)


async def test_a_card_without_a_trip_has_no_entry(booth: Booth) -> None:
    booth.card.write_entry(None)
    facts = await booth.etc_card.read()
    assert facts.toll is None
    assert facts.toll_hex.startswith("AA2900")


async def test_a_trip_that_is_no_trip_has_no_entry_but_its_bytes_are_kept(booth: Booth) -> None:
    booth.card.toll = bytes.fromhex("AA2900") + b"\xfa" * 40
    facts = await booth.etc_card.read()
    assert (facts.toll, facts.toll_hex) == (None, booth.card.toll.hex().upper())


async def test_a_card_without_file_0019_has_no_entry(booth: Booth) -> None:
    booth.card_link.arm("refuse:6A83", after=4 if booth.is_t0 else 3)  # READ RECORD
    facts = await booth.etc_card.read()
    assert (facts.toll, facts.toll_hex) == (None, "")


async def test_no_card_is_absent(booth: Booth) -> None:
    booth.card_link.remove()
    with pytest.raises(CardAbsent, match="读卡器上没有卡"):
        await booth.etc_card.card_id()


async def test_a_damaged_card_number_is_garbled(booth: Booth) -> None:
    booth.card.info = replace(booth.card.info, card_number="20452200001234AF")
    with pytest.raises(DeviceGarbled, match="卡号不是十进制数字"):
        await booth.etc_card.card_id()


async def test_a_card_without_the_application_is_refused(booth: Booth) -> None:
    booth.card_link.arm("refuse:6A82")
    with pytest.raises(CardRefused, match="选择ETC应用被拒绝：没有这个文件"):
        await booth.etc_card.read()


async def test_a_purchase_names_counter_and_random(booth: Booth) -> None:
    await booth.etc_card.identify()
    opened = await booth.etc_card.open_purchase(100, TERMINAL)
    assert (opened.balance, opened.card_seq, opened.overdraft) == (10_000, 0x4C, 0)
    assert (opened.key_version, opened.algorithm, len(opened.random)) == (1, 0, 4)


async def test_a_purchase_needs_its_application_selected(booth: Booth) -> None:
    await booth.card_link.connect()
    with pytest.raises(CardRefused):
        await booth.etc_card.open_purchase(100, TERMINAL)


async def test_a_debit_without_a_purchase_is_refused_and_takes_nothing(booth: Booth) -> None:
    await booth.etc_card.identify()
    with pytest.raises(CardRefused, match="没有进行中的交易"):
        await booth.etc_card.debit(1, "20201111103000", bytes(4))
    assert booth.card.ledger == []


@pytest.mark.parametrize("fault", ["pulled_before", "pulled_after", "mute"])
async def test_silence_is_unknown_for_a_debit_and_only_for_a_debit(fault: str) -> None:
    booth = Booth()
    await booth.etc_card.identify()
    booth.card_link.arm(fault)
    with pytest.raises(OutcomeUnknown, match="没有收到应答"):
        await booth.etc_card.debit(1, "20201111103000", bytes(4))
    booth.card_link.insert(booth.card)
    await booth.etc_card.identify()
    booth.card_link.arm(fault)
    with pytest.raises(NoAnswer):
        await booth.etc_card.open_purchase(100, TERMINAL)


async def test_a_debit_on_a_dead_connection_never_left(booth: Booth) -> None:
    await booth.etc_card.identify()
    booth.card_link.remove()
    with pytest.raises(DeviceUnavailable, match="没有发出") as fault:
        await booth.etc_card.debit(1, "20201111103000", bytes(4))
    assert not isinstance(fault.value, NoAnswer)


async def test_a_card_has_no_proof_of_what_never_happened(booth: Booth) -> None:
    await booth.etc_card.identify()
    assert await booth.etc_card.proof(0x4D) is None

"""The user card's twin: what a real card would refuse, and what it remembers over a power cut."""

from pathlib import Path

import pytest

from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.memory import ChipMemory
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.errors import DeviceGarbled
from tests.rig.booth import AT, ENTRY, TOLL_HEX, Booth

SELECT = "00A4000002100100"
INIT = "805003020B01000003E80162000012AB0F"
TOLL = "80DCAAC82B" + TOLL_HEX


def ask(card: SimUserCard, *commands: str) -> str:
    """The last answer, as hex."""
    return [card.answer(bytes.fromhex(command)).hex().upper() for command in commands][-1]


@pytest.mark.parametrize(
    ("commands", "wanted"),
    [
        (["00B095002B"], "6A82"),  # nothing selected
        ([SELECT, "00B096002B"], "6A82"),
        ([SELECT, "00B202CC2B"], "6A83"),
        ([SELECT, "00B0950032"], "6C2B"),
        ([SELECT, "00B0952B01"], "6B00"),
        ([SELECT, "80FF000000"], "6D00"),
        ([SELECT, "00B0"], "6700"),
        ([SELECT, "805003020B0100"], "6700"),
        ([SELECT, "805005020B01000003E80162000012AB0F"], "6A86"),
        ([SELECT, "805003020B02000003E80162000012AB0F"], "9403"),
        ([SELECT, "805003020B01000027110162000012AB0F"], "9401"),
        ([SELECT, TOLL], "6985"),
        ([SELECT, INIT, TOLL[:4] + "AB" + TOLL[6:]], "6A83"),
        ([SELECT, INIT, "80DCAAC82BAB" + TOLL_HEX[2:]], "6A80"),
        ([SELECT, "805401000F" + "00" * 15 + "08"], "6985"),
        ([SELECT, INIT, "805401000F" + "00" * 15 + "08"], "9302"),
        ([SELECT, INIT, "805C000204", "805401000F" + "00" * 15 + "08"], "6985"),
        ([SELECT, "805A000902004D08"], "9406"),
        ([SELECT, "00C0000008"], "6985"),
    ],
)
def test_a_card_refuses_as_cards_do(commands: list[str], wanted: str) -> None:
    card = SimUserCard.issue(balance_fen=10_000, card_seq=0x4C, entry=ENTRY)
    assert ask(card, *commands) == wanted
    assert (card.balance, card.card_seq, card.ledger) == (10_000, 0x4C, [])


def test_a_full_counter_ends_the_cards_life() -> None:
    card = SimUserCard.issue(card_seq=0xFFFF)
    assert ask(card, SELECT, INIT) == "9402"


def test_the_power_takes_an_open_purchase_with_it() -> None:
    card = SimUserCard.issue(entry=ENTRY)
    ask(card, SELECT, INIT)
    card.reset()
    assert ask(card, SELECT, TOLL) == "6985"


async def test_a_wrong_mac1_ends_the_purchase() -> None:
    booth = Booth()
    ticket = await booth.purse.prepare(booth.card_id, 100, TOLL_HEX, AT)
    debit = "805401000F" + f"{ticket.terminal_seq:08X}" + AT
    assert ask(booth.card, debit + "00000000" + "08") == "9302"
    assert ask(booth.card, debit + ticket.mac1 + "08") == "6985"
    assert booth.card.balance == 10_000


async def test_the_transaction_detail_file_tells_the_newest_first() -> None:
    booth = Booth()
    for amount_fen in (100, 200):
        ticket = await booth.purse.prepare(booth.card_id, amount_fen, TOLL_HEX, AT)
        await booth.purse.commit(ticket)
    newest = bytes.fromhex(ask(booth.card, "00B201C417"))[:-2]
    assert len(newest) == 23
    assert newest.hex().upper() == "004D" + "000000" + "000000C8" + "09" + "0162000012AB" + AT
    assert ask(booth.card, "00B203C417") == "6A83"


async def test_a_killed_demo_finds_the_same_card_again(tmp_path: Path) -> None:
    memory, psam_memory = ChipMemory(tmp_path / "card.json"), ChipMemory(tmp_path / "psam.json")
    booth = Booth(
        card=SimUserCard.issue(memory, balance_fen=10_000, entry=ENTRY),
        psam=SimPsam.issue(psam_memory, terminal_seq=41),
    )
    await booth.purse.commit(await booth.purse.prepare(booth.card_id, 3610, TOLL_HEX, AT))

    card, psam = SimUserCard.resume(memory), SimPsam.resume(psam_memory)

    assert card is not None
    assert psam is not None
    assert (card.balance, card.card_seq, card.toll) == (6390, 1, booth.card.toll)
    assert card.ledger == booth.card.ledger
    assert card.info == booth.card.info
    assert psam.terminal_seq == 42
    again = Booth(card=card, psam=psam)
    await again.purse.commit(await again.purse.prepare(again.card_id, 390, TOLL_HEX, AT))
    assert (card.balance, [debit.terminal_seq for debit in card.ledger]) == (6000, [42, 43])


async def test_a_debit_is_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "card.json")
    booth = Booth(card=SimUserCard.issue(memory, balance_fen=10_000, entry=ENTRY))
    ticket = await booth.purse.prepare(booth.card_id, 3610, TOLL_HEX, AT)
    stored_by_then: list[object] = []
    answer = booth.card.answer

    def spy(command: bytes) -> bytes:
        said = answer(command)
        stored = memory.load()
        assert stored is not None
        stored_by_then.append((stored["balance"], stored["card_seq"], stored["toll"]))
        return said

    booth.card.answer = spy  # type: ignore[method-assign]
    await booth.purse.commit(ticket)
    assert stored_by_then == [(6390, 1, TOLL_HEX)]


def test_an_obu_is_remembered_too(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "obu.json")
    obu = SimObu.issue(memory, entry=ENTRY, due_fen=100)
    again = SimObu.resume(memory)
    assert again is not None
    assert (again.system, again.vehicle, again.totals) == (obu.system, obu.vehicle, obu.totals)


def test_nothing_stored_is_no_chip(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "none.json")
    assert SimUserCard.resume(memory) is None
    assert SimPsam.resume(memory) is None
    assert SimObu.resume(memory) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"balance": 1'])
def test_a_damaged_memory_is_said_and_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(content)
    with pytest.raises(DeviceGarbled, match=r"存储损坏：card\.json"):
        SimUserCard.resume(ChipMemory(path))
    assert path.read_text() == content


def test_a_write_leaves_no_half_file_behind(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "card.json")
    SimUserCard.issue(memory)
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]


async def test_an_sm4_card_names_its_algorithm_and_key(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "card.json")
    SimUserCard.issue(memory, algorithm="sm4", entry=ENTRY, key_version=1)
    card = SimUserCard.resume(memory)
    assert card is not None
    opened = bytes.fromhex(ask(card, SELECT, INIT))
    assert (opened[9], opened[10]) == (1, 4)
    assert card.info.card_version == 0x50
    booth = Booth(card=card)
    done = await booth.purse.commit(await booth.purse.prepare(booth.card_id, 100, TOLL_HEX, AT))
    assert done == (card.ledger[0].tac, "verified")


def test_a_card_of_an_older_bench_is_a_3des_card(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "card.json")
    SimUserCard.issue(memory)
    state = memory.load()
    assert state is not None
    memory.save({k: v for k, v in state.items() if k not in ("algorithm", "key_version")})
    card = SimUserCard.resume(memory)
    assert card is not None
    assert (card.algorithm, card.key_version) == ("3des", 1)

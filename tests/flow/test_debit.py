"""The two-chip debit against twins: the vector, refusals, and a card pulled at every APDU."""

from dataclasses import replace

import pytest

from gateway.devices.etc_files import CardKind, decode_toll, encode_toll, exit_record
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.crypto import AlgorithmName
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.psam import SimPsam
from gateway.errors import (
    CardAbsent,
    CardMismatch,
    CardRefused,
    DeviceUnavailable,
    NoAnswer,
    OutcomeUnknown,
    PsamUnavailable,
)
from gateway.flow.debit import Proved, Purse
from gateway.flow.messages import DebitTicket
from tests.rig.booth import AT, ENTRY, TOLL_HEX, Booth

AMOUNT = 3610


async def prepared(booth: Booth, amount_fen: int = AMOUNT) -> DebitTicket:
    return await booth.purse.prepare(booth.card_id, amount_fen, TOLL_HEX, AT)


@pytest.fixture(
    params=[("3des", False), ("3des", True), ("sm4", False), ("sm4", True)],
    ids=["3des-t1", "3des-t0", "sm4-t1", "sm4-t0"],
)
def booth(request: pytest.FixtureRequest) -> Booth:
    return booth_of(*request.param)


def booth_of(algorithm: AlgorithmName, is_t0: bool = False) -> Booth:
    card = SimUserCard.issue(balance_fen=10_000, card_seq=0x4C, entry=ENTRY, algorithm=algorithm)
    return Booth(card=card, is_t0=is_t0)


BOTH = pytest.mark.parametrize("algorithm", ["3des", "sm4"])


@pytest.mark.parametrize(
    ("name", "algorithm", "mac1", "tac", "mac2"),
    [
        ("3des", 0, "832BD9E9", "E5383359", "87D05C35"),
        ("sm4", 4, "D20C3D12", "480940AE", "7D4C30B0"),
    ],
)
async def test_the_vectors_of_the_domain_are_reproduced_byte_for_byte(
    name: AlgorithmName, algorithm: int, mac1: str, tac: str, mac2: str
) -> None:
    """§1.7, and the house's own of §1.8."""
    card = SimUserCard.issue(
        card_kind=CardKind.CREDIT,
        card_number="2045230000123456",
        balance_fen=0xFFFFBD56,
        card_seq=0x4C,
        algorithm=name,
    )
    card.randoms = lambda length: bytes.fromhex("A1B2C3D4")
    booth = Booth(card=card)

    ticket = await prepared(booth)
    done = await booth.purse.commit(ticket)

    assert ticket == DebitTicket(
        card_id="62012045230000123456",
        card_seq=0x4C,
        balance_before=0xFFFFBD56,
        overdraft=0,
        key_version=1,
        algorithm=algorithm,
        terminal_no="0162000012AB",
        terminal_seq=0x183713,
        amount_fen=3610,
        at="20201111103000",
        mac1=mac1,
        toll_hex=TOLL_HEX,
    )
    assert done == (tac, "verified")
    assert card.balance == 4_294_946_620
    assert card.ledger[0].mac2 == mac2


async def test_a_debit_takes_the_money_once_and_writes_the_exit(booth: Booth) -> None:
    tac, mac2 = await booth.purse.commit(await prepared(booth))

    assert (booth.card.balance, booth.card.card_seq) == (10_000 - AMOUNT, 0x4D)
    assert mac2 == "verified"
    assert [debit.tac for debit in booth.card.ledger] == [tac]
    assert booth.card.toll.hex().upper() == TOLL_HEX
    assert decode_toll(booth.card.toll).status == 4


async def test_prepare_moves_no_money_and_keeps_the_entry(booth: Booth) -> None:
    before = booth.card.toll
    await prepared(booth)
    assert (booth.card.balance, booth.card.card_seq, booth.card.toll) == (10_000, 0x4C, before)
    assert booth.card.ledger == []


async def test_preparing_twice_is_harmless_and_the_second_ticket_counts(booth: Booth) -> None:
    first = await prepared(booth)
    second = await prepared(booth)
    assert second.terminal_seq == first.terminal_seq + 1
    with pytest.raises(DeviceUnavailable, match="没有扣款"):
        await booth.purse.commit(first)
    assert booth.card.balance == 10_000


async def test_a_zero_fare_is_a_debit_too(booth: Booth) -> None:
    tac, mac2 = await booth.purse.commit(await prepared(booth, 0))
    assert (booth.card.balance, booth.card.card_seq, mac2) == (10_000, 0x4D, "verified")
    assert len(tac) == 8


async def test_a_card_of_another_province_gets_its_own_key_factor() -> None:
    card = SimUserCard.issue(issuer="C9BDB6AB37010001", network="3701", entry=ENTRY)
    booth = Booth(card=card)
    _, mac2 = await booth.purse.commit(await prepared(booth))
    assert (mac2, card.balance) == ("verified", 10_000 - AMOUNT)


@BOTH
async def test_one_psam_serves_cards_of_both_algorithms_in_turn(algorithm: AlgorithmName) -> None:
    booth = booth_of(algorithm)
    other = "sm4" if algorithm == "3des" else "3des"
    await booth.purse.commit(await prepared(booth))
    booth.card = SimUserCard.issue(
        card_number="2045220000777777",
        entry=ENTRY,
        algorithm=other,  # type: ignore[arg-type]
    )
    booth.card_link.insert(booth.card)
    ticket = await prepared(booth)
    assert await booth.purse.commit(ticket) == (booth.card.ledger[0].tac, "verified")
    assert ticket.algorithm == (4 if other == "sm4" else 0)


async def test_a_psam_without_the_cards_key_takes_nothing() -> None:
    card = SimUserCard.issue(entry=ENTRY, algorithm="sm4")
    booth = Booth(card=card, psam=SimPsam.issue(algorithms=("3des",)))
    with pytest.raises(PsamUnavailable, match="没有这张卡的密钥") as fault:
        await prepared(booth)
    assert fault.value.reason == "foreign"
    assert card.ledger == []


async def test_a_key_version_nobody_issued_is_foreign_too() -> None:
    card = SimUserCard.issue(entry=ENTRY, key_version=2)
    with pytest.raises(PsamUnavailable) as fault:
        await prepared(Booth(card=card))
    assert fault.value.reason == "foreign"


async def test_another_card_is_not_even_initialised(booth: Booth) -> None:
    with pytest.raises(CardMismatch, match="不是本笔的卡"):
        await booth.purse.prepare("62019999999999999999", AMOUNT, TOLL_HEX, AT)
    assert booth.card_link.sent <= 4  # SELECT and READ BINARY, as T=0 counts them
    assert booth.psam.terminal_seq == 0x183712


async def test_too_little_money_is_refused_before_any_money_moves(booth: Booth) -> None:
    with pytest.raises(CardRefused, match="金额不足") as refused:
        await prepared(booth, 10_001)
    assert refused.value.sw == 0x9401
    assert booth.card.ledger == []


async def test_a_purse_is_emptied_to_the_last_fen(booth: Booth) -> None:
    await booth.purse.commit(await prepared(booth, 10_000))
    assert booth.card.balance == 0


async def test_a_ticket_is_committed_once(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    with pytest.raises(DeviceUnavailable, match="没有发给卡片"):
        await booth.purse.commit(ticket)
    assert len(booth.card.ledger) == 1


async def test_a_wrong_mac1_is_refused_by_the_card(booth: Booth) -> None:
    ticket = replace(await prepared(booth), mac1="00000000")
    booth.purse._open = ticket
    with pytest.raises(CardRefused, match="MAC 不对"):
        await booth.purse.commit(ticket)
    assert booth.card.ledger == []


async def test_reading_the_card_between_prepare_and_commit_costs_the_purchase(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.etc_card.read()
    with pytest.raises(CardRefused, match="步骤不对"):
        await booth.purse.commit(ticket)
    assert booth.card.balance == 10_000


async def test_a_card_pulled_before_commit_certainly_kept_its_money(booth: Booth) -> None:
    ticket = await prepared(booth)
    booth.card_link.remove()
    booth.card_link.insert(booth.card)
    with pytest.raises(DeviceUnavailable) as fault:
        await booth.purse.commit(ticket)
    assert not isinstance(fault.value, NoAnswer)
    assert booth.card.ledger == []


async def test_a_card_that_lies_in_its_mac2_has_still_paid(booth: Booth) -> None:
    ticket = await prepared(booth)
    booth.card.lies_mac2 = True
    tac, mac2 = await booth.purse.commit(ticket)
    assert (mac2, booth.psam.wrong_mac2) == ("refused", 1)
    assert [debit.tac for debit in booth.card.ledger] == [tac]
    assert booth.card.balance == 10_000 - AMOUNT
    assert "不认卡的 MAC2" in booth.psam_words.trouble


@pytest.mark.parametrize("fault", ["mute", "gone", "pulled_before", "pulled_after", "refuse:6985"])
async def test_a_psam_that_cannot_check_does_not_undo_the_debit(booth: Booth, fault: str) -> None:
    ticket = await prepared(booth)
    booth.psam_link.arm(fault)
    tac, mac2 = await booth.purse.commit(ticket)
    assert (mac2, booth.card.ledger[0].tac) == ("unchecked", tac)


@pytest.mark.parametrize("sw", ["6581", "6F00", "6300", "6281"])
async def test_an_ambiguous_answer_to_the_debit_is_unknown_and_can_be_proved(sw: str) -> None:
    booth = Booth()
    ticket = await prepared(booth)
    booth.card_link.arm(f"refuse:{sw}")
    with pytest.raises(OutcomeUnknown, match=sw):
        await booth.purse.commit(ticket)
    assert await booth.purse.prove(ticket) == Proved(happened=False, tac=None)


# ---- proof ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_number_after", [True, False])
@pytest.mark.parametrize("amount_fen", [AMOUNT, 0])
async def test_lost_answer_is_proved_not_paid_twice(
    booth: Booth, is_number_after: bool, amount_fen: int
) -> None:
    booth.card.is_number_after = is_number_after
    await booth.purse.commit(await prepared(booth, 100))  # its proof must not be mistaken for ours
    ticket = await prepared(booth, amount_fen)
    booth.card_link.arm("pulled_after")
    with pytest.raises(OutcomeUnknown):
        await booth.purse.commit(ticket)
    booth.card_link.insert(booth.card)

    proved = await booth.purse.prove(ticket)

    assert proved == Proved(happened=True, tac=booth.card.ledger[-1].tac)
    assert len(booth.card.ledger) == 2


@pytest.mark.parametrize("is_number_after", [True, False])
async def test_lost_command_is_proved_not_to_have_happened(
    booth: Booth, is_number_after: bool
) -> None:
    booth.card.is_number_after = is_number_after
    await booth.purse.commit(await prepared(booth))  # its proof must not be mistaken for ours
    ticket = await prepared(booth)
    booth.card_link.arm("pulled_before")
    with pytest.raises(OutcomeUnknown):
        await booth.purse.commit(ticket)
    booth.card_link.insert(booth.card)

    assert await booth.purse.prove(ticket) == Proved(happened=False, tac=None)
    assert len(booth.card.ledger) == 1


async def test_proving_twice_gives_the_same_and_moves_nothing(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    first = await booth.purse.prove(ticket)
    assert first == await booth.purse.prove(ticket)
    assert (booth.card.balance, booth.card.card_seq) == (10_000 - AMOUNT, 0x4D)


async def test_a_new_process_can_prove_what_the_old_one_left_open(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    after_restart = Purse(booth.etc_card, booth.psam_words)
    assert (await after_restart.prove(ticket)).happened


async def test_the_order_of_the_proof_is_the_card_familys(booth: Booth) -> None:
    booth.card.is_tac_first = booth.etc_card._is_tac_first = False
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    assert (await booth.purse.prove(ticket)).tac == booth.card.ledger[0].tac


async def test_a_debit_without_a_proof_left_is_proved_by_the_counter_alone(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    booth.card.ledger.clear()
    assert await booth.purse.prove(ticket) == Proved(happened=True, tac=None)


async def test_another_card_is_no_answer(booth: Booth) -> None:
    ticket = await prepared(booth)
    booth.card_link.insert(SimUserCard.issue(card_number="2045220000999999", card_seq=0x4D))
    with pytest.raises(CardMismatch):
        await booth.purse.prove(ticket)


async def test_no_card_is_no_answer(booth: Booth) -> None:
    ticket = await prepared(booth)
    booth.card_link.remove()
    with pytest.raises(CardAbsent):
        await booth.purse.prove(ticket)


@pytest.mark.parametrize("card_seq", [0, 0x4B, 0x4E, 0x1000])
async def test_a_counter_from_elsewhere_is_said_as_seen(booth: Booth, card_seq: int) -> None:
    ticket = await prepared(booth)
    booth.card.card_seq = card_seq
    with pytest.raises(OutcomeUnknown, match=rf"序号 {card_seq}、余额 10000 分.*扣款前是 76"):
        await booth.purse.prove(ticket)


async def test_a_balance_that_contradicts_the_counter_is_left_to_people(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(await prepared(booth, 500))  # somebody else's debit, so to say
    with pytest.raises(OutcomeUnknown, match="余额 9500 分"):
        await booth.purse.prove(ticket)


@pytest.fixture
async def next_door(booth: Booth) -> Booth:
    """The lane beside it: another PSAM, the same card."""
    card = booth.card
    return Booth(card=card, psam=SimPsam.issue(terminal_no="0162000099EE"), is_t0=booth.is_t0)


@pytest.mark.parametrize("is_detail_after", [True, False])
async def test_another_lanes_debit_of_the_same_fare_is_not_ours(
    booth: Booth, next_door: Booth, is_detail_after: bool
) -> None:
    """Counter and purse agree with ours to the fen; 0018 says whose it was."""
    booth.card.is_detail_after = is_detail_after
    ticket = await prepared(booth)  # and the DEBIT never reached the card
    await next_door.purse.commit(await prepared(next_door))

    with pytest.raises(OutcomeUnknown, match="终端 0162000099EE 在 20201111103000 扣") as odd:
        await booth.purse.prove(ticket)

    assert "余额 6390 分" in odd.value.detail
    assert "出口信息" in odd.value.detail
    assert "转特情" in odd.value.action
    assert len(booth.card.ledger) == 1


@pytest.mark.parametrize("is_detail_after", [True, False])
async def test_what_the_card_noted_of_our_own_debit_is_ours(
    booth: Booth, is_detail_after: bool
) -> None:
    booth.card.is_detail_after = is_detail_after
    await booth.purse.commit(await prepared(booth, 100))
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    booth.card.toll = booth.card.toll[:-1] + b"\x01"  # written since, by whom it may be
    assert await booth.purse.prove(ticket) == Proved(True, booth.card.ledger[-1].tac)


@pytest.mark.parametrize("blank", [None, b"\x00", b"\xff"])
async def test_a_card_that_notes_nothing_is_asked_for_its_exit(
    next_door: Booth, booth: Booth, blank: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_note(command: bytes) -> bytes:
        if command[:2] == b"\x00\xb2" and command[3] == 0xC4:
            return b"\x69\x82" if blank is None else blank * 23 + b"\x90\x00"
        return answer(command)

    answer = booth.card.answer
    monkeypatch.setattr(booth.card, "answer", no_note)
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    assert await booth.purse.prove(ticket) == Proved(True, booth.card.ledger[-1].tac)

    ticket = await prepared(booth, 100)
    theirs = encode_toll(exit_record(ENTRY, "62010B31", 0x16, 1_605_061_801, 4)).hex()
    await next_door.purse.commit(
        await next_door.purse.prepare(booth.card_id, 100, theirs, "20201111103001")
    )
    with pytest.raises(OutcomeUnknown, match="卡内出口信息不是本笔写的"):
        await booth.purse.prove(ticket)


async def test_a_note_of_another_amount_is_not_ours(booth: Booth) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    booth.card.ledger[-1] = booth.card.ledger[-1]._replace(amount_fen=1)
    with pytest.raises(OutcomeUnknown, match="扣 1 分"):
        await booth.purse.prove(ticket)


async def test_a_card_that_refuses_to_be_asked_decides_nothing(booth: Booth) -> None:
    ticket = await prepared(booth)
    booth.card_link.arm("refuse:9303", after=4 if booth.is_t0 else 3)  # INITIALIZE
    with pytest.raises(OutcomeUnknown, match="不能断定是否已扣"):
        await booth.purse.prove(ticket)


async def test_prove_never_sends_a_debit(booth: Booth, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = await prepared(booth)
    await booth.purse.commit(ticket)
    seen: list[bytes] = []
    answer = booth.card.answer
    monkeypatch.setattr(booth.card, "answer", lambda c: (seen.append(c), answer(c))[1])
    await booth.purse.prove(ticket)
    assert [command[1] for command in seen if command[1] != 0xC0] == [
        0xA4, 0xB0, 0x50, 0xB2, 0xB2, 0x5A,
    ]  # fmt: skip


# ---- the card pulled at every APDU ------------------------------------------------------------

PULLS = ["pulled_before", "pulled_after", "mute"]


async def attempt(booth: Booth) -> tuple[DebitTicket | None, bool]:
    """prepare and commit; the ticket if there is one, and whether it must be proved."""
    ticket = None
    try:
        ticket = await prepared(booth)
        await booth.purse.commit(ticket)
    except OutcomeUnknown:
        return ticket, True
    except (DeviceUnavailable, CardRefused):
        return None, False
    return ticket, False


async def settle(booth: Booth, ticket: DebitTicket | None, is_unknown: bool) -> None:
    """What the lane would do: prove the unknown, then start again if nothing was taken."""
    booth.card_link.disarm()
    booth.card_link.insert(booth.card)
    if is_unknown:
        assert ticket is not None
        proved = await booth.purse.prove(ticket)
        assert proved.happened == (len(booth.card.ledger) == 1)
        ticket = ticket if proved.happened else None
        if proved.happened:
            assert proved.tac == booth.card.ledger[0].tac
    if ticket is None:
        assert booth.card.ledger == []
        await booth.purse.commit(await prepared(booth))


async def apdus_of_a_debit(algorithm: AlgorithmName, is_t0: bool, link: str) -> int:
    booth = booth_of(algorithm, is_t0)
    assert await attempt(booth) != (None, False)
    sim: SimLink = getattr(booth, link)
    return sim.sent


@pytest.mark.parametrize("fault", PULLS)
@pytest.mark.parametrize("is_t0", [False, True], ids=["t1", "t0"])
@BOTH
async def test_a_card_pulled_at_any_apdu_pays_exactly_once(
    algorithm: AlgorithmName, is_t0: bool, fault: str
) -> None:
    count = await apdus_of_a_debit(algorithm, is_t0, "card_link")
    assert count == (8 if is_t0 else 5)
    unknown = 0
    for number in range(1, count + 1):
        booth = booth_of(algorithm, is_t0)
        booth.card_link.arm(fault, after=number)
        ticket, is_unknown = await attempt(booth)
        unknown += is_unknown
        await settle(booth, ticket, is_unknown)
        assert booth.card.balance == 10_000 - AMOUNT, number
        assert booth.card.toll.hex().upper() == TOLL_HEX
    assert unknown == (2 if is_t0 else 1)  # DEBIT, and its GET RESPONSE on T=0


@pytest.mark.parametrize("fault", PULLS)
@BOTH
async def test_a_psam_lost_at_any_apdu_pays_exactly_once(
    algorithm: AlgorithmName, fault: str
) -> None:
    for number in range(1, await apdus_of_a_debit(algorithm, False, "psam_link") + 1):
        booth = booth_of(algorithm)
        booth.psam_link.arm(fault, after=number)
        ticket, is_unknown = await attempt(booth)
        assert not is_unknown
        booth.psam_link.disarm()
        booth.psam_link.insert(booth.psam)
        await settle(booth, ticket, is_unknown)
        assert booth.card.balance == 10_000 - AMOUNT, number


@pytest.mark.parametrize("fault", PULLS)
@BOTH
async def test_a_card_pulled_again_while_proving_is_proved_later(
    algorithm: AlgorithmName, fault: str
) -> None:
    for number in range(1, 7):
        booth = booth_of(algorithm)
        ticket = await prepared(booth)
        booth.card_link.arm("pulled_after")
        with pytest.raises(OutcomeUnknown):
            await booth.purse.commit(ticket)
        booth.card_link.insert(booth.card)
        booth.card_link.arm(fault, after=number)
        with pytest.raises((DeviceUnavailable, OutcomeUnknown)):
            await booth.purse.prove(ticket)
        booth.card_link.insert(booth.card)
        assert await booth.purse.prove(ticket) == Proved(True, booth.card.ledger[0].tac)
        assert len(booth.card.ledger) == 1


async def test_two_terminals_never_share_a_trade_number() -> None:
    psam = SimPsam.issue(terminal_seq=7)
    booth = Booth(psam=psam)
    seqs = [(await prepared(booth)).terminal_seq for _ in range(3)]
    assert seqs == [8, 9, 10]

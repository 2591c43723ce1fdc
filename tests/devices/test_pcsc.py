"""The PC/SC link through a real pcscd and virtual readers: faults, deadlines, pulled cards."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from smartcard import scard

from gateway.devices import pcsc
from gateway.devices.apdu import read_binary
from gateway.devices.etc_card import EtcCard
from gateway.devices.obu import ObuReader
from gateway.devices.pcsc import PcscLink
from gateway.devices.psam import Psam
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import Chip
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.errors import CardAbsent, DeviceUnavailable, NoAnswer, OutcomeUnknown
from gateway.flow.debit import Purse
from gateway.flow.messages import DebitTicket
from gateway.units import SystemClock
from tests.rig.booth import AT, ENTRY, TOLL_HEX, Booth
from tests.rig.vpcd import WAIT_S, Rig, Slot, missing, running

AMOUNT = 3610
READ = read_binary(0x16, 6)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running() as rig:
        yield rig


class Lane:
    """The real code on three PC/SC links, the twins behind pcscd."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.card = SimUserCard.issue(balance_fen=10_000, card_seq=0x4C, entry=ENTRY)
        self.psam = SimPsam.issue(terminal_seq=0x183712)
        self.obu = SimObu.issue(entry=ENTRY)
        clock = SystemClock()
        self.links = {name: PcscLink(name, name + " 00 00", clock) for name in rig.slots}
        self.etc_card = EtcCard(self.links["card"])
        self.psam_words = Psam(self.links["psam"])
        self.purse = Purse(self.etc_card, self.psam_words)
        self.obu_reader = ObuReader(self.links["obu"], self.psam_words)

    @property
    def slot(self) -> Slot:
        return self.rig.slots["card"]

    @property
    def link(self) -> PcscLink:
        return self.links["card"]

    async def insert(self, name: str, chip: Chip) -> None:
        self.rig.slots[name].insert(chip)
        await soon(self.links[name].is_present)

    async def pull(self, name: str) -> None:
        """And wait until pcscd has noticed."""
        self.rig.slots[name].remove()

        async def is_absent() -> bool:
            return not await self.links[name].is_present()

        await soon(is_absent)

    async def prepared(self) -> DebitTicket:
        return await self.purse.prepare(self.card.info.card_id, AMOUNT, TOLL_HEX, AT)


async def soon(is_so: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await is_so():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


@pytest.fixture
async def lane(rig: Rig) -> AsyncIterator[Lane]:
    lane = Lane(rig)
    chips: dict[str, Chip] = {"card": lane.card, "psam": lane.psam, "obu": lane.obu}
    for name, chip in chips.items():
        slot = rig.slots[name]
        slot.arm("", 0)
        slot.sent = 0
        slot.swap(chip) if slot.is_taken else slot.insert(chip)
    for link in lane.links.values():
        await soon(link.is_present)
    yield lane
    for slot in rig.slots.values():
        slot.voice.set()
    for link in lane.links.values():
        await link.close()
    for slot in rig.slots.values():
        slot.voice.clear()


# ---- reading and debiting ---------------------------------------------------------------------


@pytest.mark.pcsc
async def test_card_and_tag_are_read_through_pcscd(lane: Lane) -> None:
    facts = await lane.etc_card.read()
    assert (facts.issue, facts.toll, facts.balance) == (lane.card.info, ENTRY, 10_000)
    tag = await lane.obu_reader.read()
    assert tag.vehicle.plate == facts.issue.plate
    assert tag.totals is not None


@pytest.mark.pcsc
async def test_a_debit_through_pcscd_equals_the_one_in_process(lane: Lane) -> None:
    here = Booth(is_t0=True)
    here.card.randoms = lane.card.randoms = lambda length: bytes(range(length))
    wanted_ticket = await here.purse.prepare(here.card_id, AMOUNT, TOLL_HEX, AT)
    wanted = await here.purse.commit(wanted_ticket)

    ticket = await lane.prepared()
    done = await lane.purse.commit(ticket)

    assert (ticket, done) == (wanted_ticket, wanted)
    assert lane.card.ledger == here.card.ledger
    assert (lane.card.balance, lane.card.toll) == (here.card.balance, here.card.toll)
    assert lane.slot.sent == here.card_link.sent  # the same T=0 steps
    assert (await lane.purse.prove(ticket)).tac == done[0]


@pytest.mark.pcsc
async def test_watching_for_a_card_does_not_disturb_an_open_purchase(lane: Lane) -> None:
    ticket = await lane.prepared()
    for _ in range(5):
        assert await lane.link.is_present()
    assert (await lane.purse.commit(ticket))[1] == "verified"


@pytest.mark.pcsc
async def test_connecting_again_starts_the_chip_afresh(lane: Lane) -> None:
    await lane.prepared()
    assert lane.card._purchase is not None
    await lane.link.connect()
    assert lane.card._purchase is None


@pytest.mark.pcsc
async def test_a_chip_that_speaks_only_t1_is_spoken_to_in_t1(lane: Lane) -> None:
    await lane.pull("card")
    lane.card.atr = bytes.fromhex("3B800181")
    await lane.insert("card", lane.card)
    assert (await lane.etc_card.read()).balance == 10_000
    assert (await lane.purse.commit(await lane.prepared()))[1] == "verified"
    await lane.pull("card")


# ---- faults -----------------------------------------------------------------------------------


@pytest.mark.pcsc
async def test_an_empty_reader_is_absent_and_not_present(lane: Lane) -> None:
    await lane.pull("card")
    with pytest.raises(CardAbsent, match="card上没有卡"):
        await lane.link.connect()


@pytest.mark.pcsc
async def test_a_reader_that_is_not_there_is_named_with_those_that_are(lane: Lane) -> None:
    link = PcscLink("读卡器", "no such reader", SystemClock())
    with pytest.raises(DeviceUnavailable, match=r"没有找到读卡器“no such reader”.*psam 00 00"):
        await link.connect()
    await link.close()


@pytest.mark.pcsc
async def test_a_beginning_that_fits_two_readers_is_not_guessed(lane: Lane) -> None:
    link = PcscLink("读卡器", "card", SystemClock())
    with pytest.raises(DeviceUnavailable, match="没有找到读卡器"):
        await link.is_present()
    await link.close()


@pytest.mark.pcsc
async def test_nobody_else_can_come_between(lane: Lane) -> None:
    await lane.link.connect()
    hresult, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    assert hresult == 0
    stranger = scard.SCardConnect(
        context, "card 00 00", scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0
    )
    assert stranger[0] == scard.SCARD_E_SHARING_VIOLATION
    await lane.link.close()
    stranger = scard.SCardConnect(
        context, "card 00 00", scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T0
    )
    assert stranger[0] == 0
    with pytest.raises(DeviceUnavailable, match="被别的程序占用"):
        await lane.link.connect()
    scard.SCardReleaseContext(context)


@pytest.mark.pcsc
async def test_an_old_connection_never_reaches_a_card_that_came_later(lane: Lane) -> None:
    await lane.link.connect()
    await lane.pull("card")
    other = SimUserCard.issue(card_number="2045220000999999")
    await lane.insert("card", other)
    sent = lane.slot.sent
    with pytest.raises(NoAnswer, match="卡片已拿开"):
        await lane.link.send(READ)
    with pytest.raises(DeviceUnavailable, match="没有发出") as second:
        await lane.link.send(READ)
    assert not isinstance(second.value, NoAnswer)
    assert lane.slot.sent == sent


@pytest.mark.pcsc
async def test_an_answer_without_a_status_word_is_no_answer(lane: Lane) -> None:
    await lane.link.connect()
    lane.card.answer = lambda command: b"\x90"  # type: ignore[method-assign]
    with pytest.raises(NoAnswer):
        await lane.link.send(READ)


@pytest.mark.pcsc
async def test_a_silent_chip_costs_the_deadline_and_no_more(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcsc, "DEADLINE_S", 0.3)
    ticket = await lane.prepared()
    lane.slot.arm("silent", 1)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="没有收到应答"):
        await lane.purse.commit(ticket)
    assert time.monotonic() - began < 1.5
    assert lane.link.wedged == 1
    with pytest.raises(DeviceUnavailable):
        await lane.purse.prove(ticket)  # nobody knows yet, and nobody guesses
    lane.slot.voice.set()

    async def is_free() -> bool:
        return lane.link.wedged == 0

    await soon(is_free)
    proved = await lane.purse.prove(ticket)
    assert proved.happened == (len(lane.card.ledger) == 1)
    assert lane.card.balance in (10_000, 10_000 - AMOUNT)


@pytest.mark.pcsc
async def test_a_cancelled_exchange_leaves_no_usable_connection(lane: Lane) -> None:
    await lane.link.connect()
    lane.slot.arm("silent", 1)
    sending = asyncio.create_task(lane.link.send(READ))
    sent = lane.slot.sent

    async def is_underway() -> bool:
        return lane.slot.sent > sent

    await soon(is_underway)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    with pytest.raises(DeviceUnavailable, match="没有发出"):
        await lane.link.send(READ)
    lane.slot.voice.set()
    await lane.link.connect()


# ---- the card pulled at every APDU --------------------------------------------------------------


async def settle(lane: Lane, ticket: DebitTicket | None, is_unknown: bool) -> None:
    if is_unknown:
        assert ticket is not None
        proved = await lane.purse.prove(ticket)
        assert proved.happened == (len(lane.card.ledger) == 1)
        if proved.happened:
            assert proved.tac == lane.card.ledger[0].tac
            return
    assert lane.card.ledger == []
    await lane.purse.commit(await lane.prepared())


async def attempt(lane: Lane) -> tuple[DebitTicket | None, bool]:
    ticket = None
    try:
        ticket = await lane.prepared()
        await lane.purse.commit(ticket)
    except OutcomeUnknown:
        return ticket, True
    except DeviceUnavailable:
        return None, False
    raise AssertionError("the card was not pulled")


@pytest.mark.pcsc
@pytest.mark.parametrize("fault", ["pulled_before", "pulled_after"])
@pytest.mark.parametrize("number", range(1, 9))
async def test_a_card_pulled_at_any_apdu_pays_exactly_once(
    lane: Lane, fault: str, number: int
) -> None:
    lane.slot.arm(fault, number)
    ticket, is_unknown = await attempt(lane)
    assert is_unknown == (number >= 7)  # DEBIT and its GET RESPONSE
    await lane.pull("card")
    await lane.insert("card", lane.card)
    await settle(lane, ticket, is_unknown)
    assert lane.card.balance == 10_000 - AMOUNT
    assert lane.card.toll.hex().upper() == TOLL_HEX


# ---- pcscd killed and started again -------------------------------------------------------------


async def restart(lane: Lane) -> None:
    lane.rig.stop(kill=True)
    lane.rig.start()
    await lane.insert("card", lane.card)
    await lane.insert("psam", lane.psam)


@pytest.mark.pcsc
async def test_pcscd_killed_between_prepare_and_commit_takes_nothing(lane: Lane) -> None:
    ticket = await lane.prepared()
    lane.rig.stop(kill=True)
    with pytest.raises(OutcomeUnknown):
        await lane.purse.commit(ticket)
    with pytest.raises(DeviceUnavailable, match="读卡服务没有运行"):
        await lane.link.is_present()
    await restart(lane)
    assert not (await lane.purse.prove(ticket)).happened
    assert (await lane.purse.commit(await lane.prepared()))[1] == "verified"
    assert len(lane.card.ledger) == 1


@pytest.mark.pcsc
async def test_pcscd_killed_while_the_debit_is_answered_is_proved(lane: Lane) -> None:
    ticket = await lane.prepared()
    lane.slot.arm("killed_after", 1)
    with pytest.raises(OutcomeUnknown):
        await lane.purse.commit(ticket)
    await restart(lane)
    proved = await lane.purse.prove(ticket)
    assert (proved.happened, proved.tac) == (True, lane.card.ledger[0].tac)
    assert len(lane.card.ledger) == 1


# ---- threads, without any reader ----------------------------------------------------------------


async def test_wedged_threads_are_bounded_and_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(pcsc, "DEADLINE_S", 0.05)
    monkeypatch.setattr(pcsc._Reader, "is_present", lambda self: let_go.wait(WAIT_S))
    link = PcscLink("读卡器", "any", SystemClock())
    for wedged in range(1, pcsc.WEDGED_MAX + 1):
        with pytest.raises(DeviceUnavailable, match="没有应答"):
            await link.is_present()
        assert link.wedged == wedged
    before = threading.active_count()
    with pytest.raises(DeviceUnavailable, match="驱动卡死"):
        await link.is_present()
    assert threading.active_count() == before
    let_go.set()

    async def is_free() -> bool:
        return link.wedged == 0

    await soon(is_free)
    monkeypatch.setattr(pcsc, "DEADLINE_S", WAIT_S)  # a busy machine starts threads late
    assert await link.is_present()
    assert link.alive_at_ms is not None
    await link.close()


async def test_a_call_that_waited_in_vain_never_runs_later(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, ran = threading.Event(), threading.Event()
    monkeypatch.setattr(pcsc, "DEADLINE_S", 0.05)
    monkeypatch.setattr(pcsc._Reader, "is_present", lambda self: let_go.wait(WAIT_S))
    monkeypatch.setattr(pcsc._Reader, "exchange", lambda self, command: ran.set())
    link = PcscLink("读卡器", "any", SystemClock())
    link._is_connected = True
    watching = asyncio.create_task(link.is_present())
    await asyncio.sleep(0)
    worker = link._worker
    with pytest.raises(DeviceUnavailable) as fault:
        await link.send(READ)
    assert not isinstance(fault.value, NoAnswer)
    with pytest.raises(DeviceUnavailable):
        await watching
    assert link.wedged == 1  # one thread, whoever waited for it
    let_go.set()
    assert worker is not None
    await soon(lambda: asyncio.to_thread(lambda: not worker.is_alive()))
    assert not ran.is_set()

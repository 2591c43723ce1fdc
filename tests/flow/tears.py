"""The card torn out of a trade: every way, at every APDU, of every kind of card; then finished.

The same story is told in process (tests/flow) and through pcscd (tests/pcsc): only `Hand`, which
lays cards down and takes them away, differs.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from gateway.devices.etc_files import CardKind
from gateway.devices.sim.card import SimUserCard
from gateway.errors import GatewayError
from tests.flow.rig import ENTRY_HEX, Box, World, entry

KINDS = {
    "stored-3des": (CardKind.STORED, "3des", 100_00),
    "credit-3des": (CardKind.CREDIT, "3des", 0xFFFFBD56),
    "stored-sm4": (CardKind.STORED, "sm4", 100_00),
    "credit-sm4": (CardKind.CREDIT, "sm4", 0xFFFFBD56),
}
FAULTS = ("lost command", "lost answer", "reader gone", "other card")
STEPS_MAX = 24


class Hand(Protocol):
    """Whoever holds the cards."""

    def arm(self, fault: str, apdu: int) -> None:
        """Let it strike at that APDU from now; `other card` strikes like `lost answer`."""

    async def is_away(self) -> bool: ...

    async def lay(self, card: SimUserCard) -> None:
        """Lay this card down in place of what is there; mend the reader if it is gone."""


def card_of(kind: str) -> SimUserCard:
    card_kind, algorithm, purse = KINDS[kind]
    return SimUserCard.issue(
        card_kind=card_kind,
        algorithm=algorithm,  # type: ignore[arg-type]
        balance_fen=purse,
        entry=entry(),
    )


def stranger() -> SimUserCard:
    return SimUserCard.issue(entry=entry(), card_number="2045220000999999")


async def torn_and_finished(box: Box, world: World, hand: Hand, fault: str, purse: int) -> bool:
    """Drive on where the screen says until saved; whether the fault struck.

    A card that was away comes back; with `other card` a stranger's is tried first, wherever the
    passage knows whose card it is about, and must come out of it untouched.
    """
    tried = stranger()
    was_torn = False
    for _ in range(STEPS_MAX):
        if box.lane.passage.state.value == "saved":
            break
        if await hand.is_away():
            was_torn = True
            if fault == "other card" and box.lane.passage.media is not None:
                await hand.lay(tried)
                await _one_step(box)
            await hand.lay(world.card)
        await _one_step(box)
    assert box.lane.passage.state.value == "saved", box.lane.passage.problem
    assert (tried.balance, tried.card_seq, tried.ledger) == (100_00, 0, [])
    _paid_once(world, await box.records(), purse)
    return was_torn


async def _one_step(box: Box) -> None:
    """What a collector would press now. A refusal is an answer too."""
    does: dict[str, Callable[[], Awaitable[Any]]] = {
        "idle": lambda: box.do("read"),
        "checked": lambda: box.do("submit_plate", plate="甘A12345", colour=0, source="lpr"),
        "evidenced": lambda: box.do("classify", vehicle_type=1, vehicle_class=0),
        "classified": lambda: box.do("quote"),
        "unpriced": lambda: box.do("minimum_fare", operator="9001", password="9001"),
        "priced": lambda: box.do("confirm_entry", station_hex=ENTRY_HEX),
        "agreed": lambda: box.do("save"),
        "doubtful": lambda: box.do("prove"),
    }
    try:
        await does[box.lane.passage.state.value]()
    except GatewayError as no:
        _has_words(no)


def _has_words(no: GatewayError) -> None:
    assert no.detail, "a refusal without words"
    assert no.action, "a refusal that says not what to do"


def _paid_once(world: World, records: list[dict[str, Any]], purse: int) -> None:
    """The chips' own books and the record tell one story."""
    (record,) = [r for r in records if r["outcome"] != "cancelled"]
    (paid,) = [debit for debit in world.card.ledger if debit.amount_fen]
    assert purse - world.card.balance == paid.amount_fen == record["transFee"] == record["fee"]
    assert record["outcome"] == "paid"
    assert record["tac"] == paid.tac
    assert record["cardTransNo"] == f"{paid.card_seq:04X}"
    assert record["terminalTransNo"] == f"{paid.terminal_seq:08X}"

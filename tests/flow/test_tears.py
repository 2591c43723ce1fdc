"""Every APDU boundary × every kind of card × every way a card is lost, in process."""

from pathlib import Path

import pytest

from gateway.devices.sim.card import SimUserCard
from tests.flow.rig import Box, World, damage
from tests.flow.tears import FAULTS, KINDS, card_of, torn_and_finished

ARMED = {
    "lost command": "pulled_before",
    "lost answer": "pulled_after",
    "reader gone": "gone",
    "other card": "pulled_after",
}


class TwinHand:
    """Lays cards on the twin of a reader."""

    def __init__(self, world: World) -> None:
        self._reader = world.reader
        self._is_gone = False

    def arm(self, fault: str, apdu: int) -> None:
        self._is_gone = fault == "reader gone"
        self._reader.arm(ARMED[fault], apdu)

    async def is_away(self) -> bool:
        armed = self._reader._armed
        has_struck = self._is_gone and armed is not None and armed.countdown <= 0
        return has_struck or self._reader.chip is None

    async def lay(self, card: SimUserCard) -> None:
        self._reader.disarm()
        self._reader.insert(card)


async def whole(kind: str, folder: Path) -> int:
    """APDUs of an undisturbed passage."""
    world = World(card=card_of(kind))
    box = await Box.power_on(world, folder)
    assert not await torn_and_finished(box, world, TwinHand(world), "", KINDS[kind][2])
    await box.power_off()
    return world.reader.sent


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_money_moves_once_wherever_the_card_is_torn_out(
    tmp_path: Path, kind: str, fault: str
) -> None:
    apdus = await whole(kind, tmp_path / "whole")
    assert apdus >= 9
    for apdu in range(1, apdus + 1):
        world, folder = World(card=card_of(kind)), tmp_path / f"{apdu}"
        hand = TwinHand(world)
        box = await Box.power_on(world, folder)
        hand.arm(fault, apdu)
        assert await torn_and_finished(box, world, hand, fault, KINDS[kind][2]), "nothing was torn"
        await box.power_off()
        assert damage(folder) == []

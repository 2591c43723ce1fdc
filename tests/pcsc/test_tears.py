"""Every APDU boundary × every kind of card × every way a card is lost, through pcscd."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.devices.sim.card import SimUserCard
from tests.flow.rig import Box, damage
from tests.flow.tears import FAULTS, KINDS, card_of, torn_and_finished
from tests.pcsc.rig import PcscWorld, new_tag
from tests.pcsc.test_passage import CARD_APDUS, start_again
from tests.rig.vpcd import Rig

pytestmark = pytest.mark.pcsc


ARMED = {
    "lost command": "pulled_before",
    "lost answer": "pulled_after",
    "reader gone": "killed_after",
    "other card": "pulled_after",
}


class PcscHand:
    """Lays cards on a virtual reader behind pcscd; a reader that is gone is a pcscd that died."""

    def __init__(self, world: PcscWorld) -> None:
        self._world = world
        self._kills = False

    def arm(self, fault: str, apdu: int) -> None:
        self._kills = fault == "reader gone"
        self._world.slots["card"].arm(ARMED[fault], apdu)

    async def is_away(self) -> bool:
        return not self._world.slots["card"].is_taken

    async def lay(self, card: SimUserCard) -> None:
        world = self._world
        if self._kills:
            self._kills = False
            assert world.rig is not None
            world.rig.stop(kill=True)
            await start_again(world)
            return
        if not await self.is_away():
            await world.take_away("card")
        await world.put_back("card", card)


@pytest.fixture
async def torn(rig: Rig, request: pytest.FixtureRequest) -> AsyncIterator[PcscWorld]:
    world = PcscWorld(card=card_of(request.param), obu=new_tag(), rig=rig)
    await world.lay_out()
    yield world
    await world.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("torn", KINDS, indirect=True)
@pytest.mark.parametrize("apdu", range(1, len(CARD_APDUS) + 1))
async def test_money_moves_once_wherever_the_card_is_torn_out(
    torn: PcscWorld, tmp_path: Path, fault: str, apdu: int
) -> None:
    hand = PcscHand(torn)
    box = await Box.power_on(torn, tmp_path)
    hand.arm(fault, apdu)
    purse = torn.card.balance
    assert await torn_and_finished(box, torn, hand, fault, purse), "nothing was torn"
    await box.power_off()
    assert damage(tmp_path) == []

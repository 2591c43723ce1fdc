"""The plug pulled at every commit and every APDU, before and after, with the chips behind pcscd.

The chips keep what they had; pcscd and the box begin anew, as after a real cut.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.devices.pcsc import PcscLink
from gateway.devices.ports import Answer
from tests.flow.rig import Box, Plug, PlugPulled, drive_through
from tests.pcsc.rig import PcscWorld, assert_paid_once, new_tag
from tests.rig.vpcd import Rig

pytestmark = pytest.mark.pcsc
LIVES_MAX = 4


class PluggedPcsc(PcscLink):
    plug: Plug

    async def send(self, command: bytes) -> Answer:
        name = f"{self.name} {command[:2].hex()}"
        return await self.plug.touch(name, lambda: super(PluggedPcsc, self).send(command))


class CutWorld(PcscWorld):
    def __post_init__(self) -> None:
        super().__post_init__()
        links = {}
        for name in self.slots:
            links[name] = PluggedPcsc(name, f"{name} 00 00", self.clock)
            links[name].plug = self.plug
        self.reader, self.slot, self.antenna = links["card"], links["psam"], links["obu"]
        self.links = links

    async def dark(self) -> None:
        """What the cut does to the readers: every connection is gone, every chip loses power."""
        for link in self.links.values():
            await link.close()
        for name in self.slots:
            self.chip(name).reset()


async def live(world: CutWorld, folder: Path) -> Box:
    """One life after another until the car is through."""
    for _ in range(LIVES_MAX):
        box = None
        try:
            box = await Box.power_on(world, folder)
            await drive_through(box)
            return box
        except PlugPulled:
            if box:
                await box.power_off(is_cut=True)
            await world.dark()
    raise AssertionError("the plug was pulled more often than planned")


@pytest.fixture
async def world(rig: Rig) -> AsyncIterator[CutWorld]:
    world = CutWorld(obu=new_tag(), rig=rig, plug=Plug())
    await world.lay_out()
    yield world
    await world.close()


async def touches(world: CutWorld, folder: Path) -> int:
    box = await live(world, folder)
    await assert_paid_once(box, world, folder)
    return world.plug.touched


@pytest.mark.timeout(240)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_money_moves_once_wherever_the_plug_is_pulled(
    world: CutWorld, rig: Rig, tmp_path: Path, after: bool
) -> None:
    whole = await touches(world, tmp_path / "whole")
    assert whole > 25
    for at in range(1, whole + 1):
        await world.close()
        world = CutWorld(obu=new_tag(), rig=rig, plug=Plug(at, after))
        await world.lay_out()
        box = await live(world, tmp_path / f"{at}")
        assert world.plug.touched >= at, "the plug was never pulled"
        record = await assert_paid_once(box, world, tmp_path / f"{at}")
        assert record["outcome"] == "paid"
    await world.close()

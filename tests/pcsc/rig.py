"""The whole lane of tests/flow/rig.py with its three chips behind a real pcscd and virtual readers.

Only the links differ: rules, store, codecs and chips are the same, so what happens here can be
held against the twin's run in process.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.devices.pcsc import PcscLink
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import Chip
from gateway.devices.sim.obu import SimObu
from tests.flow.rig import Box, World, damage, drive_through, entry
from tests.rig.vpcd import WAIT_S, Rig, Slot

DUE_FEN, PAID_FEN = 4_505, 4_280


def new_tag() -> SimObu:
    """A tag whose gantries added up a usable sum for the way from 兰州东."""
    return SimObu.issue(
        entry=entry(),
        due_fen=DUE_FEN,
        paid_fen=PAID_FEN,
        success_count=3,
        mileage_m=95_000,
    )


class Heard:
    """A chip and what it was asked: every command that reached it, in order."""

    def __init__(self, chip: Chip) -> None:
        self._chip, self.atr = chip, chip.atr
        self.commands: list[str] = []

    def reset(self) -> None:
        self._chip.reset()

    def answer(self, command: bytes) -> bytes:
        self.commands.append(command.hex().upper())
        return self._chip.answer(command)


@dataclass
class PcscWorld(World):
    """The same outside world; card, PSAM and tag lie in pcscd's readers."""

    rig: Rig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        links = {name: PcscLink(name, f"{name} 00 00", self.clock) for name in self.slots}
        self.reader, self.slot, self.antenna = links["card"], links["psam"], links["obu"]
        self.links = links

    @property
    def slots(self) -> dict[str, Slot]:
        assert self.rig is not None
        return self.rig.slots

    def chip(self, name: str) -> Chip:
        chip = {"card": self.card, "psam": self.psam, "obu": self.obu}[name]
        assert chip is not None
        return chip

    async def lay_out(self) -> None:
        """All three chips in their readers, nothing armed, and pcscd sees them."""
        for name, slot in self.slots.items():
            slot.arm("", 0)
            if slot.is_taken:
                slot.swap(self.chip(name))
                slot.sent = 0
            else:
                await self.put_back(name)
                slot.sent = 0

    async def put_back(self, name: str, chip: Chip | None = None) -> None:
        """Lay a chip down where one was pulled; return once pcscd has seen it."""
        link, slot = self.links[name], self.slots[name]
        await soon(lambda: _is(link, present=False))
        slot.insert(chip or self.chip(name))
        await soon(lambda: _is(link, present=True))

    async def take_away(self, name: str) -> None:
        self.slots[name].remove()
        await soon(lambda: _is(self.links[name], present=False))

    async def close(self) -> None:
        for slot in self.slots.values():
            slot.voice.set()
        for link in self.links.values():
            await link.close()
        for slot in self.slots.values():
            slot.voice.clear()


async def drive(box: Box, world: PcscWorld) -> list[str]:
    """A collector who goes on where the screen says, and puts a missing card back first.

    Returns the codes of all problems the screen showed on the way.
    """
    real, seen = box.do, []

    async def do(command: str, **body: Any) -> dict[str, Any]:
        if not world.slots["card"].is_taken:
            await world.put_back("card")
        assert command in box.lane.snapshot()["allowed"]
        shot = await real(command, **body)
        if shot["problem"]:
            seen.append(shot["problem"]["code"])
        return shot

    box.do = do
    try:
        await drive_through(box)
    finally:
        box.do = real
    return seen


async def drive_to_agreed(box: Box) -> None:
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
    await box.do("classify", vehicle_type=1, vehicle_class=0)
    await box.do("quote")
    await box.do("confirm_entry", station_hex="62010A12")
    assert box.lane.passage.state == "agreed"


async def assert_paid_once(
    box: Box, world: World, folder: Path, paid_fen: int = PAID_FEN
) -> dict[str, Any]:
    """The chips' own books, the record and the journal tell one story. Ends the box's life."""
    (record,) = await box.records()
    (paid,) = world.card.ledger
    assert paid.amount_fen == record["transFee"] == record["fee"] == paid_fen
    assert world.card.balance == record["postBalance"] == record["preBalance"] - paid_fen
    assert record["tac"] == paid.tac
    assert record["cardTransNo"] == f"{paid.card_seq:04X}"
    assert record["terminalTransNo"] == f"{paid.terminal_seq:08X}"
    assert record["terminalNo"] == world.psam.terminal_no == paid.terminal_no
    assert paid.terminal_seq <= world.psam.terminal_seq
    assert world.card.card_seq == paid.card_seq + 1
    assert world.psam.wrong_mac2 == 0
    assert box.lane.passage.state == "saved"
    await box.power_off()
    assert damage(folder) == []
    return record


async def soon(is_so: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await is_so():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


async def _is(link: PcscLink, *, present: bool) -> bool:
    return await link.is_present() is present


def another_card() -> SimUserCard:
    return SimUserCard.issue(entry=entry(), card_number="2045220000999999")

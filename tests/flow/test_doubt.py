"""A debit in doubt at one lane is known at all of its box; none takes another's for its own."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.devices.etc_card import EtcCard
from gateway.devices.psam import Psam
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.psam import SimPsam
from gateway.flow.messages import ChecksFailed, ChecksPassed, DebitPrepared, Level
from gateway.flow.passage import Passage
from gateway.flow.perform import DOUBT_MS, Hands, Kit
from tests.flow.rig import ENTRY_HEX, PLACE, Box, World, drive_through, entry
from tests.flow.test_lane import MASTER, to_agreed

NEXT_DOOR = replace(PLACE, lane="X04", lane_id="G00306200100202010040", lane_no=4)


class Beside:
    """Lane X04 of the same box: its own reader and PSAM, the same store."""

    def __init__(self, box: Box) -> None:
        world = box.world
        self.reader, slot = SimLink("读卡器"), SimLink("PSAM")
        slot.insert(SimPsam.issue(terminal_no="0162000099EE"))
        self.kit = Kit(EtcCard(self.reader), Psam(slot), None, world.camera, world.scale)
        self.hands = Hands(
            self.kit, NEXT_DOOR, box.store, box._evidence, world.fares,
            lambda: world.parameters, lambda: 0, world.clock,
        )  # fmt: skip

    async def reads(self, card: SimUserCard) -> dict[int, tuple[Level, str]]:
        self.reader.insert(card)
        event = await self.hands._read()
        assert isinstance(event, ChecksPassed | ChecksFailed)
        return {f.code: (f.level, f.text) for f in event.findings}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = await Box.power_on(World(), tmp_path)
    yield box
    await box.power_off()


async def in_doubt(box: Box, fault: str = "pulled_after") -> dict[str, Any]:
    await to_agreed(box)
    box.world.reader.arm(fault, 5)  # DEBIT
    shot = await box.do("save")
    assert shot["state"] == "doubtful"
    return shot


async def test_a_card_whose_debit_is_in_doubt_needs_the_master_at_every_lane(box: Box) -> None:
    beside, card = Beside(box), box.world.card
    await in_doubt(box)
    level, text = (await beside.reads(card))[208]
    assert level is Level.MASTER
    assert text.startswith("X03 车道 03-18 01:46 扣这张卡 38.00 元，结果未知，可能已经扣过")
    assert "请先到该车道放回卡片查清" in text
    await box.do("hand_over", reason="司机去了旁边车道")
    assert 208 in await beside.reads(card)
    other = SimUserCard.issue(entry=entry(), card_number="2045220000777777")
    assert 208 not in await beside.reads(other)


async def test_a_doubt_that_was_cleared_up_is_none(box: Box) -> None:
    beside, world = Beside(box), box.world
    await in_doubt(box, "pulled_before")
    world.reader.insert(world.card)
    assert (await box.do("prove"))["state"] == "agreed"
    assert 208 not in await beside.reads(world.card)
    await box.do("save")
    assert 208 not in (found := await beside.reads(world.card))
    assert 141 in found


async def test_a_doubt_that_was_closed_by_hand_is_told_for_a_day(box: Box) -> None:
    beside, world = Beside(box), box.world
    await in_doubt(box)
    await box.do("hand_over", reason="司机已离开")
    await box.do("settle_by_hand", means="cash", amount_fen=1000, reason="现金", **MASTER)
    _, text = (await beside.reads(world.card))[208]
    assert "扣这张卡 38.00 元" in text  # what the card was asked for, not the cash
    assert "已按特情办完" in text
    world.reader.insert(world.card)
    shot = await box.do("read")  # the lane itself remembers as well
    assert shot["state"] == "refused"
    assert "override" in shot["allowed"]
    await box.do("cancel", reason="退回")
    world.clock.ms += DOUBT_MS
    world.card.write_entry(entry())
    assert 208 not in await beside.reads(world.card)


async def test_the_next_lanes_debit_of_the_same_fare_is_not_taken_for_ours(box: Box) -> None:
    """X03's debit never reached the card; X04 then took the same fare."""
    beside, world = Beside(box), box.world
    await in_doubt(box, "pulled_before")
    beside.reader.insert(world.card)
    read = await beside.hands._read()
    assert isinstance(read, ChecksFailed)
    theirs = Passage(media=read.media)
    prepared = await beside.hands._prepare(theirs, 3800)
    assert isinstance(prepared, DebitPrepared)
    await beside.hands._commit(prepared.ticket)
    assert [debit.terminal_no for debit in world.card.ledger] == ["0162000099EE"]
    beside.reader.remove()
    world.reader.insert(world.card)

    shot = await box.do("prove")

    assert (shot["state"], shot["problem"]["code"]) == ("doubtful", "E-301")
    assert "终端 0162000099EE" in shot["problem"]["detail"]
    assert "卡内出口信息不是本笔写的" in shot["problem"]["detail"]
    assert "转特情" in shot["problem"]["action"]
    await box.do("hand_over", reason="X04 已扣")
    await box.do("settle_by_hand", means="unpaid", reason="X04 已扣", **MASTER)
    (record,) = await box.records()
    assert (record["outcome"], record["fee"], record["tac"]) == ("doubtful", 0, None)
    assert len(world.card.ledger) == 1


async def test_a_master_may_let_a_card_in_doubt_pass(box: Box) -> None:
    world = box.world
    await in_doubt(box, "pulled_before")
    await box.do("hand_over", reason="司机已离开")
    await box.do("settle_by_hand", means="unpaid", reason="监控确认", **MASTER)
    world.reader.insert(world.card)
    assert (await box.do("read"))["state"] == "refused"
    await box.do("override", reason="余额没有变", **MASTER)
    await drive_through(box)
    record = (await box.records())[-1]
    assert (record["outcome"], record["enTollStationHex"]) == ("paid", ENTRY_HEX)
    assert "208" in record["specialType"].split("|")

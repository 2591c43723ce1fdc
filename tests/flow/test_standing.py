"""暂停 恢复 关闭车道: the vehicle in work is finished, no other begun; restarts forget nothing."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable, UnexpectedEvent
from tests.flow.rig import Box, World, damage, drive_through
from tests.flow.test_lane import ask

PAUSE = {"command": "pause_lane", "reason": "临时离开"}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = await Box.power_on(World(), tmp_path)
    yield box
    await box.power_off()


async def test_a_paused_lane_begins_nothing_until_it_is_opened_again(box: Box) -> None:
    shot = await box.do("pause_lane", reason="临时离开")
    assert shot["standing"]["state"] == "paused"
    assert shot["standing"]["operator"] == "1001"
    assert shot["devices"]["lane"] == {"name": "车道", "state": "paused", "text": "临时离开"}
    assert "read" not in shot["allowed"]
    with pytest.raises(UnexpectedEvent, match=r"暂停收费.*临时离开"):
        await box.do("read")
    with pytest.raises(UnexpectedEvent, match="已经是这样"):
        await box.do("pause_lane", reason="临时离开")
    shot = await box.do("open_lane")
    assert (shot["standing"]["state"], "lane" in shot["devices"]) == ("open", False)
    await drive_through(box)
    assert len(await box.records()) == 1


async def test_the_vehicle_in_work_is_finished_first(box: Box) -> None:
    await box.do("read")
    rev = box.lane.rev
    await box.do("close_lane", reason="设备故障")
    assert box.lane.rev == rev, "what the person saw of the vehicle is still so"
    await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
    await box.do("classify", vehicle_type=1, vehicle_class=0)
    await box.do("quote")
    await box.do("minimum_fare", operator="9001", password="9001")
    shot = await box.do("save")
    assert shot["state"] == "saved"
    assert "read" not in shot["allowed"]
    assert shot["standing"]["allowed"] == ["open_lane"]


async def test_a_vehicle_put_aside_may_still_be_settled(box: Box) -> None:
    await box.do("read")
    passage = box.lane.passage.id
    await box.do("suspend")
    await box.do("pause_lane", reason="交接班")
    assert "resume" in box.lane.snapshot()["allowed"]
    await box.do("resume", passage=passage)
    await box.do("cancel", reason="操作错了")


async def test_a_closed_lane_stays_closed_over_a_power_cut(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    await box.do("pause_lane", reason="临时离开")
    await box.do("close_lane", reason="交通管制")
    await box.power_off(is_cut=True)
    box = await Box.power_on(world, tmp_path)
    standing = box.lane.standing
    assert (standing.state, standing.reason) == ("closed", "交通管制")
    await box.do("open_lane")
    await box.power_off(is_cut=True)
    box = await Box.power_on(world, tmp_path)
    assert box.lane.standing.state == "open"
    notes = await box.store.rows("SELECT event FROM journal WHERE event LIKE 'lane_%' ORDER BY seq")
    assert [row["event"] for row in notes] == ["lane_paused", "lane_closed", "lane_opened"]
    await box.power_off()
    assert damage(tmp_path) == []


async def test_asked_twice_it_is_written_once(box: Box) -> None:
    first = await ask(box, "k1", box.lane.rev, **PAUSE)
    again = await ask(box, "k1", box.lane.rev, **PAUSE)
    assert again["standing"] == first["standing"]
    rows = await box.store.rows("SELECT 1 FROM journal WHERE event = 'lane_paused'")
    assert len(rows) == 1


async def test_a_disk_that_refuses_leaves_the_lane_open(box: Box) -> None:
    box.store.pretend_full(True)
    with pytest.raises(StoreUnavailable):
        await box.do("pause_lane", reason="临时离开")
    box.store.pretend_full(False)
    await box.lane._find_footing()
    assert box.lane.standing.state == "open"
    await box.do("read")


async def test_a_lane_whose_tables_lag_is_paused_by_what_was_logged(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-310 says that it may go on: its log takes rows, only the tables follow none."""
    await box.lane._forget_old_keys()  # so that a new one is not looked up
    copies, may_follow = box.store._writer.copies, False
    follow = copies._follow

    def ill() -> None:
        if (copies.is_behind or copies.later) and not may_follow:
            broken = sqlite3.OperationalError("disk I/O error")
            broken.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise broken
        follow()

    monkeypatch.setattr(copies, "_follow", ill)
    await box.do("read")
    shot = await box.do("pause_lane", reason="临时离开")
    assert shot["standing"]["state"] == "paused"
    assert shot["standing"]["operator"] == "1001"
    await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
    shot = await box.do("open_lane")
    assert shot["standing"]["state"] == "open"
    may_follow = True
    assert await box.lane._books.standing() == box.lane.standing

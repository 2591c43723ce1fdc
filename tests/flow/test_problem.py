"""What the lane says of itself goes when its cause has gone, without anybody's press."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import DeviceUnavailable, StoreUnavailable
from gateway.flow.lane import LAMP_MS
from gateway.flow.messages import Problem
from tests.flow.rig import Box, World
from tests.flow.test_lane import to_agreed

FULL = Problem("E-306", "磁盘满了", "请改用别的车道")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = await Box.power_on(World(), tmp_path)
    yield box
    await box.power_off()


async def seen(box: Box, count: int) -> dict[str, Any]:
    """The next snapshot that screens are told of."""
    await asyncio.wait_for(box.lane.changes.wait(count), 5)
    return box.lane.snapshot()


async def test_a_reader_that_answers_again_is_no_longer_said_to_be_silent(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    lamp = {"name": "读卡器", "state": "missing", "text": "没有应答"}
    box.lane._surroundings = lambda: {"devices": {"reader": lamp}}

    async def silent(*_: Any) -> Any:
        raise DeviceUnavailable("没有应答")

    monkeypatch.setattr(type(box.world.reader), "connect", silent)
    assert (await box.do("read"))["problem"]["code"] == "E-112"
    lamp["state"] = "ok"
    assert box.lane.snapshot()["problem"]["code"] == "E-112", "the lamp may be an older one"
    box.world.clock.ms += LAMP_MS
    lamp["state"] = "missing"
    assert box.lane.snapshot()["problem"]["code"] == "E-112"
    lamp["state"] = "ok"
    assert box.lane.snapshot()["problem"] is None


async def test_screens_are_told_when_the_disks_refusal_comes_and_goes(box: Box) -> None:
    why: list[Problem] = [FULL]
    box.lane._no_new = lambda: why[0] if why else None
    count = box.lane.changes.count
    running = asyncio.create_task(box.lane.run())
    try:
        assert (await seen(box, count))["problem"]["code"] == "E-306"
        count = box.lane.changes.count
        why.clear()
        shot = await seen(box, count)
        assert (shot["problem"], "read" in shot["allowed"]) == (None, True)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_screens_are_told_when_a_refused_write_is_over(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    await to_agreed(box)
    real = type(box.store).log

    async def refuses(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("磁盘不能写")

    monkeypatch.setattr(type(box.store), "log", refuses)
    with pytest.raises(StoreUnavailable):
        await box.do("save")
    assert box.lane.snapshot()["problem"]["code"] == "E-303"
    monkeypatch.setattr(type(box.store), "log", real)
    count = box.lane.changes.count
    await box.lane._find_footing()
    shot = await seen(box, count)
    assert (shot["state"], shot["problem"], "save" in shot["allowed"]) == ("agreed", None, True)

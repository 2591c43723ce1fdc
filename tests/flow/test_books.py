"""Keys and answers: what is written when, and what a repeat gets before and after a restart."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import KeyReused
from gateway.flow.books import KEY_KEPT_MS, key_of
from gateway.flow.lane import FORGET_EVERY_MS
from tests.flow.rig import Box, World
from tests.flow.test_lane import ask

PLATE = {"command": "submit_plate", "plate": "甘A12345", "colour": 0, "source": "lpr"}


async def answers(box: Box) -> list[bool]:
    """Of each key in the store, whether its answer is there too."""
    rows = await box.store.rows("SELECT answer IS NOT NULL AS has FROM command ORDER BY at_ms")
    return [bool(row["has"]) for row in rows]


async def test_an_answer_is_kept_behind_its_key(tmp_path: Path) -> None:
    box = await Box.power_on(World(), tmp_path)
    await ask(box, "k1", box.lane.rev, command="read")
    await ask(box, "k2", box.lane.rev, **PLATE)
    assert await answers(box) == [True, True]
    await box.power_off()


async def test_a_repeat_gets_its_answer_on_the_way_to_the_disk_and_after_a_restart(
    tmp_path: Path,
) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    rev = box.lane.rev
    first = await ask(box, "k1", rev, command="read")
    assert await ask(box, "k1", rev, command="read") == first
    with pytest.raises(KeyReused):
        await ask(box, "k1", rev, **PLATE)
    await ask(box, "k2", box.lane.rev, **PLATE)
    await box.power_off()
    box = await Box.power_on(world, tmp_path)
    assert await ask(box, "k1", rev, command="read") == first
    await box.power_off()


async def test_an_answer_that_the_plug_took_is_the_newest_snapshot_and_nothing_is_done_twice(
    tmp_path: Path,
) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    rev = box.lane.rev
    first = await ask(box, "k1", rev, command="read")
    sent = world.reader.sent
    await box.power_off(is_cut=True)  # the tables had not followed
    box = await Box.power_on(world, tmp_path)
    again = await ask(box, "k1", rev, command="read")
    assert without_time(again) == without_time(first)
    assert (world.reader.sent, len(await answers(box))) == (sent, 1)
    await box.power_off()


async def test_old_keys_are_forgotten_while_the_box_runs_and_younger_ones_are_not(
    tmp_path: Path,
) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    await ask(box, "old", box.lane.rev, command="read")
    world.clock.ms += KEY_KEPT_MS - 1000
    await ask(box, "young", box.lane.rev, **PLATE)
    world.clock.ms += FORGET_EVERY_MS
    await box.lane._forget_old_keys()
    rows = await box.store.rows("SELECT key FROM command")
    assert [row["key"] for row in rows] == ["young"]
    young = key_of("young", {}, "1001")
    with pytest.raises(KeyReused):
        await box.lane._books.answer_of(young)
    assert await box.lane._books.answer_of(key_of("old", {}, "1001")) == (False, None)
    await box.power_off()


def without_time(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in snapshot.items() if name != "at_ms"}

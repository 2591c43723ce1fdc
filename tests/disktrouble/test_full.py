"""A disk that is really full: what has begun is finished, 1 000 more are sold and read back."""

import asyncio
import json
import os
from collections.abc import Callable

import pytest

from gateway.disk import shed
from gateway.disk.states import LAST, State, log_passage_bytes
from gateway.disk.watch import DiskWatch
from gateway.errors import StoreUnavailable
from gateway.evidence import Evidence
from gateway.flow.messages import Problem
from gateway.units import SystemClock
from tests.disktrouble.conftest import MB, SmallDisk
from tests.flow.rig import Box, World, damage, entry

MakeDisk = Callable[[int], SmallDisk]
PASSAGES = 1_000
NO_PHOTO = "磁盘满，拍不了照"


async def settle(box: Box, watch: DiskWatch) -> None:
    """Until both reserves are whole."""
    spool = box.store._writer.copies.spool
    spool._filling.join()
    for _ in range(100):
        await watch.look()
        if box.store.reserve.is_whole:
            return
    raise AssertionError("the tables' reserve is not whole")


async def begin(box: Box) -> None:
    box.world.card.balance = 1_000_000
    now_s = box.world.clock.ms // 1000
    box.world.card.write_entry(entry(at_s=now_s - 3600, gantry_at_s=now_s - 600))
    await box.do("read")


async def sell(box: Box) -> None:
    """One vehicle, as a collector does it who cannot have a photo."""
    if box.lane.passage.state.value in ("idle", "saved"):
        await begin(box)
    for _ in range(12):
        match box.lane.passage.state.value:
            case "saved":
                return
            case "checked":
                why = NO_PHOTO if box.lane.passage.problem else ""
                await box.do(
                    "submit_plate", plate="甘A12345", colour=0, source="lpr", no_photo_reason=why
                )
            case "evidenced":
                await box.do("classify", vehicle_type=1, vehicle_class=0)
            case "classified":
                await box.do("quote")
            case "unpriced":
                await box.do("minimum_fare", operator="9001", password="9001")
            case "priced":
                await box.do("confirm_entry", station_hex="62010A12")
            case "agreed":
                await box.do("save")
            case other:
                raise AssertionError(f"stuck in {other}: {box.lane.passage.problem}")
    raise AssertionError("no end")


def heed(box: Box, watch: DiskWatch) -> None:
    """Wire the watch to lane and photos as the composition does."""

    def no_new() -> Problem | None:
        now = watch.verdict
        return None if now.may_begin else Problem(now.code, now.detail, now.action)

    box.lane._no_new = no_new
    evidence: Evidence = box._evidence  # type: ignore[attr-defined]
    evidence._refusal = lambda: "磁盘已满" if watch.shed.is_given_up(shed.PHOTOS) else ""


async def note(box: Box, size: int) -> None:
    text = json.dumps({"x": os.urandom(size // 2).hex()})
    await box.store.log(lambda d: d.add("", "", (1, 1, "b", ""), "ballast", "", text))


@pytest.mark.timeout(400)
async def test_a_thousand_vehicles_pass_after_the_disk_is_full_and_are_read_back(
    small_disk: MakeDisk, record_property: Callable[[str, object], None]
) -> None:
    disk = small_disk(320)
    world, folder = World(), disk.path / "data"
    box = await Box.power_on(world, folder)
    watch = DiskWatch(box.store, folder, SystemClock())
    heed(box, watch)
    await settle(box, watch)
    disk.fill()
    assert disk.free_bytes < 64 * 1024
    await watch.look()
    assert (watch.verdict.state, watch.verdict.code) == (State.FULL, "E-305")
    left = watch.verdict.left
    assert left >= PASSAGES

    spare, held = box.store.spare_bytes, box.store.reserve.held_bytes
    for _ in range(PASSAGES):
        world.clock.ms += 600_000
        await sell(box)
    await watch.look()
    assert watch.verdict.may_begin
    await box.store.settle()  # the tables have followed, all of it
    records = await box.records()
    assert len(records) == PASSAGES
    assert [record["seq"] for record in records] == list(range(1, PASSAGES + 1))
    assert {record["reason"] for record in records} == {NO_PHOTO}
    assert {record["photo"] for record in records} == {None}
    used = {
        "log_bytes_per_passage": (spare - box.store.spare_bytes) // PASSAGES,
        "reserve_let_go_mb": (held - box.store.reserve.held_bytes) // MB,
        "left_said_before": left,
        "left_said_after": watch.verdict.left,
    }
    for name, value in used.items():
        record_property(name, value)
        print(name, value)
    assert box.store.reserve.held_bytes > 0
    assert left - watch.verdict.left <= PASSAGES * 1.05

    # Below the reserve: no new one begins, one that has begun is finished.
    world.clock.ms += 600_000
    await begin(box)
    while watch.verdict.may_begin:
        await note(box, 256 * 1024 if watch.verdict.left > 100 else 4096)
        await watch.look()
    assert (watch.verdict.state, watch.verdict.code) == (State.SPENT, "E-306")
    assert box.store.spare_bytes < (LAST + 1) * log_passage_bytes(512)
    await sell(box)
    shot = box.lane.snapshot()
    assert shot["state"] == "saved"
    assert "read" not in shot["allowed"]
    assert shot["problem"]["code"] == "E-306"
    with pytest.raises(StoreUnavailable, match="不再开始新的一笔"):
        await box.do("read")
    assert len(await box.records()) == PASSAGES + 1

    # Room again: everything comes back by itself.
    (disk.path / "ballast").unlink()
    await settle(box, watch)
    box.store._writer.copies.spool.replenish()
    box.store._writer.copies.spool._filling.join()
    await watch.look()
    assert watch.verdict.may_begin
    world.clock.ms += 600_000
    await sell(box)
    for _ in range(50):
        await watch.look()
        await asyncio.sleep(0.02)
    told = [
        json.loads(row["body"])["to"]
        for row in await box.store.rows("SELECT body FROM journal WHERE event = 'disk_changed'")
    ]
    assert told[:2] == ["full", "spent"]
    watch.close()
    await box.power_off()
    assert damage(folder) == []


async def test_a_disk_full_at_the_start_starts_and_sells(small_disk: MakeDisk) -> None:
    disk = small_disk(320)
    world, folder = World(), disk.path / "data"
    box = await Box.power_on(world, folder)
    await settle(box, DiskWatch(box.store, folder, SystemClock()))
    await sell(box)
    await box.power_off()
    disk.fill()
    box = await Box.power_on(world, folder)
    watch = DiskWatch(box.store, folder, SystemClock())
    heed(box, watch)
    await watch.look()
    assert watch.verdict.state is State.FULL
    for _ in range(3):
        world.clock.ms += 600_000
        await sell(box)
    assert len(await box.records()) == 4
    watch.close()
    await box.power_off(is_cut=True)
    box = await Box.power_on(world, folder)
    assert len(await box.records()) == 4
    await box.power_off()
    assert damage(folder) == []

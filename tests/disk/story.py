"""One life of a box whose disk fails at some call: it sells, refuses in words, and sells again."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from gateway.app import Gateway
from gateway.devices.sim.bench import Bench
from gateway.disk import watch
from gateway.errors import GatewayError, StaleRevision, StoreUnavailable, UnexpectedEvent
from gateway.flow import lane as lane_module
from gateway.params import TABLES
from gateway.spool import writer
from gateway.spool.reserve import Reserve
from gateway.units import SystemClock
from tests.disk.fault import Disk
from tests.powercut import box as boxes
from tests.powercut import collector
from tests.powercut.collector import AT_REST, Collector, Stuck
from tests.powercut.life import live
from tests.powercut.world import LANE, Centre, World, bench_of

PATIENCE = 3
"""Refusals after which the disk is mended, if it does not mend itself."""
WAITS = 40
"""Looks at a lane that does not come to an end, after which it is mended, too."""
STUCK = 1000
"""Looks at a lane at which nothing moved, after which it is stuck: no seconds, since on a crowded
machine those pass without a lane's having had its turn."""
ANSWER_S = 120.0
RETRY_S = 0.02
RESERVE = (256 * 1024, 64 * 1024)
"""Size and step of the tables' reserve."""


@dataclass(slots=True)
class Outcome:
    """What came of one life, and of the next one on the same disk."""

    violations: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    """What people and the log of the start were told."""
    hits: int = 0
    is_started: bool = True


def be_quick() -> None:
    """Nobody waits seconds for the next attempt here."""
    boxes.press("small")
    lane_module.RETRY_S = RETRY_S
    writer.RETRY_S = RETRY_S
    watch.POLL_S = 0.1
    collector.ANSWER_S = ANSWER_S
    Reserve.__init__.__defaults__ = RESERVE  # copied for each attempt
    logging.disable(logging.CRITICAL)


def packed(world: World) -> dict[str, Any]:
    """For another process."""
    return {name: getattr(world, name) for name in WORLD}


def unpacked(told: Mapping[str, Any]) -> World:
    return World(**{name: copy(told[name]) for name in WORLD})


WORLD = ("chips", "notes", "centre", "answers")


@asynccontextmanager
async def at_work(
    folder: Path, world: World, name: str
) -> AsyncIterator[tuple[Gateway, Collector, Bench]]:
    """A box at work: its lane, its outbox, its collector."""
    clock = SystemClock()
    centre = Centre(world, world.hear)
    async with boxes.box_on(folder, clock, centre) as box:
        bench = bench_of(box, world, world.hear, clock)
        lane = box.lanes[LANE]
        running = asyncio.create_task(lane.run())
        others = [asyncio.create_task(service.run()) for service in (box.outbox, box.disk)]
        try:
            yield box, Collector(lane, running, bench, world.hear, name), bench
        finally:
            for task in (running, *others):
                task.cancel()
            await asyncio.gather(running, *others, return_exceptions=True)


async def ordinary(folder: Path, world: World) -> None:
    """A life without faults, for those that come after."""
    async with at_work(folder, world, "before") as (box, booth, _):
        await booth.serve({"preset": "car"})
        await box.shelf.confirm(TABLES)
        await box.outbox.drain()


async def tried(folder: Path, world: World, disk: Disk, chance: Random) -> Outcome:
    """The disk is armed already. A whole life, then the next one, and what is wrong with them."""
    outcome = Outcome()
    try:
        await _first_life(folder, world, disk, outcome)
    except StoreUnavailable as no:
        outcome.said[no.code] += 1
        outcome.is_started = False
    except GatewayError as no:
        outcome.violations.append(f"the start is refused as {no.code}: {no.detail}")
    except Stuck as stuck:
        outcome.violations.append(f"stuck: {stuck}")
    except Exception as bug:  # noqa: BLE001 - whatever it is, it is a finding
        outcome.violations.append(f"died of {bug!r}")
    outcome.hits = disk.hits
    disk.heal()
    if not outcome.violations:
        life = await live(folder, world, _hashes(folder), chance, may_mend=True)
        outcome.violations += [f"next life: {said}" for said in life.violations]
    return outcome


async def _first_life(folder: Path, world: World, disk: Disk, outcome: Outcome) -> None:
    async with at_work(folder, world, "armed") as (box, booth, bench):
        await _served(box, booth, bench, disk, outcome, {"preset": "car"})
        with suppress(StoreUnavailable):
            await box.shelf.confirm(TABLES)
        await _served(box, booth, bench, disk, outcome, {"preset": "truck"})
        await _sells_without_restart(box, booth, disk)
        outcome.said.update(f"mended: {_plain(one.what)}" for one in box.store.repairs)


async def _served(
    box: Gateway,
    booth: Collector,
    bench: Bench,
    disk: Disk,
    outcome: Outcome,
    vehicle: Mapping[str, Any],
) -> None:
    """One vehicle, whatever the disk says; the collector presses again and again."""
    bench.put(vehicle)
    has_begun, refusals, waits = False, 0, 0
    still, seen = 0, (0, "")
    while True:
        shot, waits = booth.lane.snapshot(), waits + 1
        still = still + 1 if (shot["rev"], shot["state"]) == seen else 0
        seen = shot["rev"], shot["state"]
        if still > STUCK:
            raise Stuck(f"{shot['state']}, {shot['allowed']}, {shot['problem']}")
        if waits >= WAITS:
            disk.heal()
        if shot["state"] in AT_REST and has_begun:
            return
        try:
            asked = {"command": "read"} if shot["state"] in AT_REST else booth._next(shot)
        except Stuck:  # the lane has to do something first
            await asyncio.sleep(RETRY_S)
            continue
        try:
            shot = await booth.do(**asked)
            has_begun = True
        except (StoreUnavailable, StaleRevision, UnexpectedEvent) as no:
            outcome.said[no.code] += 1
            refusals += isinstance(no, StoreUnavailable)
            has_begun |= booth.lane.snapshot()["state"] not in AT_REST
            if refusals >= PATIENCE:
                disk.heal()
            await asyncio.sleep(RETRY_S)


async def _sells_without_restart(box: Gateway, booth: Collector, disk: Disk) -> None:
    disk.heal()
    await _until(lambda: not booth.lane.closed_because, "the lane is open again")
    shot = await booth.serve({"preset": "car"})
    if shot["state"] != "saved" or not shot["passage"]["record"]["tac"]:
        raise Stuck(f"a fresh car ends {shot['state']}")
    await box.outbox.drain()
    await box.store.settle()


async def _until(is_so: Callable[[], bool], what: str) -> None:
    for _ in range(STUCK):
        if is_so():
            return
        await asyncio.sleep(RETRY_S)
    raise Stuck(f"never: {what}")


def _plain(what: str) -> str:
    return re.sub(r"\d+", "#", what)


def _hashes(folder: Path) -> list[str]:
    """Of what is in the log now."""
    from gateway.spool.log import Spool

    spool = Spool.open(folder / "spool")
    try:
        return [row_hash.hex() for _, row_hash in spool.rows()]
    finally:
        spool.close()

"""One life of a box on a disk that a cut left: recovery, repeats, what stood there, a fresh car."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from gateway.app import Gateway
from gateway.devices.sim.bench import Bench
from gateway.errors import GatewayError, StaleRevision
from gateway.flow.lane import Lane
from gateway.store import Store
from gateway.units import SystemClock
from tests.powercut.box import box_on
from tests.powercut.collector import Collector, Stuck
from tests.powercut.world import LANE, Centre, Tell, World, bench_of
from tests.rig import invariants
from tests.rig.invariants import KEPT_REFUSALS, Scene, read_only

REPEATS = 3


@dataclass(slots=True)
class Life:
    """What came of it."""

    violations: list[str] = field(default_factory=list)
    found: str = ""
    """The state that recovery found the lane in."""
    settled: str = ""
    """And the one it came to by itself."""
    hashes: list[str] = field(default_factory=list)
    """Of the journal as it was at the end."""


async def live(
    folder: Path,
    world: World,
    hashes: Sequence[str],
    chance: Random,
    listen: Callable[[Mapping[str, Any]], None] = lambda _: None,
    store: type[Store] = Store,
    *,
    sizes: str = "small",
    may_mend: bool = False,
) -> Life:
    """Start the box on that folder, judge it, use it, judge it again. `world` moves on with it."""
    life = Life()

    def tell(mark: Mapping[str, Any]) -> None:
        world.hear(mark)
        listen(mark)

    centre, clock = Centre(world, tell), SystemClock()
    try:
        async with box_on(folder, clock, centre, store, sizes) as box:
            with closing(read_only(folder)) as db:
                life.violations += invariants.on_opening(Scene(db, folder, world, hashes))
            bench = bench_of(box, world, tell, clock)
            await _use(box, bench, tell, world, chance, life)
            await box.store.settle()
            with closing(read_only(folder)) as db:
                scene = Scene(db, folder, world, hashes)
                cards = list(bench._drawer.cards())
                life.violations += invariants.at_the_end(scene, cards) + centre.complaints
                if not may_mend:
                    life.violations += invariants.quiet(scene)
                rows = db.execute("SELECT hash FROM journal ORDER BY seq")
                life.hashes = [row["hash"].hex() for row in rows]
    except GatewayError as fault:
        life.violations.append(f"the box does not start: {fault.code}: {fault.detail}")
    return life


async def _use(
    box: Gateway, bench: Bench, tell: Tell, world: World, chance: Random, life: Life
) -> None:
    lane = box.lanes[LANE]
    life.found = lane.passage.state.value
    running = asyncio.create_task(lane.run())
    # A name of this life's own: his keys are nobody else's.
    name = hashlib.sha256(f"{len(world.answers)} {lane.rev} {chance.random()}".encode())
    booth = Collector(lane, running, bench, tell, name.hexdigest()[:12])
    try:
        await _settled(booth)
        life.settled = lane.passage.state.value
        life.violations += await _repeats(booth, world, chance)
        await booth.onward()
        await _take_up(booth, lane)
        shot = await booth.serve({"preset": "car"})
        if shot["state"] != "saved" or not shot["passage"]["record"]["tac"]:
            life.violations.append(f"a fresh car ends {shot['state']}")
        await box.outbox.drain()
    except Stuck as stuck:
        life.violations.append(str(stuck))
    except GatewayError as no:
        life.violations.append(f"refused on the way: {no.code}: {no.detail}")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _settled(booth: Collector) -> None:
    """Wait until what a restart left unanswered is answered: an old screen's press is refused."""
    try:
        await booth.repeat({"command": "read"}, "an old screen", -1)
    except StaleRevision:
        return
    raise Stuck("an old screen was obeyed")


async def _repeats(booth: Collector, world: World, chance: Random) -> list[str]:
    """The newest answer, and some old ones, asked for again: the same is said, nothing is done."""
    kept = [a for a in world.answers if a.get("refused") in {None, *KEPT_REFUSALS}]
    again = kept[-1:] + chance.sample(kept[:-1], min(REPEATS - 1, len(kept[:-1])))
    said, lane = [], booth.lane
    for answer in again:
        rev, passage, name = lane.rev, lane.passage, answer["asked"]["command"]
        try:
            shot = await booth.repeat(answer["asked"], answer["key"], answer["rev"])
        except GatewayError as no:
            if no.code != answer.get("refused"):
                said.append(f"{name}, once answered, is now refused: {no.code}")
        else:
            said += _same(answer, shot)
        if (lane.rev, lane.passage) != (rev, passage):
            said.append(f"{name}, repeated, was done again")
    return said


def _same(answer: Mapping[str, Any], shot: Mapping[str, Any]) -> list[str]:
    """A lost answer may be replaced by the newest snapshot, never by an older or another one."""
    name = answer["asked"]["command"]
    if answer.get("refused"):
        return [f"{name}, once refused, is now done"]
    if shot["rev"] < answer["rev"]:
        return [f"{name} is answered with rev {shot['rev']}, it was {answer['rev']}"]
    record = (shot["passage"] or {}).get("record")
    if shot["rev"] == answer["rev"] and (shot["state"], record) != (
        answer["state"],
        answer["record"],
    ):
        return [f"{name} has another answer than it had"]
    return []


async def _take_up(booth: Collector, lane: Lane) -> None:
    """Whoever was put aside is taken up again, and drives off."""
    for passage_id in list(lane.suspended):
        await booth.do("resume", passage=passage_id)
        await booth.do("cancel", reason="司机不等了")

"""Every n-th call of a whole life fails, in every way: python -m tests.disk.errors FOLDER … .

One process, many lives; each on a fresh copy of the same folder, its chips as they were then.
"""

import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.disk.fault import FAULTS, Disk, Fault
from tests.disk.story import be_quick, ordinary, tried
from tests.powercut.world import World

PLACES = ("first start", "a day")
BEYOND = 3
"""Lives that the fault did not reach, one after the other, after which there are no more calls."""


@dataclass(slots=True)
class Tally:
    states: int = 0
    hits: int = 0
    by_fault: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def told(self) -> str:
        return json.dumps(
            {
                "states": self.states,
                "hits": self.hits,
                "by_fault": self.by_fault,
                "said": self.said,
                "violations": self.violations,
            },
            ensure_ascii=False,
        )


async def main(folder: Path, seconds: float, seed: str, share: int, of: int) -> Tally:
    """Tries as many cases as there is time for, spread over all calls and all faults."""
    be_quick()
    disk, tally, deadline = Disk(), Tally(), time.monotonic() + seconds
    disk.watch(folder / "box")
    world = World()
    await ordinary(folder / "origin", world)
    cases = await _cases(folder, world, disk)
    Random(seed).shuffle(cases)
    for number, (place, fault, which) in enumerate(cases):
        if number % of != share:
            continue
        if time.monotonic() > deadline:
            break
        await _try(folder, world, disk, tally, place, fault, which)
    return tally


async def _cases(folder: Path, world: World, disk: Disk) -> list[tuple[str, Fault, int]]:
    """Every call of the life, by counting those of each kind once."""
    cases = []
    for place in PLACES:
        calls: dict[str, int] = {}
        for fault in FAULTS:
            if fault.kind not in calls:
                _lay_out(folder, place)
                disk.arm(fault._replace(for_ever=True), 10**9)
                await tried(folder / "box", _world(world, place), disk, Random(1))
                calls[fault.kind] = disk.calls + BEYOND
            cases += [(place, fault, which) for which in range(1, calls[fault.kind] + 1)]
    return cases


async def _try(
    folder: Path, world: World, disk: Disk, tally: Tally, place: str, fault: Fault, which: int
) -> None:
    _lay_out(folder, place)
    disk.arm(fault, which)
    outcome = await tried(folder / "box", _world(world, place), disk, Random(which))
    tally.states += 1
    tally.hits += bool(outcome.hits)
    tally.by_fault[fault.name] += 1
    tally.said += outcome.said
    tally.said["not started"] += not outcome.is_started
    for said in outcome.violations:
        tally.violations.append(f"{place}, {which}. {fault.name}: {said}")


def _lay_out(folder: Path, place: str) -> None:
    shutil.rmtree(folder / "box", ignore_errors=True)
    if place == "a day":
        shutil.copytree(folder / "origin", folder / "box")


def _world(world: World, place: str) -> World:
    return world.copy() if place == "a day" else World()


def _only(folder: Path, case: str) -> Any:
    place, which, name = case.split(":")
    fault = next(fault for fault in FAULTS if fault.name == name)

    async def run() -> Tally:
        be_quick()
        disk, tally, world = Disk(), Tally(), World()
        disk.watch(folder / "box")
        await ordinary(folder / "origin", world)
        await _try(folder, world, disk, tally, place, fault, int(which))
        return tally

    return asyncio.run(run())


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) == 3:
        print(_only(where, sys.argv[2]).told())
    else:
        spent, dice, mine, all_ = sys.argv[2:]
        print(asyncio.run(main(where, float(spent), dice, int(mine), int(all_))).told())

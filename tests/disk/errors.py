"""Every n-th call of a whole life fails, in every way; each on a fresh copy of the same folder."""

import asyncio
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.disk import forks
from tests.disk.fault import FAULTS, Disk, Fault
from tests.disk.forks import Told
from tests.disk.story import be_quick, ordinary, packed, tried, unpacked
from tests.powercut.world import World

PLACES = ("first start", "a day")
LIMIT_S = 600.0
COUNTED = 2
"""Lives in which the calls are counted: threads make them differ by some."""
BEYOND = 2
"""So many calls more are tried than were counted."""


class Case(NamedTuple):
    place: str
    which: int
    fault: Fault

    @property
    def name(self) -> str:
        return f"{self.place}, {self.which}. {self.fault.name}"

    @property
    def sort(self) -> str:
        """One of each is the least that a sample must have."""
        return self.fault.name


class Trial:
    """`folder` is kept between two runs of the same trial."""

    def __init__(self, folder: Path) -> None:
        be_quick()
        self._folder, self._disk = folder, Disk()
        self._world: Mapping[str, Any] = {}

    def prepare(self) -> Told:
        """A day's folder, and what the world knew then."""
        world = World()
        asyncio.run(ordinary(self._folder / "origin", world))
        return packed(world)

    def ready(self, prepared: Told) -> None:
        self._world = prepared

    def plan(self) -> list[Case]:
        """Every call of the life × every fault of its kind."""
        counted = [
            (place, forks.alone(lambda place=place: self._count(place)))
            for place in PLACES
            for _ in range(COUNTED)
        ]
        return [
            Case(place, which, fault)
            for place in PLACES
            for fault in FAULTS
            for which in range(1, BEYOND + 1 + max(c[fault.kind] for p, c in counted if p == place))
        ]

    def attempt(self, case: Case, slot: int) -> Told:
        box = self._lay_out(case.place, slot)
        self._disk.arm(case.fault, case.which)
        chance = Random(zlib.crc32(case.name.encode()))
        outcome = asyncio.run(tried(box, self._known(case.place), self._disk, chance))
        return {
            "said": outcome.said,
            "violations": outcome.violations,
            "by fault": {case.fault.name: 1},
            "came of it": {
                "reached by the fault": bool(outcome.hits),
                "the fault came too late": not outcome.hits,
                "start refused in words": not outcome.is_started,
            },
        }

    def _count(self, place: str) -> Told:
        box = self._lay_out(place, 0)
        self._disk.count()
        asyncio.run(tried(box, self._known(place), self._disk, Random(1)))
        return self._disk.calls  # as it was when the first life was over

    def _lay_out(self, place: str, slot: int) -> Path:
        box = forks.fresh(self._folder, slot) / "box"
        shutil.rmtree(box, ignore_errors=True)
        if place == "a day":
            shutil.copytree(self._folder / "origin", box)
        self._disk.watch(box)
        return box

    def _known(self, place: str) -> World:
        return unpacked(self._world) if place == "a day" else World()

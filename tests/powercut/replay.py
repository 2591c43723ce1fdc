"""Tries the disks that cuts of one recording could leave: chooses, builds, starts, judges, counts.

python -m tests.powercut.replay RECORDING … (see `_parser`), with the shim in front of libc: a
sample of the recoveries is itself recorded and cut again, and of those a sample once more.
"""

import argparse
import asyncio
import json
import logging
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from gateway.store import Store
from tests.powercut import box as boxes
from tests.powercut.disk import CERTAIN, KINDS, Disk, Event, Image, digest, lay_out, read_trace
from tests.powercut.inline import InlineStore
from tests.powercut.life import Life, live
from tests.powercut.recorder import Recorder
from tests.powercut.world import World

DEPTH_MAX = 3
CUT_AGAIN = 80
"""One recovery of so many is recorded and cut again."""
AGAIN_STATES = 24
"""So many cuts of each recorded recovery."""
KEPT_VIOLATIONS = 40
LATER_PLACES, HANDFUL, NEIGHBOURS = 4000, 100, 16
ROUNDS_MAX = 10_000
THREADED = 16
"""One state of so many is tried with the store's own threads."""


class Place(NamedTuple):
    """One cut: after how many calls, and what arrived of the rest. `round` names the dice."""

    cut: int
    kind: str
    round: int

    def __str__(self) -> str:
        return f"{self.cut}:{self.kind}:{self.round}"


@dataclass(slots=True)
class Tally:
    """What was tried and seen. Adds up over processes."""

    states: int = 0
    built: int = 0
    """Disks that were built, the same ones again included."""
    threaded: int = 0
    """States that were tried with the store's own threads; see `inline`."""
    depths: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    violations: int = 0
    """States in which anything was wrong."""
    cpu_s: float = 0.0
    sorts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in self.__slots__}

    def add(self, other: dict[str, Any]) -> None:
        self.states += other["states"]
        self.built += other["built"]
        self.threaded += other["threaded"]
        self.cpu_s += other["cpu_s"]
        self.violations += other["violations"]
        for name in ("depths", "kinds", "found", "settled", "sorts"):
            getattr(self, name).update(other[name])
        self.examples = (self.examples + other["examples"])[:KEPT_VIOLATIONS]


class Recording:
    """One recorded life: its calls, and what disk and world were when it began."""

    def __init__(self, events: Sequence[Event], image: Image, world: World) -> None:
        self.events, self._image, self._world = events, image, world
        marks = (json.loads(event.data) for event in events if event.kind == "M")
        self.hashes = next((m["hashes"] for m in marks if m["m"] == "journal"), [])

    def states(self, places: Sequence[Place], seed: str) -> Iterator[tuple[Place, Image, World]]:
        """The disks and worlds of these places, in the order of their cuts. The world is lent."""
        disk, world, done = Disk(self._image), self._world.copy(), 0
        for place in sorted(places):
            for event in self.events[done : place.cut]:
                if event.kind == "M":
                    world.hear(json.loads(event.data))
                else:
                    disk.do(event)
            done = place.cut
            dice = Random(f"{seed} {place}")
            yield place, disk.image(KINDS[place.kind](disk.pending, dice)), world


def boundaries(events: Sequence[Event]) -> list[int]:
    """Right before and right after every sync."""
    syncs = [number for number, event in enumerate(events) if event.kind == "S"]
    return sorted({cut for number in syncs for cut in (number, number + 1)})


def first_round(events: Sequence[Event]) -> list[Place]:
    """Every sync boundary with every kind of loss."""
    return [Place(cut, kind, 0) for cut in boundaries(events) for kind in KINDS]


def later_round(events: Sequence[Event], number: int, dice: Random) -> list[Place]:
    """Anywhere, most of all where chance has a say."""
    kinds = list(KINDS) if number == 1 else [kind for kind in KINDS if kind not in CERTAIN]
    return [
        Place(dice.randint(0, len(events)), dice.choice(kinds), number) for _ in range(LATER_PLACES)
    ]


def rounds(events: Sequence[Event], seed: str, mine: int, of: int) -> Iterator[list[Place]]:
    """One process's part of all cuts, in handfuls from all over the recording."""
    for number in range(ROUNDS_MAX):
        dice = Random(f"{seed} round {number}")
        places = later_round(events, number, dice) if number else first_round(events)
        # Neighbouring cuts leave the same disks: they belong to the same process.
        places = [place for place in places if place.cut // NEIGHBOURS % of == mine]
        dice.shuffle(places)
        for begin in range(0, len(places), HANDFUL):
            yield places[begin : begin + HANDFUL]


class Replay:
    """Tries states of recordings, one after the other, in one folder."""

    def __init__(self, folder: Path, seed: str, recorder: Recorder | None) -> None:
        self._folder, self._seed, self._recorder = folder, seed, recorder
        self._seen: set[tuple[bytes, int, int]] = set()
        self.tally = Tally()

    async def run(
        self,
        recording: Recording,
        share: tuple[int, int],
        until_s: float,
        states_max: int,
        *,
        stops_at_first: bool,
    ) -> None:
        """This process's share of all cuts, until enough states were tried or time is up."""
        for places in rounds(recording.events, self._seed, *share):
            for place, image, world in recording.states(places, self._seed):
                is_enough = stops_at_first and self.tally.violations
                is_enough = is_enough or self.tally.states >= states_max
                if is_enough or time.monotonic() >= until_s:
                    return
                await self.attempt(recording, place, image, world, f"{place}", 1)

    async def attempt(
        self, recording: Recording, place: Place, image: Image, world: World, name: str, depth: int
    ) -> Life | None:
        """Start a box on this disk, unless the same disk in the same world was tried before."""
        self.tally.built += 1
        key = digest(image), len(world.answers), hash(json.dumps([world.chips, world.centre]))
        if key in self._seen:
            return None
        self._seen.add(key)
        dice = Random(f"{self._seed} {name}")
        again = self._recorder is not None and depth < DEPTH_MAX
        again = again and dice.randrange(CUT_AGAIN if depth == 1 else AGAIN_STATES) == 0
        if again:
            life = await self._cut_again(recording, image, world, name, depth, dice)
        else:
            self._lay_out(image)
            store = Store if dice.randrange(THREADED) == 0 else InlineStore
            self.tally.threaded += store is Store
            life = await live(self._folder, world.copy(), recording.hashes, dice, store=store)
        self._count(life, place, name, depth)
        return life

    async def _cut_again(
        self, recording: Recording, image: Image, world: World, name: str, depth: int, dice: Random
    ) -> Life:
        """Record the recovery, then cut it in turn: every boundary's worth a few."""
        assert self._recorder is not None
        recorder = self._recorder
        trace = self._folder.with_name(f"{self._folder.name}.trace{depth}")
        image = {path: None if body is None else bytes(body) for path, body in image.items()}
        before = world.copy()
        self._lay_out(image)
        self.tally.threaded += 1
        recorder.start(self._folder, trace)
        try:
            life = await live(self._folder, world.copy(), recording.hashes, dice, recorder.mark)
        finally:
            recorder.stop()
        second = Recording(read_trace(trace), image, before)
        second.hashes = life.hashes
        places = first_round(second.events)
        places = dice.sample(places, min(AGAIN_STATES, len(places)))
        for place, disk, later in second.states(places, f"{self._seed} {name}"):
            await self.attempt(second, place, disk, later, f"{name}/{place}", depth + 1)
        return life

    def _lay_out(self, image: Image) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        lay_out(image, self._folder)

    def _count(self, life: Life, place: Place, name: str, depth: int) -> None:
        tally = self.tally
        tally.states += 1
        tally.depths[str(depth)] += 1
        tally.kinds[place.kind] += 1
        tally.found[life.found or "-"] += 1
        tally.settled[f"{life.found} → {life.settled}"] += 1
        if life.violations:
            tally.violations += 1
            tally.sorts.update({said.translate(_NUMBERS) for said in life.violations})
            if len(tally.examples) < KEPT_VIOLATIONS:
                tally.examples.append(f"{name}: {'; '.join(life.violations)}")


_NUMBERS = {ord(digit): "#" for digit in "0123456789"}


def main() -> None:
    given = _parser().parse_args()
    logging.disable(logging.CRITICAL)
    boxes.press_checkpoints()
    boxes.read_tables_once()
    if given.weak:
        boxes.WEAK[given.weak]()
    replay = Replay(given.folder, given.seed, Recorder())
    recording = Recording(read_trace(given.trace), {}, World())
    mine, of = (int(part) for part in given.share.split("/"))
    until_s = time.monotonic() + given.seconds
    asyncio.run(_run(replay, recording, (mine, of), until_s, given))
    replay.tally.cpu_s = time.process_time()
    print(json.dumps(replay.tally.as_json(), ensure_ascii=False))


async def _run(
    replay: Replay,
    recording: Recording,
    share: tuple[int, int],
    until_s: float,
    given: argparse.Namespace,
) -> None:
    if not given.only:
        stops = given.first
        await replay.run(recording, share, until_s, given.states, stops_at_first=stops)
        return
    cut, kind, number = given.only.split(":")
    places = [Place(int(cut), kind, int(number))]
    for place, image, world in recording.states(places, given.seed):
        await replay.attempt(recording, place, image, world, f"{place}", 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut.replay")
    parser.add_argument("trace", type=Path)
    parser.add_argument("folder", type=Path, help="where the states are laid out")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--states", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--share", default="0/1", help="which part of the cuts: mine/of")
    parser.add_argument("--weak", default="", choices=["", *boxes.WEAK])
    parser.add_argument("--only", default="", help="just this state, cut:kind:round")
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    return parser


if __name__ == "__main__":
    sys.exit(main())

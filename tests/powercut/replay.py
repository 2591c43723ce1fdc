"""Tries the disks that cuts of one recording could leave: builds, recovers, judges, counts.

python -m tests.powercut.replay RECORDING … (see `_parser`), with the shim in front of libc.
Every disk is recovered and judged (`opening`). Where that comes to money, tables and photos that
no disk before came to, in that world, the whole gateway is started on the disk and lives on
(`life`). A sample of recoveries and of lives is itself recorded and cut, and of those again.
"""

import argparse
import asyncio
import gc
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from gateway.store import Store
from tests.powercut import box as boxes
from tests.powercut.disk import ALL_KINDS, KINDS, Image, digest, lay_out, look_at, read_trace
from tests.powercut.inline import InlineStore
from tests.powercut.life import live
from tests.powercut.memory import remember
from tests.powercut.opening import CUT, LOSSES, NEIGHBOUR, PHOTOS, SPOILT, Opening, use_inline_log
from tests.powercut.recorder import Recorder
from tests.powercut.recording import Place, Recording, first_round, rounds
from tests.powercut.rot import damaged
from tests.powercut.tally import Tally
from tests.powercut.world import World

RECOVERY_CUT, LIFE_CUT = 60, 40
"""One recovery, and one life, of so many is recorded and cut again."""
AGAIN_STATES = 24
"""So many cuts of each."""
THREADED = 8
"""One life of so many has the store's own threads."""
LIFE_SHARE = 0.3
"""Of the processor, for lives; those that must wait are lived when the disks were tried."""
LIVES_FROM = 0.8
"""Of the time, when no further disk is tried, so that the lives that wait have theirs."""
COLLECT_EVERY = 500


class Limits(NamedTuple):
    """What a campaign may cost besides its states."""

    lives: int = 1_000_000
    depth: int = 3
    """1: no recovery and no life is cut again."""


class Replay:
    """Tries states of recordings, one after the other, in one folder."""

    def __init__(
        self,
        folder: Path,
        seed: str,
        recorder: Recorder,
        *,
        sizes: str,
        loss: str,
        limits: "Limits | None" = None,
        is_plain: bool = False,
    ) -> None:
        self._folder, self._seed, self._recorder = folder, seed, recorder
        self._sizes, self._loss, self._is_spoiling = sizes, loss, loss == SPOILT
        self._limits = limits or Limits()
        aside = folder.with_name(f"{folder.name}.opening")
        self._opening = Opening(aside, boxes.SIZES[sizes].block, is_plain=is_plain)
        self._seen: set[bytes] = set()
        self._lived: set[bytes] = set()
        self._waiting: list[Place] = []
        self._life_share = LIFE_SHARE
        self._begun_s = time.process_time()
        self.tally = Tally()

    async def run(
        self,
        recording: Recording,
        share: tuple[int, int],
        kinds: Sequence[str],
        until_s: float,
        states_max: int,
        *,
        stops_at_first: bool,
    ) -> None:
        """This process's share of all cuts, until enough states were tried or time is up."""

        if stops_at_first:  # whichever it takes
            self._life_share = 1.0
        disks_until_s = time.monotonic() + LIVES_FROM * (until_s - time.monotonic())

        def is_enough(until_s: float) -> bool:
            is_found = stops_at_first and self.tally.violations > 0
            return is_found or time.monotonic() >= until_s

        for places in rounds(recording.events, self._seed, *share, kinds):
            states = recording.states(places, self._seed, is_each_once=not self._is_spoiling)
            for place, image, world in states:
                if is_enough(disks_until_s) or self.tally.states >= states_max:
                    break
                try_it = self.spoil if self._is_spoiling else self.attempt
                await try_it(recording, place, image, world, f"{place}")
            else:
                continue
            break
        self.tally.built += recording.repeated
        for place, image, world in recording.states(self._waiting, self._seed):
            if is_enough(until_s):
                break
            await self._live(recording, image, world, f"{place}", 1)

    async def attempt(
        self,
        recording: Recording,
        place: Place,
        image: Image,
        world: World,
        name: str,
        depth: int = 1,
    ) -> None:
        """Recover this disk, unless the same disk in the same world was tried before."""
        tally = self.tally
        tally.built += 1
        key = digest(image) + world.digest
        if key in self._seen:
            return
        self._seen.add(key)
        if tally.states % COLLECT_EVERY == 0:
            gc.collect()
        opened = self._opening.judge(image, world, recording.hashes, self._loss)
        tally.states += 1
        tally.depths[str(depth)] += 1
        tally.kinds[place.kind] += 1
        tally.torn += opened.torn_bytes > 0
        tally.mended += opened.repairs > 0
        tally.accuse(name, opened.violations)
        dice = Random(f"{self._seed} {name}")
        if (
            depth < self._limits.depth
            and dice.randrange(RECOVERY_CUT if depth == 1 else AGAIN_STATES) == 0
        ):
            await self._cut_recovery(recording, image, world, name, depth, dice)
        if self._loss == SPOILT or opened.content + world.digest in self._lived:
            return
        self._lived.add(opened.content + world.digest)
        tally.contents += 1
        spent = tally.life_cpu_s > self._life_share * (time.process_time() - self._begun_s)
        if spent and depth == 1:
            self._waiting.append(place)
        else:
            await self._live(recording, image, world, name, depth)

    async def spoil(
        self, recording: Recording, place: Place, image: Image, world: World, name: str
    ) -> None:
        """Recover; spoil one of the copies; see it mended, and cut the mending everywhere."""
        dice = Random(f"{self._seed} spoilt {name}")
        self._opening.lay_out(image)
        self._opening.recover()
        photos = {path: body for path, body in image.items() if path.startswith(PHOTOS)}
        spoilt, what = damaged({**look_at(self._opening.folder), **photos}, dice)
        lawful, self._loss = self._loss, SPOILT
        try:
            name = f"{name} {what}"
            await self.attempt(recording, place, spoilt, world, name, 1)
            await self._cut_recovery(recording, spoilt, world, name, 1, dice)
        finally:
            self._loss = lawful

    async def _live(
        self, recording: Recording, image: Image, world: World, name: str, depth: int
    ) -> None:
        """Start the gateway on this disk, judge it, use it, judge it again."""
        begun_s, tally = time.process_time(), self.tally
        if tally.lives >= self._limits.lives:
            return
        dice = Random(f"{self._seed} life {name}")
        if (
            depth < self._limits.depth
            and dice.randrange(LIFE_CUT if depth == 1 else AGAIN_STATES) == 0
        ):
            await self._cut_life(recording, image, world, name, depth, dice)
            return
        self._lay_out(image)
        use_inline_log(is_inline=False)
        store = Store if dice.randrange(THREADED) == 0 else InlineStore
        life = await live(
            self._folder,
            world.copy(),
            recording.hashes,
            dice,
            store=store,
            sizes=self._sizes,
            may_mend=self._loss != CUT,
        )
        tally.lives += 1
        tally.threaded += store is Store
        tally.found[life.found or "-"] += 1
        tally.settled[f"{life.found} → {life.settled}"] += 1
        tally.accuse(name, life.violations)
        tally.life_cpu_s += time.process_time() - begun_s

    async def _cut_recovery(
        self, recording: Recording, image: Image, world: World, name: str, depth: int, dice: Random
    ) -> None:
        """Record the recovery alone, then cut it in turn."""
        image, trace = _kept(image), self._trace(f"recovery{depth}")
        self._recorder.start(self._opening.folder, trace, lambda: self._opening.lay_out(image))
        try:
            self._opening.recover()
        finally:
            self._recorder.stop()
        second = Recording(read_trace(trace), image, world.copy())
        second.hashes = recording.hashes
        await self._cuts_of(second, name, depth, dice)

    async def _cut_life(
        self, recording: Recording, image: Image, world: World, name: str, depth: int, dice: Random
    ) -> None:
        """Record recovery and life after it, then cut it in turn: every boundary's worth a few."""
        image, trace = _kept(image), self._trace(f"life{depth}")
        before = world.copy()
        use_inline_log(is_inline=False)
        self._recorder.start(self._folder, trace, lambda: self._lay_out(image))
        try:
            life = await live(
                self._folder,
                world.copy(),
                recording.hashes,
                dice,
                self._recorder.mark,
                sizes=self._sizes,
                may_mend=self._loss != CUT,
            )
        finally:
            self._recorder.stop()
        self.tally.lives += 1
        self.tally.threaded += 1
        self.tally.accuse(name, life.violations)
        second = Recording(read_trace(trace), image, before)
        second.hashes = life.hashes
        await self._cuts_of(second, f"{name}+", depth, dice)

    async def _cuts_of(self, second: Recording, name: str, depth: int, dice: Random) -> None:
        places = first_round(second.events)
        places = dice.sample(places, min(AGAIN_STATES, len(places)))
        states = second.states(places, f"{self._seed} {name}", is_each_once=True)
        for place, disk, later in states:
            await self.attempt(second, place, disk, later, f"{name}/{place}", depth + 1)

    def _trace(self, name: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{name}")

    def _lay_out(self, image: Image) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        lay_out(image, self._folder)


def _kept(image: Image) -> Image:
    """A copy that the next state leaves alone."""
    return {path: None if body is None else bytes(body) for path, body in image.items()}


def main() -> None:
    given = _parser().parse_args()
    logging.disable(logging.CRITICAL)
    gc.freeze()
    gc.disable()  # SQLite's rows and bytes make no rings; lives do, see COLLECT_EVERY
    boxes.press(given.sizes)
    boxes.read_tables_once()
    if not given.plain:
        remember()
    if given.weak in boxes.RULES:
        boxes.WEAK[given.weak]()
    replay = Replay(
        given.folder,
        given.seed,
        Recorder(),
        sizes=given.sizes,
        loss=given.loss,
        limits=Limits(given.lives, given.depth),
        is_plain=given.plain,
    )
    recording = Recording(read_trace(given.trace), {}, World())
    asyncio.run(_run(replay, recording, given))
    replay.tally.cpu_s = time.process_time()
    print(json.dumps(replay.tally.as_json(), ensure_ascii=False))


async def _run(replay: Replay, recording: Recording, given: argparse.Namespace) -> None:
    if not given.only:
        mine, of = (int(part) for part in given.share.split("/"))
        kinds = ["neighbour"] if given.loss == NEIGHBOUR else list(KINDS)
        until_s = time.monotonic() + given.seconds
        stops = given.first
        await replay.run(recording, (mine, of), kinds, until_s, given.states, stops_at_first=stops)
        return
    cut, kind, number = given.only.split(":")
    assert kind in ALL_KINDS, given.only
    places = [Place(int(cut), kind, int(number))]
    try_it = replay.spoil if given.loss == SPOILT else replay.attempt
    for place, image, world in recording.states(places, given.seed):
        await try_it(recording, place, image, world, f"{place}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut.replay")
    parser.add_argument("trace", type=Path)
    parser.add_argument("folder", type=Path, help="where the states are laid out")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--states", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--share", default="0/1", help="which part of the cuts: mine/of")
    parser.add_argument("--sizes", default="small", choices=boxes.SIZES)
    parser.add_argument("--weak", default="", choices=["", *boxes.WEAK])
    parser.add_argument("--loss", default=CUT, choices=LOSSES)
    parser.add_argument("--plain", action="store_true", help="remember nothing between states")
    parser.add_argument("--lives", type=int, default=Limits().lives, help="at most")
    parser.add_argument("--depth", type=int, default=Limits().depth, help="cuts of one state")
    parser.add_argument("--only", default="", help="just this state, cut:kind:round")
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    return parser


if __name__ == "__main__":
    sys.exit(main())

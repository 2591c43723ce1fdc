"""What "saved" costs: a step of a real passage, from `Books.commit` until the lane has its answer.

Beside it, in turns of changing order on the same disk, the same bytes by the plainest means
(rivals.py). As a program, run by money.py with the slow disk's shim before libc:
python -m tests.bench.saved FOLDER ROUNDS, prints the samples as JSON.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from gateway.flow import messages
from gateway.flow.books import Books, Key, key_of
from gateway.flow.journal import Moment, adapter
from gateway.flow.messages import Event, ReadRequested
from gateway.flow.passage import Passage, Step
from gateway.flow.recording import Place
from gateway.flow.rules import advance
from gateway.params import Operators
from gateway.spool.frame import Row
from gateway.spool.log import Spool
from gateway.store import Store
from gateway.units import SystemClock
from tests.bench.rivals import Appended, Direct, Handed, InPlace

PLACE = Place("X03", "G00306200100202010030", 3, "62010B31", "兰州南")
WARM_UP = 60
LANES = 8
Commit = Callable[[], Awaitable[object]]
Samples = dict[str, list[float]]
"""Milliseconds by name, `inside`: of the commit what its thread needed; `bytes` of each commit."""


class Move(NamedTuple):
    """One step as the lane hands it to its books."""

    event: Event
    step: Step
    before: Passage
    is_asked: bool
    """A person's command: it has a key."""


def moves(rows: Sequence[Row], passage_id: str) -> list[Move]:
    """The steps of one real passage, under an id of its own."""
    before, found = Passage(), list[Move]()
    for row in rows:
        kind: type[Event] = getattr(messages, row.event)
        values: dict[str, Any] = json.loads(row.body)
        if kind is ReadRequested:
            values["passage_id"] = passage_id
        event = adapter(kind).validate_json(json.dumps(values))
        step = advance(before, event)
        found.append(Move(event, step, before, '"key"' in row.extra))
        before = step.passage
    return found


class Lane:
    """One lane's books and the passages that it will write down."""

    def __init__(self, store: Store, name: str, rows: Sequence[Row]) -> None:
        place = replace(PLACE, lane=name, lane_id=f"{PLACE.lane_id[:-3]}{name[1:]}0")
        self._books = Books(store, place, lambda: Operators(rows=()), lambda _: 1)
        self._rows, self._clock = rows, SystemClock()
        self._passages, self._left = 0, list[Move]()
        self._name = name

    def next(self) -> Commit:
        """The next commit, everything before it done."""
        if not self._left:
            self._passages += 1
            self._left = moves(self._rows, f"{self._name}-{self._passages:014d}")
        move, clock = self._left.pop(0), self._clock
        moment = Moment(clock.now_ms(), clock.monotonic_ms(), clock.boot_id, "1001")
        key = self._key(move) if move.is_asked else None
        return lambda: self._books.commit(move.event, move.step, move.before, moment, key)

    def _key(self, move: Move) -> Key:
        number = f"{self._name}-{self._passages}-{len(self._left)}"
        return key_of(number, {"command": type(move.event).__name__}, "1001")


# ---- alone, beside its rivals ----


async def compare(folder: Path, rows: Sequence[Row], rounds: int) -> Samples:
    """`rounds` commits, and after each the same bytes by each rival."""
    store = await Store.open(folder / "lane.db")
    (folder / "raw").mkdir()
    lane, rivals = Lane(store, "X03", rows), Rivals(folder / "raw")
    try:
        for _ in range(WARM_UP):
            await lane.next()()
        return await _rounds(store, lane, rivals, rounds)
    finally:
        rivals.close()
        await store.close()


class Rivals:
    """All of them, each on a file of its own."""

    def __init__(self, folder: Path) -> None:
        appended, direct = Appended(folder / "handed"), Direct(folder / "direct-handed")
        self._handed = [Handed(appended.write), Handed(direct.write)]
        self._files = [
            Appended(folder / "appended"),
            InPlace(folder / "in-place"),
            Direct(folder / "direct"),
            appended,
            direct,
        ]
        self.calls: dict[str, Callable[[bytes], Awaitable[None] | None]] = {
            "appended": self._files[0].write,
            "in place": self._files[1].write,
            "direct": self._files[2].write,
            "appended, handed over": self._handed[0].write,
            "direct, handed over": self._handed[1].write,
        }

    def close(self) -> None:
        for one in (*self._handed, *self._files):
            one.close()


async def _rounds(store: Store, lane: Lane, rivals: Rivals, rounds: int) -> Samples:
    seen: Samples = {"commit": [], "inside": [], "bytes": []}
    seen |= {name: [] for name in rivals.calls}
    chance, names = random.Random(1), ["commit", *rivals.calls]
    data = os.urandom(512)
    for _ in range(rounds):
        chance.shuffle(names)
        for name in names:
            commit, room = lane.next(), store.spare_bytes
            begun = time.perf_counter()
            if name == "commit":
                await commit()
            elif (waiting := rivals.calls[name](data)) is not None:
                await waiting
            seen[name].append((time.perf_counter() - begun) * 1000)
            if name == "commit":
                seen["inside"].append(store.last_commit_ms)
            if name == "commit" and 0 < (size := room - store.spare_bytes) < 1 << 16:
                data = os.urandom(size)
                seen["bytes"].append(size)
    return seen


# ---- eight lanes ----


async def together(folder: Path, rows: Sequence[Row], commits: int, turns: int) -> Samples:
    """Commits a second of one lane and of eight, in turns; rows a write of the eight."""
    store = await Store.open(folder / "lane.db")
    lanes = [Lane(store, f"X{number:02d}", rows) for number in range(1, LANES + 1)]
    seen: Samples = {"one": [], "eight": []}
    try:
        for _ in range(turns):
            seen["one"].append(await _rate(lanes[:1], commits))
            seen["eight"].append(await _rate(lanes, commits))
            await store.settle()
        seen["grouped"] = [await _grouped(lanes, commits)]
    finally:
        await store.close()
    return seen


async def _rate(lanes: Sequence[Lane], commits: int) -> float:
    """Commits a second; what they write was thought of before."""

    async def work(works: Sequence[Commit]) -> None:
        for commit in works:
            await commit()

    ahead = [[lane.next() for _ in range(commits)] for lane in lanes]
    begun = time.perf_counter()
    await asyncio.gather(*map(work, ahead))
    return commits * len(lanes) / (time.perf_counter() - begun)


async def _grouped(lanes: Sequence[Lane], commits: int) -> float:
    """Rows a write while all lanes work."""
    sizes = list[int]()
    append = Spool.append

    def counted(spool: Spool, rows: Sequence[Row], *more: Any) -> list[bytes]:
        sizes.append(len(rows))
        return append(spool, rows, *more)

    with patch.object(Spool, "append", counted):
        await _rate(lanes, commits)
    return sum(sizes) / len(sizes)


def main(arguments: Sequence[str]) -> None:
    folder, rounds = Path(arguments[0]), int(arguments[1])
    rows = [Row(*row) for row in json.loads(sys.stdin.read())]
    (folder / "alone").mkdir(), (folder / "together").mkdir()
    alone = asyncio.run(compare(folder / "alone", rows, rounds))
    eight = asyncio.run(together(folder / "together", rows, rounds // 2, 3))
    print(json.dumps({"alone": alone, "together": eight}))


if __name__ == "__main__":
    main(sys.argv[1:])

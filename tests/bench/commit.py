"""What a commit costs beside the cheapest durable write of the same bytes.

The raw write. SQLite in WAL mode makes a step durable by writing its pages as frames into
`lane.db-wal`, a file that after its first round is overwritten in place, and by one fdatasync. So
the fair rival has the same shape: one pwrite of as many bytes as SQLite has just written (counted
in frames, read from the index it keeps beside the log), at the place where the last one ended, in
a file of the log's size that was written and synced before, then fdatasync. It does no hashing,
no B-tree, no JSON, and is called straight from this thread; everything we add shows in the
ratio. As a second rival the same bytes are appended to a growing file, which is what a program
without SQLite would more likely do: there the file system must sync its own journal too.

The three take turns, in another order each time, on one disk, so that each meets the same
neighbours. `transaction` is the commit itself, BEGIN to COMMIT in the writer's thread, our
hashing and JSON included. `seen by the lane` is `await books.commit(...)`: the way into that
thread and back is in it too, a constant of two thread switches that a disk of this speed does
not hide.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.flow.books import Books, key_of
from gateway.flow.journal import Moment, append
from gateway.flow.messages import PlateSubmitted
from gateway.flow.passage import Passage, State, Step
from gateway.flow.recording import Place
from gateway.params import Operators
from gateway.store import Store
from gateway.units import PassageId, SystemClock
from tests.bench.figure import Figure, p50, p99

GOAL_RATIO = 1.5
FRAME_BYTES, PAGE_BYTES = 24, 4096  # SQLite file format, §4.1
LOG_BYTES = 1000 * (FRAME_BYTES + PAGE_BYTES)  # where SQLite's own checkpoint starts it over
WARM_UP = 300  # commits: the log goes round once before anything counts
PLACE = Place("X03", "G00306200100202010030", 3, "62010B31", "兰州南")
EVENT = PlateSubmitted("甘A12345", 0, "lpr", None, "", ())


@dataclass
class Samples:
    """Milliseconds, one a round; and what each round wrote."""

    lane_ms: list[float] = field(default_factory=list)
    transaction_ms: list[float] = field(default_factory=list)
    in_place_ms: list[float] = field(default_factory=list)
    appended_ms: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    def against_raw(self, values: Sequence[float]) -> float:
        """At the median, against the stricter rival."""
        return p50(values) / p50(self.in_place_ms)


class RawFile:
    """Bytes made durable by hand."""

    def __init__(self, path: Path, *, is_prepared: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._at, self._is_prepared = 0, is_prepared
        if is_prepared:
            os.pwrite(self._fd, os.urandom(LOG_BYTES), 0)
            os.fsync(self._fd)

    def write(self, data: bytes) -> None:
        if self._is_prepared and self._at + len(data) > LOG_BYTES:
            self._at = 0
        os.pwrite(self._fd, data, self._at)
        os.fdatasync(self._fd)
        self._at += len(data)

    def close(self) -> None:
        os.close(self._fd)


async def measure(folder: Path, rounds: int, *, warm_up: int = WARM_UP) -> list[Figure]:
    """Both a whole step of a passage and a bare journal row, `rounds` of each."""
    store = await Store.open(folder / "lane.db")
    try:
        whole = await _compare(store, folder, _whole_step(store), rounds, warm_up)
        bare = await _compare(store, folder, _bare_row(store), rounds, warm_up)
    finally:
        await store.close()
    return [
        *_told("commit of a step", whole, is_goal=True),
        *_told("commit of a bare row", bare, is_goal=False),
    ]


def _told(what: str, seen: Samples, *, is_goal: bool) -> list[Figure]:
    pages = p50(list(map(float, seen.frames)))
    goal = GOAL_RATIO if is_goal else None
    wrote = f"{len(seen.lane_ms)} rounds of {pages:.0f} pages"
    return [
        Figure(
            f"{what}: transaction / raw", seen.against_raw(seen.transaction_ms), "×", goal, wrote
        ),
        Figure(f"{what}: seen by the lane / raw", seen.against_raw(seen.lane_ms), "×", goal),
        _median(f"  {what}, transaction", seen.transaction_ms),
        _median(f"  {what}, seen by the lane", seen.lane_ms),
        _median(f"  {what}, raw, in place", seen.in_place_ms),
        _median(f"  {what}, raw, appended", seen.appended_ms),
    ]


def _median(name: str, values: Sequence[float]) -> Figure:
    return Figure(name, p50(values), "ms", note=f"p99 {p99(values):.2f}")


Commit = Callable[[int], Awaitable[object]]


def _whole_step(store: Store) -> Commit:
    """As the lane does it: the command's key, the journal's row, the passage's row."""
    books, clock = Books(store, PLACE, lambda: Operators(rows=()), lambda _: 1), SystemClock()

    async def commit(number: int) -> object:
        now_ms = clock.now_ms()
        before = Passage(State.CHECKED, PassageId(f"X03-{number // 9:014d}"), "1001")
        after = Step(replace(before, state=State.EVIDENCED, plate=EVENT.plate))
        moment = Moment(now_ms, clock.monotonic_ms(), clock.boot_id, "1001")
        key = key_of(f"{number:032x}", {"command": "submit_plate"}, "1001")
        return await books.commit(EVENT, after, before, moment, key)

    return commit


def _bare_row(store: Store) -> Commit:
    """The journal's row alone."""
    clock = SystemClock()

    async def commit(number: int) -> object:
        moment = Moment(clock.now_ms(), clock.monotonic_ms(), clock.boot_id, "1001")
        passage = f"X03-B{number // 9:013d}"
        return await store.log(
            lambda draft: append(draft, "X03", passage, EVENT, State.EVIDENCED, moment, {})
        )

    return commit


async def _compare(
    store: Store, folder: Path, commit: Commit, rounds: int, warm_up: int
) -> Samples:
    for number in range(warm_up):
        await commit(number)
    in_place = RawFile(folder / "in-place", is_prepared=True)
    appended = RawFile(folder / "appended", is_prepared=False)
    try:
        return await _rounds(store, commit, in_place, appended, range(warm_up, warm_up + rounds))
    finally:
        in_place.close()
        appended.close()


async def _rounds(
    store: Store, commit: Commit, in_place: RawFile, appended: RawFile, numbers: range
) -> Samples:
    seen, chance = Samples(), random.Random(1)
    data = b""

    async def ours(number: int) -> None:
        nonlocal data
        before = frames_in_log(store.path)
        begun = time.perf_counter()
        await commit(number)
        seen.lane_ms.append((time.perf_counter() - begun) * 1000)
        seen.transaction_ms.append(store.last_commit_ms)
        after = frames_in_log(store.path)
        seen.frames.append(after - before if after > before else after)
        data = os.urandom(seen.frames[-1] * (FRAME_BYTES + PAGE_BYTES))

    def raw(file: RawFile, times: list[float]) -> None:
        begun = time.perf_counter()
        file.write(data)
        times.append((time.perf_counter() - begun) * 1000)

    for number in numbers:
        await ours(number)  # first: the rivals write what it wrote
        rivals = [(in_place, seen.in_place_ms), (appended, seen.appended_ms)]
        chance.shuffle(rivals)
        for file, times in rivals:
            raw(file, times)
        await asyncio.sleep(0)
    return seen


def frames_in_log(database: Path) -> int:
    """Frames in the WAL now: mxFrame of the wal-index header (SQLite, walformat.html §2.1).

    Read through the file, not SQLite: a reader of its own would hold up the checkpoint.
    """
    fd = os.open(f"{database}-shm", os.O_RDONLY)
    try:
        return int.from_bytes(os.pread(fd, 4, 16), "little")
    finally:
        os.close(fd)

"""A whole proof: record once, try the states in several processes, add up what they saw."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.powercut import recorder
from tests.powercut.disk import SYNCS, Disk, look_at, read_trace
from tests.powercut.opening import CUT
from tests.powercut.recording import boundaries
from tests.powercut.tally import Tally

MEMORY = Path("/dev/shm")
RECORD_S = 120.0
GRACE_S = 120.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording, and the numbers that say it was worth having."""

    trace: Path
    shim: Path
    calls: int
    syncs: int
    boundaries: int
    answers: int
    sizes: str
    """A name of `box.SIZES`."""


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder, in memory if possible: what is durable is the model's business."""
    where = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="powercut-", dir=where) as folder:
        yield Path(folder).resolve()


def record(folder: Path, weakness: str = "", sizes: str = "small", story: str = "") -> Recorded:
    """Run the recorded program once. Raises: AssertionError, if the recording has a gap."""
    shutil.rmtree(folder / "box", ignore_errors=True)
    shim, trace, box = recorder.build(folder), folder / "trace", folder / "box"
    arguments = [str(box), str(trace), sizes, story, weakness]
    subprocess.run(**recorder.command(shim, "recorded", arguments), check=True, timeout=RECORD_S)
    events = read_trace(trace)
    disk, answers = Disk(), 0
    for event in events:
        if event.kind == "M":
            answers += json.loads(event.data)["m"] == "answer"
        else:
            disk.do(event)
    assert disk.image(disk.pending) == look_at(box), "the folder holds what the trace does not"
    syncs = sum(event.kind in SYNCS for event in events)
    return Recorded(trace, shim, len(events), syncs, len(boundaries(events)), answers, sizes)


def replay(
    recorded: Recorded,
    folder: Path,
    *,
    seed: str,
    states: int,
    seconds: float,
    processes: int = 2,
    weakness: str = "",
    only: str = "",
    stops_at_first: bool = False,
    loss: str = CUT,
    flags: Sequence[str] = (),
) -> Tally:
    """Try so many states, or as many as fit. Raises: AssertionError, if a process broke.

    `only`: that one state, by its name in the summary. `stops_at_first`: at a violation.
    `loss`: as in `opening`. `flags`: more for each process, see `replay`.
    """
    tally, running = Tally(), []
    flags = [*flags, "--first"] if stops_at_first else flags
    try:
        for mine in range(processes):
            arguments = [str(recorded.trace), str(folder / f"state{mine}"), "--seed", seed]
            arguments += ["--states", str(-(-states // processes)), "--seconds", str(seconds)]
            arguments += ["--share", f"{mine}/{processes}", "--weak", weakness, "--only", only]
            arguments += ["--sizes", recorded.sizes, "--loss", loss, *flags]
            program = recorder.command(recorded.shim, "replay", arguments)
            running.append(subprocess.Popen(**program, stdout=subprocess.PIPE, text=True))
        deadline = time.monotonic() + seconds + GRACE_S
        for process in running:
            told, _ = process.communicate(timeout=deadline - time.monotonic())
            assert process.returncode == 0, f"a replaying process ended: {process.returncode}"
            tally.add(json.loads(told))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    return tally


def known(trace: Path, folder: Path, sizes: str) -> Recorded:
    """An old recording, to try a state of it again."""
    events = read_trace(trace)
    syncs = sum(event.kind in SYNCS for event in events)
    shim = recorder.build(folder)
    return Recorded(trace.resolve(), shim, len(events), syncs, len(boundaries(events)), 0, sizes)


def summary(stories: Sequence[Recorded], tally: Tally, seed: str, took_s: float) -> str:
    def listed(counter: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))

    def total(name: str) -> int:
        return sum(getattr(recorded, name) for recorded in stories)

    cpu_ms = 1000 * (tally.cpu_s - tally.life_cpu_s) / max(1, tally.states)
    life_ms = 1000 * tally.life_cpu_s / max(1, tally.lives)
    lines = [
        f"recorded    {len(stories)} stories, {total('calls')} calls, {total('syncs')} syncs,"
        f" {total('boundaries')} sync boundaries, {total('answers')} answers to the collector;"
        f" log files: {stories[0].sizes}",
        f"states      {tally.states} different disks recovered and judged, of {tally.built} cuts;"
        f" {took_s:.0f} s, {cpu_ms:.1f} ms of processor each; seed {seed}",
        f"  by loss   {listed(tally.kinds)}",
        f"  by depth  {listed(tally.depths)} (2, 3: cut again while recovering, or later)",
        f"  of these  {tally.torn} with a torn write in the log, {tally.mended} with damage mended",
        f"contents    {tally.contents} different moneys, tables, photos and worlds",
        f"lives       {tally.lives} of them started and lived on, {tally.threaded} with the store's"
        f" own threads, {life_ms:.0f} ms of processor each",
        f"  found in  {listed(tally.found)}",
        f"  came to   {listed(tally.settled)}",
        f"programs    {tally.programs} whole programs started on such disks and asked over HTTP;"
        f" {tally.served} took a vehicle through",
        f"violations  {tally.violations}",
        *(f"  {count} × {said}" for said, count in tally.sorts.most_common()),
        *(f"  {example}" for example in tally.examples[:8]),
    ]
    return "\n".join(lines)

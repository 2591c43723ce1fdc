"""Story after story until enough disks were tried. What is done is written down after each, so that
a series that was cut off goes on where it ended, and comes to the same sums."""

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from tests.powercut.campaign import Recorded, record, replay
from tests.powercut.disk import read_trace
from tests.powercut.opening import CUT
from tests.powercut.programs import start_programs
from tests.powercut.recording import Recording
from tests.powercut.tally import Tally
from tests.powercut.world import World

PROGRAMS_A_STORY = 20
LIVES_MAX = 1_000_000
KEPT_TRACES = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried. Equal plans tell the same stories and cut them at the same places."""

    seed: str
    states: int
    stories: int = 1
    """About so many; further ones are told until there are enough states. The first has all scenes,
    the others what chance chooses."""
    lives: int = LIVES_MAX
    """At most, in each story."""
    programs: int = 0
    """Whole programs in all, a handful in each story until there are enough."""
    sizes: str = "small"
    loss: str = CUT
    weak: str = ""

    @property
    def states_a_story(self) -> int:
        return -(-self.states // self.stories)


@dataclass(slots=True)
class Told:
    """One story: its recording, and what came of its cuts."""

    number: int
    recorded: Recorded
    tally: Tally
    took_s: float

    def as_json(self) -> dict[str, Any]:
        numbers = asdict(self.recorded)
        del numbers["trace"], numbers["shim"]
        return {
            "story": self.number,
            "recorded": numbers,
            "tally": self.tally.as_json(),
            "took_s": round(self.took_s, 1),
        }


class Series:
    """`kept`: the file that remembers it; None: nothing does."""

    def __init__(self, plan: Plan, folder: Path, kept: Path | None = None) -> None:
        """Raises: ValueError, if the file is of another plan."""
        self.plan, self._folder, self._kept = plan, folder, kept
        self.told: list[Told] = []
        if kept and kept.exists():
            self.told = list(_read(kept, plan))
        self._lock = threading.Lock()
        self._is_broken = False
        self._promised = 0
        """States of the stories that are being told."""

    @property
    def tally(self) -> Tally:
        """The sum of all stories."""
        total = Tally()
        for told in self.told:
            total.add(told.tally.as_json())
        return total

    @property
    def took_s(self) -> float:
        """Of all stories, one after the other."""
        return sum(told.took_s for told in self.told)

    def run(self, seconds: float, processes: int, traces: Path) -> None:
        """Until there are enough states, or time is up. `traces`: of those with a violation, as
        that name and the story's number.

        Raises: AssertionError, CalledProcessError, TimeoutExpired, if one cannot be told.
        """
        until_s = time.monotonic() + seconds
        done = {told.number for told in self.told}
        numbers = (number for number in count() if number not in done)
        at_once = min(processes, self.plan.stories)
        while time.monotonic() < until_s and self.tally.states < self.plan.states:
            with ThreadPoolExecutor(at_once) as pool:
                given = numbers, until_s, processes // at_once, at_once, traces
                workers = [pool.submit(self._try, *given) for _ in range(at_once)]
            for worker in workers:
                worker.result()

    def _try(self, *given: Any) -> None:
        try:
            self._work(*given)
        except BaseException:
            self._is_broken = True  # the others end their stories, which are not lost
            raise

    def _work(
        self, numbers: Iterator[int], until_s: float, processes: int, at_once: int, traces: Path
    ) -> None:
        while time.monotonic() < until_s and not self._is_broken:
            with self._lock:
                if self.tally.states + self._promised >= self.plan.states:
                    return
                self._promised += self.plan.states_a_story
                number = next(numbers)
                left = max(1, -(-(self.plan.stories - len(self.told)) // at_once))
            seconds = (until_s - time.monotonic()) / left
            told = self._tell(number, seconds, processes)
            with self._lock:
                self._promised -= self.plan.states_a_story
                self._keep(told, traces)
            shutil.rmtree(told.recorded.trace.parent)

    def _tell(self, number: int, seconds: float, processes: int) -> Told:
        begun, plan = time.monotonic(), self.plan
        folder = self._folder / f"story{number}"
        folder.mkdir()
        story = f"{plan.seed} {number}" if number else ""
        recorded = record(folder, plan.weak, plan.sizes, story)
        tally = replay(
            recorded,
            folder,
            seed=plan.seed,
            states=plan.states_a_story,
            seconds=seconds,
            processes=processes,
            flags=["--lives", str(-(-plan.lives // processes))],
            weakness=plan.weak,
            loss=plan.loss,
        )
        if programs := max(0, min(PROGRAMS_A_STORY, plan.programs - number * PROGRAMS_A_STORY)):
            recording = Recording(read_trace(recorded.trace), {}, World())
            started = start_programs(recording, folder, f"{plan.seed} {number}", programs)
            tally.add(asyncio.run(started).as_json())
        return Told(number, recorded, tally, time.monotonic() - begun)

    def _keep(self, told: Told, traces: Path) -> None:
        self.told.append(told)
        all_, found = self.tally, told.tally
        print(
            f"story {told.number}: {found.states} states in {told.took_s:.0f} s,"
            f" {all_.states} so far, {all_.violations} violations",
            flush=True,
        )
        if found.violations and sum(t.tally.violations > 0 for t in self.told) <= KEPT_TRACES:
            shutil.copy(told.recorded.trace, f"{traces}.{told.number}")
        if self._kept:
            self._write(self._kept)

    def _write(self, kept: Path) -> None:
        """Whole, or as it was."""
        lines = [asdict(self.plan), *(told.as_json() for told in self.told)]
        half = kept.with_name(f"{kept.name}.half")
        with half.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        half.rename(kept)


def _read(kept: Path, plan: Plan) -> Iterator[Told]:
    first, *rest = kept.read_text(encoding="utf-8").splitlines()
    was = Plan(**json.loads(first))
    if replace(was, states=plan.states, stories=plan.stories) != plan or (
        was.states_a_story != plan.states_a_story
    ):
        raise ValueError(f"{kept} is of another plan: {was}")
    for line in rest:
        told = json.loads(line)
        tally = Tally()
        tally.add(told["tally"])
        recorded = Recorded(Path(), Path(), **told["recorded"])
        yield Told(told["story"], recorded, tally, told["took_s"])

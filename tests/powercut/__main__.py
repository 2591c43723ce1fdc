"""Prove it: python -m tests.powercut [--states N] [--seed S]. Exit 1 if anything was violated."""

import argparse
import asyncio
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.powercut import box
from tests.powercut.campaign import Recorded, known, record, replay, summary, workshop
from tests.powercut.disk import read_trace
from tests.powercut.opening import CUT, LOSSES
from tests.powercut.programs import start_programs
from tests.powercut.recording import Recording
from tests.powercut.tally import Tally
from tests.powercut.world import World


def main() -> int:
    given = _parser().parse_args()
    begun = time.monotonic()
    with workshop() as folder:
        if given.again:
            return _again(given, folder)
        all_recorded, tally = [], Tally()
        for number in range(given.stories):
            left_s = given.seconds - (time.monotonic() - begun)
            recorded = record(
                folder, given.weak, given.sizes, f"{given.seed} {number}" if number else ""
            )
            found = replay(
                recorded,
                folder,
                seed=given.seed,
                states=-(-given.states // given.stories),
                seconds=left_s / (given.stories - number),
                processes=given.processes,
                weakness=given.weak,
                loss=given.loss,
            )
            if not number:
                found.add(_started(recorded, folder, given.seed, given.programs))
            tally.add(found.as_json())
            all_recorded.append(recorded)
            if given.stories > 1:
                print(f"story {number}: {found.states} states, {tally.states} so far,", end=" ")
                print(f"{tally.violations} violations", flush=True)
            if found.violations:
                shutil.copy(recorded.trace, given.keep)
                break
        print(summary(all_recorded, tally, given.seed, time.monotonic() - begun))
        if tally.violations:
            again = f"--again {given.keep} CUT:KIND:ROUND"
            flags = f"--seed '{given.seed}' --sizes {given.sizes} --loss {given.loss}"
            print(f"once more   python -m tests.powercut {flags} {again}")
    return 1 if tally.violations else 0


def _started(recorded: Recorded, folder: Path, seed: str, count: int) -> dict[str, Any]:
    recording = Recording(read_trace(recorded.trace), {}, World())
    return asyncio.run(start_programs(recording, folder, seed, count)).as_json()


def _again(given: argparse.Namespace, folder: Path) -> int:
    """One state of a kept recording, and the cuts that follow from it."""
    trace, only = given.again
    recorded = known(Path(trace), folder, given.sizes)
    tally = replay(
        recorded,
        folder,
        seed=given.seed,
        states=1_000,
        seconds=given.seconds,
        processes=1,
        weakness=given.weak,
        loss=given.loss,
        only=only.partition("/")[0].rstrip("+"),
    )
    print(summary([recorded], tally, given.seed, 1.0))
    return 1 if tally.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut")
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--seconds", type=float, default=900.0, help="stop trying after these")
    parser.add_argument(
        "--stories", type=int, default=1, help="recordings; from the second on, chosen by chance"
    )
    parser.add_argument(
        "--programs", type=int, default=0, help="whole programs to start, over and above"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sizes", default="small", choices=box.SIZES, help="of the log's files")
    parser.add_argument(
        "--loss",
        default=CUT,
        choices=LOSSES,
        help="neighbour: pages around what was being written are spoilt, too (see --sizes pages);"
        " spoilt: one of the two copies is damaged, and the mending cut off",
    )
    parser.add_argument(
        "--weak", default="", choices=["", *box.WEAK], help="take one safeguard away first"
    )
    parser.add_argument(
        "--again", nargs=2, metavar=("TRACE", "STATE"), help="one state of a kept recording"
    )
    parser.add_argument("--keep", type=Path, default=Path("powercut.trace"))
    return parser


if __name__ == "__main__":
    sys.exit(main())

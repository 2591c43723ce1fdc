"""Prove it: python -m tests.powercut [--states N] [--seed S]. Exit 1 if anything was violated."""

import argparse
import secrets
import sys
import time
from pathlib import Path

from tests.powercut import box
from tests.powercut.campaign import known, replay, summary, workshop
from tests.powercut.opening import CUT, LOSSES
from tests.powercut.series import LIVES_MAX, Plan, Series


def main() -> int:
    given = _parser().parse_args()
    with workshop() as folder:
        return _again(given, folder) if given.again else _series(given, folder)


def _series(given: argparse.Namespace, folder: Path) -> int:
    plan = Plan(
        seed=given.seed,
        states=given.states,
        stories=given.stories,
        lives=given.lives,
        programs=given.programs,
        sizes=given.sizes,
        loss=given.loss,
        weak=given.weak,
    )
    series, begun = Series(plan, folder, given.tally), time.monotonic()
    series.run(given.seconds, given.processes, given.keep)
    tally, took_s = series.tally, time.monotonic() - begun
    stories = [told.recorded for told in series.told]
    print(summary(stories, tally, given.seed, took_s if len(stories) == 1 else series.took_s))
    for told in series.told:
        if told.tally.violations:
            again = f"--again {given.keep}.{told.number} CUT:KIND:ROUND"
            flags = f"--seed '{given.seed}' --sizes {given.sizes} --loss {given.loss}"
            print(f"once more   python -m tests.powercut {flags} {again}")
    return 1 if tally.violations else 0


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
        "--stories",
        type=int,
        default=1,
        help="recordings, about so many; from the second on, chosen by chance",
    )
    parser.add_argument("--lives", type=int, default=LIVES_MAX, help="at most, in each story")
    parser.add_argument(
        "--programs", type=int, default=0, help="whole programs to start, over and above"
    )
    parser.add_argument(
        "--tally",
        type=Path,
        help="write down what each story came to, and go on from there when called again",
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

"""Prove it: python -m tests.powercut [--states N] [--seed S]. Exit 1 if anything was violated."""

import argparse
import secrets
import shutil
import sys
import time
from pathlib import Path

from tests.powercut import box
from tests.powercut.campaign import known, record, replay, summary, workshop


def main() -> int:
    given = _parser().parse_args()
    begun = time.monotonic()
    with workshop() as folder:
        trace, only = given.again or ("", "")
        recorded = known(Path(trace), folder) if trace else record(folder, given.weak)
        trying = time.monotonic()
        tally = replay(
            recorded,
            folder,
            seed=given.seed,
            states=given.states,
            seconds=given.seconds,
            processes=1 if only else given.processes,
            weakness=given.weak,
            only=only.partition("/")[0],
        )
        print(summary(recorded, tally, given.seed, time.monotonic() - trying))
        print(f"took        {time.monotonic() - begun:.0f} s")
        if tally.violations and not trace:
            shutil.copy(recorded.trace, given.keep)
            again = f"--seed {given.seed} --again {given.keep} CUT:KIND:ROUND"
            print(f"once more   python -m tests.powercut {again}")
    return 1 if tally.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut")
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--seconds", type=float, default=900.0, help="stop trying after these")
    parser.add_argument("--processes", type=int, default=2)
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

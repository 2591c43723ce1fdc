"""Many schedules of faults, and whether anything was lost: python -m tests.conserve --seed 1."""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.conserve.plan import EVERY
from tests.conserve.runs import LANES, happened, tried, wrongs
from tests.conserve.world import Run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conserve")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--worlds", type=int, help=f"instead: so many times {LANES} schedules")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    count = given.worlds or -(-given.schedules // LANES)
    began, runs = time.monotonic(), list[Run]()
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for told in pool.map(tried, range(given.seed, given.seed + count)):
            runs.append(told)
            for text in wrongs([told]):
                print(text, flush=True)
    faults = happened(runs)
    print(
        f"{count * LANES} schedules, {sum(r.records for r in runs)} records,"
        f" {sum(r.photos for r in runs)} photos, {sum(r.pulled for r in runs)} batches pulled,"
        f" {sum(faults.values())} faults, {time.monotonic() - began:.0f} s:"
        f" {len(wrongs(runs))} violations"
    )
    print(", ".join(f"{kind} {faults[kind]}" for kind in EVERY))
    never = [kind for kind in EVERY if not faults[kind]]
    if never and count >= 8:
        print(f"never happened: {never}")
    return 1 if wrongs(runs) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Many schedules of faults, and whether anything was lost: python -m tests.conserve --seed 1."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context

from tests.conserve.plan import EVERY
from tests.conserve.runs import LANES, happened, tried, wrongs
from tests.conserve.way import Way
from tests.conserve.world import Run
from tests.rig import nats, postgres
from tests.rig.postgres import running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conserve")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--worlds", type=int, help=f"instead: so many times {LANES} schedules")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--transport", choices=("http", "nats"), default="http")
    parser.add_argument("--nodes", type=int, default=1, help="of the brokers' cluster")
    given = parser.parse_args()
    if reason := _missing(given.database, given.transport):
        parser.error(reason)
    count = given.worlds or -(-given.schedules // LANES)
    began = time.monotonic()
    with running() if given.database == "postgres" else nullcontext() as cluster:
        way = Way(given.transport, cluster.dsn if cluster else "", given.nodes)
        runs = list(_all(range(given.seed, given.seed + count), way, given.jobs))
    faults, every = happened(runs), list(EVERY[given.transport])
    if given.transport == "nats" and given.nodes > 1:
        every.remove("broker_emptied")  # a cluster has what one of it lost
    print(
        f"{count * LANES} schedules, {sum(r.records for r in runs)} records,"
        f" {sum(r.photos for r in runs)} photos, {sum(r.pulled for r in runs)} batches pulled,"
        f" {sum(faults.values())} faults, {time.monotonic() - began:.0f} s:"
        f" {len(wrongs(runs))} violations"
    )
    print(", ".join(f"{kind} {faults[kind]}" for kind in every))
    never = [kind for kind in every if not faults[kind]]
    if never and count >= 8:
        print(f"never happened: {never}")
    return 1 if wrongs(runs) else 0


def _all(seeds: Sequence[int], way: Way, jobs: int) -> Iterator[Run]:
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for told in pool.map(partial(tried, way=way), seeds):
            for text in wrongs([told]):
                print(text, flush=True)
            yield told


def _missing(database: str, transport: str) -> str:
    found = postgres.missing() if database == "postgres" else ""
    return found or (nats.missing() if transport == "nats" else "")


if __name__ == "__main__":
    sys.exit(main())

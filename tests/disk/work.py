"""Tries what a trial plans: python -m tests.disk.work MODULE FOLDER … with the shim in front.

What was tried is written down at once, so that a second run in the same folder goes on behind it.
"""

import argparse
import importlib
import json
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from tests.disk import forks

PREPARED, PLAN, RESULTS = "prepared.json", "plan.json", "results.jsonl"


def main() -> None:
    given = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the children, too, are ended then
    folder = given.folder / given.module
    folder.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"tests.disk.{given.module}")
    trial = module.Trial(folder)
    trial.ready(_kept(folder / PREPARED, lambda: forks.alone(trial.prepare)))
    cases = trial.plan()
    done = set(_done(folder / RESULTS))
    share, of = map(int, given.share.split("/"))
    mine = [
        case
        for case in _spread(cases, given.seed)
        if zlib.crc32(case.name.encode()) % of == share - 1 and case.name not in done
    ]
    if given.only:
        mine = [case for case in cases if given.only in case.name]
    (folder / PLAN).write_text(json.dumps({"planned": len(cases), "mine": len(mine)}))
    sorts = len({case.sort for case in mine})
    until = time.monotonic() + given.seconds if given.seconds else None
    with (folder / RESULTS).open("a", encoding="utf-8") as results:
        least = sorts if given.is_sampled else 0
        chosen = _until(mine, until, least)
        for case, told in forks.each(chosen, trial.attempt, given.processes, module.LIMIT_S):
            json.dump({"case": case.name, "sort": case.sort, **told}, results, ensure_ascii=False)
            results.write("\n")
            results.flush()


def _spread(cases: Sequence[Any], seed: str) -> list[Any]:
    """One of each sort, then another of each; which ones, by chance."""
    shuffled, sorts = list(cases), dict[str, list[Any]]()
    Random(seed).shuffle(shuffled)
    for case in shuffled:
        sorts.setdefault(case.sort, []).append(case)
    rounds = zip_longest(*sorts.values())
    return [case for one in rounds for case in one if case is not None]


def _until(cases: Sequence[Any], until: float | None, least: int) -> Iterator[Any]:
    for number, case in enumerate(cases):
        if until is not None and number >= least and time.monotonic() > until:
            return
        yield case


def _kept(file: Path, make: Any) -> Any:
    if not file.exists():
        told = make()
        file.write_text(json.dumps(told, ensure_ascii=False), "utf-8")
    return json.loads(file.read_text("utf-8"))


def _done(file: Path) -> Iterator[str]:
    for line in file.read_text("utf-8").splitlines() if file.exists() else ():
        yield json.loads(line)["case"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.disk.work")
    parser.add_argument("module")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--seed", default="")
    parser.add_argument("--share", default="1/1")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--sampled", dest="is_sampled", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())

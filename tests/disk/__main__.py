"""Try it: python -m tests.disk [--all] [--only errors|damage]. Exit 1 if anything was violated.

Without --all a sample, one of each sort at least. With --keep FOLDER a run that was broken off is
gone on with by the same command; --share 2/5 does the second fifth, for five machines.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.disk import fault
from tests.disk.work import PLAN, RESULTS
from tests.rig import preload

MEMORY = Path("/dev/shm")
SHOWN = 20
COUNTED = ("by fault", "by way", "by file", "came of it", "said")
MODULES = ("errors", "damage")


@dataclass(slots=True)
class Sum:
    """What was seen so far, by all runs in that folder."""

    planned: int = 0
    states: int = 0
    sorts: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    took_s: float = 0.0


def campaign(
    module: str, seed: str, *, folder: Path, more: tuple[str, ...] = (), processes: int = 2
) -> Sum:
    """Run one trial, add up what its folder holds. Raises: CalledProcessError, if it broke."""
    begun = time.monotonic()
    shim = preload.build(fault.SOURCE, folder)
    arguments = [module, str(folder), "--seed", seed, "--processes", str(processes), *more]
    subprocess.run(**preload.command(shim, "tests.disk.work", arguments), check=True)
    total = _added(folder / module)
    total.took_s = time.monotonic() - begun
    return total


def _added(folder: Path) -> Sum:
    total = Sum(planned=json.loads((folder / PLAN).read_text("utf-8"))["planned"])
    for line in (folder / RESULTS).read_text("utf-8").splitlines():
        _add(total, json.loads(line))
    return total


def _add(total: Sum, told: dict[str, Any]) -> None:
    total.states += 1
    total.sorts.add(told["sort"])
    total.violations += [f"{told['case']}: {said}" for said in told["violations"]]
    for name in COUNTED:
        total.counts.setdefault(name, Counter()).update(told.get(name, {}))


def summary(module: str, total: Sum, seed: str) -> str:
    lines = [
        f"{module}: {total.states} states of {total.planned}, {len(total.sorts)} sorts,"
        f" {total.took_s:.0f} s, seed {seed}"
    ]
    for name, counts in total.counts.items():
        told = ", ".join(f"{key} {n}" for key, n in counts.most_common() if n)
        lines += [f"  {name:<10} {told}"] if told else []
    lines.append(f"  violations {len(total.violations)}")
    lines += [f"    {said}" for said in total.violations[:SHOWN]]
    return "\n".join(lines)


@contextmanager
def workshop(kept: Path | None = None) -> Iterator[Path]:
    """A folder in memory, or the one to go on in."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    where = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="disk-", dir=where) as name:
        yield Path(name).resolve()


def main() -> int:
    given, bad = _parser().parse_args(), 0
    more = ["--share", given.share, "--only", given.case]
    more += [] if given.is_all or given.case else ["--seconds", str(given.seconds), "--sampled"]
    with workshop(given.keep) as folder:
        for module in (given.only,) if given.only else MODULES:
            total = campaign(
                module, given.seed, folder=folder, more=tuple(more), processes=given.processes
            )
            print(summary(module, total, given.seed), flush=True)
            bad += len(total.violations)
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.disk")
    parser.add_argument("--all", dest="is_all", action="store_true", help="every one there is")
    parser.add_argument("--only", choices=MODULES)
    parser.add_argument("--damage", dest="only", action="store_const", const="damage")
    parser.add_argument("--case", default="", help="those whose name contains this")
    parser.add_argument("--share", default="1/1")
    parser.add_argument("--keep", type=Path, help="folder of this run, to be gone on with")
    parser.add_argument("--seconds", type=float, default=120.0, help="of a sample, for each")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--processes", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Try it all: python -m tests.disk [--seconds N] [--seed S]. Exit 1 if anything was violated."""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.disk import fault

MEMORY = Path("/dev/shm")
GRACE_S = 300.0
SHOWN = 20


@dataclass(slots=True)
class Sum:
    """What all processes of one campaign saw."""

    states: int = 0
    violations: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    took_s: float = 0.0


def campaign(module: str, seconds: float, seed: str, processes: int = 2) -> Sum:
    """`errors` or `damage`, for so long. Raises: AssertionError, if a process broke."""
    begun, total = time.monotonic(), Sum()
    where = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="disk-", dir=where) as name:
        folder = Path(name).resolve()
        shim = fault.build(folder)
        running = [
            subprocess.Popen(
                **fault.command(shim, module, _given(folder, share, seconds, seed, processes)),
                stdout=subprocess.PIPE,
            )
            for share in range(processes)
        ]
        for process in running:
            told, _ = process.communicate(timeout=seconds + GRACE_S)
            assert process.returncode == 0, f"a trying process ended: {process.returncode}"
            _add(total, json.loads(told))
    total.took_s = time.monotonic() - begun
    return total


def _given(folder: Path, share: int, seconds: float, seed: str, of: int) -> list[str]:
    return [str(folder / str(share)), str(seconds), seed, str(share), str(of)]


def _add(total: Sum, told: dict[str, Any]) -> None:
    total.states += told.pop("states")
    total.violations += told.pop("violations")
    for name, counts in told.items():
        more = counts if isinstance(counts, dict) else {"": counts}
        total.counts[name] = total.counts.get(name, Counter()) + Counter(more)


def summary(module: str, total: Sum, seed: str) -> str:
    lines = [f"{module}: {total.states} states in {total.took_s:.0f} s, seed {seed}"]
    for name, counts in total.counts.items():
        lines.append(
            f"  {name:<9} " + ", ".join(f"{k} {n}".strip() for k, n in counts.most_common())
        )
    lines.append(f"  violations {len(total.violations)}")
    lines += [f"    {said}" for said in total.violations[:SHOWN]]
    return "\n".join(lines)


def main() -> int:
    given = _parser().parse_args()
    bad = 0
    for module in ("errors", "damage") if given.only is None else (given.only,):
        total = campaign(module, given.seconds, given.seed, given.processes)
        print(summary(module, total, given.seed), flush=True)
        bad += len(total.violations)
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.disk")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each of the two")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=["errors", "damage"])
    return parser


if __name__ == "__main__":
    sys.exit(main())

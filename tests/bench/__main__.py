"""Run the benchmarks and say what was met: python -m tests.bench [which] [--json FILE]."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import faretable, money, passage, province, start, statuslist, sync
from tests.bench.figure import Figure, as_json, table


def main() -> int:
    given = _parser().parse_args()
    names = list(BENCHES) if given.which == "all" else [given.which]
    figures: list[Figure] = []
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    for name in names:
        with tempfile.TemporaryDirectory(prefix="lane-bench-", dir=given.dir) as folder:
            figures += BENCHES[name](Path(folder), given)
    print(table(figures))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if given.json:
        given.json.write_text(json.dumps(as_json(figures), ensure_ascii=False, indent=1) + "\n")
    return 0


Bench = Callable[[Path, argparse.Namespace], list[Figure]]

BENCHES: dict[str, Bench] = {
    "money": money.measure,
    "passage": lambda folder, given: passage.measure(folder, given.passages),
    "start": lambda folder, given: start.measure_start(folder, given.starts),
    "statuslist": lambda folder, given: statuslist.measure(folder, given.entries),
    "fares": lambda folder, given: faretable.measure(folder, given.fares),
    "sync": lambda folder, given: sync.measure(folder, given.records),
    "province": lambda folder, given: province.measure(folder, given.lanes),
    "memory": lambda folder, given: start.measure_memory(folder, given.driven),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("which", nargs="?", default="all", choices=[*BENCHES, "all"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures as JSON too")
    parser.add_argument("--dir", type=Path, help="measure on the disk of this folder")
    parser.add_argument("--commits", type=int, default=1500)
    parser.add_argument("--passages", type=int, default=300)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the history; 0: leave out")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the status list")
    parser.add_argument("--fares", type=int, default=160_000, help="rows of the fare table")
    parser.add_argument("--records", type=int, default=100_000, help="of the backlog")
    parser.add_argument("--lanes", type=int, default=3000, help="of the province")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument(
        "--driven", type=int, default=200, help="passages before memory's second look"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

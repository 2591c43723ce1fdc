"""What keeping money safe costs, each figure beside its goal: python -m tests.bench money.

Four questions: what a commit as "saved" understands it costs beside a raw append of the same
bytes (saved.py), on this disk and on one slowed to 5 ms a sync; how eight lanes share a sync; how
soon a box with a million rows sells and is verified (business.py); what a passage writes (wear.py).
Rivals take turns, medians are compared; others' share of the processors stands in the notes.
"""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import business, history, wear
from tests.bench.burden import Burden, wait_for_quiet
from tests.bench.figure import Figure, p50, p99
from tests.bench.history import Pattern
from tests.bench.saved import Samples

GOAL_RATIO, GOAL_SHARED = 1.5, 5.0
GOAL_VERIFIED_S, GOAL_OPEN_S, GOAL_LOG_KB = 5.0, 1.5, 12.0
SLOW_MS = 5
ROOT = Path(__file__).parents[2]
SLOW = Path(__file__).with_name("slow.c")
QUIET, PATIENCE_S = 0.15, 20.0  # others' share of the processors that is not worth waiting for
TURNS = 3


def measure(folder: Path, given: Namespace) -> list[Figure]:
    of = history.pattern(folder / "pattern")
    figures = [
        *_commits(folder, of, given.commits, {}, "this disk"),
        *_commits(folder, of, given.commits // 4, _slowed(folder), f"{SLOW_MS} ms a sync"),
        *_wear(folder, given.passages),
    ]
    return [*figures, *_history(folder, of, given.rows)] if given.rows else figures


# ---- a commit ----


def _slowed(folder: Path) -> dict[str, str]:
    shim = folder / "slow.so"
    program = ["cc", "-shared", "-fPIC", "-O2", "-o", shim, SLOW, "-ldl"]
    subprocess.run(program, check=True, timeout=60)
    return {"LD_PRELOAD": str(shim), "SLOW_SYNC_US": str(SLOW_MS * 1000)}


def _commits(
    folder: Path, of: Pattern, rounds: int, more: Mapping[str, str], where: str
) -> list[Figure]:
    """The best of three runs: others' work only ever adds."""
    seen = [
        _samples(folder / f"{where}-{turn}", of, rounds // TURNS, more) for turn in range(TURNS)
    ]
    alone, burden = min(((one, burden) for one, _, burden in seen), key=lambda s: _ratio(s[0]))
    shared = max((together for _, together, _ in seen), key=_gain)
    note = f"best of {TURNS} × {len(alone['commit'])} rounds; {burden}"
    return [
        Figure(f"commit ÷ raw append, {where}", _ratio(alone), "×", GOAL_RATIO, note),
        Figure(f"  in the thread that writes, {where}", _inside(alone), "×", note=_INSIDE),
        Figure(f"  ÷ raw append handed over alike, {where}", _alike(alone), "×", note=_ALIKE),
        *(_call(name, values, where) for name, values in alone.items() if name != "bytes"),
        Figure(
            f"eight lanes ÷ one, {where}", _gain(shared), "×", GOAL_SHARED, _shared(shared),
            is_least=True,
        ),
    ]  # fmt: skip


def _samples(
    folder: Path, of: Pattern, rounds: int, more: Mapping[str, str]
) -> tuple[Samples, Samples, str]:
    """Alone, together, and who else was at work. In a process of its own: the shim slows all."""
    folder.mkdir()
    wait_for_quiet(QUIET, PATIENCE_S)
    with Burden() as others:
        ran = subprocess.run(
            [sys.executable, "-m", "tests.bench.saved", folder, str(rounds)],
            input=json.dumps(of.rows),
            stdout=subprocess.PIPE,
            env={**os.environ, **more},
            cwd=ROOT,
            text=True,
            check=True,
        )
    told = json.loads(ran.stdout.splitlines()[-1])
    return told["alone"], told["together"], str(others)


def _ratio(alone: Samples) -> float:
    return p50(alone["commit"]) / p50(alone["appended"])


_INSIDE = "drafted, hashed, written, synced; neither reads through the event loop"
_ALIKE = "the rival, too, is written by a thread and awaited on the event loop"


def _inside(alone: Samples) -> float:
    return p50(alone["inside"]) / p50(alone["appended"])


def _alike(alone: Samples) -> float:
    return p50(alone["commit"]) / p50(alone["appended, handed over"])


def _gain(together: Samples) -> float:
    return p50([b / a for a, b in zip(together["one"], together["eight"], strict=True)])


def _call(name: str, values: Sequence[float], where: str) -> Figure:
    return Figure(f"  {name}, {where}", p50(values), "ms", note=f"p99 {p99(values):.2f}")


def _shared(seen: Samples) -> str:
    one, eight = p50(seen["one"]), p50(seen["eight"])
    return f"{one:.0f} → {eight:.0f} commits a second, {seen['grouped'][0]:.1f} rows a write"


# ---- a passage's bytes ----


def _wear(folder: Path, passages: int) -> list[Figure]:
    spread = wear.measure(folder / "wear", passages, 0.0)
    lone = wear.measure(folder / "wear-lone", max(1, passages // 10), wear.LONE_S)
    return [
        Figure("log bytes a passage", lone.log / 1024, "KB", GOAL_LOG_KB, "whole blocks"),
        Figure("  blank files made ready for them", lone.log / 1024, "KB", note="zeros, once"),
        Figure("  the photo", lone.photo / 1024, "KB"),
        Figure("  tables, a vehicle now and then", lone.tables / 1024, "KB", note=_apart()),
        Figure("  tables, vehicles in a row", spread.tables / 1024, "KB"),
    ]


def _apart() -> str:
    return f"{wear.LONE_S:.0f} s apart"


# ---- a long history ----


def _history(folder: Path, of: Pattern, rows: int) -> list[Figure]:
    data = folder / "history"
    begun = time.perf_counter()
    history.make(data, of, rows, time.time_ns() // 1_000_000)
    made_s = time.perf_counter() - begun
    openings, burden = _opened(data)
    verified_s, other = _verified(data)
    business.out_of_memory(data)
    cold = business.opened(data)
    best = min(openings, key=lambda opening: opening.snapshot)
    name, first = f"{best.rev:,} rows: verified", business.opened(folder / "new")
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    made = f"made in {made_s:.0f} s, {size / 1e9:.1f} GB"
    return [
        Figure(name, verified_s, "s", GOAL_VERIFIED_S, f"{business.PROCESSES} processes; {other}"),
        Figure("  open for business", best.snapshot, "s", GOAL_OPEN_S, burden),
        Figure("  processor time until then", best.processor, "s"),
        Figure("  open, pages not in memory", cold.snapshot, "s", note=made),
        Figure("  open, an empty folder", first.snapshot, "s"),
    ]


def _opened(data: Path) -> tuple[list[business.Opening], str]:
    business.opened(data)  # the folder's first start is not one like all others
    wait_for_quiet(QUIET, PATIENCE_S)
    with Burden() as others:
        seen = [business.opened(data) for _ in range(TURNS)]
    return seen, f"best of {TURNS}; {others}"


def _verified(data: Path) -> tuple[float, str]:
    wait_for_quiet(QUIET, PATIENCE_S)
    with Burden() as others:
        seen = [business.verified(data) for _ in range(TURNS)]
    return min(seen), f"best of {TURNS}; {others}"

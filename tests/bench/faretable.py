"""A minimum-fare table of national size on its way from the centre to a fare.

    python -m tests.bench fares --fares 160000

The centre is a process of its own, the shelf runs here: fetched, checked, compiled by its child,
in force. Meanwhile a ticker asks the loop for a turn every 2 ms; a late turn is lag, on a busy
machine mostly of waiting for a processor, so the loop's own processor time in a turn stands beside
it; and what the same package costs as one document on the loop (a sample of its rows, scaled).
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.errors import CenterUnavailable
from gateway.params import MinimumFares, read_package
from gateway.store import Store
from gateway.sync.center import CenterClient, Manifest
from gateway.sync.download import Downloads, ParameterShelf, public_key
from gateway.sync.tables import FareTables
from gateway.units import SystemClock
from tests.bench.figure import Figure, p50, p99

DEMO = Path(__file__).parents[2] / "gateway" / "parameters" / "demo"
EXIT = "62010B31"
GOAL_LAG_MS, GOAL_GROWTH_MB, GOAL_CHILD_MB = 100.0, 20.0, 120.0
ASKED, SAMPLE = 20_000, 4_000
PEAKS: list[float] = [0.0]


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Sixteen types an entry station, two to five provinces a way."""
    kinds = (1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26)
    chance = random.Random(1)
    for place in range(count):
        fee = chance.randrange(500, 300_000)
        shares = [
            {
                "province": str(11 + n),
                "fee": fee // 5,
                "fee95": fee * 19 // 100,
                "mileage_m": fee * 3,
            }
            for n in range(chance.randrange(2, 6))
        ]
        yield {
            "entry_hex": f"6201{place // 16:04X}",
            "vehicle_type": kinds[place % 16],
            "fee": fee,
            "fee95": fee * 95 // 100,
            "mileage_m": fee * 12,
            "shares": shares,
        }


def measure(folder: Path, count: int) -> list[Figure]:
    published = folder / "published"
    published.mkdir()
    package = published / "minimum_fares-2.json"
    writing = [sys.executable, "-m", "tests.bench.faretable", str(package), str(count)]
    subprocess.run(writing, check=True)  # apart: a child's peak begins with its parent's size
    on_loop_s = _as_one_document(count)
    command = [sys.executable, "-m", "gateway.center", "--port", "0", "--db"]
    centre = subprocess.Popen(
        [*command, str(folder / "center.db"), "--parameters", str(published)],
        stdout=subprocess.PIPE,
    )
    try:
        assert centre.stdout is not None
        ready = json.loads(centre.stdout.readline())
        seen = asyncio.run(_take_in(folder, ready["url"], ready["public_key"]))
    finally:
        centre.terminate()
        centre.wait()
    size_mb = package.stat().st_size / 1e6
    name = f"fare table of {count} rows"
    note = f"{size_mb:.0f} MB of JSON; as one document on the loop {on_loop_s:.1f} s"
    return [
        Figure(f"{name}: fetched to in force", seen["took_s"], "s", note=note),
        Figure(f"{name}: loop's worst lag meanwhile", seen["lag_ms"], "ms", GOAL_LAG_MS,
               f"p99 {seen['lag99_ms']:.1f} ms; before it {seen['still_ms']:.1f} ms"),
        Figure(f"{name}: loop's longest turn, processor", seen["turn_ms"], "ms", GOAL_LAG_MS),
        Figure(f"{name}: gateway's memory grew", seen["grown_mb"], "MB", GOAL_GROWTH_MB),
        Figure(f"{name}: child's peak", seen["child_mb"], "MB", GOAL_CHILD_MB),
        Figure(f"{name}: one fare, p50", seen["ask50_us"], "µs"),
        Figure(f"{name}: one fare, p99", seen["ask99_us"], "µs", note="none asked before"),
    ]  # fmt: skip


async def _take_in(folder: Path, url: str, key: str) -> dict[str, float]:
    clock = SystemClock()
    store = await Store.open(folder / "lane.db")
    tables = FareTables(folder / "fares", EXIT)
    shelf = ParameterShelf(store, clock, DEMO, public_key(key), exit_hex=EXIT, fares=tables)
    await shelf.load()
    async with CenterClient(url, "", clock, timeout_s=60) as client:
        while (await _manifest(client)) is None:  # until the centre has read its files
            pass
        _, still, _ = await _watched(asyncio.sleep(2))
        before_mb = _resident_mb()
        peaks = asyncio.ensure_future(_peaks())
        took_s, lags, turns = await _watched(Downloads(shelf, client, clock).fetch())
        peaks.cancel()
    grown_mb = _resident_mb() - before_mb
    await store.close()
    now = shelf.current()
    assert now.versions["minimum_fares"] == "2"
    asked = _ask(now.minimum_fares)
    return {
        "took_s": took_s,
        "lag_ms": max(lags) * 1e3,
        "lag99_ms": p99(lags) * 1e3,
        "turn_ms": max(turns) * 1e3,
        "still_ms": max(still) * 1e3,
        "grown_mb": grown_mb,
        "child_mb": max(PEAKS),
        "ask50_us": p50(asked) * 1e6,
        "ask99_us": p99(asked) * 1e6,
    }


async def _peaks() -> None:
    """The most that the compiling child ever had in memory, asked of it ten times a second."""
    while True:
        for status in _children():
            with suppress(OSError):
                if b"gateway.faretable" in (status.parent / "cmdline").read_bytes():
                    lines = status.read_text().splitlines()
                    peak = next((line for line in lines if line.startswith("VmHWM")), "VmHWM: 0 kB")
                    PEAKS.append(int(peak.split()[1]) / 1024)
        await asyncio.sleep(0.1)


def _children() -> Iterator[Path]:
    me = os.getpid()
    for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        yield Path("/proc") / pid / "status"


async def _manifest(client: CenterClient) -> Manifest | None:
    try:
        return await client.manifest()
    except CenterUnavailable:
        return None


async def _watched(work: Any) -> tuple[float, list[float], list[float]]:
    """Seconds of the work; of each turn of the loop meanwhile, how late it was and its own work."""
    loop = asyncio.get_running_loop()
    began, lags, turns = loop.time(), list[float](), list[float]()
    working = asyncio.ensure_future(work)
    while not working.done():
        asked, busy = loop.time(), time.thread_time()
        await asyncio.sleep(0.002)
        lags.append(max(0.0, loop.time() - asked - 0.002))
        turns.append(time.thread_time() - busy)
    await working
    return loop.time() - began, lags, turns


def _ask(table: Any) -> list[float]:
    chance, took = random.Random(2), []
    count = table.about.rows // 16
    for _ in range(ASKED):
        key = f"6201{chance.randrange(count):04X}", chance.choice((1, 2, 11, 26))
        began = time.perf_counter()
        found = table.find(*key)
        took.append(time.perf_counter() - began)
        assert found is not None
    return took


def document(count: int) -> bytes:
    facts = {"name": "minimum_fares", "version": "2", "effective_from": "2025-12-01T00:00:00+08:00"}
    return json.dumps({**facts, "body": {"exit_hex": EXIT, "rows": list(rows(count))}}).encode()


def _as_one_document(count: int) -> float:
    raw = document(SAMPLE)
    began = time.perf_counter()
    table = read_package(raw).table()
    assert isinstance(table, MinimumFares)
    table.find("62010000", 1)
    return (time.perf_counter() - began) * count / len(table.rows)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(document(int(sys.argv[2])))

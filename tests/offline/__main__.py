"""Thirty days without a centre: python -m tests.offline [--days 30] [--vehicles 2000]."""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.bench.figure import p50, p99
from tests.offline.month import Month, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.offline")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--vehicles", type=int, default=2000, help="a day")
    parser.add_argument("--photo-bytes", type=int, default=2000)
    parser.add_argument("--dir", type=Path, help="on the disk of this folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lane-offline-", dir=given.dir) as folder:
        told = asyncio.run(run(Path(folder), given.days, given.vehicles, given.photo_bytes, _say))
    _say(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    _say(
        f"money: {told.records} records in {told.money_s:.0f} s"
        f" ({told.records / told.money_s:.0f}/s); {told.live} vehicles meanwhile,"
        f" verdict after p50 {p50(told.latencies):.2f} s, p99 {p99(told.latencies):.2f} s"
    )
    photos_s = told.photos_s - told.money_s
    _say(f"photos: {told.photos_there} in {photos_s:.0f} s ({told.photos_there / photos_s:.0f}/s)")
    _say(f"memory: {told.peak_mb - told.idle_mb:.0f} MB above {told.idle_mb:.0f} MB")
    _say(f"days that agree: {told.days_agreed}; that differ: {told.days_differ}")
    if told.etas:
        at_s, said_s = told.etas[len(told.etas) // 2]
        _say(f"half-way the screen said {said_s} s; it took {told.money_s - at_s:.0f} s")
    return 0 if is_whole(told) else 1


def is_whole(told: Month) -> bool:
    """Every record once, no hole, every photo, every day signed by both."""
    return (
        told.lane["stored"] == told.records == told.lane["high_water"]
        and told.lane["missing"] == 0
        and told.photos_there == told.photos
        and told.days_agreed > 0
        and told.days_differ == 0
    )


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

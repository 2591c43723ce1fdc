"""Machine time of a whole passage whose devices answer at once: a truck, seven commands.

At the lane: from `Lane.command` to its snapshot, in this process, with nobody else on the loop.
Over HTTP: the same seven as requests on a kept connection to a box in a process of its own,
sign-in check, JSON and headers included. Both are summed over the seven commands; what happens
between them (a new vehicle, a new card) is not in it. Twins are in memory; the lane's file and
the photo are on the disk, synced as always. Over HTTP there is a centre too, a third process
that gets each record while the next vehicle is already being read. Processor time is that of all
threads of the gateway, the new vehicle included; it is what a busy machine does not blur.
"""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

from gateway.access import Who
from gateway.app import Gateway, gateway
from gateway.devices import build
from gateway.flow.commands import COMMAND
from gateway.units import SystemClock
from tests.bench import box
from tests.bench.figure import Figure, p50, p99

GOAL_P50_MS, GOAL_P99_MS = 15.0, 40.0
WARM_UP = 20
COLLECTOR = Who("1001", "演示收费员", "collector", "booth")
NAMES = ("read", "submit_plate", "classify", "weigh", "quote", "confirm_entry", "save")


def measure(folder: Path, count: int, *, warm_up: int = WARM_UP) -> list[Figure]:
    at_lane = asyncio.run(_at_lane(folder / "lane", warm_up + count))[warm_up:]
    over_http, written, processor_ms = _over_http(folder / "http", count, warm_up)
    return [
        *_told("at the lane", at_lane),
        *_told("over HTTP", over_http),
        Figure("processor time a passage", processor_ms, "ms", note="gateway's process, over HTTP"),
        Figure("disk bytes a passage", written / 1024, "KB", note="/proc/PID/io write_bytes"),
    ]


async def _at_lane(folder: Path, count: int) -> list[list[float]]:
    clock = SystemClock()
    devices = partial(build.devices, is_instant=True)
    async with gateway(box.settings(folder, 1), clock, devices) as built:
        bench = box.bench_of(built, clock)
        running = asyncio.create_task(built.lanes["X03"].run())
        try:
            return [await one(built, bench.put({"preset": "truck"})) for _ in range(count)]
        finally:
            running.cancel()


async def one(built: Gateway, vehicle: dict[str, Any]) -> list[float]:
    """All commands of one vehicle at the lane; milliseconds of each."""
    lane, times, told = built.lanes["X03"], [], {}
    for number, body in enumerate(box.commands(vehicle)):
        command, key = COMMAND.validate_python(body), f"{vehicle['card_id']}-{number}"
        begun = time.perf_counter()
        told = await lane.command(command, COLLECTOR, key, lane.rev)
        times.append((time.perf_counter() - begun) * 1000)
    assert told["state"] == "saved", told
    return times


def _over_http(folder: Path, count: int, warm_up: int) -> tuple[list[list[float]], float, float]:
    """Milliseconds of each command of each passage; bytes to the disk and processor
    milliseconds for one."""
    with box.instant(folder) as (port, pid):
        browser = box.Dialogue(port)
        browser.sign_in()
        _drive(browser, warm_up)
        written, busy_s = box.bytes_written(pid), box.processor_s(pid)
        times = _drive(browser, count)
        written, busy_s = box.bytes_written(pid) - written, box.processor_s(pid) - busy_s
        browser.close()
    return times, written / count, busy_s * 1000 / count


def _drive(browser: box.Dialogue, count: int) -> list[list[float]]:
    truck = {"preset": "truck"}
    return [browser.passage(browser.call("POST", "/bench/vehicle", truck)) for _ in range(count)]


def _told(where: str, passages: list[list[float]]) -> list[Figure]:
    sums = [sum(times) for times in passages]
    each = ", ".join(
        f"{name} {p50([times[place] for times in passages]):.1f}"
        for place, name in enumerate(NAMES)
    )
    note = f"{len(sums)} passages; {each}"
    return [
        Figure(f"passage {where}, p50", p50(sums), "ms", GOAL_P50_MS, note),
        Figure(f"passage {where}, p99", p99(sums), "ms", GOAL_P99_MS),
    ]

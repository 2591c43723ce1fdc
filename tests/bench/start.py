"""From `lane-gateway demo` to the first page, and what the box then weighs.

Start: from the process's start to the first 200 of `/`, an empty data folder each time, compiled
modules and the disk's pages warm. Processor time is beside it, since a busy machine shows in the
wall clock only. Memory: resident pages of the gateway's own process, libraries included, once the
camera's child and the centre run as they do in the demo; neither may have brought OpenCV in.
"""

import time
from pathlib import Path

from tests.bench import box
from tests.bench.figure import Figure, percentile

GOAL_START_S, GOAL_MEMORY_MB = 1.5, 90.0
SETTLE_S = 10.0
HEAVY = ("cv2", "numpy")


def measure_start(folder: Path, count: int) -> list[Figure]:
    walls, busy = zip(*(_start(folder / str(number)) for number in range(count)), strict=True)
    spread = f"median of {count}; best {min(walls):.2f}, worst {max(walls):.2f}"
    return [
        Figure("cold start to first page", percentile(walls, 0.5), "s", GOAL_START_S, spread),
        Figure("  processor time until then", percentile(busy, 0.5), "s"),
    ]


def measure_memory(folder: Path, passages: int, *, settle_s: float = SETTLE_S) -> list[Figure]:
    port, center_port = box.free_ports(2)
    with box.demo(folder, port, center_port) as process:
        box.first_page(port, process)
        time.sleep(settle_s)  # the figure is of a box that idles
        idle_mb, heavy = box.resident_mb(process.pid), _heavy(process.pid)
        _drive(port, passages)
        then_mb = box.resident_mb(process.pid)
    name = f"resident memory after {passages} passages"
    return [
        Figure("resident memory, idle", idle_mb, "MB", GOAL_MEMORY_MB, f"{settle_s:.0f} s after"),
        Figure("OpenCV or numpy in it", float(len(heavy)), "", 0.0, ", ".join(heavy)),
        Figure(name, then_mb, "MB", note="drawn pictures, records at the centre"),
    ]


def _start(folder: Path) -> tuple[float, float]:
    """Seconds on the wall and on the processor."""
    port, center_port = box.free_ports(2)
    begun = time.perf_counter()
    with box.demo(folder, port, center_port) as process:
        box.first_page(port, process)
        return time.perf_counter() - begun, box.processor_s(process.pid)


def _heavy(pid: int) -> list[str]:
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return [name for name in HEAVY if f"/{name}" in mapped]


def _drive(port: int, passages: int) -> None:
    browser = box.Dialogue(port)
    browser.sign_in()
    for _ in range(passages):
        browser.passage(browser.call("POST", "/bench/vehicle", {"preset": "truck"}))
    browser.close()

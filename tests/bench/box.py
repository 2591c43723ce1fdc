"""Boxes to measure: the demo as a person starts it, and one whose devices answer at once.

Both are processes of their own, so that what the measuring costs is not in the figures. Run as a
program, this is the second: python -m tests.bench.box DATA [alone]; it prints its port. Alone it
has no centre.
"""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gateway import config
from gateway.app import Gateway, gateway, serve, stop_on_signals
from gateway.demo import CENTER_TOKEN, EmbeddedCenter
from gateway.devices import build
from gateway.devices.sim.bench import Bench
from gateway.units import Clock, SystemClock
from gateway.web import bench as bench_routes

START_S, STOP_S = 60.0, 20.0
PROGRAM = (sys.executable, "-m", "gateway")


class Dialogue:
    """One collector's browser, as a keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._cookie = ""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer's JSON. Raises: AssertionError, unless it is 200."""
        text = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "Cookie": self._cookie, **headers}
        self._http.request(method, path, text, sent)
        answer = self._http.getresponse()
        told = answer.read()
        assert answer.status == 200, (path, answer.status, told[:400])
        if given := answer.getheader("Set-Cookie"):
            self._cookie = given.partition(";")[0]
        return json.loads(told)

    def sign_in(self) -> None:
        self.call("POST", "/api/session", {"operator": "1001", "password": "1001"})

    def command(self, rev: int, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """One command; the snapshot, and the milliseconds that it took."""
        headers = {"Idempotency-Key": uuid.uuid4().hex, "If-Match": f'"{rev}"'}
        begun = time.perf_counter()
        told = self.call("POST", "/api/lanes/X03/commands", body, **headers)
        return told, (time.perf_counter() - begun) * 1000

    def passage(self, vehicle: dict[str, Any]) -> list[float]:
        """All commands of one vehicle; milliseconds of each."""
        rev, times = self.call("GET", "/api/lanes/X03")["rev"], []
        told: dict[str, Any] = {}
        for body in commands(vehicle):
            told, took_ms = self.command(rev, body)
            rev = told["rev"]
            times.append(took_ms)
        assert told["state"] == "saved", told
        return times

    def close(self) -> None:
        self._http.close()


def commands(vehicle: dict[str, Any]) -> list[dict[str, Any]]:
    """The seven commands that take a weighed truck through."""
    return [
        {"command": "read"},
        {"command": "submit_plate", **_some(vehicle, "plate", "colour"), "source": "lpr"},
        {"command": "classify", **_some(vehicle, "vehicle_type", "vehicle_class")},
        {"command": "weigh", **_some(vehicle, "axle_count", "weight_kg"), "source": "scale"},
        {"command": "quote"},
        {"command": "confirm_entry", "station_hex": vehicle["entry_hex"]},
        {"command": "save"},
    ]


def _some(vehicle: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: vehicle[name] for name in names}


# ---- processes ----


@contextmanager
def instant(folder: Path, *how: str) -> Iterator[tuple[int, int]]:
    """A box of its own process with instant twins, once it serves: its port and its process id."""
    program = [sys.executable, "-m", "tests.bench.box", str(folder), *how]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            _stop(process)


@contextmanager
def demo(folder: Path, port: int, center_port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """`lane-gateway demo`, just started."""
    ports = ("--port", str(port), "--center-port", str(center_port))
    program = [*PROGRAM, "demo", *ports, "--data", str(folder)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(program, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            _stop(process)


def free_ports(count: int) -> list[int]:
    """Free a moment ago, all different."""
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [door.getsockname()[1] for door in doors]
    for door in doors:
        door.close()
    return ports


def first_page(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait for the first 200 of `/`, looking every 5 ms. Raises: AssertionError."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the demo ended: {process.returncode}"
        try:
            page = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            page.request("GET", "/")
            if page.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.005)
        finally:
            page.close()
    raise AssertionError("no page")


def _stop(process: "subprocess.Popen[Any]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


# ---- what a process costs, as proc(5) counts it ----


def bytes_written(pid: int) -> int:
    """Bytes it caused to be sent to the storage layer: write_bytes of io."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def processor_s(pid: int) -> float:
    """Seconds of all its threads on a processor: utime and stime of stat, to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory, shared libraries included: VmRSS of status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


# ---- the instant box ----


def bench_of(box: Gateway, clock: Clock) -> Bench:
    """The twins of lane X03, in memory only."""
    built = box.stations["X03"].devices
    return build.bench(built, box.shelf.current, box.settings.station.hex, None, clock)


def settings(folder: Path, center_port: int) -> config.Settings:
    """The demo's, on any free port, without the lane network."""
    center = f"http://127.0.0.1:{center_port}"
    return config.demo(folder, 0, center, CENTER_TOKEN).model_copy(update={"lan": None})


async def _serve(folder: Path, *, is_alone: bool) -> None:
    clock = SystemClock()
    devices = partial(build.devices, is_instant=True)
    stop, (center_port,) = stop_on_signals(), free_ports(1)
    async with gateway(settings(folder, center_port), clock, devices) as box:
        bench = bench_of(box, clock)
        await serve(
            box,
            stop,
            more=[] if is_alone else [_center(folder, center_port, box, clock)],
            tables=[bench_routes.routes],
            equip=lambda app: app.__setitem__(bench_routes.BENCH, bench),
            ready=lambda url, _: print(url.rpartition(":")[2], flush=True),
        )


def _center(folder: Path, port: int, box: Gateway, clock: Clock) -> EmbeddedCenter:
    return EmbeddedCenter(folder / "center", port, box, clock)


def main(arguments: Sequence[str]) -> None:
    asyncio.run(_serve(Path(arguments[0]), is_alone="alone" in arguments))
    os._exit(0)  # nothing is left to write; the interpreter's own end is not what we measure


if __name__ == "__main__":
    main(sys.argv[1:])

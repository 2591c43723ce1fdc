"""A province of lanes against one centre: how long an answer takes at rising rates, and what is
used up first.

    python -m tests.bench province --lanes 3000

Two processes: the centre as `lane-gateway center` runs it (on SQLite, then on PostgreSQL where that
is installed), and this module as a program, which is all the lanes. Each lane has a connection
of its own that stays open, and sends what a lane sends: bodies made beforehand by the lane's own
packing (sync/center.py), heartbeats every 30 s. The lanes' own stores are not there.

Live: bodies of one record, at random moments, so many a second whatever is answered (open loop); an
answer's time counts from the moment at which the record was saved, behind what the same lane still
waits for. Catching up: every lane was cut off; so many lanes at once send bodies of 200, each the
next when the last is answered. The disk's share is of its time, whoever used it.
"""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gateway.sync.center import Line, packed
from tests.bench.figure import Figure, p50, p99
from tests.bench.sync import TOKEN, row_of, serving
from tests.rig import postgres

RATES = (70, 250, 500, 1000, 1500, 2000, 3000, 4000)
"""Records a second; 3 000 lanes of 2 000 vehicles a day are 70."""
BEAT_EVERY_S = 30.0
STEP_S = 8.0
LATE_MS, BEHIND = 1000.0, 0.9
"""It is saturated when an answer in a hundred takes longer, or less is answered than this share."""
AT_ONCE, BODY, CATCH_UP_S = 32, 200, 10.0


def measure(folder: Path, lanes: int) -> list[Figure]:
    figures = _figures("SQLite", _driven(folder / "sqlite", lanes, ""))
    if reason := postgres.missing():
        print(reason, file=sys.stderr)
        return figures
    with postgres.running() as cluster:
        return figures + _figures("PostgreSQL", _driven(folder / "pg", lanes, cluster.schema()))


def _driven(folder: Path, lanes: int, dsn: str) -> list[dict[str, Any]]:
    folder.mkdir()
    center = [sys.executable, "-m", "gateway.center", "--port", "0", "--db", str(folder / "c.db")]
    with serving(center, CENTER_DSN=dsn) as told:
        drive = [sys.executable, "-m", "tests.bench.province", told.url, str(told.pid), str(lanes)]
        done = subprocess.run([*drive, dsn], stdout=subprocess.PIPE, check=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _figures(name: str, steps: list[dict[str, Any]]) -> list[Figure]:
    figures = []
    for step in steps:
        note = (
            f"p50 {step['p50_ms']:.1f}, p99 {step['p99_ms']:.1f} ms; centre {step['centre']:.0f} %"
            f" of a core (loop {step['loop']:.0f}), database {step['database']:.0f} %, disk"
            f" {step['disk']:.0f} %, lanes {step['client']:.0f} %"
        )
        title = f"{name}: {step['what']}"
        figures.append(Figure(title, step["answered"], "records/s", note=note))
    return figures


# ---- the lanes, as a program ----


class Used(NamedTuple):
    """Seconds of processor time, and of the disk's."""

    at: float
    centre: float
    loop: float
    database: float
    client: float
    disk: float

    def share(self, name: str, since: "Used") -> float:
        return 100 * (getattr(self, name) - getattr(since, name)) / (self.at - since.at)


class Meter:
    def __init__(self, centre: int, dsn: str) -> None:
        self._centre, self._dsn = centre, dsn

    def read(self) -> Used:
        loop = _busy(Path(f"/proc/{self._centre}/task/{self._centre}/stat"))
        centre = _busy(Path(f"/proc/{self._centre}/stat"))
        return Used(
            time.perf_counter(), centre, loop, self._database(), time.process_time(), _disk_s()
        )

    def _database(self) -> float:
        if not self._dsn:
            return 0.0
        busy = 0.0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if (stat.parent / "comm").read_text().startswith("postgres"):
                    busy += _busy(stat)
            except OSError:
                continue  # it has just ended
        return busy


def _busy(stat: Path) -> float:
    fields = stat.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _disk_s() -> float:
    lines = map(str.split, Path("/proc/diskstats").read_text().splitlines())
    return max(int(line[12]) / 1000 for line in lines)


@dataclass(slots=True)
class Lane:
    """One connection, one thing at a time."""

    name: str
    host: str
    port: int
    seq: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    line: Any = None

    async def post(self, request: bytes) -> bytes:
        async with self.busy:
            if self.line is None:
                self.line = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
            reader, writer = self.line
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            if b"transfer-encoding: chunked" in head:
                return await _chunked(reader)
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            return await reader.readexactly(length)

    def close(self) -> None:
        if self.line is not None:
            self.line[1].close()


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


class Province:
    def __init__(self, url: str, lanes: int, meter: Meter) -> None:
        self._meter = meter
        host, port = url.removeprefix("http://").split(":")
        self.lanes = [Lane(f"L{n:05d}", host, int(port)) for n in range(1, lanes + 1)]
        self._rng, self._chain = random.Random(1), "0" * 64
        self.took = list[float]()

    async def bodies(self, lanes: Sequence[Lane], size: int) -> list[tuple[Lane, bytes]]:
        """The next records of each of these, as requests."""
        made = []
        for lane in lanes:
            made.append((lane, await self._body(lane, size)))
            await asyncio.sleep(0)  # heartbeats go on
        self.took.clear()
        return made

    async def _body(self, lane: Lane, size: int) -> bytes:
        lines = []
        for _ in range(size):
            lane.seq += 1
            row, _ = row_of(lane.seq, self._rng, self._chain, lane.name)
            lines.append(Line(lane.seq, row[2], row[-2].encode()))
        body = await packed(lane.name, lines)
        return _request("/v1/records", body.body, body.headers)

    async def send(self, lane: Lane, request: bytes, saved_at: float) -> None:
        answer = await lane.post(request)
        assert answer.count(b'"accepted"') == 1, answer
        self.took.append((time.perf_counter() - saved_at) * 1000)

    async def live(self, rate: float) -> dict[str, Any]:
        order = [self._rng.choice(self.lanes) for _ in range(round(rate * STEP_S))]
        ready, due = await self.bodies(order, 1), 0.0
        before, began = self._meter.read(), time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for lane, request in ready:
                due += self._rng.expovariate(rate)
                while (now := time.perf_counter() - began) < due:
                    await asyncio.sleep(due - now)
                tasks.create_task(self.send(lane, request, began + due))
        return self._told(len(self.took), before)

    async def beat(self) -> None:
        """Every lane's heartbeat, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for lane in itertools.cycle(self.lanes):
                tasks.create_task(lane.post(_beat(lane.name)))
                await asyncio.sleep(BEAT_EVERY_S / len(self.lanes))

    async def catch_up(self) -> dict[str, Any]:
        left = iter(await self.bodies(self.lanes[: AT_ONCE * 16], BODY))
        before, began = self._meter.read(), time.perf_counter()

        async def one() -> None:
            for lane, request in left:
                if (start := time.perf_counter()) - began > CATCH_UP_S:
                    return
                answer = await lane.post(request)
                assert answer.count(b'"accepted"') == BODY, answer
                self.took.append((time.perf_counter() - start) * 1000)

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        return self._told(len(self.took) * BODY, before)

    def _told(self, answered: int, before: "Used") -> dict[str, Any]:
        after = self._meter.read()
        names = ("centre", "loop", "database", "client", "disk")
        return {
            "answered": answered / (after.at - before.at),
            "p50_ms": p50(self.took), "p99_ms": p99(self.took),
            **{name: after.share(name, before) for name in names},
        }  # fmt: skip


def _request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    head = {"Host": "centre", "Authorization": f"Bearer {TOKEN}", "Accept-Encoding": "identity"}
    told = {**head, **headers, "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def _beat(lane: str) -> bytes:
    devices = dict.fromkeys(("reader", "rsu", "camera", "printer", "barrier", "display"), "ok")
    told = {
        "lane": lane, "at_ms": round(time.time() * 1000), "version": "0.1.0", "backlog": 0,
        "disk_free": 10**10, "devices": devices, "certificate_days": 300,
    }  # fmt: skip
    return _request(
        "/v1/heartbeat", json.dumps(told).encode(), {"Content-Type": "application/json"}
    )


async def _main(url: str, centre: str, lanes: str, dsn: str) -> None:
    province = Province(url, int(lanes), Meter(int(centre), dsn))
    for first in range(0, int(lanes), 100):
        some = province.lanes[first : first + 100]
        await asyncio.gather(*(lane.post(_beat(lane.name)) for lane in some))
    beating = asyncio.create_task(province.beat())
    for rate in RATES:
        step = await province.live(rate)
        _say(f"{lanes} lanes, {rate} a second offered", step)
        if step["p99_ms"] > LATE_MS or step["answered"] < BEHIND * rate:
            break
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    _say(f"catching up, {AT_ONCE} at once, bodies of {BODY}", await province.catch_up())
    for lane in province.lanes:
        lane.close()


def _say(what: str, step: dict[str, Any]) -> None:
    print(json.dumps({"what": what, **step}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

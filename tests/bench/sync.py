"""A backlog goes to the reference centre: how fast, how many bytes, how much memory, and whether a
vehicle that is saved meanwhile waits.

Three processes: the lane (this module as a program; only its store and its sync), the centre as
`lane-gateway center` runs it, and a handler with nothing behind it, which reads a body and says
yes. Bare: aiohttp posting the very bodies that the drain sent, one after the other, from memory.
Records differ as records do: cards, plates, amounts, chains, photos. Bytes on the wire are bodies
and answers with their headers, both ways. Memory is what is resident, sampled; idle is with the
store open and the backlog on disk.
"""

import asyncio
import base64
import ctypes
import gc
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.outbox import Outbox
from gateway.units import SystemClock
from tests.bench import stream
from tests.bench.figure import Figure, p50, p99
from tests.sync.rig import record

LANE, TOKEN = "X03", "bench"
HEAD_BYTES = 450  # of a request and of its answer, measured once with a socket in between
SAVED_EVERY_S = 0.1
LIVE_S = 20.0


def measure(folder: Path, records: int) -> list[Figure]:
    with _center(folder / "center.db") as url:
        told = _child(folder / "lane", "drain", url, str(records))
    with _center(folder / "center2.db") as url:
        bare_center = _child(folder / "lane", "bare", url, "1")
    with _nothing() as url:
        bare = _child(folder / "lane", "bare", url, "0")
    with _center(folder / "center3.db") as url:
        live = _child(folder / "live", "live", url, str(records))
    rival = stream.rate(folder / "lane")
    rate, batches = records / told["seconds"], told["batches"]
    return [
        Figure("drain to the reference centre", rate, "records/s",
            note=f"{batches} bodies, {told['seconds']:.1f} s, {told['processor_s']:.1f} s of"
            " processor at the lane"),
        Figure("  ÷ bare client, nothing behind it", rate / (records / bare["seconds"]), "",
            0.5, f"{records / bare['seconds']:.0f} records/s", is_least=True),
        Figure("  ÷ bare client, the same centre", rate / (records / bare_center["seconds"]), "",
            note=f"{records / bare_center['seconds']:.0f} records/s"),
        *([Figure("  ÷ the same one by one to JetStream", rate / rival, "", 1.0,
            f"{rival:.0f} records/s, window {stream.WINDOW}", is_least=True)] if rival else []),
        Figure("bytes on the wire a record", told["wire"] / records, "B", 250.0,
            f"{told['sent'] / records:.0f} sent, {told['answered'] / records:.0f} answered"),
        Figure("memory while draining, above idle", told["peak_mb"] - told["idle_mb"], "MB", 40.0,
            f"idle {told['idle_mb']:.0f} MB"),
        Figure("a live record, full backlog, p99", p99(live["latencies"]), "ms", 1000.0,
            f"p50 {p50(live['latencies']):.0f}, {len(live['latencies'])} vehicles,"
            f" {live['drained']} of the backlog meanwhile"),
    ]  # fmt: skip


def _child(folder: Path, *how: str) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    program = [sys.executable, "-m", "tests.bench.sync", str(folder), *how]
    done = subprocess.run(program, stdout=subprocess.PIPE, check=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@contextmanager
def _center(db: Path) -> Iterator[str]:
    program = [sys.executable, "-m", "gateway.center", "--port", "0", "--db", str(db)]
    with serving(program) as told:
        yield told.url


@contextmanager
def _nothing() -> Iterator[str]:
    with serving([sys.executable, "-m", "tests.bench.sync", "-", "nothing"]) as told:
        yield told.url


class Serving(NamedTuple):
    url: str
    pid: int


@contextmanager
def serving(program: list[str], **more: str) -> Iterator[Serving]:
    """A program that says where it serves; `more`: its environment's."""
    env = {**os.environ, "CENTER_TOKEN": TOKEN, **more}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            yield Serving(json.loads(process.stdout.readline())["url"], process.pid)
        finally:
            process.terminate()


# ---- the lane ----


async def _open(folder: Path, count: int) -> Store:
    store = await Store.open(folder / "lane.db")
    rng, chain = random.Random(1), "0" * 64
    for first in range(1, count + 1, 5000):
        rows = []
        for seq in range(first, min(first + 5000, count + 1)):
            row, chain = row_of(seq, rng, chain)
            rows.append(row)
        await store.write(lambda db, rows=rows: db.executemany(INSERT, rows).rowcount)  # type: ignore[misc]
    return store


INSERT = (
    "INSERT INTO record (lane, seq, id, passage_id, shift_id, kind, means, fee_fen,"
    " card_id, saved_ms, line, chain) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
PATTERN = record(1).model_dump(mode="json", by_alias=True)


def row_of(
    seq: int, rng: random.Random, chain: str, lane: str = LANE
) -> tuple[tuple[Any, ...], str]:
    """A row of `record`, id third and line last but one; and its chain."""
    fee = rng.randrange(500, 20_000)
    at_ms = 1_763_700_000_000 + seq * 43_000 + rng.randrange(40_000)
    when = time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(at_ms / 1000 + 28_800))
    plate = f"甘{rng.choice('ABCDEFG')}{rng.randrange(99_999):05d}_{rng.randrange(2)}"
    weight = rng.randrange(1_500, 49_000)
    own = {
        "id": f"G0030620010{lane[1:]:0>6}0032025112108{seq:07d}", "seq": seq, "lane": lane,
        "passageId": f"{lane}-{at_ms:014d}-{rng.getrandbits(32):08X}",
        "cardId": f"62012045{rng.randrange(10**12):012d}", "tac": f"{rng.getrandbits(32):08X}",
        "terminalTransNo": f"{rng.getrandbits(32):08X}",
        "cardTransNo": f"{rng.randrange(65536):04X}",
        "exTime": when, "vehicleId": plate, "identifyVehicleId": plate,
        "vehicleType": rng.choice((1, 1, 1, 2, 11, 12, 16)), "transFee": fee, "fee": fee,
        "payFee": fee + fee // 19, "discountFee": fee // 19, "preBalance": 90_000 + fee,
        "postBalance": 90_000, "exWeight": weight, "feeMileage": rng.randrange(10_000, 600_000),
        "enTollStationHex": f"620{rng.randrange(1, 9)}{rng.randrange(65536):04X}",
        "enTollStationName": rng.choice(("兰州东", "天水南", "武威北", "张掖", "定西", "平凉")),
        "passId": f"0162012045{rng.randrange(10**12):012d}{when[:19].translate(DIGITS)}",
        "photo": f"{rng.getrandbits(256):064x}", "prevChain": chain,
        "clock": {**PATTERN["clock"], "wallMs": at_ms, "monotonicMs": seq * 43_000},
    }  # fmt: skip
    line = json.dumps({**PATTERN, **own}, ensure_ascii=False, separators=(",", ":"))
    chain = hashlib.sha256((chain + line).encode()).hexdigest().upper()
    row = (lane, seq, own["id"], own["passageId"], 1, "paid", "etc_card", fee, own["cardId"])
    return (*row, at_ms, line, chain), chain


DIGITS = str.maketrans("", "", "-T:")


class Watched(CenterClient):
    """Keeps the bodies in a file, and counts."""

    def keep(self, path: Path) -> None:
        self._file = path.open("wb")
        self.sent = self.answered = self.batches = 0

    async def _send(self, method: str, path: str, **more: Any) -> Any:
        status, raw, headers = await super()._send(method, path, **more)
        body = more.get("data", b"")
        told = {name: more["headers"][name] for name in ("First-Seq", "Last-Seq")}
        self._file.write(json.dumps({"size": len(body), **told}).encode() + b"\n" + body)
        self.batches += 1
        self.sent += len(body) + HEAD_BYTES
        self.answered += int(headers.get("Content-Length", len(raw)))
        return status, raw, headers


async def _drain(folder: Path, url: str, count: int) -> dict[str, Any]:
    store, clock = await _open(folder, count), SystemClock()
    async with Watched(url, TOKEN, clock) as client:
        client.keep(folder / "bodies")
        outbox = Outbox(store, client, [LANE], clock)
        await outbox.refresh()
        await asyncio.sleep(1)
        _give_back()
        idle_mb, peaks = _resident_mb(), list[float]()
        watch = asyncio.create_task(_sample(peaks))
        began, busy = time.perf_counter(), time.process_time()
        while outbox.state()["unsent"]:
            await outbox.drain()
        seconds, processor_s = time.perf_counter() - began, time.process_time() - busy
        watch.cancel()
        client._file.close()
    await store.close()
    return {
        "seconds": seconds, "processor_s": processor_s, "batches": client.batches,
        "sent": client.sent, "answered": client.answered, "wire": client.sent + client.answered,
        "idle_mb": idle_mb, "peak_mb": max(peaks),
    }  # fmt: skip


async def _live(folder: Path, url: str, count: int) -> dict[str, Any]:
    """Vehicles at ten a second, as if every lane of a plaza were this one."""
    store, clock = await _open(folder, count), SystemClock()
    begun, latencies, rng = dict[int, float](), list[float](), random.Random(2)
    async with CenterClient(url, TOKEN, clock) as client:
        outbox = Outbox(store, client, [LANE], clock)
        real = outbox._ledger.settle

        async def settle(lane: str, sent: Any, *more: Any) -> int:
            done = await real(lane, sent, *more)
            now = time.perf_counter()
            for one in sent:
                if one.line.seq in begun:
                    latencies.append((now - begun.pop(one.line.seq)) * 1000)
            return done

        outbox._ledger.settle = settle  # type: ignore[method-assign]
        await outbox.refresh()
        running = asyncio.create_task(outbox.run())
        await asyncio.sleep(1)
        end, seq = time.perf_counter() + LIVE_S, count
        while time.perf_counter() < end and outbox.state()["unsent"] > 2000:
            seq += 1
            row, _ = row_of(seq, rng, "0" * 64)
            await store.write(lambda db, row=row: db.execute(INSERT, row).rowcount)  # type: ignore[misc]
            begun[seq] = time.perf_counter()
            outbox.noticed(LANE, clock.now_ms())
            await asyncio.sleep(SAVED_EVERY_S)
        await asyncio.sleep(2)
        left = outbox.state()["unsent"]
        latencies += [LIVE_S * 1000] * len(begun)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    await store.close()
    return {"latencies": latencies, "drained": seq - left}


async def _bare(folder: Path, url: str, *, is_authorised: bool) -> dict[str, Any]:
    bodies = list(_bodies(folder / "bodies"))
    token = {"Authorization": f"Bearer {TOKEN}"} if is_authorised else {}
    async with aiohttp.ClientSession(headers=token) as http:
        began = time.perf_counter()
        for headers, body in bodies:
            async with http.post(f"{url}/v1/records", data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 200, await answer.text()
        return {"seconds": time.perf_counter() - began}


def _bodies(path: Path) -> Iterator[tuple[dict[str, str], bytes]]:

    with path.open("rb") as file:
        while line := file.readline():
            told = json.loads(line)
            body = file.read(told["size"])
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            yield {
                "Content-Type": "application/x-ndjson", "Content-Encoding": "gzip",
                "Content-Digest": f"sha-256=:{digest}:", "Lane": LANE,
                "First-Seq": told["First-Seq"], "Last-Seq": told["Last-Seq"],
            }, body  # fmt: skip


async def _serve_nothing() -> None:
    async def yes(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="{}", content_type="application/json")

    app = web.Application(client_max_size=1 << 23)
    app.router.add_post("/v1/records", yes)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await asyncio.sleep(3600)


async def _sample(peaks: list[float]) -> None:
    while True:
        peaks.append(_resident_mb())
        await asyncio.sleep(0.05)


def _give_back() -> None:
    """What making the backlog took is no part of the lane's memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def _main() -> dict[str, Any]:
    folder, how, *rest = sys.argv[1:]
    match how:
        case "nothing":
            await _serve_nothing()
            return {}
        case "drain":
            return await _drain(Path(folder), rest[0], int(rest[1]))
        case "live":
            return await _live(Path(folder), rest[0], int(rest[1]))
        case _:
            return await _bare(Path(folder), rest[0], is_authorised=rest[1] == "1")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main())))

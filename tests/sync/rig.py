"""A store with records in it, a hurried clock, and the reference centre over real HTTP."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.center.app import Serving, serve_center
from gateway.records import ClockReading, ExitRecord
from gateway.store import Store
from gateway.units import SystemClock

TOKEN = "a-token-for-tests"
DEMO = Path(__file__).parents[2] / "gateway" / "parameters" / "demo"
SAVED_MS = 1_763_700_000_000


class HurriedClock(SystemClock):
    """Real time with an offset; sleeps are a hundred times shorter, and listed."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ms = 0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.ahead_ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds / 100)


def record(seq: int, lane: str = "X03", fee: int = 3610, **changes: Any) -> ExitRecord:
    """A valid exit record, as the flow would freeze it."""
    lane_no = 3 if lane == "X03" else 4
    fields: dict[str, Any] = {
        "id": f"G003062001002020100{lane_no}02025112108{seq:06d}".ljust(37, "0")[:37],
        "seq": seq,
        "lane": lane,
        "passage_id": f"{lane}-{seq}",
        "outcome": "paid",
        "means": "etc_card",
        "trans_pay_type": 2,
        "exit_fee_type": 4,
        "obu_sign": 2,
        "card_id": "62012045230000123456",
        "etc_card_type": 2,
        "ex_time": "2025-11-21T08:00:00+08:00",
        "vehicle_id": "甘A12345_0",
        "identify_vehicle_id": "甘A12345_0",
        "vehicle_type": 1,
        "vehicle_class": 0,
        "tac": "E5383359",
        "trans_fee": fee,
        "pre_balance": 50_000 + fee,
        "post_balance": 50_000,
        "ex_weight": 0,
        "axle_count": 2,
        "limit_weight": 18_000,
        "overweight_rate": 0,
        "special_type": "",
        "en_toll_station_hex": "62010A12",
        "en_toll_lane_hex": "62010A1203",
        "en_time": "2025-11-21T07:00:00+08:00",
        "en_weight": 0,
        "en_axle_count": 2,
        "en_toll_station_name": "兰州东",
        "ex_toll_station_name": "兰州南",
        "ex_toll_station_hex": "62010B31",
        "pass_id": "016201204523000012345620251121070000",
        "vehicle_sign": "0xff",
        "pay_fee": fee + 190,
        "fee": fee,
        "discount_fee": 190,
        "fee_mileage": 95_000,
        "operator": "1001",
        "shift": 1,
        "shift_date": "2025-11-21",
        "param_versions": {"stations": "20251118001"},
        "clock": ClockReading(wall_ms=SAVED_MS, monotonic_ms=1, boot_id="b"),
        "lane_app_ver": "0.1.0",
    }
    return ExitRecord(**{**fields, **changes})


async def save(
    store: Store, seq: int, lane: str = "X03", shift_id: int = 1, **changes: Any
) -> ExitRecord:
    """What the flow does at 数据保存, as far as the sync sees it."""
    one = record(seq, lane, **changes)
    line = json.dumps(
        {**one.model_dump(mode="json", by_alias=True), "chain": f"{seq:064x}"},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    row = (lane, seq, one.id, one.passage_id, shift_id, one.outcome, one.means, one.fee)
    saved_ms = SAVED_MS + seq * 1000

    def work(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO record (lane, seq, id, passage_id, shift_id, kind, means, fee_fen,"
            " card_id, saved_ms, line, chain) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, one.card_id, saved_ms, line, f"{seq:064x}"),
        )

    await store.write(work)
    return one


class Truth:
    """What the centre really holds, asked over HTTP; and its faults."""

    def __init__(self, serving: Serving, http: aiohttp.ClientSession) -> None:
        self.url, self.public_key, self._http = serving.url, serving.public_key, http

    async def lane(self, lane: str = "X03") -> dict[str, Any]:
        return await self._get(f"/v1/lanes/{lane}")

    async def seqs(self, lane: str = "X03") -> list[int]:
        """In order of arrival."""
        rows = await self._get(f"/v1/records?limit=500&lane={lane}")
        return [row["seq"] for row in rows["records"]]

    async def rows(self, lane: str = "X03") -> list[dict[str, Any]]:
        return (await self._get(f"/v1/records?limit=500&lane={lane}"))["records"]

    async def fault(self, fault: str, **more: Any) -> None:
        body = {"fault": fault, **more}
        async with self._http.post(f"{self.url}/test/faults", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def _get(self, path: str) -> Any:
        async with self._http.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@asynccontextmanager
async def center(
    db: Path, port: int = 0, parameters: Path | None = DEMO, **more: Any
) -> AsyncIterator[Truth]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        serve_center(db, port, parameters, TOKEN, allow_faults=True, **more) as serving,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        yield Truth(serving, http)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Poll until true; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)

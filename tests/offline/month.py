"""So many days of vehicles with photos, saved through the store's own log while there is no centre;
then the line is back: money first, photos behind it, new vehicles all the while. At the end every
day is compared with the centre. The centre is a program of its own; photos are scaled down.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.keys import Signer
from gateway.store import Draft, Store
from gateway.sync.batches import Batches
from gateway.sync.center import CenterClient
from gateway.sync.heartbeat import Heartbeats
from gateway.sync.outbox import Outbox
from gateway.sync.photos import PhotoPusher
from gateway.sync.reconcile import Reconciler
from gateway.units import SystemClock
from tests.bench.sync import LANE, TOKEN, _center, _resident_mb, row_of

BACK_MS = 86_400_000
AT_ONCE = 500  # records of one commit: days pass quickly here
LIVE_EVERY_S = 1.0


@dataclass(slots=True)
class Month:
    """What was seen."""

    records: int = 0
    photos: int = 0
    live: int = 0
    saved_s: float = 0.0
    money_s: float = 0.0
    photos_s: float = 0.0
    idle_mb: float = 0.0
    peak_mb: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds from saving a vehicle during the catch-up to the centre's verdict."""
    etas: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the line is back, what the screen said is left)."""
    lane: dict[str, Any] = field(default_factory=dict)
    photos_there: int = 0
    days_agreed: int = 0
    days_differ: int = 0


class Box:
    """One lane's store and sync."""

    def __init__(self, folder: Path, store: Store, vehicles: int, photo_bytes: int) -> None:
        self.folder, self.store, self._vehicles = folder, store, vehicles
        self._photo_bytes, self._rng, self._chain, self._seq = photo_bytes, random.Random(7), "", 0
        self.told = Month()

    async def days(self, count: int, now_ms: int) -> None:
        """The box alone: `count` days up to yesterday."""
        began = time.perf_counter()
        step_ms = BACK_MS // self._vehicles
        first_ms = now_ms - (count + 1) * BACK_MS
        total = count * self._vehicles
        for done in range(0, total, AT_ONCE):
            moments = [first_ms + n * step_ms for n in range(done, min(done + AT_ONCE, total))]
            await self.save(moments)
        self.told.saved_s = time.perf_counter() - began

    async def save(self, moments: list[int]) -> None:
        """One vehicle each: the photo first, then the record, as the flow does."""
        photos, rows = list[tuple[str, int, int, str]](), list[tuple[Any, ...]]()
        for at_ms in moments:
            body = b"\xff\xd8" + self._rng.randbytes(self._photo_bytes)
            sha256 = hashlib.sha256(body).hexdigest()
            path = self.photo(sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            photos.append((sha256, len(body), at_ms, "camera"))
            self._seq += 1
            row, self._chain = row_of(self._seq, self._rng, self._chain)
            line = row[10].replace(f'"photo":"{_photo_of(row[10])}"', f'"photo":"{sha256}"')
            rows.append((row[2], row[3], at_ms, row[8], row[7], line))
        insert = "INSERT INTO evidence VALUES (?, ?, ?, ?)"
        await self.store.write(lambda db: db.executemany(insert, photos).rowcount)
        await self.store.log(lambda draft: _draft(draft, rows))
        self.told.records += len(rows)
        self.told.photos += len(photos)

    def photo(self, sha256: str) -> Path:
        return self.folder / "evidence" / sha256[:2] / f"{sha256[2:]}.jpg"


def _photo_of(line: str) -> str:
    return line.split('"photo":"', 1)[1][:64]


def _draft(draft: Draft, rows: list[tuple[Any, ...]]) -> None:
    for record_id, passage_id, at_ms, card_id, fee, line in rows:
        told = [at_ms, "1001", 1, "甘A12345", card_id, fee, "saved", "saved"]
        extra = {"passage": told, "record": [record_id, at_ms]}
        moment = at_ms, at_ms, "boot", "1001"
        draft.add(LANE, passage_id, moment, "saved", "saved", "{}", extra, line)


async def run(
    folder: Path, days: int, vehicles: int, photo_bytes: int, say: Callable[[str], None]
) -> Month:
    """Everything; `say` hears how it goes."""
    clock = SystemClock()
    store = await Store.open(folder / "lane.db")
    box = Box(folder, store, vehicles, photo_bytes)
    await box.days(days, clock.now_ms())
    say(f"{box.told.records} records and photos of {days} days in {box.told.saved_s:.0f} s")
    with _center(folder / "center.db") as url:
        async with CenterClient(url, TOKEN, clock) as client:
            await _catch_up(box, client, clock, say)
            await _compare(box, client, clock)
        await _look(box, url, folder)
    await store.close()
    return box.told


async def _catch_up(
    box: Box, client: CenterClient, clock: SystemClock, say: Callable[[str], None]
) -> None:
    told, store = box.told, box.store
    outbox = Outbox(store, client, [LANE], clock)
    photos = PhotoPusher(
        *(store, client, box.photo, lambda: outbox.has_money_to_send, clock), poll_s=1.0
    )
    batches = Batches(store, [LANE], clock, outbox.settled_elsewhere)
    beats = Heartbeats(client, outbox, [LANE], clock)
    begun = _watch(outbox, told)
    await outbox.refresh()
    assert outbox.state()["unsent"] == told.records
    told.idle_mb = told.peak_mb = _resident_mb()
    began = time.perf_counter()
    services = [asyncio.create_task(one.run()) for one in (outbox, photos, batches, beats)]
    try:
        while not told.photos_s:
            if not told.money_s:
                await box.save([clock.now_ms()])
                begun[told.records] = time.perf_counter()
                outbox.noticed(LANE, clock.now_ms())
                told.live += 1
            await asyncio.sleep(LIVE_EVERY_S)
            passed_s, state = time.perf_counter() - began, outbox.state()
            told.peak_mb = max(told.peak_mb, _resident_mb())
            if state["eta_s"] and not told.money_s:
                told.etas.append((passed_s, state["eta_s"]))
                say(f"  {passed_s:.0f} s: {state['unsent']} left, {state['eta_s']} s to go")
            if not told.money_s and state["unsent"] <= 1 and passed_s > 2:
                told.money_s = passed_s
            if told.money_s and not state["unsent"] and not await photos.unsent():
                told.photos_s = time.perf_counter() - began
    finally:
        for service in services:
            service.cancel()
        for service in services:
            with suppress(asyncio.CancelledError):
                await service


def _watch(outbox: Outbox, told: Month) -> dict[int, float]:
    """seq → when it was saved; its latency is noted when the verdict is on disk."""
    begun, real = dict[int, float](), outbox._ledger.settle

    async def settle(lane: str, sent: Any, *more: Any) -> int:
        done = await real(lane, sent, *more)
        for one in sent:
            if one.line.seq in begun:
                told.latencies.append(time.perf_counter() - begun.pop(one.line.seq))
        return done

    outbox._ledger.settle = settle  # type: ignore[method-assign]
    return begun


async def _compare(box: Box, client: CenterClient, clock: SystemClock) -> None:
    signer = Signer(Ed25519PrivateKey.generate())
    outbox = Outbox(box.store, client, [LANE], clock)
    one = Reconciler(box.store, client, outbox, [LANE], clock, lambda: signer, lambda: None)
    await one.compare_due()
    agreed = [told["agrees"] for told in await one.shown(1000)]
    box.told.days_agreed, box.told.days_differ = sum(agreed), len(agreed) - sum(agreed)


async def _look(box: Box, url: str, folder: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{url}/v1/lanes/{LANE}") as answer,
    ):
        box.told.lane = await answer.json()
    there = {file.stem for file in (folder / "center-evidence").glob("*.jpg")}
    rows = await box.store.rows("SELECT sha256 FROM evidence")
    box.told.photos_there = sum(row["sha256"] in there for row in rows)

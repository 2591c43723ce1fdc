"""One box with many lanes, each with its own bad line to one centre; and what must hold after it.

Real: the outbox, the photos, the heartbeats, the pull routes, the centre, HTTP and TCP. Only the
clock is hurried (idle.py). Each lane is one schedule: its faults are drawn from the world's seed
and its number.
"""

import asyncio
import gzip
import hashlib
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.center.app import BOOK, PHOTOS, Serving, serve_center
from gateway.center.book import Arrival
from gateway.errors import CenterUnavailable
from gateway.keys import Signer
from gateway.store import Store
from gateway.sync.batches import Batches
from gateway.sync.center import CenterClient
from gateway.sync.heartbeat import Heartbeats
from gateway.sync.holdings import Holdings
from gateway.sync.outbox import Outbox
from gateway.sync.photos import PhotoPusher
from gateway.sync.reconcile import Period, Reconciler
from gateway.web.faults import faults_as_json
from gateway.web.pull import CONSUMERS, PULL, Pull, routes, token_hash
from tests.conserve.idle import IdleClock, IdleLoop
from tests.conserve.plan import Plan
from tests.conserve.proxy import Message, Proxy
from tests.conserve.stream import StreamProxy
from tests.conserve.truth import Held
from tests.conserve.way import Ground, Way, ground
from tests.sync.rig import record

TIMEOUT_S = 20.0  # how long a lane waits for an answer
DRAIN_S = 20_000.0  # how long a backlog may take once nothing goes wrong any more
COMPARED_MAX = 20  # times asked: heartbeats still have bad luck
BEGAN_MS = 1_763_700_000_000
BEFORE, LIVE_MAX = 6, 14  # records saved before the line is there, and at most while it is
TOKEN, PULL_TOKEN = "a-token", "a-pull-token"


@dataclass(slots=True)
class Lane:
    """One schedule."""

    name: str
    plan: Plan
    rng: random.Random
    lines: dict[int, str] = field(default_factory=dict)
    """What was saved: seq → the frozen line."""
    photos: dict[str, int] = field(default_factory=dict)
    """sha256 → seq of the record that names it."""
    offered: set[int] = field(default_factory=set)
    """Sent to the centre at least once: only their photos may be there."""
    hasty: list[str] = field(default_factory=list)
    """Photos that came before the money."""
    outbox: Outbox | None = None
    client: CenterClient | None = None


@dataclass(slots=True)
class Run:
    """What a world says of itself."""

    seed: int
    way: Way = field(default_factory=Way)
    wrong: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    records: int = 0
    photos: int = 0
    pulled: int = 0


async def run(seed: int, lanes: int, folder: Path, way: Way) -> Run:
    """One world from beginning to end."""
    with ground(way, folder) as below:
        world = World(seed, lanes, folder, way, below)
        async with world.open():
            await world.live()
    return world.told


class World:
    """Built by `open`, driven by `live`."""

    def __init__(self, seed: int, lanes: int, folder: Path, way: Way, below: Ground) -> None:
        self.told, self._ground = Run(seed, way), below
        self._folder, self._rng = folder, random.Random(seed)
        self._clock = IdleClock(BEGAN_MS)
        self.lanes = [
            Lane(f"L{n:02d}", Plan.drawn(each, way.transport), random.Random(each))
            for n, each in enumerate(range(seed * 1000, seed * 1000 + lanes))
        ]
        self._kept = folder / "center-evidence"
        self._cursors: list[int] = []
        self._bodies: dict[int, str] = {}
        self._is_over = asyncio.Event()
        self._pulls: list[Proxy] = []

    @property
    def _is_restored(self) -> bool:
        return self.told.seed % 3 == 0

    # ---- building ----

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            names = [lane.name for lane in self.lanes]
            self._store = await Store.open(self._folder / "lane.db", self._clock)
            stack.push_async_callback(self._store.close)
            serving = await stack.enter_async_context(
                serve_center(
                    self._folder / "center.db", 0, None, TOKEN,
                    dsn=self._ground.dsn, broker=self._ground.broker(),
                )
            )  # fmt: skip
            self._serving = serving
            self._truth = self._ground.truth(serving.app[BOOK]._database)
            stack.callback(self._truth.close)
            self._wait_for_the_disk(serving)
            self._batches = Batches(self._store, names, self._clock, self._poke, seal_count=5)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._tasks: list[asyncio.Task[Any]] = []
            for lane in self.lanes:
                await self._save(lane, BEFORE)
                self._tasks += [
                    tasks.create_task(work) for work in await self._services(lane, serving, stack)
                ]
            if self.told.seed % 4 == 0:
                await self._open_pull(stack, tasks)
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wait_for_the_disk(self, serving: Serving) -> None:
        """Time stands while the box or the centre waits for a sync."""
        book, photos, waiting = serving.app[BOOK], serving.app[PHOTOS], [0]
        write, finish = book._database.run, photos._finish

        async def counted(*work: Any, **how: Any) -> Any:
            waiting[0] += 1
            try:
                return await write(*work, **how)
            finally:
                waiting[0] -= 1

        def finished(sha256: str, size: int) -> Any:
            waiting[0] += 1
            try:
                return finish(sha256, size)
            finally:
                waiting[0] -= 1

        book._database.run = counted  # type: ignore[method-assign]
        photos._finish = finished  # type: ignore[method-assign]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, IdleLoop)
        loop.stands_while(lambda: waiting[0] > 0 or self._store.waiting_ms > 0)

    async def _services(self, lane: Lane, serving: Serving, stack: AsyncExitStack) -> list[Any]:
        book = serving.app[BOOK]

        def watch(request: Message, answer: Message) -> None:
            self._watch(lane, request, answer)

        def offer(request: Message) -> None:
            if request.kind == "records":
                told = map(json.loads, gzip.decompress(request.body).splitlines())
                lane.offered.update(line["seq"] for line in told)

        proxy = Proxy(lane.plan, serving.port, book.high_water, watch, offer)
        await stack.enter_async_context(proxy)
        brokers = [node.port for node in self._ground.nodes]
        line = StreamProxy(lane.plan, brokers, lane.offered.update)
        await stack.enter_async_context(line)
        url, clock = f"http://127.0.0.1:{proxy.port}", self._clock
        client = await stack.enter_async_context(
            self._ground.client(url, line.port, TOKEN, clock, timeout_s=TIMEOUT_S)
        )
        lane.outbox = Outbox(self._store, client, [lane.name], clock, poll_s=40, pause_s_max=20)
        outbox, lane.client = lane.outbox, client
        if self.told.way.transport == "nats" and not self._is_restored:
            self._prove_settling(lane, outbox)
        await outbox.refresh()
        photos = PhotoPusher(
            OwnPhotos(self._store, lane),
            client,
            self._photo,
            lambda: outbox.has_money_to_send,
            clock,
            poll_s=20,
        )
        beats = Heartbeats(client, outbox, [lane.name], clock, every_s=90)
        return [outbox.run(), photos.run(), beats.run()]

    def _prove_settling(self, lane: Lane, outbox: Outbox) -> None:
        """Nobody lies in this world and nothing is restored: what counts as settled is in the book,
        whatever a broker said before."""
        real = outbox._ledger.settle

        async def settle(name: str, sent: Sequence[Any], said: Sequence[Any], *more: Any) -> Any:
            held = self._held()[lane.name]
            for one in said:
                if one.verdict in ("accepted", "duplicate") and one.seq not in held:
                    self.told.wrong.append(f"{lane.name}: record {one.seq} settled too early")
            return await real(name, sent, said, *more)

        outbox._ledger.settle = settle  # type: ignore[method-assign]

    async def _open_pull(self, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        app = web.Application(middlewares=[faults_as_json(lambda _: None)])
        app[PULL] = Pull(
            self._batches, Holdings(self._store, [lane.name for lane in self.lanes]), self._photo
        )
        app[CONSUMERS] = {token_hash(PULL_TOKEN): "province"}
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._tasks.append(tasks.create_task(self._batches.run()))
        book = self._serving.app[BOOK]
        for n in (1, 2):
            plan = Plan.drawn(self.told.seed * 1000 + 900 + n)
            port: int = runner.addresses[0][1]
            proxy = Proxy(plan, port, book.high_water, lambda request, answer: None)
            self._pulls.append(await stack.enter_async_context(proxy))
            self._tasks.append(tasks.create_task(self._pull(proxy.port)))
        self.told.happened["two_pullers"] += 1

    def _poke(self) -> None:
        for lane in self.lanes:
            if lane.outbox is not None:
                lane.outbox.poke()

    def _photo(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.jpg"

    # ---- the lane's side ----

    async def _save(self, lane: Lane, count: int) -> None:
        """What the flow does, as far as the sync sees it."""
        rows, photos = [], []
        for seq in range(len(lane.lines) + 1, len(lane.lines) + count + 1):
            photo = None
            if seq % 8 == 1:
                body = b"\xff\xd8" + lane.rng.randbytes(lane.rng.choice((60, 5_000)))
                photo = hashlib.sha256(body).hexdigest()
                self._photo(photo).write_bytes(body)
                lane.photos[photo] = seq
                photos.append((photo, len(body), self._clock.now_ms(), lane.name))
            one = record(seq, lane.name, id=_id(lane, seq), photo=photo)
            lane.lines[seq] = line = _line(lane, one.model_dump(mode="json", by_alias=True))
            at_ms = self._clock.now_ms()
            own = (lane.name, seq, one.id, f"{lane.name}-{seq}", 1, one.outcome, one.means, one.fee)
            rows.append((*own, one.card_id, at_ms, line, f"{seq:064x}"))

        def work(db: sqlite3.Connection) -> None:
            db.executemany(
                "INSERT INTO record (lane, seq, id, passage_id, shift_id, kind, means, fee_fen,"
                " card_id, saved_ms, line, chain) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        await self._store.write(work)
        if lane.outbox is not None:
            for _ in range(count):
                lane.outbox.noticed(lane.name, self._clock.now_ms())
        insert = "INSERT INTO evidence VALUES (?, ?, ?, ?)"
        await self._store.write(lambda db: db.executemany(insert, photos).rowcount)

    async def _sell(self, lane: Lane) -> None:
        """Vehicles come until nothing more will go wrong, and one after that."""
        while not lane.plan.is_over and len(lane.lines) < LIVE_MAX:
            await self._clock.sleep(lane.rng.uniform(10, 40))
            await self._save(lane, lane.rng.randint(1, 3))
        lane.plan.faults["records"].clear()
        await self._save(lane, 1)

    # ---- the centre's side ----

    def _watch(self, lane: Lane, request: Message, answer: Message) -> None:
        """Was the money there before its photo?"""
        if request.kind == "evidence" and " 201 " in answer.first:
            sha256 = request.path.rsplit("/", 1)[1]
            if lane.photos[sha256] not in lane.offered | self._settled(lane):
                lane.hasty.append(sha256)

    def _settled(self, lane: Lane) -> set[int]:
        with closing(sqlite3.connect(f"file:{self._store.path}?mode=ro", uri=True)) as db:
            sql = "SELECT seq FROM delivery WHERE lane = ?"
            return {seq for (seq,) in db.execute(sql, (lane.name,))}

    async def _restore(self) -> None:
        """The centre goes on with the copy of a while ago, photos included."""
        await self._clock.sleep(self._rng.uniform(0, 20))
        await self._truth.copy()
        photos = {file.name for file in self._kept.glob("*.jpg")}
        await self._clock.sleep(self._rng.uniform(10, 60))
        await self._truth.restore()
        for file in self._kept.glob("*.jpg"):
            if file.name not in photos:
                file.unlink()
        self.told.happened["restored"] += 1

    async def _kill_brokers(self) -> None:
        """Of a cluster now and then two. One that is alone loses the second time what it has
        acknowledged."""
        nodes = len(self._ground.nodes)
        for is_second in (False, True):
            is_emptied = is_second and nodes == 1
            await self._clock.sleep(self._rng.uniform(5, 60))
            some = self._rng.sample(range(nodes), self._rng.randint(1, max(1, nodes - 1)))
            for node in some:
                self._ground.kill(node, is_emptied=is_emptied)
                self.told.happened["broker_killed"] += 1
                self.told.happened["broker_emptied"] += is_emptied
            await self._clock.sleep(self._rng.uniform(5, 60))
            for node in some:
                self._ground.revive(node)

    # ---- whoever pulls ----

    async def _pull(self, port: int) -> None:
        """A province's collector: takes what is sealed, books it, says so. Two of them share one
        cursor. After a loss it reads again what it lacks."""
        base = f"http://127.0.0.1:{port}/center/v1"
        headers = {"Authorization": f"Bearer {PULL_TOKEN}"}
        limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(headers=headers, timeout=limit) as http:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError, ValueError, KeyError):
                    await self._pull_once(http, base)
                await self._clock.sleep(15)

    async def _pull_once(self, http: aiohttp.ClientSession, base: str) -> None:
        told = await _json(http.get(f"{base}/batches", params={"limit": 3}))
        for manifest in told["batches"]:
            body = await _bytes(http.get(f"{base}/batches/{manifest['batch']}"))
            digest = hashlib.sha256(body).hexdigest()
            if digest != manifest["sha256"]:
                raise ValueError("not the batch that was named")
            if self._bodies.setdefault(manifest["batch"], digest) != digest:
                self.told.wrong.append(f"batch {manifest['batch']} changed")
            said = await self._book(manifest["lane"], gzip.decompress(body))
            path = f"{base}/batches/{manifest['batch']}/verdicts"
            answer = await _json(http.post(path, json={"verdicts": said}))
            self._cursors.append(answer["cursor"])
            self.told.pulled += 1
        await self._read_again(http, base)

    async def _read_again(self, http: aiohttp.ClientSession, base: str) -> None:
        """What this side lacks of what it was given before."""
        if not self.told.happened["restored"]:
            return
        held = self._held()
        for lane in self.lanes:
            if lost := min(lane.lines.keys() - held[lane.name], default=0):
                asked = {"lane": lane.name, "from_seq": lost}
                lines = await _bytes(http.get(f"{base}/records", params=asked))
                await self._book(lane.name, lines)

    async def _book(self, lane: str, lines: bytes) -> list[dict[str, Any]]:
        arrivals = [
            Arrival(told["id"], told["seq"], line)
            for line in lines.splitlines()
            if (told := json.loads(line))
        ]
        taken = await self._serving.app[BOOK].take(lane, arrivals, self._clock.now_ms())
        return [verdict.as_json() for verdict in taken]

    # ---- from beginning to end ----

    async def live(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for lane in self.lanes:
                tasks.create_task(self._sell(lane))
            if self._is_restored:
                tasks.create_task(self._restore())
            if self._ground.nodes:
                tasks.create_task(self._kill_brokers())
        for proxy in self._pulls:
            proxy.plan.faults.clear()
        # What a restored centre has as it was before (a stub, no photo) only a comparison finds.
        await self._drained(is_compared=not self.told.happened["restored"])
        for lane in self.lanes:
            await self._mend(lane)
        left = await self._drained(is_compared=True)
        self._tally()
        for lane in self.lanes:
            self._check(lane, lane.name in left)
        if self._cursors != sorted(self._cursors):
            self.told.wrong.append("a consumer's cursor went backwards")

    async def _mend(self, lane: Lane) -> None:
        """What people and the daily comparison do: the refused ones are sent once more, and what
        else both sides differ in is found (photos that were lost alone, say)."""
        assert lane.outbox is not None
        assert lane.client is not None
        for seq in sorted(self._parked(lane)):
            await lane.outbox.resend(lane.name, seq)
        if self.told.happened["restored"]:
            signer = Signer(Ed25519PrivateKey.generate())
            one = Reconciler(
                self._store, lane.client, lane.outbox, [lane.name], self._clock,
                lambda: signer, lambda: bytes.fromhex(self._serving.public_key),
            )  # fmt: skip
            period = Period("day", "2025-11-21", 1, len(lane.lines))
            for _ in range(COMPARED_MAX):
                with suppress(CenterUnavailable):
                    await one.compare(lane.name, period)
                    return
            self.told.wrong.append(f"{lane.name}: cannot be compared")

    async def _drained(self, *, is_compared: bool) -> set[str]:
        """Wait; the lanes that are not through in time."""
        left = {lane.name for lane in self.lanes}
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while left:
                    await asyncio.sleep(10)
                    held = self._held()
                    left = {
                        lane.name
                        for lane in self.lanes
                        if not self._is_through(lane, held, is_compared=is_compared)
                    }
        return left

    def _held(self) -> Held:
        return {**{lane.name: {} for lane in self.lanes}, **self._truth.held()}

    def _is_through(self, lane: Lane, held: dict[str, Any], *, is_compared: bool) -> bool:
        assert lane.outbox is not None
        is_sent = held[lane.name].keys() == lane.lines.keys() and not lane.outbox.state()["unsent"]
        if not is_sent or not is_compared:
            return is_sent
        stubs = {seq for seq, (_, is_stub, _) in held[lane.name].items() if is_stub}
        return stubs <= self._waiting(lane) and all(self._has(sha256) for sha256 in lane.photos)

    def _has(self, sha256: str) -> bool:
        return (self._kept / f"{sha256}.jpg").exists()

    def _tally(self) -> None:
        for proxy in self._pulls:
            self.told.happened += proxy.plan.happened
        for lane in self.lanes:
            self.told.happened += lane.plan.happened
            self.told.records += len(lane.lines)
            self.told.photos += len(lane.photos)

    def _check(self, lane: Lane, is_late: bool) -> None:
        """The oracle."""
        wrong = self.told.wrong
        held = self._held()[lane.name]
        assert lane.outbox is not None
        if is_late:
            wrong.append(f"{lane.name}: does not drain: {lane.outbox.state()}")
        for seq, line in lane.lines.items():
            if seq not in held:
                wrong.append(f"{lane.name}: record {seq} is lost")
                continue
            id_, is_stub, raw = held[seq]
            if is_stub:
                wrong.append(f"{lane.name}: record {seq} is only a stub")
            if not is_stub and raw != line.encode():
                wrong.append(f"{lane.name}: record {seq} is not what was saved")
            if id_ != _id(lane, seq):
                wrong.append(f"{lane.name}: record {seq} has another id")
        wrong += [f"{lane.name}: record {seq} was invented" for seq in held.keys() - lane.lines]
        for sha256 in lane.photos:
            file = self._kept / f"{sha256}.jpg"
            if not file.exists():
                wrong.append(f"{lane.name}: photo {sha256[:8]} is lost")
            elif file.read_bytes() != self._photo(sha256).read_bytes():
                wrong.append(f"{lane.name}: photo {sha256[:8]} is not whole")
        wrong += [f"{lane.name}: photo {sha256[:8]} before its money" for sha256 in lane.hasty]

    def _parked(self, lane: Lane) -> set[int]:
        return self._refused(lane, "")

    def _waiting(self, lane: Lane) -> set[int]:
        """Refused, and nobody has asked for more."""
        return self._refused(lane, " AND stub_sent <> 2")

    def _refused(self, lane: Lane, more: str) -> set[int]:
        with closing(sqlite3.connect(f"file:{self._store.path}?mode=ro", uri=True)) as db:
            sql = "SELECT seq FROM delivery WHERE lane = ? AND verdict = 'refused'"
            return {seq for (seq,) in db.execute(sql + more, (lane.name,))}


class OwnPhotos:
    """The store as this lane's photo loop sees it: a world has one loop a lane."""

    def __init__(self, store: Store, lane: Lane) -> None:
        self._store, self._lane = store, lane
        self.write = store.write

    async def rows(self, sql: str, *params: Any) -> Sequence[Any]:
        own = sql.replace("WHERE", f"WHERE e.source = '{self._lane.name}' AND", 1)
        return await self._store.rows(own, *params)


def _id(lane: Lane, seq: int) -> str:
    return f"G0030620010020{lane.name}{seq:020d}"


def _line(lane: Lane, told: dict[str, Any]) -> str:
    """By a program of this version, the next one or the one before."""
    version = lane.plan.seed % 3
    if version == 1:
        lane.plan.happened["newer_lane"] += 1
        told["tomorrow"] = {"field": [1, "二"]}
    if version == 2:
        lane.plan.happened["older_lane"] += 1
        for name in ("prevChain", "corrects", "adjustFee", "isStub", "clock"):
            told.pop(name)
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


async def _json(asking: Any) -> Any:
    return json.loads(await _bytes(asking))


async def _bytes(asking: Any) -> bytes:
    async with asking as answer:
        if answer.status != 200 or answer.content_type == "text/html":
            raise ValueError(answer.status)
        return await answer.read()

"""What only several processes on one PostgreSQL, and one that goes away, can show."""

import os

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("psycopg", reason="psycopg is not installed (sh .ci/setup dev)")

import asyncio
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from gateway.center.app import serve_center
from gateway.center.book import Arrival, Book
from gateway.center.database import DatabaseAway
from gateway.center.postgres import Postgres
from tests.center.test_center import packed
from tests.rig.postgres import Cluster, running
from tests.sync.rig import record


@pytest.fixture
def tables(cluster: Cluster) -> str:
    return cluster.schema()


def arrival(seq: int, lane: str = "X03", **changes: Any) -> Arrival:
    line = {**record(seq, lane).model_dump(mode="json", by_alias=True), **changes}
    return Arrival(line["id"], seq, json.dumps(line, ensure_ascii=False).encode())


def rows(dsn: str, sql: str) -> list[Any]:
    with psycopg.connect(dsn) as db:
        return db.execute(sql.encode()).fetchall()


@asynccontextmanager
async def program(folder: Path, dsn: str) -> AsyncIterator[str]:
    """A centre as a process of its own; its address."""
    args = (sys.executable, "-m", "gateway.center", "--port", "0", "--db", str(folder / "c.db"))
    process = await asyncio.create_subprocess_exec(
        *args, "--ends-with-stdin", stdin=PIPE, stdout=PIPE, env={"CENTER_DSN": dsn}
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            yield json.loads(await process.stdout.readline())["url"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_two_processes_on_one_database_neither_double_nor_lose(
    tmp_path: Path, tables: str
) -> None:
    """The same records, in pieces that overlap, to both at once."""
    lines = [json.loads(arrival(seq).raw) for seq in range(1, 121)]
    said: Counter[tuple[int, str]] = Counter()

    async def push(http: aiohttp.ClientSession, url: str, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(6):
            first = rng.randrange(0, 110)
            piece = lines[first : first + 30]
            async with http.post(f"{url}/v1/records", **packed(piece)) as answer:
                assert answer.status == 200
                for one in (await answer.json())["verdicts"]:
                    said[one["seq"], one["verdict"]] += 1

    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(program(tmp_path, tables)) for _ in range(2)]
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await asyncio.gather(*(push(http, urls[n % 2], n) for n in range(4)))
        async with http.post(f"{urls[0]}/v1/records", **packed(lines)) as answer:
            high_water = (await answer.json())["high_water"]
    assert high_water == 120
    held = rows(tables, "SELECT seq, line FROM record ORDER BY seq")
    assert [seq for seq, _ in held] == list(range(1, 121))
    assert all(bytes(line) == arrival(seq).raw for seq, line in held)
    assert {kind for _, kind in said} == {"accepted", "duplicate"}
    assert max(count for (_, kind), count in said.items() if kind == "accepted") == 1


async def test_one_slot_and_one_id_have_one_winner_whoever_asks(tables: str) -> None:
    books = [await Book.open(Path(), tables) for _ in range(3)]
    try:
        rivals = [arrival(1, id=f"{n:037d}") for n in range(9)]
        told = await asyncio.gather(
            *(books[n % 3].take("X03", [one], 0) for n, one in enumerate(rivals))
        )
        assert sorted(one.verdict for (one,) in told) == ["accepted"] + ["refused"] * 8
        same = [arrival(n + 2, f"L{n}", id="S" * 37) for n in range(9)]
        told = await asyncio.gather(
            *(books[n % 3].take(f"L{n}", [one], 0) for n, one in enumerate(same))
        )
        assert sorted(one.verdict for (one,) in told) == ["accepted"] + ["refused"] * 8
    finally:
        for book in books:
            await book.close()
    assert rows(tables, "SELECT count(*) FROM record") == [(2,)]


async def test_two_corrections_at_once_of_one_record_from_two_lanes(tables: str) -> None:
    """The constraint says no in the middle of a transaction; it is looked at again, and refused."""
    books = [await Book.open(Path(), tables) for _ in range(2)]
    try:
        for n in range(1, 6):
            both = [arrival(n, lane, corrects=f"{n}" * 37) for lane in ("X03", "X04")]
            told = await asyncio.gather(
                books[0].take("X03", [both[0]], 0), books[1].take("X04", [both[1]], 0)
            )
            assert sorted(one.verdict for (one,) in told) == ["accepted", "refused"]
    finally:
        for book in books:
            await book.close()


async def test_a_cursor_never_passes_what_is_still_being_written(tables: str) -> None:
    """A slower transaction that took the lower number first holds the reader up."""
    book, slow = await Book.open(Path(), tables), await Postgres.open(tables)
    inside, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(db: Any) -> None:
        one = arrival(1, "X04")
        row = ("X04", 1, one.id, 0, one.raw, 0)
        db.execute(
            "INSERT INTO record (lane, seq, id, is_stub, line, received_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            row,
        )
        loop.call_soon_threadsafe(inside.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

    try:
        writing = asyncio.create_task(slow.run(work, lane="X04"))
        await asyncio.wait_for(inside.wait(), 20)
        await book.take("X03", [arrival(1)], 0)
        reading = asyncio.create_task(book.records(None, 0, 10))
        done, _ = await asyncio.wait({reading}, timeout=0.3)
        assert not done
        go_on.set()
        await writing
        assert [row["lane"] for row in await reading] == ["X04", "X03"]
    finally:
        go_on.set()
        await book.close()
        await slow.close()


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """One that may be stopped without the others' tests noticing."""
    with running() as cluster:
        yield cluster


async def test_a_database_that_goes_away_means_later_and_nothing_acknowledged_is_lost(
    tmp_path: Path, cluster: Cluster, mortal: Cluster
) -> None:
    line = json.loads(arrival(1).raw)
    async with (
        serve_center(tmp_path / "c.db", 0, None, dsn=mortal.dsn) as serving,
        aiohttp.ClientSession() as http,
    ):

        async def push(*lines: Any) -> tuple[int, Any]:
            url = f"{serving.url}/v1/records"
            async with http.post(url, **packed(list(lines))) as answer:
                return answer.status, answer.headers.get("Retry-After") or await answer.json()

        status, told = await push(line)
        assert (status, told["verdicts"][0]["verdict"]) == (200, "accepted")
        await asyncio.to_thread(mortal.stop, signal.SIGQUIT)
        assert await push(line) == (503, "2")
        await asyncio.to_thread(mortal.start)
        status, told = await push(line, json.loads(arrival(2).raw))
        assert [one["verdict"] for one in told["verdicts"]] == ["duplicate", "accepted"]
    with pytest.raises(DatabaseAway):
        await Book.open(Path(), "host=/nowhere dbname=x")


async def test_a_commit_there_means_on_disk_whatever_the_dsn_says(cluster: Cluster) -> None:
    database = await Postgres.open(f"{cluster.dsn} options='-c synchronous_commit=off'")
    try:
        (value,) = await database.run(lambda db: db.execute("SHOW synchronous_commit").fetchone())
        assert value == "on"
    finally:
        await database.close()

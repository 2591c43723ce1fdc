"""Records by way of JetStream: a broker's word is not the centre's."""

import os

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("nats", reason="nats is not installed (sh .ci/setup dev)")

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gateway.brokers import connected
from gateway.center.book import Book
from gateway.center.database import DatabaseAway
from gateway.center.stream import BODIES_MAX, STREAM, Broker, Intake
from gateway.errors import CenterUnavailable
from gateway.store import Store
from gateway.sync.center import Line, NotAVerdict
from gateway.sync.outbox import Outbox
from gateway.sync.stream import RECORDS, StreamClient
from gateway.units import SystemClock
from tests.conserve.plan import Plan
from tests.conserve.stream import StreamProxy
from tests.rig import nats as rig
from tests.sync.rig import record, save, until
from tests.sync.test_outbox import verdicts

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def node() -> Iterator[rig.Node]:
    if reason := rig.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with rig.running(1) as (node,):
        yield node


@pytest.fixture
async def stream(node: rig.Node) -> AsyncIterator[Any]:
    """As it is with nothing in it."""
    line = await connected([node.url], "", "test")
    yield line.jetstream(timeout=5)
    with suppress(Exception):
        await line.jetstream(timeout=5).purge_stream(STREAM)
    await line.close()


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[Book]:
    book = await Book.open(tmp_path / "center.db")
    yield book
    await book.close()


@pytest.fixture
async def client(node: rig.Node, stream: Any) -> AsyncIterator[StreamClient]:
    nowhere = "http://127.0.0.1:9"
    async with StreamClient(nowhere, [node.url], "", CLOCK, timeout_s=1.5) as client:
        yield client


@pytest.fixture
def outbox(store: Store, client: StreamClient) -> Outbox:
    return Outbox(store, client, ["X03"], CLOCK)


@asynccontextmanager
async def working(node: rig.Node, book: Any, kind: type[Intake] = Intake) -> AsyncIterator[None]:
    task = asyncio.create_task(kind(book, Broker((node.url,), 1), CLOCK).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def seqs(book: Book) -> list[int]:
    return [row["seq"] for row in await book.records(None, 0, 500)]


def lines(*wanted: int) -> list[Line]:
    made = [record(seq) for seq in wanted]
    return [
        Line(one.seq, one.id, json.dumps(one.model_dump(mode="json", by_alias=True)).encode())
        for one in made
    ]


async def test_records_are_confirmed_refused_ones_parked_and_their_slots_kept(
    store: Store, outbox: Outbox, node: rig.Node, book: Book
) -> None:
    for seq in (1, 2, 3):
        await save(store, seq, **({"card_id": "not-a-card"} if seq == 2 else {}))
    async with working(node, book):
        await outbox.drain()
    assert await verdicts(store) == {1: "accepted", 2: "refused", 3: "accepted"}
    lane = await book.lane("X03")
    assert (lane["stored"], lane["stubs"], lane["high_water"]) == (2, 1, 3)
    assert outbox.state()["online"] is True
    rows = await store.rows("SELECT line FROM record WHERE seq = 3")
    kept = [row["record"] for row in await book.records(None, 0, 9) if row["seq"] == 3]
    assert kept == [json.loads(rows[0]["line"])]


async def test_what_the_broker_acknowledged_is_still_owed(
    store: Store, outbox: Outbox, client: StreamClient, node: rig.Node, book: Book, stream: Any
) -> None:
    """No centre takes it out: it stays owed, and the stream does not grow with each repeat."""
    async with working(node, book):
        await client.submit("X03", lines(1))  # there is a stream
    await save(store, 2)
    said = list[str]()
    while "前面的流水中心还没有取走" not in said:
        assert len(said) <= BODIES_MAX
        with pytest.raises(CenterUnavailable) as later:
            await outbox.drain()
        said.append(later.value.detail)
    assert set(said[:-1]) == {"已交给消息队列，中心还没有确认"}
    assert (await stream.stream_info(STREAM)).state.messages == BODIES_MAX
    assert await verdicts(store) == {}
    assert outbox.state()["online"] is False

    async with working(node, book):
        await until(lambda: _is_empty(stream))
        await outbox.drain()
    assert await verdicts(store) == {2: "duplicate"}
    assert await seqs(book) == [1, 2]


async def test_a_lost_answer_is_asked_for_again_and_nothing_doubles(
    store: Store, outbox: Outbox, node: rig.Node, book: Book
) -> None:
    told = []

    class Mute(Intake):
        async def tell(self, *answer: Any) -> None:
            told.append(answer)
            if len(told) > 1:
                await super().tell(*answer)

    await save(store, 1)
    async with working(node, book, Mute):
        with pytest.raises(CenterUnavailable):
            await outbox.drain()
        assert (await verdicts(store), await seqs(book)) == ({}, [1])
        await outbox.drain()
    assert await verdicts(store) == {1: "duplicate"}
    assert await seqs(book) == [1]


async def test_a_body_that_cannot_be_read_is_answered_and_leaves_the_stream(
    client: StreamClient, node: rig.Node, book: Book, stream: Any
) -> None:
    broken = [Line(1, "an id", b"not json")]
    async with working(node, book):
        with pytest.raises(NotAVerdict):
            await client.submit("X03", broken)
        for subject in ("X04", "X03.x"):
            headers = {"Lane": "X03", "Attempt": "1"}
            await stream.publish(RECORDS + subject, b"nothing", headers=headers)
            await stream.publish(RECORDS + subject, b"nothing")
        await until(lambda: _is_empty(stream))
        said = await client.submit("X03", lines(1))
    assert [one.verdict for one in said.verdicts] == ["accepted"]


async def test_while_the_database_is_away_a_body_waits_in_the_stream(
    client: StreamClient, node: rig.Node, book: Book, stream: Any
) -> None:
    class Forgetful:
        calls = 0

        async def answer(self, *given: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise DatabaseAway("gone")
            return await book.answer(*given)

    async with working(node, Forgetful()):
        with pytest.raises(CenterUnavailable):
            await client.submit("X03", lines(1))
        assert await seqs(book) == []
        await until(lambda: _is_empty(stream))
    assert await seqs(book) == [1]


@pytest.mark.parametrize("fault", ["stream_half_open", "stream_lost_answer"])
async def test_a_line_that_is_broken_is_given_up_and_the_next_body_has_another(
    node: rig.Node, book: Book, stream: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before its answer is late: one that passes nothing more is found by its pings."""
    monkeypatch.setattr("gateway.brokers.PING_S", 0.2)
    monkeypatch.setattr("gateway.sync.stream.ACK_S", 1.0)
    monkeypatch.setattr("tests.conserve.stream.MUTE_S", 0.2)
    plan = Plan(1, {"records": [fault]})
    async with (
        working(node, book),
        StreamProxy(plan, [node.port], lambda _: None) as proxy,
        StreamClient(
            "http://127.0.0.1:9", [f"nats://127.0.0.1:{proxy.port}"], "", CLOCK, timeout_s=30
        ) as client,
    ):
        async with asyncio.timeout(10):
            with pytest.raises(CenterUnavailable):
                await client.submit("X03", lines(1))
            said = await client.submit("X03", lines(1))
    assert [one.verdict for one in said.verdicts] in (["accepted"], ["duplicate"])


async def test_without_any_broker_nothing_is_lost(store: Store) -> None:
    nowhere = "nats://127.0.0.1:9"
    await save(store, 1)
    async with StreamClient("http://127.0.0.1:9", [nowhere], "", CLOCK, timeout_s=1) as client:
        outbox = Outbox(store, client, ["X03"], CLOCK)
        with pytest.raises(CenterUnavailable):
            await outbox.drain()
        await outbox.refresh()
        assert outbox.state()["unsent"] == 1


async def _is_empty(stream: Any) -> bool:
    return bool((await stream.stream_info(STREAM)).state.messages == 0)

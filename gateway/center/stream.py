"""Records that come by way of NATS JetStream: a durable group of workers takes them out of the
stream into the book. Any number of them in any number of processes, each body to one of them.

A body is acknowledged to the broker after its commit, and its verdicts told on the lane's subject.
If either is lost the body comes again, from the broker or from the lane, and is all duplicates:
uniqueness is the book's, not the broker's.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StreamConfig,
)
from nats.js.errors import BadRequestError

from gateway.brokers import BROKEN, connected
from gateway.center.book import Book
from gateway.center.database import DatabaseAway
from gateway.center.wire import BadBody, check_digest, check_range, split, unpack
from gateway.units import Clock

log = logging.getLogger(__name__)

STREAM, GROUP = "LANE_RECORDS", "center"
RECORDS, VERDICTS, ATTEMPT = "lane.records.", "lane.verdicts.", "Attempt"
WORKERS = 2
BODIES_MAX = 4  # of one lane, unread: it sends one at a time, more are repeats of what waits here
BYTES_MAX = 1 << 30
FETCH_S, AGAIN_S, AWAY_S = 2.0, 0.5, 2.0
LANE = re.compile(r"[0-9A-Za-z_-]{1,40}")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the stream is; made if it is not there, on so many `replicas`."""

    servers: tuple[str, ...]
    replicas: int = 3
    token: str = ""
    workers: int = WORKERS


class Intake:
    """The workers of one process."""

    def __init__(self, book: Book, broker: Broker, clock: Clock) -> None:
        self._book, self._broker, self._clock = book, broker, clock

    async def run(self) -> None:
        """Never returns; a broker that is away is waited for."""
        while True:
            try:
                await self._work()
            except* BROKEN as broken:
                log.warning("stream away", extra={"reason": repr(broken.exceptions[0])})
            await asyncio.sleep(AGAIN_S)

    async def _work(self) -> None:
        broker = self._broker
        line = await connected(broker.servers, broker.token, "lane-gateway center")
        try:
            await self._prepare(line)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._broker.workers):
                    tasks.create_task(self._take_bodies(line))
        finally:
            await line.close()

    async def _prepare(self, line: Client) -> None:
        """A stream that is there already stays as people made it. When it is full it takes no
        more, rather than drop what is in it: the lanes still have all of it."""
        stream = line.jetstream(timeout=10)
        wanted = StreamConfig(
            name=STREAM,
            subjects=[f"{RECORDS}>"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=BODIES_MAX,
            max_bytes=BYTES_MAX,
            num_replicas=self._broker.replicas,
        )
        try:
            await stream.add_stream(wanted)
        except BadRequestError as other:
            log.info("stream is there", extra={"reason": str(other)})
        group = ConsumerConfig(
            durable_name=GROUP, ack_policy=AckPolicy.EXPLICIT, ack_wait=30, max_deliver=-1
        )
        await stream.add_consumer(STREAM, group)

    async def _take_bodies(self, line: Client) -> None:
        bodies = await line.jetstream(timeout=5).pull_subscribe_bind(GROUP, STREAM)
        while not line.is_closed:
            try:
                fetched = await bodies.fetch(1, timeout=FETCH_S)
            except TimeoutError:
                continue
            except BROKEN:
                await asyncio.sleep(AGAIN_S)  # its nodes are choosing a leader
                continue
            for body in fetched:
                await self._take(line, body)

    async def _take(self, line: Client, body: Msg) -> None:
        headers = body.headers or {}
        lane = body.subject.removeprefix(RECORDS)
        try:
            said = await self._said(lane, headers, body.data)
        except DatabaseAway as away:
            log.warning("database away", extra={"reason": str(away)})
            await body.nak(delay=AWAY_S)
            return
        answer = json.dumps(said, ensure_ascii=False).encode()
        await self.tell(line, lane, answer, {ATTEMPT: headers.get(ATTEMPT, "")})
        await body.ack()

    async def tell(self, line: Client, lane: str, answer: bytes, headers: dict[str, str]) -> None:
        """To whoever waits for it; nobody may."""
        if LANE.fullmatch(lane):
            await line.publish(VERDICTS + lane, answer, headers=headers)

    async def _said(self, lane: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        """As POST /v1/records answers. A body that cannot be read has a `status` instead."""
        try:
            if headers.get("Lane") != lane or not LANE.fullmatch(lane):
                raise BadBody(400, "缺少 Lane")
            check_digest(headers.get("Content-Digest"), body)
            arrivals = split(unpack(headers.get("Content-Encoding", ""), body))
            check_range(headers.get("First-Seq"), headers.get("Last-Seq"), arrivals)
        except BadBody as bad:
            return {"status": bad.status, "detail": bad.detail, "verdicts": []}
        verdicts, high_water = await self._book.answer(lane, arrivals, self._clock.now_ms())
        return {"verdicts": [v.as_json() for v in verdicts], "high_water": high_water}


@asynccontextmanager
async def consuming(book: Book, broker: Broker, clock: Clock) -> AsyncIterator[None]:
    """The workers run until the block ends."""
    async with asyncio.TaskGroup() as tasks:
        intake = tasks.create_task(Intake(book, broker, clock).run())
        try:
            yield
        finally:
            intake.cancel()


def broker(urls: str, token: str = "") -> Broker | None:
    """`urls`: servers of one cluster, with commas; empty: none."""
    servers: Sequence[str] = [url for url in urls.split(",") if url]
    return Broker(tuple(servers), min(3, len(servers)), token) if servers else None

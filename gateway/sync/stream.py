"""Records by way of NATS JetStream, the second transport: the same bodies, the same verdicts.

The broker's acknowledgement means *delivered*, and no more: it comes before any fsync, and what the
broker knows to be a repeat it forgets after minutes (reliability.md). Only the centre's verdict,
which comes back on the lane's own subject, means *confirmed*; without one in time the lines stay
owed and are sent again. Everything but records goes over HTTP as before.
"""

import asyncio
import ssl
import uuid
from collections.abc import Sequence, Set
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError
from pydantic import ValidationError

from gateway.brokers import BROKEN, InTheClear, connected
from gateway.errors import CenterUnavailable
from gateway.sync.center import Answer, CenterClient, Line, NotAVerdict, Verdicts, bundled
from gateway.sync.center import pick_verdicts as pick
from gateway.units import Clock

RECORDS, VERDICTS = "lane.records.", "lane.verdicts."
"""Subjects, each followed by the lane's name."""
ATTEMPT = "Attempt"
"""Header of a body and of its verdicts. Never used twice: the same lines again are to be answered
again, so the broker must not take them for a repeat. Only one attempt's own repeats are."""
FULL = (10077, 10047)  # the lane's own share of the stream, or all of it, waits to be read
ACK_S, AGAIN_S = 5.0, 0.25
FULL_PAUSE_S = 2.0


class StreamClient(CenterClient):
    """A CenterClient whose records go another way. `is_online` tells of these alone."""

    def __init__(
        self, url: str, servers: Sequence[str], token: str, clock: Clock, **more: Any
    ) -> None:
        """`servers`: of one cluster, `nats://` or `tls://`. `token`: for them and for HTTP."""
        super().__init__(url, token, clock, **more)
        self._servers, self._token = list(servers), token
        self._line: Client | None = None
        self._heard: set[str] = set()
        self._linking = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._delivered: dict[str, set[int]] = {}

    by_broker = True

    def delivered(self, lane: str | None = None) -> Set[tuple[str, int]]:
        held = self._delivered.items()
        return {(name, seq) for name, seqs in held if lane in (None, name) for seq in seqs}

    def _ended(self, _: str, fault: CenterUnavailable | None) -> None:
        """What HTTP says is not about records."""
        if fault is None:
            self.answered_ms = self._clock.monotonic_ms()

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
        await super().close()

    async def submit(self, lane: str, lines: Sequence[Line]) -> Verdicts:
        """One body into the stream, and the centre's verdicts on it."""
        attempt, answer = uuid.uuid4().hex, asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting[attempt], is_delivered = answer, False
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._link(lane)
                body, headers = await bundled(lane, lines)
                marks = {**headers, ATTEMPT: attempt, "Nats-Msg-Id": attempt}
                await self._deliver(line, RECORDS + lane, body, marks)
                is_delivered = True
                seqs = {each.seq for each in lines}
                self._delivered.setdefault(lane, set()).update(seqs)
                said = _read(await answer)
        except BROKEN as broken:
            self.is_online = False
            raise CenterUnavailable(_why(broken, is_delivered)) from broken
        except CenterUnavailable as no:
            self._note(lane, no)
            raise
        finally:
            del self._waiting[attempt]
        self._delivered[lane] -= seqs
        self._note(lane, None)
        return Verdicts(pick(lines, said.verdicts), said.high_water)

    async def _deliver(
        self, line: Client, subject: str, body: bytes, headers: dict[str, str]
    ) -> None:
        """Until the broker has it. While its nodes choose a leader nobody answers."""
        stream = line.jetstream(timeout=ACK_S)
        while True:
            try:
                await stream.publish(subject, body, headers=headers)
            except APIError as no:
                if no.err_code in FULL:
                    text = "前面的流水中心还没有取走"
                    raise CenterUnavailable(text, FULL_PAUSE_S) from no
            except BROKEN:
                if line.is_closed:
                    raise
            else:
                return
            await self._clock.sleep(AGAIN_S)

    async def _link(self, lane: str) -> Client:
        """Connected, and listening for this lane's verdicts."""
        async with self._linking:
            if self._line is None or self._line.is_closed:
                self._line, self._heard = await self._connected(), set()
            if lane not in self._heard:
                await self._line.subscribe(VERDICTS + lane, cb=self._hear)
                await self._line.flush()
                self._heard.add(lane)
            return self._line

    async def _connected(self) -> Client:
        servers, token, tls = self._servers, self._token, self._tls
        return await connected(servers, token, "lane-gateway", tls=tls, on_close=self._broke)

    def _broke(self) -> None:
        """The answers that were on their way are lost."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError())

    async def _hear(self, message: Msg) -> None:
        """An answer to an attempt that was given up is not needed: the same was sent again."""
        waiting = self._waiting.get((message.headers or {}).get(ATTEMPT, ""))
        if waiting is not None and not waiting.done():
            waiting.set_result(message.data)


def _read(raw: bytes) -> Answer:
    try:
        said = Answer.model_validate_json(raw)
    except ValidationError as bad:
        raise NotAVerdict("中心的回答看不懂，稍后再试") from bad
    if said.status != 200:
        raise NotAVerdict(f"中心回答 {said.status}，稍后再试")
    return said


def _why(broken: BaseException, is_delivered: bool) -> str:
    if is_delivered:
        return "已交给消息队列，中心还没有确认"
    if isinstance(broken, TimeoutError):
        return "消息队列没有按时收下"
    if isinstance(broken, ssl.SSLError):
        return "消息队列的证书不受信任或已过期"
    if isinstance(broken, InTheClear):
        return "消息队列没有加密，没有把令牌告诉它"
    return f"连不上消息队列：{type(broken).__name__}"

"""A lane's line to its brokers that misbehaves as its plan says: real TCP, NATS in between."""

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from contextlib import suppress

from tests.conserve.plan import RECORDS, Plan
from tests.conserve.proxy import GONE, LIMIT, PAGE

VERDICT = b"MSG lane.verdicts."
MUTE_S = 15.0  # at most, until the answer that nobody is to hear has come


class StreamProxy:
    """To the first broker that is there. A fault happens to a body that is on its way."""

    def __init__(
        self, plan: Plan, upstreams: Sequence[int], offer: Callable[[set[int]], None]
    ) -> None:
        """`upstreams`: the brokers' ports. `offer` hears the numbers of each body's records."""
        self.plan, self._upstreams, self._offer = plan, upstreams, offer
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_captive = False
        self.port = 0

    async def __aenter__(self) -> "StreamProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.is_captive:
                self.is_captive = False
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + PAGE)
                await writer.drain()
            else:
                await self._connect(reader, writer)
        except (*GONE, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self._upstreams:
            with suppress(*GONE):
                up = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
                break
        else:
            return
        line = _Line(self, reader, writer, *up)
        try:
            await line.live()
        finally:
            up[1].close()

    def fault_of(self, body: bytes) -> str:
        """A body of records is about to go by."""
        told = map(json.loads, gzip.decompress(body).splitlines())
        self._offer({one["seq"] for one in told})
        return self.plan.next(RECORDS)


class _Line:
    """One connection; it ends when either side ends or the plan says so."""

    def __init__(
        self,
        proxy: StreamProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._up_reader, self._up_writer = up_reader, up_writer
        self._fault = ""
        """What happens to the next answer: nothing yet, or that it is lost or cut."""
        self._is_dead = False

    async def live(self) -> None:
        ways = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self) -> None:
        while line := await self._reader.readline():
            size = int(line.split()[-1]) if line.startswith((b"PUB ", b"HPUB ")) else None
            body = b"" if size is None else await self._reader.readexactly(size + 2)
            if line.startswith(b"HPUB lane.records."):
                if not await self._body(line, body):
                    return
            else:
                await self._send(line + body)

    async def _send(self, raw: bytes) -> None:
        if not self._is_dead:
            self._up_writer.write(raw)
            await self._up_writer.drain()

    async def _body(self, line: bytes, raw: bytes) -> bool:
        """False: the connection ends here."""
        if self._is_dead:
            return True
        head = int(line.split()[-2])
        match self._proxy.fault_of(raw[head:-2]):
            case "stream_drop":
                return False
            case "stream_captive":
                self._proxy.is_captive = True
                return False
            case "stream_cut":
                await self._send(line + raw[: len(raw) // 2])
                return False
            case "stream_half_open":
                self._is_dead = True
                return True
            case "stream_delay":
                await asyncio.sleep(3)
            case "stream_duplicate":
                await self._send(line + raw)
            case "stream_lost_answer" | "stream_cut_answer" as fault:
                self._fault = fault
        await self._send(line + raw)
        if self._fault == "stream_lost_answer":
            await asyncio.sleep(MUTE_S)
            return False
        return True

    async def _down(self) -> None:
        while some := await self._up_reader.read(1 << 16):
            if self._is_dead:
                continue
            if self._fault and VERDICT in some:
                if self._fault == "stream_cut_answer":
                    self._writer.write(some[: some.index(VERDICT) + len(VERDICT) + 8])
                    await self._writer.drain()
                return
            if self._fault != "stream_lost_answer":
                self._writer.write(some)
                await self._writer.drain()

"""A line that misbehaves as its plan says: real TCP on both sides, HTTP/1.1 in between."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from tests.conserve.plan import EVIDENCE, HEARTBEAT, PULL, RECORDS, Plan

LIMIT = 1 << 22
GONE = (ConnectionError, asyncio.IncompleteReadError, OSError)
PAGE = "<!doctype html><title>login</title><p>请先登录网络".encode()


class Message(NamedTuple):
    """A request or an answer, its bytes as they came."""

    first: str
    headers: dict[str, str]
    raw: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.first.split(" ")[1]

    @property
    def kind(self) -> str:
        if self.path.startswith("/center/"):
            return PULL
        names = {"records": RECORDS, "evidence": EVIDENCE, "heartbeat": HEARTBEAT}
        return names.get(self.path.split("/")[2].partition("?")[0], "")


Watch = Callable[[Message, Message], None]
HighWater = Callable[[str], Awaitable[int]]


class Proxy:
    """One lane's way to the centre (or a consumer's way to the lane)."""

    def __init__(
        self,
        plan: Plan,
        upstream: int,
        high_water: HighWater,
        watch: Watch,
        offer: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """`offer` sees each request, `watch` each with its true answer; `high_water(lane)` is the
        centre's."""
        self.plan, self._upstream = plan, upstream
        self._high_water, self._watch, self._offer = high_water, watch, offer
        self._held: list[Message] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> "Proxy":
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
        up = Upstream(self._upstream)
        try:
            while (request := await _read(reader)) is not None:
                if not await self._pass(request, up, writer):
                    break
        except (*GONE, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            up.close()
            writer.close()

    async def _pass(self, request: Message, up: "Upstream", back: asyncio.StreamWriter) -> bool:
        """Deliver one request, or not. False: this connection ends."""
        self._offer(request)
        fault = self.plan.next(request.kind)
        match fault:
            case "drop":
                return False
            case "half_open":
                await asyncio.sleep(3600)
            case "cut_request":
                await up.cut(request)
                return False
            case "reorder":
                self._held.append(request)
                return False
            case "delay":
                await asyncio.sleep(3)
            case "duplicate":
                self._watch(request, await up.ask(request))
        if instead := await self._instead(fault, request):
            back.write(instead)
            await back.drain()
            return True
        answer = await up.ask(request)
        self._watch(request, answer)
        for late in self._held[:]:
            self._held.remove(late)
            self._watch(late, await up.ask(late))
        return await _answer(fault, answer, back)

    async def _instead(self, fault: str, request: Message) -> bytes | None:
        """What somebody else answers, or a centre that is ill."""
        match fault:
            case "captive":
                return _made(200, PAGE, "text/html")
            case "redirect":
                return _made(302, b"", "text/html", "Location: /portal\r\n")
            case "busy" | "unavailable":
                status = 429 if fault == "busy" else 503
                return _made(status, b"{}", more="Retry-After: 2\r\n")
            case "broken":
                return _made(500, b"Internal Server Error", "text/plain")
            case "denied":
                return _made(403, b'{"code": "denied"}')
            case "garbage":
                return _made(200, b'{"verdicts": [')
            case "ack_and_drop" | "refuse" | "put_off":
                return await self._lie(fault, request)
        return None

    async def _lie(self, fault: str, request: Message) -> bytes:
        """Nothing is delivered, and this is what the centre says."""
        word = {"ack_and_drop": "accepted", "refuse": "refused", "put_off": "retry"}[fault]
        said = [
            {"id": line["id"], "seq": line["seq"], "verdict": word, "reason": "演练"}
            for line in map(json.loads, gzip.decompress(request.body).splitlines())
        ]
        high_water = await self._high_water(request.headers["lane"])
        return _made(200, json.dumps({"verdicts": said, "high_water": high_water}).encode())


class Upstream:
    """The connection to the true one, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Message) -> Message:
        reader, writer = await self._open()
        writer.write(request.raw + request.body)
        await writer.drain()
        answer = await _read(reader, is_bare=request.first.startswith("HEAD"))
        if answer is None:
            raise ConnectionResetError
        return answer

    async def cut(self, request: Message) -> None:
        """Half of it, and then nothing more."""
        _, writer = await self._open()
        writer.write(request.raw + request.body[: len(request.body) // 2])
        with suppress(*GONE):
            await writer.drain()
        self.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._pair is None:
            self._pair = await asyncio.open_connection("127.0.0.1", self._port, limit=LIMIT)
        return self._pair

    def close(self) -> None:
        if self._pair is not None:
            self._pair[1].close()
            self._pair = None


async def _answer(fault: str, answer: Message, back: asyncio.StreamWriter) -> bool:
    match fault:
        case "lost_answer":
            return False
        case "cut_answer":
            back.write(answer.raw + answer.body[: len(answer.body) // 2])
            await back.drain()
            return False
        case "newer_centre" | "older_centre" if answer.first.startswith("HTTP/1.1 200"):
            back.write(_other_version(fault, json.loads(_plain(answer))))
        case _:
            back.write(answer.raw + answer.body)
    await back.drain()
    return True


def _plain(answer: Message) -> bytes:
    packed = answer.headers.get("content-encoding") == "gzip"
    return gzip.decompress(answer.body) if packed else answer.body


def _other_version(fault: str, told: dict[str, Any]) -> bytes:
    if fault == "older_centre":
        told.pop("high_water")
    else:
        told["schema"] = {"version": 2}
        for verdict in told["verdicts"]:
            verdict["ledger"] = "2"
        told["verdicts"][0]["verdict"] = "deferred"
    return _made(200, json.dumps(told).encode())


def _made(status: int, body: bytes, kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}"
    return head.encode() + b"\r\n" + body


async def _read(reader: asyncio.StreamReader, *, is_bare: bool = False) -> Message | None:
    """The next message; None at the end of the connection. `is_bare`: an answer to HEAD."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = raw.decode("latin-1").split("\r\n")
    headers = dict(_header(line) for line in rest if line)
    size = 0 if is_bare else int(headers.get("content-length", 0))
    return Message(first, headers, raw, await reader.readexactly(size) if size else b"")


def _header(line: str) -> Iterator[str]:
    name, _, value = line.partition(":")
    yield name.lower()
    yield value.strip()

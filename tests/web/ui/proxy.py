"""A wire between page and gateway that can be cut: the page keeps its address over many gateways.

It knows no HTTP beyond the first line of a request. Loopback only.
"""

import asyncio
from contextlib import suppress
from typing import Self

PIECE = 65536
Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """`upstream`: the gateway's port now; 0 refuses everybody."""

    def __init__(self) -> None:
        self.upstream = 0
        self.lost: list[bytes] = []
        """First lines of requests whose answers were dropped."""
        self._drops: dict[bytes, int] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Close every connection, both ways."""
        for writer in list(self._open):
            writer.close()

    def drop_answers(self, method_and_path: str, times: int) -> None:
        """The next answers to such requests never arrive: the gateway has given them."""
        self._drops[method_and_path.encode()] = times

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self.upstream or 1)
        except OSError:
            writer.close()
            return
        asked: list[bytes] = []
        for pipe in (self._up(reader, there[1], asked), self._down(there[0], writer, asked)):
            task = asyncio.ensure_future(self._until_end(pipe, writer, there[1]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._open |= {writer, there[1]}

    async def _until_end(self, pipe: object, *writers: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await pipe  # type: ignore[misc]
        for writer in writers:
            self._open.discard(writer)
            writer.close()

    async def _up(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, asked: list[bytes]
    ) -> None:
        while data := await reader.read(PIECE):
            line = data.split(b"\r\n", 1)[0]
            if line.endswith(b"HTTP/1.1"):
                asked[:] = [line]
            there.write(data)
            await there.drain()

    async def _down(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[bytes]
    ) -> None:
        while data := await there.read(PIECE):
            if self._is_dropped(asked):
                return
            writer.write(data)
            await writer.drain()

    def _is_dropped(self, asked: list[bytes]) -> bool:
        for begin, left in self._drops.items():
            if left and asked and asked[0].startswith(begin):
                self._drops[begin] -= 1
                self.lost.append(asked[0])
                return True
        return False

"""The cheapest ways to make the same bytes durable: no chain, no JSON, nothing but the calls.

`Appended` is what a program without a log of its own would do, and what the goal is held against:
write at the end of a file, fdatasync, the file system syncs its journal for the new length. The
others show where the disk's own limit is, and what the way into another thread and back costs.
"""

import asyncio
import mmap
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PREPARED = 8 * 1024 * 1024  # bytes
_Sent = tuple[bytes, "asyncio.Future[None]", asyncio.AbstractEventLoop]


class Appended:
    """write + fdatasync at the end of a growing file."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class InPlace:
    """pwrite + fdatasync into blocks that the file already has."""

    def __init__(self, path: Path, flags: int = 0) -> None:
        path.write_bytes(bytes(PREPARED))
        self._fd = os.open(path, os.O_RDWR | flags)
        os.fsync(self._fd)
        self._at = 0

    def write(self, data: bytes) -> None:
        os.pwrite(self._fd, data, self._place(data))
        os.fdatasync(self._fd)

    def _place(self, data: bytes) -> int:
        place = self._at if self._at + len(data) <= PREPARED else 0
        self._at = place + len(data)
        return place

    def close(self) -> None:
        os.close(self._fd)


class Direct(InPlace):
    """One pwrite past the page cache that waits for the disk; tmpfs has no such thing."""

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path, os.O_DIRECT | os.O_DSYNC)
        except OSError:
            super().__init__(path, os.O_DSYNC)
        self._buffer = mmap.mmap(-1, 1 << 20)

    def write(self, data: bytes) -> None:
        self._buffer[: len(data)] = data
        os.pwrite(self._fd, memoryview(self._buffer)[: len(data)], self._place(data))


class Handed:
    """Another rival's write in a thread of its own, awaited on the event loop."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._sent: queue.SimpleQueue[_Sent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._sent.put((data, done, loop))
        await done

    def close(self) -> None:
        self._sent.put(None)
        self._thread.join()

    def _run(self) -> None:
        while sent := self._sent.get():
            data, done, loop = sent
            self._write(data)
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set_result, None)

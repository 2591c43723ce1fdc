"""The store with its own threads left out: the same connections, commits and SQL, in one thread.

Thousands of starts spend most of their time handing a piece of work from thread to thread. What a
cut leaves and what recovery makes of it does not depend on who ran it; a share of all states is
tried with the real threads all the same.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from gateway.errors import StoreUnavailable
from gateway.spool import writer
from gateway.spool.log import BLOCK
from gateway.spool.progress import Progress
from gateway.store import Store, Work
from gateway.units import Clock, SystemClock


class _InlineWriter(writer.Writer):
    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self.copies.open()
        except (sqlite3.Error, OSError) as broken:
            raise StoreUnavailable(f"数据库打不开：{broken}") from broken

    async def submit(self, work: Any, kind: str) -> Any:
        done: asyncio.Future[Any] = self._loop.create_future()
        self.serve([writer.Job(work, kind, done, self._loop)])
        return await done

    def put_off(self, work: Work[None]) -> None:
        self._posted += 1
        self.copies.put_off([work])

    async def stop(self) -> None:
        self.copies.close()


class InlineStore(Store):
    """A `Store` that does everything where it is called."""

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock | None = None,
        block: int = BLOCK,
        progress: Progress | None = None,
    ) -> Self:
        inline = _InlineWriter(path, clock or SystemClock(), block, progress)
        await inline.start()
        return cls(path, inline, _reader(path))  # type: ignore[arg-type]

    async def _read(self, sql: str, params: tuple[Any, ...]) -> Sequence[Any]:
        if self._generation != self._writer.copies.generation:
            self._generation = self._writer.copies.generation
            self._reader.close()
            self._reader = _reader(self.path)
        return self._reader.execute(sql, params).fetchall()

    async def close(self) -> None:
        self._reader.close()  # type: ignore[func-returns-value]
        await self._writer.stop()


def _reader(path: Path) -> Any:
    reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    reader.row_factory = sqlite3.Row
    return reader

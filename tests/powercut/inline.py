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

from gateway import store
from gateway.errors import StoreUnavailable
from gateway.store import Store, Work


class _InlineWriter(store._Writer):
    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._db = store._connect(self._path)
        except (sqlite3.Error, OSError) as broken:
            raise StoreUnavailable(f"数据库打不开：{broken}") from broken

    async def submit(self, work: Work[Any]) -> Any:
        done: asyncio.Future[Any] = self._loop.create_future()
        self._commit([store._Job(work, done, self._loop)])
        self._tidy()
        return await done

    async def stop(self) -> None:
        if self._db is not None:
            self._db.close()


class InlineStore(Store):
    """A `Store` that does everything where it is called."""

    @classmethod
    async def open(cls, path: Path) -> Self:
        writer = _InlineWriter(path)
        await writer.start()
        reader = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        reader.row_factory = sqlite3.Row
        return cls(path, writer, reader)  # type: ignore[arg-type]

    async def rows(self, sql: str, *params: Any) -> Sequence[Any]:
        try:
            return self._reader.execute(sql, params).fetchall()  # type: ignore[attr-defined]
        except sqlite3.Error as broken:
            raise StoreUnavailable(f"数据库读取失败：{broken}") from broken

    async def close(self) -> None:
        self._reader.close()  # type: ignore[func-returns-value]
        await self._writer.stop()

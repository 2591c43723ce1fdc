"""What the centre's database holds, looked at past the centre; and a copy of it that comes back."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from gateway.center.database import Embedded

Held = dict[str, dict[int, tuple[str, int, bytes]]]
"""Lane → slot → (id, is it only a stub, the line)."""
LOOK = "SELECT lane, seq, id, is_stub, line FROM record"
TABLES = ("record", "special", "receipt", "lane", "refusal", "reconciliation")


class Truth(Protocol):
    def held(self) -> Held: ...

    async def copy(self) -> None: ...

    async def restore(self) -> None:
        """The centre goes on with the copy."""
        ...

    def close(self) -> None: ...


class SqliteTruth:
    def __init__(self, path: Path, database: Any) -> None:
        assert isinstance(database, Embedded)
        self._path, self._database = path, database
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)

    def held(self) -> Held:
        with closing(sqlite3.connect(self._path)) as db:
            return _sorted(db.execute(LOOK))

    async def copy(self) -> None:
        await self._in_its_thread(self._database._db.backup, self._copy)

    async def restore(self) -> None:
        await self._in_its_thread(self._copy.backup, self._database._db)

    async def _in_its_thread(self, *what: Any) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._database._thread, *what)

    def close(self) -> None:
        self._copy.close()


class PostgresTruth:
    """Nobody of the centre's connections notices more than a lock."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        self._dsn, self._db = dsn, psycopg.connect(dsn, autocommit=True)

    def held(self) -> Held:
        return _sorted(self._db.execute(LOOK))

    async def copy(self) -> None:
        await asyncio.to_thread(
            self._change, [f"CREATE TABLE old_{t} AS TABLE {t}" for t in TABLES]
        )

    async def restore(self) -> None:
        every = ", ".join(TABLES)
        back = [f"INSERT INTO {t} OVERRIDING SYSTEM VALUE TABLE old_{t}" for t in TABLES]
        await asyncio.to_thread(
            self._change, [f"TRUNCATE {every} RESTART IDENTITY", *back, *_COUNTED]
        )

    def _change(self, statements: list[str]) -> None:
        """All at one moment: who writes has finished, who comes waits."""
        import psycopg

        with psycopg.connect(self._dsn) as db:
            db.execute(f"LOCK TABLE {', '.join(TABLES)} IN ACCESS EXCLUSIVE MODE".encode())
            for statement in statements:
                db.execute(statement.encode())

    def close(self) -> None:
        self._db.close()


_COUNTED = [
    f"SELECT setval(pg_get_serial_sequence('{table}', 'n'), (SELECT max(n) FROM {table}))"
    for table in ("record", "refusal", "reconciliation")
]


def _sorted(rows: Any) -> Held:
    held: Held = {}
    for lane, seq, id_, is_stub, line in rows:
        held.setdefault(lane, {})[seq] = (id_, is_stub, bytes(line))
    return held

"""The book in PostgreSQL: several centre processes on one database, each with a few connections.

Who writes a lane's records holds that lane's lock, so the lane's verdicts are given one after the
other and lanes go side by side; unique for ever are ids and slots by constraint, whoever writes.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from importlib import resources
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.center.database import DatabaseAway, Db, Put, Rows

T = TypeVar("T")
CONNECTIONS = 4
BOUNDS = {
    "connect_timeout": "5",
    "tcp_user_timeout": "30000",
    "application_name": "lane-gateway center",
}
TRIES = 5
LOCKS = 1_279_607_091  # of this program in pg_locks, `classid`; `objid` 0: the order of arrival
ARRIVED = "SELECT pg_advisory_xact_lock(?, 0)"
ARRIVING = """
SELECT pg_advisory_xact_lock_shared(?, 0), pg_advisory_xact_lock(?, hashtext(?) | 1)
"""
"""In this order. Odd, so neither 0 nor 2. Two lanes of one number wait for each other; that is
all."""
PUT_ALL = "COPY record (lane, seq, id, is_stub, line, received_ms) FROM STDIN (FORMAT BINARY)"
PUT_TYPES = ("text", "int8", "text", "int8", "bytea", "int8")
SETTINGS = "-c synchronous_commit=on -c statement_timeout=30000 -c lock_timeout=20000"
AGAIN = (errors.UniqueViolation, errors.DeadlockDetected, errors.SerializationFailure)
"""Another process was quicker: look again at what is there now."""
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)


class Row(tuple[Any, ...]):
    """By place and, as sqlite3.Row, by name."""

    names: dict[str, int]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names[key] if isinstance(key, str) else key)


class Transaction:
    """A `Db` over one connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        done: Rows = self._connection.execute(_statement(sql), [_value(one) for one in values])
        return done

    def put_all(self, lane: str, records: Sequence[Put], at_ms: int) -> bool:
        try:
            with (
                self._connection.transaction(),
                self._connection.cursor().copy(PUT_ALL) as copy,
            ):
                copy.set_types(PUT_TYPES)
                for seq, record_id, line in records:
                    copy.write_row((lane, seq, record_id, 0, line, at_ms))
        except errors.UniqueViolation:
            return False
        return True


class Postgres:
    """A few threads, each with a connection of its own while it works."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._idle = dsn, SimpleQueue[psycopg.Connection[Any]]()
        self._threads = ThreadPoolExecutor(CONNECTIONS, "center-book")

    @classmethod
    async def open(cls, dsn: str) -> Self:
        """`dsn`: as libpq has it, a URL or `key=value`. The tables are made on first use.

        Raises: DatabaseAway; RuntimeError, if a commit there does not mean on disk.
        """
        database = cls(dsn)
        try:
            await database.run(_prepare)
        except BaseException:
            await database.close()
            raise
        return database

    async def run(self, work: Callable[[Db], T], *, lane: str = "", is_ordered: bool = False) -> T:
        def locked(db: Db) -> T:
            if lane:
                db.execute(ARRIVING, (LOCKS, LOCKS, lane))
            elif is_ordered:
                db.execute(ARRIVED, (LOCKS,))
            return work(db)

        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._threads, self._patiently, locked))

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _patiently(self, work: Callable[[Db], T]) -> T:
        """A connection that broke while it lay idle is not yet a database that is away."""
        last: Exception | None = None
        for _ in range(TRIES):
            try:
                return self._once(work)
            except AGAIN as quicker:
                last = quicker
            except AWAY as away:
                if isinstance(last, AWAY):
                    raise DatabaseAway(str(away)) from away
                last = away
        raise DatabaseAway(str(last)) from last

    def _once(self, work: Callable[[Db], T]) -> T:
        connection = self._connection()
        try:
            with connection.transaction():
                return work(Transaction(connection))
        finally:
            if connection.closed or connection.broken:
                connection.close()
            else:
                self._idle.put(connection)

    def _connection(self) -> psycopg.Connection[Any]:
        with suppress(Empty):
            return self._idle.get_nowait()
        given = conninfo_to_dict(self._dsn)
        own = {name: value for name, value in BOUNDS.items() if name not in given}
        own["options"] = f"{given.get('options') or ''} {SETTINGS}"
        made: psycopg.Connection[Any] = psycopg.connect(
            make_conninfo(self._dsn, **own),
            autocommit=True,  # transactions are opened by name
            row_factory=_rows,
        )
        return made


def _prepare(db: Db) -> None:
    for name in ("fsync", "synchronous_commit"):
        (value,) = db.execute(f"SHOW {name}").fetchone()
        if value != "on":
            raise RuntimeError(f"{name} {value}")
    db.execute("SELECT pg_advisory_xact_lock(?, 2)", (LOCKS,))  # two processes at their first start
    schema = resources.files("gateway.center").joinpath("postgres.sql").read_text("utf-8")
    for statement in schema.split(";\n"):
        if statement.strip():
            db.execute(statement)


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Row]:
    return _kind(tuple(column.name for column in cursor.description or ()))


@lru_cache(256)
def _kind(names: tuple[str, ...]) -> type[Row]:
    places = {name: place for place, name in enumerate(names)}
    return type("Row", (Row,), {"names": places})


@lru_cache(256)
def _statement(sql: str) -> bytes:
    """As the driver wants it. No statement of the book has a `?` or `%` that is text."""
    assert "%" not in sql
    return sql.replace("?", "%s").encode()


def _value(value: Any) -> Any:
    """No text here can hold a NUL; of what is compared, none has one (scrutiny.py)."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value

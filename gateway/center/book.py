"""What the centre holds: one SQLite file, one thread, every verdict on disk before it is said."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from gateway.center.scrutiny import Line, Stub, Transaction, read_line

T = TypeVar("T")
HOLES_SHOWN = 100
Saying = Literal["accepted", "duplicate", "retry", "refused"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One line as it came, and the slot it claims."""

    id: str
    seq: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    id: str
    seq: int
    verdict: Saying
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": self.id, "seq": self.seq, "verdict": self.verdict}
        return {**shown, "reason": self.reason} if self.reason else shown


class Book:
    """All methods run in the book's own thread, one after the other."""

    def __init__(self, db: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._db, self._thread = db, thread

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Raises: sqlite3.Error; RuntimeError, if WAL or synchronous=FULL did not take."""
        thread = ThreadPoolExecutor(1, "center-book")
        db = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        return cls(db, thread)

    async def take(self, lane: str, arrivals: Sequence[Arrival], at_ms: int) -> list[Verdict]:
        """Book what can be booked. The verdicts are on disk when this returns."""

        def work(db: sqlite3.Connection) -> list[Verdict]:
            verdicts = [_judge(db, lane, arrival, at_ms) for arrival in arrivals]
            _raise_high_water(db, lane)
            return verdicts

        return await self._write(work)

    async def beat(self, lane: str, body: str, at_ms: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO lane (name, heartbeat_ms, heartbeat) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET heartbeat_ms = excluded.heartbeat_ms,"
                " heartbeat = excluded.heartbeat",
                (lane, at_ms, body),
            )

        await self._write(work)

    async def high_water(self, lane: str) -> int:
        return await self._write(lambda db: _high_water(db, lane))

    async def lane(self, lane: str) -> dict[str, Any]:
        """`{stored, stubs, holes, high_water, last_heartbeat}` (interfaces.md §7.14)."""
        return await self._write(lambda db: _lane(db, lane))

    async def records(self, lane: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """In order of arrival; `n` is the cursor."""
        sql = (
            "SELECT n, lane, seq, id, is_stub, line, received_ms FROM record"
            " WHERE n > ? AND (? IS NULL OR lane = ?) ORDER BY n LIMIT ?"
        )
        rows = await self._write(lambda db: db.execute(sql, (after, lane, lane, limit)).fetchall())
        return [_shown(row) for row in rows]

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, _whole, self._db, work))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    mode = db.execute("PRAGMA journal_mode").fetchone()[0]
    level = db.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, level) != ("wal", 2):
        db.close()
        raise RuntimeError(f"journal_mode {mode}, synchronous {level}")
    db.executescript(resources.files("gateway.center").joinpath("schema.sql").read_text("utf-8"))
    return db


def _whole(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        value = work(db)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return value


def _judge(db: sqlite3.Connection, lane: str, arrival: Arrival, at_ms: int) -> Verdict:
    try:
        line = read_line(arrival.raw)
        return Verdict(arrival.id, arrival.seq, _place(db, lane, line, arrival, at_ms))
    except ValueError as no:
        db.execute(
            "INSERT INTO refusal (lane, seq, id, reason, line, received_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (lane, arrival.seq, arrival.id, str(no), arrival.raw, at_ms),
        )
        return Verdict(arrival.id, arrival.seq, "refused", str(no))


def _place(
    db: sqlite3.Connection, lane: str, line: Line, arrival: Arrival, at_ms: int
) -> Literal["accepted", "duplicate"]:
    """Raises: ValueError with a Chinese reason; nothing is then stored of it."""
    if isinstance(line, Transaction) and line.lane not in ("", lane):
        raise ValueError(f"流水的车道 {line.lane} 与请求的车道 {lane} 不符")
    held = db.execute("SELECT * FROM record WHERE id = ?", (arrival.id,)).fetchone()
    if held is not None:
        return _again(db, lane, line, arrival, held)
    slot = (lane, arrival.seq)
    if db.execute("SELECT 1 FROM record WHERE lane = ? AND seq = ?", slot).fetchone():
        raise ValueError("这个序号已经有另一条流水")
    db.execute(
        "INSERT INTO record (lane, seq, id, is_stub, line, received_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (*slot, arrival.id, isinstance(line, Stub), arrival.raw, at_ms),
    )
    return "accepted"


def _again(
    db: sqlite3.Connection, lane: str, line: Line, arrival: Arrival, held: sqlite3.Row
) -> Literal["accepted", "duplicate"]:
    """An id that is known already: the same bytes are fine for ever, others never."""
    if (held["lane"], held["seq"]) != (lane, arrival.seq):
        raise ValueError("同一流水号已在别的序号下")
    if isinstance(line, Stub) or held["line"] == arrival.raw:
        return "duplicate"
    if not held["is_stub"]:
        raise ValueError("内容不同：同一流水号的内容与已收到的不一致")
    update = "UPDATE record SET line = ?, is_stub = 0 WHERE id = ?"
    db.execute(update, (arrival.raw, arrival.id))
    return "accepted"


def _high_water(db: sqlite3.Connection, lane: str) -> int:
    row = db.execute("SELECT high_water FROM lane WHERE name = ?", (lane,)).fetchone()
    return int(row[0]) if row else 0


def _raise_high_water(db: sqlite3.Connection, lane: str) -> None:
    """To the highest N such that everything up to N is held."""
    mark = _high_water(db, lane)
    higher = "SELECT seq FROM record WHERE lane = ? AND seq > ? ORDER BY seq"
    for (seq,) in db.execute(higher, (lane, mark)):
        if seq != mark + 1:
            break
        mark = seq
    db.execute(
        "INSERT INTO lane (name, high_water) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET high_water = excluded.high_water",
        (lane, mark),
    )


def _lane(db: sqlite3.Connection, lane: str) -> dict[str, Any]:
    counted = db.execute(
        "SELECT coalesce(sum(is_stub = 0), 0), coalesce(sum(is_stub), 0) FROM record"
        " WHERE lane = ?",
        (lane,),
    ).fetchone()
    row = db.execute("SELECT * FROM lane WHERE name = ?", (lane,)).fetchone()
    beat = row and row["heartbeat"]
    return {
        "lane": lane,
        "stored": counted[0],
        "stubs": counted[1],
        "holes": _holes(db, lane),
        "high_water": row["high_water"] if row else 0,
        "last_heartbeat": {"received_ms": row["heartbeat_ms"], **json.loads(beat)}
        if beat
        else None,
    }


def _holes(db: sqlite3.Connection, lane: str) -> list[int]:
    """The first missing sequence numbers below the highest one held."""
    missing: list[int] = []
    wanted = _high_water(db, lane) + 1
    higher = "SELECT seq FROM record WHERE lane = ? AND seq >= ? ORDER BY seq"
    for (seq,) in db.execute(higher, (lane, wanted)):
        missing.extend(range(wanted, min(seq, wanted + HOLES_SHOWN)))
        wanted = seq + 1
        if len(missing) >= HOLES_SHOWN:
            break
    return missing[:HOLES_SHOWN]


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "n": row["n"],
        "lane": row["lane"],
        "seq": row["seq"],
        "id": row["id"],
        "stub": bool(row["is_stub"]),
        "received_ms": row["received_ms"],
        "record": json.loads(row["line"]),
    }

"""What the centre holds: every verdict is on disk before it is said. In one SQLite file or, given a
DSN, in PostgreSQL (database.py, postgres.py); this is the same for both."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

from gateway.center.database import Database, Db, Embedded, Put
from gateway.center.scrutiny import Line, Stub, Transaction, read_line

T = TypeVar("T")
HOLES_SHOWN = 100
SEQS_AT_FIRST, SEQS_AT_ONCE = 4, 1000
MANY = 4  # records that are quicker together than one by one
PUT = """
INSERT INTO record (lane, seq, id, is_stub, line, received_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
Saying = Literal["accepted", "duplicate", "retry", "refused"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One line as it came, and the slot it claims."""

    id: str
    seq: int
    raw: bytes
    line: Line | None = None
    """What it was read as; None: not read yet."""

    def is_plain(self, lane: str) -> bool:
        """A vehicle served here, and nothing else to be looked at."""
        line = self.line
        return (
            isinstance(line, Transaction)
            and line.lane in ("", lane)
            and not (line.is_stub or line.corrects)
        )


class Verdict(NamedTuple):
    id: str
    seq: int
    verdict: Saying
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": self.id, "seq": self.seq, "verdict": self.verdict}
        if self.reason:
            shown["reason"] = self.reason
        return shown


class Book:
    """Every method raises DatabaseAway when the database does not answer; repeating is safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path, dsn: str = "") -> Self:
        """In PostgreSQL if there is a `dsn`, else in the file `path`.

        Raises: sqlite3.Error; DatabaseAway; ImportError, without the extra `postgres`;
        RuntimeError, if a commit would not mean on disk.
        """
        if not dsn:
            return cls(await Embedded.open(path))
        from gateway.center.postgres import Postgres

        return cls(await Postgres.open(dsn))

    async def take(self, lane: str, arrivals: Sequence[Arrival], at_ms: int) -> list[Verdict]:
        """Book what can be booked. The verdicts are on disk when this returns."""
        verdicts, _ = await self.answer(lane, arrivals, at_ms)
        return verdicts

    async def answer(
        self, lane: str, arrivals: Sequence[Arrival], at_ms: int
    ) -> tuple[list[Verdict], int]:
        """`take`, and the lane's high water after it."""

        def work(db: Db) -> tuple[list[Verdict], int]:
            return _judge_all(db, lane, arrivals, at_ms), _raise_high_water(db, lane)

        return await self._database.run(work, lane=lane)

    async def beat(self, lane: str, body: str, at_ms: int) -> tuple[int, str]:
        """Keep the newest heartbeat; the lane's high water, and the heartbeat as it is kept."""

        def work(db: Db) -> tuple[int, str]:
            kept = db.execute(
                "INSERT INTO lane (name, heartbeat_ms, heartbeat) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET heartbeat_ms = excluded.heartbeat_ms,"
                " heartbeat = excluded.heartbeat RETURNING high_water, heartbeat",
                (lane, at_ms, body),
            ).fetchone()
            return int(kept[0]), str(kept[1])

        return await self._write(work)

    async def high_water(self, lane: str) -> int:
        return await self._write(lambda db: _high_water(db, lane))

    async def next_receipt(self, export: str, made_ms: int) -> int:
        """Its number; they go up by one. `export`: SHA-256 of the export's manifest."""

        def work(db: Db) -> int:
            told = (
                "INSERT INTO receipt (number, made_ms, export)"
                " SELECT coalesce(max(number), 0) + 1, CAST(? AS BIGINT), ? FROM receipt"
                " RETURNING number"
            )
            number: int = db.execute(told, (made_ms, export)).fetchone()[0]
            return number

        return await self._write(work)

    async def lane(self, lane: str) -> dict[str, Any]:
        """`{stored, stubs, cancelled, corrections, holes, high_water, last_heartbeat,
        highest_seq, missing, reconciled}`.

        `stored`: whole records; `cancelled` and `corrections` of them are no further vehicles.
        `stubs`: slots of records that were refused (interfaces.md §7.5, §7.14). `holes`: the first
        of the `missing` sequence numbers below `highest_seq`. `reconciled`: the newest statement
        of each kind, `{of, name, agrees, at_ms}`.
        """
        return await self._write(lambda db: _lane(db, lane))

    async def records(self, lane: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """In order of arrival, so that none comes later below a cursor; `n` is the cursor.
        `corrected_by`: the id of what counts instead."""
        sql = (
            "SELECT r.n, r.lane, r.seq, r.id, r.is_stub, r.line, r.received_ms,"
            " s.id AS corrected_by FROM record r LEFT JOIN special s ON s.corrects = r.id"
            " WHERE r.n > ? AND (CAST(? AS TEXT) IS NULL OR r.lane = ?) ORDER BY r.n LIMIT ?"
        )
        values = (after, lane, lane, limit)
        rows = await self._database.run(
            lambda db: db.execute(sql, values).fetchall(), is_ordered=True
        )
        return [_shown(row) for row in rows]

    async def lanes(self) -> list[dict[str, Any]]:
        """Every lane that was ever heard of, as `lane` tells of one."""
        known = "SELECT lane FROM record UNION SELECT name FROM lane ORDER BY 1"
        return await self._write(lambda db: [_lane(db, name) for (name,) in db.execute(known)])

    async def ask(self, work: Callable[[Db], T]) -> T:
        """Run `work` in one transaction; perhaps more than once."""
        return await self._write(work)

    async def _write(self, work: Callable[[Db], T]) -> T:
        return await self._database.run(work)

    async def close(self) -> None:
        await self._database.close()


def _judge_all(db: Db, lane: str, arrivals: Sequence[Arrival], at_ms: int) -> list[Verdict]:
    """In order. Plain ones that come for the first time, nearly all, go together."""
    verdicts = list[Verdict]()
    for is_plain, alike in groupby(arrivals, lambda arrival: arrival.is_plain(lane)):
        some = list(alike)
        if (
            is_plain
            and len(some) >= MANY
            and db.put_all(lane, [Put(a.seq, a.id, a.raw) for a in some], at_ms)
        ):
            verdicts += [Verdict(a.id, a.seq, "accepted") for a in some]
        else:
            verdicts += [_judge(db, lane, arrival, at_ms) for arrival in some]
    return verdicts


def _judge(db: Db, lane: str, arrival: Arrival, at_ms: int) -> Verdict:
    try:
        line = arrival.line or read_line(arrival.raw)
        return Verdict(arrival.id, arrival.seq, _place(db, lane, line, arrival, at_ms))
    except ValueError as no:
        db.execute(
            "INSERT INTO refusal (lane, seq, id, reason, line, received_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (lane, _bounded(arrival.seq), arrival.id, str(no), arrival.raw, at_ms),
        )
        return Verdict(arrival.id, arrival.seq, "refused", str(no))


def _bounded(seq: int) -> int:
    """As much of a number as a column holds; what is out of bounds was refused."""
    return max(-(2**63), min(seq, 2**63 - 1))


def _place(
    db: Db, lane: str, line: Line, arrival: Arrival, at_ms: int
) -> Literal["accepted", "duplicate"]:
    """Raises: ValueError with a Chinese reason; nothing is then stored of it."""
    if isinstance(line, Transaction) and line.lane not in ("", lane):
        raise ValueError(f"流水的车道 {line.lane} 与请求的车道 {lane} 不符")
    if not isinstance(line, Stub) and line.corrects and not _is_known(db, arrival):
        _check_link(db, lane, line)
    row = (lane, arrival.seq, arrival.id, int(isinstance(line, Stub)), arrival.raw, at_ms)
    if db.execute(PUT, row).rowcount:  # nearly always: asked first, each line would cost thrice
        _set_apart(db, lane, line)
        return "accepted"
    held = db.execute("SELECT * FROM record WHERE id = ?", (arrival.id,)).fetchone()
    if held is None:
        raise ValueError("这个序号已经有另一条流水")
    return _again(db, lane, line, arrival, held)


def _is_known(db: Db, arrival: Arrival) -> bool:
    found = "SELECT 1 FROM record WHERE id = ?"
    return db.execute(found, (arrival.id,)).fetchone() is not None


def _again(
    db: Db, lane: str, line: Line, arrival: Arrival, held: Any
) -> Literal["accepted", "duplicate"]:
    """An id that is known already: the same bytes are fine for ever, others never."""
    if (held["lane"], held["seq"]) != (lane, arrival.seq):
        raise ValueError("同一流水号已在别的序号下")
    if isinstance(line, Stub) or held["line"] == arrival.raw:
        return "duplicate"
    if not held["is_stub"]:
        raise ValueError("内容不同：同一流水号的内容与已收到的不一致")
    _check_link(db, lane, line)
    update = "UPDATE record SET line = ?, is_stub = 0 WHERE id = ?"
    db.execute(update, (arrival.raw, arrival.id))
    _set_apart(db, lane, line)
    return "accepted"


def _set_apart(db: Db, lane: str, line: Line) -> None:
    """Note what is not simply a vehicle served."""
    if isinstance(line, Stub) or not (line.is_stub or line.corrects):
        return
    kind = "correction" if line.corrects else "cancelled"
    db.execute(
        "INSERT INTO special (id, lane, kind, corrects, adjust_fee) VALUES (?, ?, ?, ?, ?)",
        (line.id, lane, kind, line.corrects, line.adjust_fee),
    )


def _check_link(db: Db, lane: str, line: Line) -> None:
    """Does a correction agree with what it corrects? Raises: ValueError.

    That one may still be under way, or have been refused: then nothing is compared.
    """
    if isinstance(line, Stub) or not line.corrects:
        return
    if db.execute("SELECT 1 FROM special WHERE corrects = ?", (line.corrects,)).fetchone():
        raise ValueError("被更正的流水已有另一条更正")
    sql = "SELECT lane, seq, is_stub, line FROM record WHERE id = ?"
    if (old := db.execute(sql, (line.corrects,)).fetchone()) is None:
        return
    if old["lane"] != lane or old["seq"] >= line.seq:
        raise ValueError("更正的不是本车道更早的流水")
    if old["is_stub"]:
        return
    before = json.loads(old["line"])
    if line.adjust_fee != line.fee - before["fee"]:
        raise ValueError("更正差额与两条流水的金额不符")
    if before.get("transFee", 0) != line.trans_fee or before.get("tac") != line.tac:
        raise ValueError("更正不能改动卡上的扣款")


def _high_water(db: Db, lane: str) -> int:
    row = db.execute("SELECT high_water FROM lane WHERE name = ?", (lane,)).fetchone()
    return int(row[0]) if row else 0


def _raise_high_water(db: Db, lane: str) -> int:
    """To the highest N such that everything up to N is held."""
    known = mark = _high_water(db, lane)
    for seq in _seqs(db, lane, mark):
        if seq != mark + 1:
            break
        mark = seq
    if mark > known or not known:  # a lane all of whose records were refused is heard of, too
        db.execute(
            "INSERT INTO lane (name, high_water) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET high_water = excluded.high_water",
            (lane, mark),
        )
    return mark


def _seqs(db: Db, lane: str, after: int) -> Iterator[int]:
    """Ascending, ever larger pieces at a time: who stops at the first hole has read few."""
    higher = "SELECT seq FROM record WHERE lane = ? AND seq > ? ORDER BY seq LIMIT ?"
    count = SEQS_AT_FIRST
    while True:
        piece = db.execute(higher, (lane, after, count)).fetchall()
        for (after,) in piece:  # and the next piece begins there
            yield after
        if len(piece) < count:
            return
        count = min(count * 8, SEQS_AT_ONCE)


def _lane(db: Db, lane: str) -> dict[str, Any]:
    counted = db.execute(
        "SELECT count(*) FILTER (WHERE is_stub = 0), count(*) FILTER (WHERE is_stub = 1)"
        " FROM record WHERE lane = ?",
        (lane,),
    ).fetchone()
    kinds = "SELECT kind, count(*) FROM special WHERE lane = ? GROUP BY kind"
    apart = dict(db.execute(kinds, (lane,)).fetchall())
    row = db.execute("SELECT * FROM lane WHERE name = ?", (lane,)).fetchone()
    beat = row and row["heartbeat"]
    newest = "SELECT coalesce(max(seq), 0) FROM record WHERE lane = ?"
    highest_seq: int = db.execute(newest, (lane,)).fetchone()[0]
    compared = db.execute(
        "SELECT of, name, agrees, at_ms FROM reconciliation WHERE n IN"
        " (SELECT max(n) FROM reconciliation WHERE lane = ? GROUP BY of) ORDER BY of",
        (lane,),
    )
    return {
        "highest_seq": highest_seq,
        "missing": highest_seq - counted[0] - counted[1],
        "reconciled": [
            {"of": of, "name": name, "agrees": bool(agrees), "at_ms": at_ms}
            for of, name, agrees, at_ms in compared
        ],
        "lane": lane,
        "stored": counted[0],
        "stubs": counted[1],
        "cancelled": apart.get("cancelled", 0),
        "corrections": apart.get("correction", 0),
        "holes": _holes(db, lane),
        "high_water": row["high_water"] if row else 0,
        "last_heartbeat": {"received_ms": row["heartbeat_ms"], **json.loads(beat)}
        if beat
        else None,
    }


def _holes(db: Db, lane: str) -> list[int]:
    """The first missing sequence numbers below the highest one held."""
    missing: list[int] = []
    wanted = _high_water(db, lane) + 1
    for seq in _seqs(db, lane, wanted - 1):
        missing.extend(range(wanted, min(seq, wanted + HOLES_SHOWN)))
        wanted = seq + 1
        if len(missing) >= HOLES_SHOWN:
            break
    return missing[:HOLES_SHOWN]


def _shown(row: Any) -> dict[str, Any]:
    return {
        "n": row["n"],
        "lane": row["lane"],
        "seq": row["seq"],
        "id": row["id"],
        "stub": bool(row["is_stub"]),
        "received_ms": row["received_ms"],
        "corrected_by": row["corrected_by"],
        "record": json.loads(row["line"]),
    }

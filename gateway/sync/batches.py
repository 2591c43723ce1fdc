"""Sealed batches for pull: ranges of records as bytes that never change, chained by hash.

A batch is opened by nobody: it is sealed from what lies in the store once it is full or old
enough, its gzip bytes are kept, and asking twice gives the same. Consumers' verdicts go into the
same ledger as push's; a cursor moves, nothing is deleted.
"""

import gzip
import hashlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.errors import NotFound, StoreUnavailable
from gateway.store import Store
from gateway.sync.center import Line, pick_verdicts
from gateway.sync.ledger import mark
from gateway.units import Clock, iso

log = logging.getLogger(__name__)

SEAL_COUNT = 200  # records
SEAL_BYTES = 256 * 1024  # before compression
SEAL_AGE_S = 5.0  # of the oldest record that is in no batch
POLL_S = 2.0
LIMIT_MAX = 500
NO_BATCH = "0" * 64  # prev_sha256 of the first one

OPEN = """
SELECT seq, coalesce(adjust_fen, fee_fen), saved_ms, line FROM record
WHERE lane = ?1 AND seq > (SELECT coalesce(max(last_seq), 0) FROM batch WHERE lane = ?1)
ORDER BY seq LIMIT ?2
"""
SEAL = """
INSERT INTO batch (lane, first_seq, last_seq, count, sum_fen, sha256, prev_sha256, sealed_ms, body)
VALUES (?, ?, ?, ?, ?, ?,
  coalesce((SELECT sha256 FROM batch ORDER BY batch DESC LIMIT 1), ?), ?, ?)
"""
MANIFESTS = """
SELECT b.batch, b.lane, b.first_seq, b.last_seq, b.count, b.sum_fen, b.sha256, b.prev_sha256,
  b.sealed_ms, length(b.body) AS size,
  (SELECT count(*) FROM delivery d WHERE d.lane = b.lane
   AND d.seq BETWEEN b.first_seq AND b.last_seq AND d.verdict <> 'refused') AS delivered
FROM batch b WHERE b.batch > ? ORDER BY b.batch LIMIT ?
"""
JUDGED = "INSERT OR IGNORE INTO judged (consumer, batch, seq) VALUES (?, ?, ?)"
LEFT = """
SELECT (SELECT count FROM batch WHERE batch = ?2)
  - (SELECT count(*) FROM judged WHERE consumer = ?1 AND batch = ?2)
"""
NEXT = """
SELECT n.batch, EXISTS (SELECT 1 FROM judged WHERE consumer = ?1 AND batch = n.batch AND seq = 0)
FROM (SELECT min(batch) AS batch FROM batch WHERE batch > ?2) n
"""
MOVE = """
INSERT INTO consumer (name, cursor, at_ms) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor, at_ms = excluded.at_ms
"""


class Batches:
    """Seals, shows and settles. Numbers and hash chain run over all lanes of the box."""

    name = "batches"

    def __init__(
        self,
        store: Store,
        lanes: Sequence[str],
        clock: Clock,
        on_settled: Callable[[], None] = lambda: None,
        *,
        seal_count: int = SEAL_COUNT,
        seal_age_s: float = SEAL_AGE_S,
    ) -> None:
        """`on_settled` hears that a consumer's verdicts changed the ledger."""
        self._store, self.lanes, self._clock = store, list(lanes), clock
        self._on_settled, self._seal_count = on_settled, seal_count
        self._seal_age_ms = round(seal_age_s * 1000)

    async def run(self) -> None:
        while True:
            try:
                await self.seal_due()
            except StoreUnavailable as no:
                log.error("no batch sealed", extra={"reason": no.detail})
            await self._clock.sleep(POLL_S)

    async def seal_due(self) -> None:
        """Seal whatever is full or old enough."""
        for lane in tuple(self.lanes):
            while await self._is_due(lane):
                now_ms = self._clock.now_ms()
                await self._store.write(partial(self._seal, lane=lane, at_ms=now_ms))

    async def manifests(self, after: int, limit: int) -> list[dict[str, Any]]:
        """`{batch, lane, first_seq, last_seq, count, sum_fen, sha256, prev_sha256, sealed_at,
        sealed_ms, size, delivered}`. All but `delivered` never changes; `sum_fen` adds up `fee`,
        of corrections `adjustFee`; sha256 is of the body's gzip bytes."""
        rows = await self._store.rows(MANIFESTS, after, min(max(limit, 1), LIMIT_MAX))
        return [{**dict(row), "sealed_at": iso(row["sealed_ms"])} for row in rows]

    async def body(self, batch: int) -> bytes:
        """NDJSON in gzip, the same bytes every time. Raises: NotFound."""
        rows = await self._store.rows("SELECT body FROM batch WHERE batch = ?", batch)
        if not rows:
            raise NotFound(f"没有批次 {batch}")
        return bytes(rows[0]["body"])

    async def cursor(self, consumer: str) -> int:
        """The last batch up to which this consumer has settled everything; 0 = none."""
        rows = await self._store.rows("SELECT cursor FROM consumer WHERE name = ?", consumer)
        return int(rows[0]["cursor"]) if rows else 0

    async def settle(self, consumer: str, batch: int, sayings: Sequence[Any]) -> dict[str, Any]:
        """A consumer's verdicts on one batch, into the common ledger.

        A record is judged once this consumer gave it a verdict other than `retry`, in however
        many calls; the cursor moves over each batch that is judged whole, none left out. Returns
        `{batch, cursor, settled, retry}`: of the batch's records so many are judged, and not.
        Raises: NotFound.
        """
        at_ms = self._clock.now_ms()
        settled = await self._store.write(lambda db: _settle(db, consumer, batch, sayings, at_ms))
        self._on_settled()
        return settled

    async def _is_due(self, lane: str) -> bool:
        rows = await self._store.rows(OPEN, lane, self._seal_count)
        if not rows:
            return False
        age_ms = self._clock.now_ms() - rows[0]["saved_ms"]
        size = sum(len(row["line"]) for row in rows)
        # A record from the future says that the clock was set back: age tells nothing then.
        is_old = not 0 <= age_ms < self._seal_age_ms
        return is_old or len(rows) >= self._seal_count or size >= SEAL_BYTES

    def _seal(self, db: sqlite3.Connection, lane: str, at_ms: int) -> None:
        """Cut, compress, chain; in one transaction, so that no record is in two batches."""
        rows = _fitting(db.execute(OPEN, (lane, self._seal_count)).fetchall())
        plain = "".join(f"{line}\n" for _, _, _, line in rows).encode()
        body = gzip.compress(plain, 6, mtime=0)
        first_seq, last_seq, sum_fen = rows[0][0], rows[-1][0], sum(row[1] for row in rows)
        sha256 = hashlib.sha256(body).hexdigest()
        row = (lane, first_seq, last_seq, len(rows), sum_fen, sha256, NO_BATCH, at_ms, body)
        db.execute(SEAL, row)


def _fitting(rows: list[Any]) -> list[Any]:
    size = 0
    for count, row in enumerate(rows):
        size += len(row[3].encode()) + 1
        if count and size > SEAL_BYTES:
            return rows[:count]
    return rows


def _settle(
    db: sqlite3.Connection, consumer: str, batch: int, sayings: Sequence[Any], at_ms: int
) -> dict[str, Any]:
    found = db.execute("SELECT lane, first_seq, last_seq FROM batch WHERE batch = ?", (batch,))
    if (bounds := found.fetchone()) is None:
        raise NotFound(f"没有批次 {batch}")
    lane = bounds[0]
    ids = db.execute(
        "SELECT seq, id FROM record WHERE lane = ? AND seq BETWEEN ? AND ? ORDER BY seq", bounds
    )
    verdicts = pick_verdicts([Line(seq, id_, b"") for seq, id_ in ids], sayings)
    for verdict in verdicts:
        mark(db, lane, verdict, consumer, at_ms)
    judged = [verdict.seq for verdict in verdicts if verdict.verdict != "retry"]
    left = _judge(db, consumer, batch, judged)
    cursor = _move(db, consumer, at_ms)
    return {"batch": batch, "cursor": cursor, "settled": len(verdicts) - left, "retry": left}


def _judge(db: sqlite3.Connection, consumer: str, batch: int, seqs: Sequence[int]) -> int:
    """How many of the batch this consumer has not judged yet."""
    whole = "SELECT 1 FROM judged WHERE consumer = ? AND batch = ? AND seq = 0"
    if batch <= _cursor(db, consumer) or db.execute(whole, (consumer, batch)).fetchone():
        return 0
    db.executemany(JUDGED, [(consumer, batch, seq) for seq in seqs])
    left: int = db.execute(LEFT, (consumer, batch)).fetchone()[0]
    if not left:
        db.execute("DELETE FROM judged WHERE consumer = ? AND batch = ?", (consumer, batch))
        db.execute(JUDGED, (consumer, batch, 0))
    return left


def _cursor(db: sqlite3.Connection, consumer: str) -> int:
    row = db.execute("SELECT cursor FROM consumer WHERE name = ?", (consumer,)).fetchone()
    return int(row[0]) if row else 0


def _move(db: sqlite3.Connection, consumer: str, at_ms: int) -> int:
    """Over each batch that is judged whole: never backwards and never over another."""
    before = cursor = _cursor(db, consumer)
    while (following := db.execute(NEXT, (consumer, cursor)).fetchone())[1]:
        cursor = int(following[0])
    if cursor > before:
        db.execute(MOVE, (consumer, cursor, at_ms))
        db.execute("DELETE FROM judged WHERE consumer = ? AND batch <= ?", (consumer, cursor))
    return cursor

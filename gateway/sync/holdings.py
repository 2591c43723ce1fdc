"""What the lane still has: ranges of records, debts, digests of shifts. Reads only."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from gateway.errors import NotFound
from gateway.store import Store
from gateway.sync.ledger import Ledger

LINES_MAX = 500

RANGE = "SELECT seq, line FROM record WHERE lane = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
BOUNDS = """
SELECT (SELECT min(seq) FROM record WHERE lane = ?1) AS first_seq,
  (SELECT max(seq) FROM record WHERE lane = ?1) AS last_seq
"""
SHIFT = "SELECT id, lane, operator, shift, opened_ms, closed_ms FROM shift WHERE id = ?"
SHIFT_RANGE = """
SELECT lane, min(seq) AS first_seq, max(seq) AS last_seq, count(*) AS count,
  count(corrects) AS corrections, coalesce(sum(coalesce(adjust_fen, fee_fen)), 0) AS sum_fen
FROM record WHERE shift_id = ? GROUP BY lane ORDER BY lane
"""
SHIFT_PARTS = """
SELECT kind, means, count(*) AS count, sum(fee_fen) AS sum_fen FROM record r
WHERE shift_id = ? AND lane = ?
  AND NOT EXISTS (SELECT 1 FROM record n WHERE n.corrects = r.id AND n.lane = r.lane)
GROUP BY kind, means ORDER BY kind, means
"""
CHAIN = "SELECT chain FROM record WHERE lane = ? AND seq = ?"


class Holdings:
    """Questions about records that are kept, delivered or not."""

    def __init__(self, store: Store, lanes: Sequence[str]) -> None:
        self._store, self._ledger, self.lanes = store, Ledger(store), list(lanes)

    async def lines(self, lane: str, from_seq: int, to_seq: int) -> list[tuple[int, str]]:
        """Frozen lines with their seq, at most 500; ask again from the last one + 1."""
        rows = await self._store.rows(RANGE, lane, from_seq, to_seq, LINES_MAX)
        return [(row["seq"], row["line"]) for row in rows]

    async def lane(self, lane: str) -> dict[str, Any]:
        """`{lane, first_seq, last_seq, unsent, oldest_unsent_ms, parked}`."""
        bounds = dict((await self._store.rows(BOUNDS, lane))[0])
        debt = await self._ledger.debt(lane, await self._ledger.floor(lane))
        return {
            "lane": lane,
            **bounds,
            "unsent": debt.unsent,
            "oldest_unsent_ms": debt.oldest_ms,
            "parked": await self._ledger.parked(lane),
        }

    async def digest(self, shift_id: int) -> dict[str, Any]:
        """Reconciliation of one shift, for both sides to compare and sign: counts and sums by
        kind and means, sequence range, chain head. Of a corrected record the parts count what
        counts now; `count` is of all lines, `corrections` of them. `sha256` is over the rest in
        canonical JSON (sorted keys, no blanks). Raises: NotFound."""
        shifts = await self._store.rows(SHIFT, shift_id)
        ranges = await self._store.rows(SHIFT_RANGE, shift_id)
        if not shifts and not ranges:
            raise NotFound(f"没有班次 {shift_id}")
        digest: dict[str, Any] = {
            "shift": shift_id,
            "is_closed": bool(shifts and shifts[0]["closed_ms"]),
            "lanes": [await self._of_lane(shift_id, dict(row)) for row in ranges],
        }
        canonical = json.dumps(digest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return {**digest, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}

    async def _of_lane(self, shift_id: int, bounds: dict[str, Any]) -> dict[str, Any]:
        parts = await self._store.rows(SHIFT_PARTS, shift_id, bounds["lane"])
        head = await self._store.rows(CHAIN, bounds["lane"], bounds["last_seq"])
        return {**bounds, "parts": [dict(row) for row in parts], "chain_head": head[0]["chain"]}

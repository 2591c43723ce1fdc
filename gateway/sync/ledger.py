"""The one ledger of push and pull: what became of each record. All SQL on `delivery` is here.

No row = still owed. A refused record is owed its stub until the centre holds that (`stub_sent`
0, then 1); 2: somebody wants the whole record sent once more. A fate only moves up (owed → refused
→ delivered), with one exception: when the centre itself says that it lacks what it once
acknowledged (restored from an old copy), that is owed again.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.spool.tables import RAISED, LaneHead, raised_head
from gateway.store import Draft, Store
from gateway.sync.center import Line, Verdict

PUSH, RECEIPT = "push", "receipt"
"""`via` of the centre's own word, over the line and carried by hand; a consumer's is its name."""
PARKED_SHOWN = 100
REASON_MAX = 500  # characters: it is shown, and travels on in the stub
RAISE_MAX = 1_000_000
"""Records that a centre may say we have lost; more is its own mistake."""
PHOTOS_DOUBTED_MS = 86_400_000
"""A centre that lost records lost photos too, from its last copy on: a day before, at most, as
copies are made daily. Asking about one that is there costs a HEAD."""
Moment = tuple[int, int, str, str]
"""(at_ms, mono_ms, boot_id, operator)."""

OWED = """
SELECT r.seq, r.id, CAST(r.line AS BLOB), d.verdict, d.reason, d.stub_sent
FROM record r LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq
WHERE r.lane = ?1 AND r.seq > ?2
  AND (d.seq IS NULL OR (d.verdict = 'refused' AND d.stub_sent <> 1))
ORDER BY r.seq LIMIT ?3
"""
FLOOR = """
SELECT CASE WHEN EXISTS (
  SELECT 1 FROM delivery WHERE lane = ?1 AND seq = ?2 + 1
    AND (verdict <> 'refused' OR stub_sent = 1)
) THEN (
  SELECT s.seq FROM delivery s WHERE s.lane = ?1 AND s.seq > ?2 AND NOT EXISTS (
    SELECT 1 FROM delivery n WHERE n.lane = ?1 AND n.seq = s.seq + 1
      AND (n.verdict <> 'refused' OR n.stub_sent = 1))
  ORDER BY s.seq LIMIT 1
) ELSE ?2 END AS floor
"""
"""Walks to the first gap and no further. Neither this nor DEBT reads old records, which are long:
a start would wait for the disk."""
DEBT = """
SELECT
  max(0, coalesce((SELECT max(seq) FROM record WHERE lane = ?1), 0) - ?2)
    - (SELECT count(*) FROM delivery WHERE lane = ?1 AND seq > ?2) AS unsent,
  (SELECT r.saved_ms FROM record r WHERE r.lane = ?1 AND r.seq > ?2
    AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.lane = r.lane AND d.seq = r.seq)
    ORDER BY r.seq LIMIT 1) AS oldest_ms,
  (SELECT count(*) FROM delivery d INDEXED BY delivery_refused
    CROSS JOIN record r USING (lane, seq)
    WHERE d.lane = ?1 AND d.verdict = 'refused' AND NOT EXISTS (
      SELECT 1 FROM record n JOIN delivery nd ON nd.lane = n.lane AND nd.seq = n.seq
      WHERE n.corrects = r.id AND n.lane = r.lane AND nd.verdict <> 'refused')) AS parked,
  coalesce((SELECT max(seq) FROM delivery INDEXED BY delivery_refused
    WHERE lane = ?1 AND verdict = 'refused'), 0) AS newest_refused
"""
"""Parked is what waits for people: not what a correction that the centre has put right. CROSS:
from the few refused ones to their records, never the other way round."""
PARKED = """
SELECT d.lane, d.seq, r.id, d.reason, d.at_ms, r.passage_id,
  n.id AS corrected_by, nd.verdict AS correction,
  CASE WHEN nd.verdict IN ('accepted', 'duplicate') THEN 'corrected'
    WHEN d.stub_sent = 2 THEN 'resending' ELSE 'parked' END AS state
FROM delivery d INDEXED BY delivery_refused CROSS JOIN record r ON r.lane = d.lane AND r.seq = d.seq
LEFT JOIN record n ON n.corrects = r.id AND n.lane = r.lane
LEFT JOIN delivery nd ON nd.lane = n.lane AND nd.seq = n.seq
WHERE d.lane = ? AND d.verdict = 'refused' ORDER BY d.seq LIMIT ?
"""
MARK = """
INSERT INTO delivery (lane, seq, verdict, reason, via, at_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (lane, seq) DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason,
  via = excluded.via, at_ms = excluded.at_ms, stub_sent = 0
WHERE delivery.verdict = 'refused' AND (excluded.verdict <> 'refused' OR delivery.stub_sent = 2)
"""
_MANY = "SELECT ?1, value, ?2, NULL, ?3, ?4 FROM json_each(?5) WHERE true"
MARK_MANY = MARK.replace("VALUES (?, ?, ?, ?, ?, ?)", _MANY)
"""Of one verdict without a reason."""
MARK_STUB = """
UPDATE delivery SET stub_sent = 1
WHERE lane = ? AND seq = ? AND verdict = 'refused' AND stub_sent = 0
"""
RESEND = """
UPDATE delivery SET stub_sent = 2 WHERE lane = ? AND seq = ? AND verdict = 'refused'
"""
DROP = "DELETE FROM delivery WHERE lane = ? AND seq = ? AND verdict <> 'refused'"
DROP_STUB = """
UPDATE delivery SET stub_sent = 0 WHERE lane = ? AND seq = ? AND verdict = 'refused'
"""
LANES = """
WITH RECURSIVE found(lane) AS (
  SELECT min(lane) FROM record
  UNION ALL SELECT (SELECT min(lane) FROM record WHERE lane > found.lane) FROM found
    WHERE found.lane IS NOT NULL)
SELECT lane FROM found WHERE lane IS NOT NULL
"""
"""One step a lane, whatever they hold."""


class Owed(NamedTuple):
    """A line the centre must get: the frozen record, or its stub once it was refused."""

    line: Line
    is_stub: bool


@dataclass(frozen=True, slots=True)
class Debt:
    """What one lane still owes."""

    unsent: int = 0
    oldest_ms: int | None = None
    """Wall time at which the oldest unsent record was saved."""
    parked: int = 0
    newest_refused: int = 0
    """Number of the newest record that the centre refused; 0 for none."""


class Ledger:
    """Reads and writes of `delivery`, for the outbox and for pull."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def owed(self, lane: str, after: int, limit: int) -> list[Owed]:
        """The oldest owed lines with seq > `after`."""
        return [_owed(row) for row in await self._store.rows(OWED, lane, after, limit)]

    async def floor(self, lane: str, after: int = 0) -> int:
        """Everything up to here is settled; searched from `after`, known to be settled."""
        rows = await self._store.rows(FLOOR, lane, after)
        return int(rows[0]["floor"])

    async def debt(self, lane: str, floor: int) -> Debt:
        """Parked records are not backlog (interfaces.md §7.13)."""
        return Debt(**dict((await self._store.rows(DEBT, lane, floor))[0]))

    async def parked(self, lane: str, limit: int = PARKED_SHOWN) -> list[dict[str, Any]]:
        """Refused records, oldest first: `{lane, seq, id, reason, at_ms, passage_id,
        corrected_by, correction, state}`; `state`: parked, resending, corrected; `correction`:
        what became of the record that corrects it."""
        return [dict(row) for row in await self._store.rows(PARKED, lane, limit)]

    async def lanes(self) -> list[str]:
        """Every lane that ever saved a record here: no configuration owns what they owe."""
        return [row["lane"] for row in await self._store.rows(LANES)]

    async def newest(self, lane: str) -> int:
        """Where this lane's records end; 0 = none."""
        rows = await self._store.rows("SELECT max(seq) AS seq FROM record WHERE lane = ?", lane)
        return rows[0]["seq"] or 0

    async def unanswered(self, lane: str, seqs: Iterable[int]) -> int:
        """How many of these records have no verdict."""
        asked = (
            "SELECT count(*) AS n FROM json_each(?) WHERE NOT EXISTS"
            " (SELECT 1 FROM delivery WHERE lane = ? AND seq = value)"
        )
        rows = await self._store.rows(asked, json.dumps(sorted(seqs)), lane)
        return int(rows[0]["n"])

    async def is_refused(self, lane: str, seq: int) -> bool:
        """Its verdict is `refused`."""
        asked = "SELECT verdict FROM delivery WHERE lane = ? AND seq = ?"
        rows = await self._store.rows(asked, lane, seq)
        return bool(rows) and rows[0]["verdict"] == "refused"

    async def resend(self, lane: str, seq: int) -> bool:
        """The whole refused record is owed once more. False if it is not refused (any more)."""
        row = (lane, seq)
        return await self._store.write(lambda db: db.execute(RESEND, row).rowcount > 0)

    async def owe_lost(self, lane: str, seqs: Sequence[int]) -> int:
        """The centre lacks, or has otherwise, exactly these: whole or stub, they are owed again."""

        def work(db: sqlite3.Connection) -> int:
            rows = [(lane, seq) for seq in seqs]
            db.executemany(DROP_STUB, rows)
            return db.executemany(DROP, rows).rowcount

        return await self._store.write(work)

    async def settle(
        self, lane: str, sent: Sequence[Owed], verdicts: Sequence[Verdict], via: str, at_ms: int
    ) -> int:
        """Store what was said, in one transaction. Returns how many records it refused anew."""
        stubs = {owed.line.seq for owed in sent if owed.is_stub}
        whole = [verdict for verdict in verdicts if verdict.seq not in stubs]
        held = [v.seq for v in verdicts if v.seq in stubs and _is_held(v)]

        def work(db: sqlite3.Connection) -> int:
            mark_stubs(db, lane, held)
            _mark_held(db, lane, whole, via, at_ms)
            return sum(mark(db, lane, v, via, at_ms) for v in whole if v.verdict == "refused")

        return await self._store.write(work)

    async def owe_again(self, lane: str, high_water: int, at_ms: int) -> int:
        """The centre holds nothing above `high_water`, says it. Returns how many it has lost."""
        return await self._store.write(lambda db: _owe_again(db, lane, high_water, at_ms))

    async def raise_lane(self, lane: str, high_water: int, moment: Moment) -> int:
        """The centre holds records that we have lost: go on behind them, and say so in the
        journal. Returns how many we lack; 0 if none. Raises: StoreUnavailable."""

        def entry(draft: Draft) -> int:
            newest = "SELECT ifnull(max(seq), 0) FROM record WHERE lane = ?"
            ours: int = draft.db.execute(newest, (lane,)).fetchone()[0]
            last = draft.lanes.get(lane, LaneHead())
            lacking = high_water - max(ours, last.seq)
            if not 0 < lacking <= RAISE_MAX:
                return max(lacking, 0)
            what = f"中心已有到第 {high_water} 条记录，本机只到第 {last.seq} 条：本机数据是旧的"
            body = json.dumps({"what": what, "lacking": lacking}, ensure_ascii=False)
            draft.add(lane, "", moment, RAISED, "", body, {"raised": high_water})
            draft.lanes[lane] = raised_head(last, high_water, moment[0])
            return lacking

        return await self._store.log(entry, looks=True)


def lost_mark(lane: str) -> str:
    """Name of the mark that says when the centre last lacked what it had acknowledged:
    {at_ms, high_water}. A receipt from before then is no proof."""
    return f"lost:{lane}"


def mark_stubs(db: sqlite3.Connection, lane: str, seqs: Sequence[int]) -> None:
    """The centre holds the stubs of these refused records."""
    db.executemany(MARK_STUB, [(lane, seq) for seq in seqs])


def _mark_held(
    db: sqlite3.Connection, lane: str, verdicts: Sequence[Verdict], via: str, at_ms: int
) -> None:
    """Those that say `accepted` or `duplicate`, each in one statement."""
    for word in ("accepted", "duplicate"):
        if seqs := [verdict.seq for verdict in verdicts if verdict.verdict == word]:
            db.execute(MARK_MANY, (lane, word, via, at_ms, json.dumps(seqs)))


def mark(db: sqlite3.Connection, lane: str, verdict: Verdict, via: str, at_ms: int) -> bool:
    """One record's fate; `retry` leaves no trace. True if it was another one before."""
    if verdict.verdict == "retry":
        return False
    reason = verdict.reason[:REASON_MAX] or None
    row = (lane, verdict.seq, verdict.verdict, reason, via, at_ms)
    return db.execute(MARK, row).rowcount > 0


def _owe_again(db: sqlite3.Connection, lane: str, high_water: int, at_ms: int) -> int:
    """Only what this centre acknowledged can be doubted by its own word; a consumer that pulled
    answers for itself."""
    next_one = db.execute(
        "SELECT verdict, stub_sent, via FROM delivery WHERE lane = ? AND seq = ?",
        (lane, high_water + 1),
    ).fetchone()
    is_settled = next_one is not None and (next_one[0] != "refused" or bool(next_one[1]))
    if not is_settled or next_one[2] not in (PUSH, RECEIPT):
        return 0
    above = (lane, high_water, PUSH, RECEIPT)
    since = "SELECT min(at_ms) FROM delivery WHERE lane = ? AND seq > ? AND via IN (?, ?)"
    (since_ms,) = db.execute(since, above).fetchone()
    db.execute("DELETE FROM evidence_delivery WHERE at_ms >= ?", (since_ms - PHOTOS_DOUBTED_MS,))
    lost = db.execute(
        "DELETE FROM delivery WHERE lane = ? AND seq > ? AND via IN (?, ?)"
        " AND verdict <> 'refused'",
        above,
    ).rowcount
    again = "UPDATE delivery SET stub_sent = 0 WHERE lane = ? AND seq > ? AND via IN (?, ?)"
    value = json.dumps({"at_ms": at_ms, "high_water": high_water})
    keep_mark(db, lost_mark(lane), value, at_ms)
    return lost + db.execute(again, above).rowcount


def keep_mark(db: sqlite3.Connection, name: str, value: str, at_ms: int) -> None:
    """One line of `sync_mark`."""
    db.execute(
        "INSERT INTO sync_mark (name, value, at_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms",
        (name, value, at_ms),
    )


def is_settled(owed: Owed, verdict: Verdict) -> bool:
    """Nothing more of this is owed. A stub that is refused stays owed: its slot is still empty."""
    return _is_held(verdict) or (verdict.verdict == "refused" and not owed.is_stub)


def _is_held(verdict: Verdict) -> bool:
    return verdict.verdict in ("accepted", "duplicate")


def _owed(row: Any) -> Owed:
    seq, record_id, line, verdict, reason, stub_sent = row
    if verdict is None or stub_sent == 2:
        return Owed(Line(seq, record_id, line), False)
    stub = {"seq": seq, "id": record_id, "stub": True, "refused": reason or "未说明原因"}
    return Owed(Line(seq, record_id, json.dumps(stub, ensure_ascii=False).encode()), True)

"""What each row of the log means for the database. Used when it is written and when the database
is rebuilt, so that both ways lead to the same tables. Decides nothing.

The only writer of journal, passage, record, command and shift. `extra` of a row is JSON:

    key      [key, fingerprint]             the command that asked for this step
    refused  [status, answer]               and that was told no
    answered [status, answer]               or was told this, in the same commit
    passage  [opened_ms, operator, shift_id, plate, card_id, amount_fen, state, ended]
    record   [id, saved_ms]                 of the record in `line`
    corrects [shift_id, plate, amount_fen]  and it corrects an earlier one
    shift    {id, operator, shift, opened_ms} or {id, closed_ms, totals}
    raised   seq                            this lane's next record goes on behind that one
"""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.spool.frame import GENESIS, Row, chained, text_of
from gateway.units import beijing

COLUMNS = "seq, lane, passage_id, at_ms, mono_ms, boot_id, operator, event, state, body, extra"
INSERT = f"INSERT INTO journal ({COLUMNS}, hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
MONEY = frozenset({"journal", "passage", "record", "command", "shift"})
"""The tables that follow from the log; all others have seals (seals.py)."""
SHIFT_OPENED, SHIFT_CLOSED = "shift_opened", "shift_closed"
RAISED = "lane_raised"
_RAISED = """
    SELECT lane, at_ms, extra FROM journal INDEXED BY journal_raised
    WHERE event = 'lane_raised' ORDER BY seq
"""  # left to itself SQLite walks the whole journal, which is in order already


ID_LANE = 21
"""Characters of a record's id that are the lane id (domain.md §4). The configuration says which
lane has it; the ids count on behind each other whatever that lane is called."""


class LaneHead(NamedTuple):
    """Where a lane's records end. Under a lane id, which no lane is called: only its newest id."""

    seq: int = 0
    chain: str = ""
    record_id: str = ""


def follow(db: sqlite3.Connection, row: Row, row_hash: bytes) -> str:
    """Bring the tables up to this row. Inside the caller's transaction.

    What people must hear of it, in Chinese; nearly always nothing.
    """
    db.execute(INSERT, (*row[:11], row_hash))
    derive(db, row)
    return _twin(db, row) if row.line else ""


def derive(db: sqlite3.Connection, row: Row) -> None:
    """The same without the journal itself."""
    if not row.extra:
        return
    extra = json.loads(row.extra)
    if "key" in extra:
        _key(db, row, extra)
    if "passage" in extra:
        _passage(db, row, extra["passage"])
    if "corrects" in extra:
        _correction(db, row, extra["corrects"])
    if "shift" in extra:
        _SHIFT[row.event](db, row, extra["shift"])


def record_chain(previous: str, line: str) -> str:
    """SHA-256(previous chain ‖ the frozen line), upper-case hex; the first stands on nothing."""
    return hashlib.sha256(previous.encode() + line.encode()).hexdigest().upper()


def lane_heads(db: sqlite3.Connection) -> dict[str, LaneHead]:
    heads = {place: LaneHead(record_id=newest) for place, newest in db.execute(_NEWEST_IDS)}
    heads |= {lane: LaneHead(*rest) for lane, *rest in db.execute(_LANE_HEADS)}
    for lane, at_ms, extra in db.execute(_RAISED):
        last = heads.get(lane, LaneHead())
        heads[lane] = raised_head(last, json.loads(extra)["raised"], at_ms)
    return heads


def newest_id(lanes: dict[str, LaneHead], lane_id: str) -> str:
    """Of this lane id, on whatever lane; empty for none. They are in order as texts, too."""
    ids = (head.record_id for head in lanes.values())
    return max((one for one in ids if one.startswith(lane_id)), default="")


def go_on(lanes: dict[str, LaneHead], lane: str, head: LaneHead) -> None:
    """The lane's records end there now. Where its lane id was another, that one's end is kept."""
    place = lanes.get(lane, LaneHead()).record_id[:ID_LANE]
    if place and place != head.record_id[:ID_LANE]:
        lanes[place] = LaneHead(record_id=newest_id(lanes, place))
    lanes[lane] = head


def raised_head(last: LaneHead, seq: int, at_ms: int) -> LaneHead:
    """Behind `seq`. Of its hour so many ids are left out as records may have been lost."""
    if seq <= last.seq:
        return last
    place, count = last.record_id[:ID_LANE], int(last.record_id[31:] or 0)
    hour = beijing(at_ms).strftime("%Y%m%d%H")
    if last.record_id[21:31] < hour:
        count = 0
    else:
        hour = last.record_id[21:31]
    spared = min(count + seq - last.seq, 999_999)
    return LaneHead(seq, last.chain, f"{place}{hour}{spared:06d}" if place else "")


def raised(db: sqlite3.Connection) -> set[tuple[str, int]]:
    """(lane, seq) behind which records go on, though there may be none before."""
    return {(lane, json.loads(extra)["raised"]) for lane, _, extra in db.execute(_RAISED)}


def lanes_after(lanes: dict[str, LaneHead], row: Row) -> dict[str, LaneHead]:
    """Where the records end when this row is counted in, too."""
    last = lanes.get(row.lane, LaneHead())
    if row.event == RAISED:
        return {**lanes, row.lane: raised_head(last, json.loads(row.extra)["raised"], row.at_ms)}
    if not row.line:
        return lanes
    record, (record_id, _) = json.loads(row.line), json.loads(row.extra)["record"]
    head = LaneHead(record["seq"], record_chain(record["prevChain"], row.line), record_id)
    after = dict(lanes)
    go_on(after, row.lane, head)
    return after


def head(db: sqlite3.Connection) -> tuple[int, bytes]:
    """(seq, hash) of the newest row that the tables know; (0, GENESIS) for none."""
    row = db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0], row[1]) if row else (0, GENESIS)


def packed(answer: Any) -> bytes:
    """An answer as it is kept: a quarter of its size."""
    return zlib.compress(json.dumps(answer, ensure_ascii=False).encode(), 1)


# ---- and back --------------------------------------------------------------------------------


def rows(db: sqlite3.Connection, after: int = 0) -> "Rows":
    """(row, hash, hash it should have) of the log as the database tells it."""
    return Rows(db, after)


class Told(NamedTuple):
    """A row as the database has it, the hash beside it, and what follows from the row before."""

    row: Row
    hash: bytes
    expected: bytes

    @property
    def is_sound(self) -> bool:
        return self.hash == self.expected


class Rows:
    """Iterates over `Told`, oldest first. Raises: sqlite3.Error, in the middle too."""

    def __init__(self, db: sqlite3.Connection, after: int) -> None:
        self._db, self._after = db, after

    def __iter__(self) -> Any:
        previous = GENESIS
        before = "SELECT hash FROM journal WHERE seq = ?"
        if found := self._db.execute(before, (self._after,)).fetchone():
            previous = found[0]
        told = self._db.execute(
            f"SELECT {_OF_JOURNAL}, ifnull(r.line, ''), j.hash FROM journal AS j"  # noqa: S608
            " LEFT JOIN record AS r ON r.lane = j.lane AND r.id = CASE"
            " WHEN instr(j.extra, '\"record\":') > 0 THEN json_extract(j.extra, '$.record[0]') END"
            " WHERE j.seq > ? ORDER BY j.seq",
            (self._after,),
        )
        for *values, row_hash in told:
            row = Row(*values)
            yield Told(row, row_hash, chained(previous, text_of(row)))
            previous = row_hash


_LANE_HEADS = """
    WITH RECURSIVE known (lane) AS (
        SELECT min(lane) FROM record
        UNION ALL SELECT (SELECT min(lane) FROM record WHERE lane > known.lane) FROM known
        WHERE known.lane IS NOT NULL
    )
    SELECT r.lane, r.seq, r.chain, r.id FROM known JOIN record AS r ON r.lane = known.lane
        AND r.seq = (SELECT max(seq) FROM record WHERE lane = known.lane)
"""
"""From lane to lane by the primary key: a walk over every record would take half a minute."""
_NEWEST_IDS = f"""
    WITH RECURSIVE known (place) AS (
        SELECT substr(min(id), 1, {ID_LANE}) FROM record
        UNION ALL SELECT (
            SELECT substr(min(id), 1, {ID_LANE}) FROM record WHERE id > known.place || '~'
        ) FROM known WHERE known.place IS NOT NULL
    )
    SELECT place, (SELECT max(id) FROM record WHERE id > place AND id < place || '~') FROM known
    WHERE place IS NOT NULL
"""  # noqa: S608
"""From lane id to lane id by the index, likewise. No id has a character behind ~."""
_OF_JOURNAL = ", ".join(f"j.{name.strip()}" for name in COLUMNS.split(","))


# ---- one table each --------------------------------------------------------------------------


def _key(db: sqlite3.Connection, row: Row, extra: dict[str, Any]) -> None:
    key, fingerprint = extra["key"]
    status, answer = extra.get("refused") or extra.get("answered") or (None, None)
    db.execute(
        "INSERT INTO command (lane, key, fingerprint, at_ms, status, answer) VALUES (?,?,?,?,?,?)",
        (row.lane, key, fingerprint, row.at_ms, status, answer and packed(answer)),
    )


def _passage(db: sqlite3.Connection, row: Row, told: list[Any]) -> None:
    """Derived, for lists and for a quick start. What ends a passage is written apart, so that
    the other steps leave its index alone."""
    opened_ms, operator, shift_id, plate, card_id, amount_fen, state, ended = told
    db.execute(
        "INSERT INTO passage (id, lane, state, opened_ms, changed_ms, operator, shift_id,"
        " plate, card_id, amount_fen) VALUES (?,?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
        " changed_ms = excluded.changed_ms, plate = excluded.plate,"
        " card_id = excluded.card_id, amount_fen = excluded.amount_fen",
        (row.passage_id, row.lane, state, opened_ms, row.at_ms, operator, shift_id, plate,
         card_id, amount_fen),
    )  # fmt: skip
    record_id = _record(db, row, shift_id) if row.line else None
    if ended:
        db.execute(
            "UPDATE passage SET ended = ?, record_id = ? WHERE id = ?",
            (ended, record_id, row.passage_id),
        )


def _record(db: sqlite3.Connection, row: Row, shift_id: int) -> str:
    record, (record_id, saved_ms) = json.loads(row.line), json.loads(row.extra)["record"]
    corrects = record.get("corrects")
    db.execute(
        "INSERT INTO record (lane, seq, id, passage_id, shift_id, kind, means, fee_fen,"
        " card_id, saved_ms, line, chain, corrects, adjust_fen)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (row.lane, record["seq"], record_id, row.passage_id, shift_id, record["outcome"],
         record["means"], record["fee"], record["cardId"], saved_ms,
         row.line, record_chain(record["prevChain"], row.line),
         corrects, record["adjustFee"] if corrects else None),
    )  # fmt: skip
    return str(record_id)


def _twin(db: sqlite3.Connection, row: Row) -> str:
    """Two lanes have this record's id: what is in the log is owed, so both stand."""
    record_id, _ = json.loads(row.extra)["record"]
    found = "SELECT lane, seq FROM record WHERE id = ? AND lane <> ?"
    other = db.execute(found, (record_id, row.lane)).fetchone()
    if other is None:
        return ""
    lane, seq = other
    return (
        f"流水号 {record_id} 用了两次：{lane} 第 {seq} 条和 {row.lane} 的一条。两条都保留、都上传，"
        "中心会退回一条，请更正退回的那条"
    )


def _correction(db: sqlite3.Connection, row: Row, told: list[Any]) -> None:
    """The lists show what counts now; `record_id` stays the first record's, the root of all."""
    shift_id, plate, amount_fen = told
    _record(db, row, shift_id)
    db.execute(
        "UPDATE passage SET plate = ?, amount_fen = ? WHERE id = ?",
        (plate, amount_fen, row.passage_id),
    )


def _shift_opened(db: sqlite3.Connection, row: Row, told: dict[str, Any]) -> None:
    db.execute(
        "INSERT INTO shift (id, lane, operator, shift, opened_ms) VALUES (?,?,?,?,?)",
        (told["id"], row.lane, told["operator"], told["shift"], told["opened_ms"]),
    )


def _shift_closed(db: sqlite3.Connection, _: Row, told: dict[str, Any]) -> None:
    totals = json.dumps(told["totals"], ensure_ascii=False)
    db.execute(
        "UPDATE shift SET closed_ms = ?, totals = ? WHERE id = ?",
        (told["closed_ms"], totals, told["id"]),
    )


_SHIFT: dict[str, Callable[[sqlite3.Connection, Row, dict[str, Any]], None]] = {
    SHIFT_OPENED: _shift_opened,
    SHIFT_CLOSED: _shift_closed,
}

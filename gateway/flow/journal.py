"""The lane's memory: every event in order, with the state it led to, each row hashed onto the last.

Two kinds of rows: steps, whose event changed the passage, and notes (event names that begin
with a small letter), which only tell the auditor what was tried. Replay skips notes.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from gateway.errors import JournalMismatch, NotFound, StoreUnavailable, UnexpectedEvent
from gateway.flow import messages
from gateway.flow.messages import Event
from gateway.flow.passage import Passage, State, Step
from gateway.flow.rules import advance

GENESIS = bytes(32)
"""What the first row's hash stands on."""
COLUMNS = "seq, lane, passage_id, at_ms, mono_ms, boot_id, operator, event, state, body"


class Moment(NamedTuple):
    """When and by whom, as every row states it."""

    at_ms: int
    mono_ms: int
    boot_id: str
    operator: str


def append(
    db: sqlite3.Connection, lane: str, passage_id: str, event: Event, state: State, moment: Moment
) -> int:
    """Write the row of one step inside the caller's transaction; its seq.

    Commit it before performing the step's effects.
    """
    body = adapter(type(event)).dump_json(event).decode()
    return _insert(db, (lane, passage_id, *moment, type(event).__name__, state.value, body))


def note(
    db: sqlite3.Connection, lane: str, passage_id: str, name: str, body: dict[str, Any], m: Moment
) -> int:
    """Write down something that was tried and changed nothing, such as a wrong Hex."""
    assert name[0].islower(), "only steps begin with a capital"
    text = json.dumps(body, ensure_ascii=False)
    return _insert(db, (lane, passage_id, *m, name, "", text))


def replay(rows: Iterable[Any]) -> Step:
    """Rebuild one passage from its rows, oldest first.

    Returns: the last step; its effects are those whose answers were never journaled.
    Raises: JournalMismatch, if a recorded state disagrees with the table.
    """
    step = Step(Passage())
    for row in rows:
        if row["event"][0].islower():
            continue
        try:
            kind: type[Event] = getattr(messages, row["event"])
            step = advance(step.passage, adapter(kind).validate_json(row["body"]))
        except (AttributeError, ValidationError, UnexpectedEvent) as broken:
            raise JournalMismatch(f"流水第 {row['seq']} 条不能重放：{broken}") from broken
        if step.passage.state != row["state"]:
            raise JournalMismatch(
                f"流水第 {row['seq']} 条记的是 {row['state']}，重放得 {step.passage.state}"
            )
    return step


def row_hash(previous: bytes, row: Sequence[Any]) -> bytes:
    """SHA-256(previous hash ‖ the row's columns, in COLUMNS' order, as compact JSON)."""
    text = json.dumps(list(row), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(previous + text.encode()).digest()


class Damage(NamedTuple):
    """One place where a file does not agree with itself."""

    file: str
    row: int
    what: str


def verify(data: Path) -> list[Damage]:
    """Walk the whole hash chain, and every record's chain, of the store in folder `data`."""
    path = data / "lane.db"
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [*_check(db, path, _journal_damage), *_check(db, path, _record_damage)]
        finally:
            db.close()
    except sqlite3.Error as broken:
        return [Damage(str(path), 0, f"文件读不出：{broken}")]


def story(data: Path, passage_id: str) -> list[dict[str, Any]]:
    """All rows of one passage, oldest first. Raises: NotFound, StoreUnavailable."""
    path = data / "lane.db"
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        db.row_factory = sqlite3.Row
        query = f"SELECT {COLUMNS}, hash FROM journal WHERE passage_id = ? ORDER BY seq"  # noqa: S608
        rows = [dict(row) for row in db.execute(query, (passage_id,))]
        db.close()
    except sqlite3.Error as broken:
        raise StoreUnavailable(f"数据库读不出：{broken}") from broken
    if not rows:
        raise NotFound(f"没有这一笔：{passage_id}")
    return rows


def adapter(kind: type[Event]) -> TypeAdapter[Any]:
    """How one kind of event is written and read; built when first needed, a start stays quick."""
    if kind.__name__ not in _adapters:
        _adapters[kind.__name__] = TypeAdapter(kind)
    return _adapters[kind.__name__]


_adapters: dict[str, TypeAdapter[Any]] = {}


def _insert(db: sqlite3.Connection, values: tuple[Any, ...]) -> int:
    last = db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
    row = (seq, *values)
    db.execute(
        f"INSERT INTO journal ({COLUMNS}, hash) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
        (*row, row_hash(previous, row)),
    )
    return int(seq)


Check = Callable[[sqlite3.Connection], Iterable[tuple[int, str]]]


def _check(db: sqlite3.Connection, path: Path, check: Check) -> list[Damage]:
    return [Damage(str(path), row, what) for row, what in check(db)]


def _journal_damage(db: sqlite3.Connection) -> Iterable[tuple[int, str]]:
    previous, expected = GENESIS, 1
    for *row, stored in db.execute(f"SELECT {COLUMNS}, hash FROM journal ORDER BY seq"):  # noqa: S608
        if row[0] != expected:
            yield row[0], f"流水缺第 {expected} 条"
        if row_hash(previous, row) != stored:
            yield row[0], "流水的哈希链断了：本条或上一条被改过"
        previous, expected = stored, row[0] + 1


def _record_damage(db: sqlite3.Connection) -> Iterable[tuple[int, str]]:
    chains: dict[str, tuple[int, str]] = {}
    query = "SELECT lane, seq, line, chain FROM record ORDER BY lane, seq"
    for lane, seq, line, chain in db.execute(query):
        last_seq, last_chain = chains.get(lane, (0, ""))
        if seq != last_seq + 1:
            yield seq, f"车道 {lane} 的记录缺第 {last_seq + 1} 条"
        if record_chain(last_chain, line) != chain:
            yield seq, f"车道 {lane} 第 {seq} 条记录的哈希链断了"
        chains[lane] = (seq, chain)


def record_chain(previous: str, line: str) -> str:
    """SHA-256(previous chain ‖ the frozen line), upper-case hex; the first stands on nothing."""
    return hashlib.sha256(previous.encode() + line.encode()).hexdigest().upper()

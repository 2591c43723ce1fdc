"""The lane's memory: every event in order, with the state it led to, each row hashed onto the last.

Two kinds of rows: steps, whose event changed the passage, and notes (event names that begin
with a small letter), which only tell the auditor what was tried. Replay skips notes.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from gateway.errors import JournalMismatch, NotFound, StoreUnavailable, UnexpectedEvent
from gateway.flow import messages
from gateway.flow.messages import Event
from gateway.flow.passage import Passage, State, Step
from gateway.flow.rules import advance
from gateway.spool import verify as spool_verify
from gateway.spool.look import reading
from gateway.spool.tables import COLUMNS, head
from gateway.spool.verify import Damage
from gateway.store import SPOOL, Draft

DATABASE = "lane.db"


class Moment(NamedTuple):
    """When and by whom, as every row states it."""

    at_ms: int
    mono_ms: int
    boot_id: str
    operator: str


def append(
    draft: Draft,
    lane: str,
    passage_id: str,
    event: Event,
    state: State,
    moment: Moment,
    extra: dict[str, Any],
    line: str = "",
) -> int:
    """The row of one step, and what else it means for the tables; its seq.

    It must be on disk before the step's effects are performed.
    """
    body = adapter(type(event)).dump_json(event).decode()
    name = type(event).__name__
    return draft.add(lane, passage_id, moment, name, state.value, body, extra, line)


def note(
    draft: Draft,
    lane: str,
    passage_id: str,
    name: str,
    body: dict[str, Any],
    moment: Moment,
    extra: dict[str, Any] | None = None,
    line: str = "",
) -> int:
    """Write down what leaves the passage where it is, such as a wrong Hex, or a correction."""
    assert name[0].islower(), "only steps begin with a capital"
    text = json.dumps(body, ensure_ascii=False)
    return draft.add(lane, passage_id, moment, name, "", text, extra, line)


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


def verify(data: Path, processes: int = 1) -> list[Damage]:
    """Walk both copies in folder `data`, the log and the database, and compare them.

    `processes`: for the log; more than one only in a program without threads.
    """
    folder = data / SPOOL
    return [
        *spool_verify.log_damage(folder, processes),
        *spool_verify.table_damage(data / DATABASE, folder),
    ]


def story(data: Path, passage_id: str) -> list[dict[str, Any]]:
    """All rows of one passage, oldest first; also those that the tables do not have yet.

    Raises: NotFound, StoreUnavailable.
    """
    path = data / DATABASE
    try:
        with reading(path) as db:
            db.execute("BEGIN")  # one moment: what follows meanwhile is not told twice
            newest, _ = head(db)
            db.row_factory = sqlite3.Row
            query = f"SELECT {COLUMNS}, hash FROM journal WHERE passage_id = ? ORDER BY seq"  # noqa: S608
            rows = [dict(row) for row in db.execute(query, (passage_id,))]
        rows += _not_followed(data / SPOOL, newest, passage_id)
    except (sqlite3.Error, OSError) as broken:
        raise StoreUnavailable(f"数据库读不出：{broken}") from broken
    if not rows:
        raise NotFound(f"没有这一笔：{passage_id}")
    return rows


def _not_followed(folder: Path, newest: int, passage_id: str) -> Iterator[dict[str, Any]]:
    """What the log has of that passage behind the tables' newest row. Raises: OSError."""
    names = (*COLUMNS.split(", "), "hash")
    for walked in spool_verify.frames_of(folder, newest):
        row = walked.frame.row
        if row.passage_id == passage_id:
            yield dict(zip(names, (*row[: len(names) - 1], walked.frame.hash), strict=True))


def adapter(kind: type[Event]) -> TypeAdapter[Any]:
    """How one kind of event is written and read; built when first needed, a start stays quick."""
    if kind.__name__ not in _adapters:
        _adapters[kind.__name__] = TypeAdapter(kind)
    return _adapters[kind.__name__]


_adapters: dict[str, TypeAdapter[Any]] = {}

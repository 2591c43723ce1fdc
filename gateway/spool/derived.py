"""Do passages, records, commands and shifts say what the journal says? Reads only.

The journal proves itself by its chain; what follows from it is made once more and compared.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import Any

from gateway.spool import tables
from gateway.spool.progress import Step, unheard

COMPARED = {"passage": "id", "record": "lane, seq", "shift": "id"}
NAMES = {"passage": "过车", "record": "记录", "shift": "班次", "command": "命令"}
_DERIVED = frozenset({*COMPARED, "command"})


def wrong(db: sqlite3.Connection, step: Step = unheard) -> Iterator[str]:
    """Each row that is not what the journal makes of it, as a sentence.

    Raises: sqlite3.Error, ValueError, if the journal itself cannot be followed.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as again:
        _make(db, again)
        again.execute("BEGIN")
        for told in tables.rows(db):
            step()
            tables.derive(again, told.row)
        for table, key in COMPARED.items():
            query = f"SELECT * FROM {table} ORDER BY {key}"  # noqa: S608
            ours = _stepped(db.execute(query), step)
            yield from _compare(NAMES[table], ours, again.execute(query))
        yield from _commands(_stepped(db.execute("SELECT * FROM command"), step), again)


def _make(db: sqlite3.Connection, again: sqlite3.Connection) -> None:
    """The same tables, empty."""
    made = "SELECT type, sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL"
    for table in sorted(_DERIVED):
        for kind, sql in db.execute(made, (table,)):
            if kind in ("table", "index"):
                again.execute(sql)


def _stepped(rows: Iterable[Any], step: Step) -> Iterator[Any]:
    for row in rows:
        step()
        yield row


def _compare(name: str, ours: Any, theirs: Any) -> Iterator[str]:
    for row, expected in zip_longest(ours, theirs):
        if row != expected:
            here = row or expected
            yield f"{name} {' '.join(map(str, here[:2]))} 和流水不符"
            return


def _commands(ours: Iterable[Any], again: sqlite3.Connection) -> Iterator[str]:
    """Old ones are forgotten, and an answer that was kept later stands in no journal.

    Each is looked up: those of all times do not fit into the memory that the box has.
    """
    query = "SELECT * FROM command WHERE lane = ? AND key = ?"
    for row in ours:
        known = again.execute(query, row[:2]).fetchone()
        if known is None or row[:4] != known[:4] or not _is_answer(row, known):
            yield f"{NAMES['command']} {row[1]} 和流水不符"
            return


def _is_answer(row: Sequence[Any], known: Sequence[Any]) -> bool:
    status, answer = row[4:6]
    if status is None or known[4] is not None:
        return (status, answer) == tuple(known[4:6])
    return status == 200 and _is_whole(answer)


def _is_whole(answer: Any) -> bool:
    try:
        zlib.decompress(answer)
    except (zlib.error, TypeError):
        return False
    return True

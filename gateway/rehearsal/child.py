"""The child's part: tables and passages in, the difference out. Reads, and writes nothing."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.errors import JournalMismatch
from gateway.faretable.compiled import FareTable
from gateway.flow import journal
from gateway.flow.passage import Passage
from gateway.params import Package, Parameters, Ready
from gateway.rehearsal.compare import Difference
from gateway.spool.look import reading

LAST = """
SELECT id FROM passage WHERE ended = 'saved' ORDER BY opened_ms DESC LIMIT ?
"""
ROWS = "SELECT seq, event, state, body FROM journal WHERE passage_id = ? ORDER BY seq"


class Held(BaseModel):
    """One table, as JSON can carry it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: Package | None = None
    fares: Path | None = None

    @classmethod
    def of(cls, package: Package) -> "Held":
        if isinstance(package, Ready):
            return cls(fares=package.ready.path)
        return cls(package=package)

    def opened(self) -> Package:
        """Raises: ParameterInvalid."""
        if self.fares is None:
            assert self.package is not None
            return self.package
        table = FareTable.open(self.fares)
        about = table.about
        at = about.effective_from
        return Ready(name=about.name, version=about.version, effective_from=at, ready=table)


class Order(BaseModel):
    """What the child is told, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: Path
    passages_max: int
    in_force: tuple[Held, ...]
    coming: Held


def rehearse(order: Order) -> dict[str, Any]:
    """Raises: ParameterInvalid; OSError; sqlite3.Error."""
    held = {package.name: package for package in (one.opened() for one in order.in_force)}
    coming = order.coming.opened()
    now, then = Parameters.of(held), Parameters.of({**held, coming.name: coming})
    difference = Difference()
    for passage in _passages(order.database, order.passages_max):
        if passage is None:
            difference.unreadable += 1
        else:
            difference.add(passage, now, then)
    return difference.told()


def _passages(database: Path, count: int) -> Iterator[Passage | None]:
    """The last ones, newest first; each read is short, so that nobody waits for us."""
    with reading(database) as db:
        ids = [row[0] for row in db.execute(LAST, (count,))]
        db.row_factory = sqlite3.Row
        for passage_id in ids:
            with closing(db.execute(ROWS, (passage_id,))) as cursor:
                rows = cursor.fetchall()
            try:
                yield journal.replay(rows).passage
            except JournalMismatch:
                yield None

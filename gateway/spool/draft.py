"""What one work wants written down, before it is."""

import json
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.spool.frame import Row
from gateway.spool.tables import LaneHead

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Draft:
    """What one work wants to add to the log. Handed to it in the writer's thread."""

    def __init__(self, first_seq: int, lanes: dict[str, LaneHead], db: Callable[[], Any]) -> None:
        self.rows: list[Row] = []
        self.lanes = lanes
        self._first_seq, self._db = first_seq, db

    def add(
        self,
        lane: str,
        passage_id: str,
        moment: tuple[int, int, str, str],
        event: str,
        state: str = "",
        body: str = "{}",
        extra: dict[str, Any] | None = None,
        line: str = "",
    ) -> int:
        """One more row; its seq. `moment`: (at_ms, mono_ms, boot_id, operator); the others as
        in `Row`, `extra` as in spool/tables.py."""
        seq = self._first_seq + len(self.rows)
        told = json.dumps(extra, ensure_ascii=False, separators=(",", ":")) if extra else ""
        self.rows.append(Row(seq, lane, passage_id, *moment, event, state, body, told, line))
        return seq

    @property
    def db(self) -> sqlite3.Connection:
        """The tables, up to the last row before this work. Only for works that said they look.

        Raises: StoreUnavailable.
        """
        db: sqlite3.Connection = self._db()
        return db


Entry = Callable[[Draft], T]

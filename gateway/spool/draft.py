"""What one work wants written down, before it is."""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic_core import to_json

from gateway.spool.frame import DATA_MAX, Row, text_of
from gateway.spool.tables import LaneHead

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Draft:
    """What one work wants to add to the log. Handed to it in the writer's thread."""

    def __init__(self, first_seq: int, lanes: dict[str, LaneHead], db: Callable[[], Any]) -> None:
        self.rows: list[Row] = []
        self.texts: list[bytes] = []
        """Of each row, the bytes that are hashed."""
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
        in `Row`, `extra` as in spool/tables.py. Raises: ValueError, if it cannot be written."""
        seq = self._first_seq + len(self.rows)
        told = to_json(extra).decode() if extra else ""
        row = Row(seq, lane, passage_id, *moment, event, state, body, told, line)
        text = text_of(row)
        if len(text) > DATA_MAX:
            raise ValueError(f"a row of {len(text)} bytes")
        self.rows.append(row)
        self.texts.append(text)
        return seq

    @property
    def db(self) -> sqlite3.Connection:
        """The tables, up to the last row before this work. Only for works that said they look.

        Raises: StoreUnavailable.
        """
        db: sqlite3.Connection = self._db()
        return db


Entry = Callable[[Draft], T]

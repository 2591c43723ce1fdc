# ruff: noqa: PTH208
"""Pure functions of what was read, worked out once for equal bytes: a campaign sees the same file,
and the same tables, thousands of times. What is read, and what comes of it, stay the gateway's own.

A file of the log is named by its bytes. Tables are named by all their pages as SQLite itself reads
them on that disk (`content_of`): it has opened the file and its log and settled what a torn write
left before anything is taken from here.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from gateway.spool import copies, database, derived, frame, seals, segment, tables
from gateway.spool.frame import Frame
from gateway.spool.segment import Head

FILES, ROWS, TABLES = 4_096, 65_536, 8_192
Found = tuple[tuple[int, Frame], ...]


def remember() -> None:
    """For this process, from now on."""
    _frames.clear()
    segment.frames = _remembered
    segment.scan = _scanned
    segment.numbers = _numbers
    segment.path_of = lru_cache(FILES)(segment.path_of)
    tables.text_of = lru_cache(ROWS)(frame.text_of)
    tables.lane_heads = _of_tables(tables.lane_heads, dict)
    derived.wrong = _of_tables(derived.wrong, tuple)
    copies.trouble = _of_tables(database.trouble, str)
    seals.broken = _of_tables(seals.broken, tuple)
    seals._triggers = _kept(seals._triggers)
    seals.tables = _tables
    database._scripts = cache(database._scripts)
    Frame.row = property(lambda self: _row(self.text))  # type: ignore[assignment]


# ---- files of the log ------------------------------------------------------------------------

_walk = segment.frames
_frames: dict[tuple[bytes, Head], Found] = {}


def _remembered(
    raw: memoryview, head: Head, below: int | None = None
) -> Iterator[tuple[int, Frame]]:
    """As `segment.frames`."""
    key = hashlib.sha256(raw).digest(), head
    if key not in _frames:
        if len(_frames) >= FILES:
            _frames.clear()
        _frames[key] = tuple(_walk(raw, head))
    found = _frames[key]
    if below is None:
        yield from found
        return
    for at, one in found:
        if one.seq >= below:
            return
        yield at, one


_scan = segment.scan
_scans: dict[tuple[Any, ...], segment.Scan] = {}


def _scanned(raw: memoryview, head: Head, below: int | None = None, known: int = 0) -> segment.Scan:
    """As `segment.scan`."""
    key = hashlib.sha256(raw).digest(), head, below, known
    if key not in _scans:
        if len(_scans) >= ROWS:
            _scans.clear()
        _scans[key] = _scan(raw, head, below, known)
    return _scans[key]


def _numbers(folder: Path) -> list[int]:
    """As `segment.numbers`, without a path for each."""
    return sorted(number for name in os.listdir(folder) if (number := _number_of(name)))


@lru_cache(FILES)
def _number_of(name: str) -> int:
    found = segment.NAME.fullmatch(name)
    return int(found[1]) if found else 0


@lru_cache(ROWS)
def _row(text: bytes) -> frame.Row:
    return frame.Row(*json.loads(text))


# ---- tables ----------------------------------------------------------------------------------


class _Named(NamedTuple):
    db: sqlite3.Connection | None
    changes: int
    name: bytes


_newest = _Named(None, 0, b"")


def content_of(db: sqlite3.Connection) -> bytes:
    """Names all that this connection can read: equal names, equal answers to every query.

    Raises: sqlite3.Error, if the file is too damaged to be read at all.
    """
    global _newest
    newest = _newest
    if newest.db is not db or newest.changes != db.total_changes:
        name = hashlib.sha256(db.serialize()).digest()
        newest = _newest = _Named(db, db.total_changes, name)
    return newest.name


def _of_tables(work: Callable[..., Any], kind: Callable[[Any], Any]) -> Callable[..., Any]:
    """The same function of a connection that only reads; once for each content."""
    known: dict[bytes, Any] = {}

    def remembered(db: sqlite3.Connection, *_: Any) -> Any:
        try:
            name = content_of(db)
        except sqlite3.Error:
            return kind(work(db))
        if name not in known:
            if len(known) >= TABLES:
                known.clear()
            known[name] = kind(work(db))
        found = known[name]
        return iter(found) if kind is tuple else kind(found)

    return remembered


_all_tables = seals.tables
_schemas: dict[tuple[Any, ...], list[seals.Table]] = {}


def _tables(db: sqlite3.Connection) -> list[seals.Table]:
    """As `seals.tables`: what the schema says, once for each schema."""
    name = tuple(db.execute("SELECT name, sql FROM sqlite_master ORDER BY name"))
    if name not in _schemas:
        _schemas[name] = _all_tables(db)
    return _schemas[name]


def _kept(work: Callable[..., Any]) -> Callable[..., Any]:
    """Of an iterator's function."""
    return cache(lambda given: tuple(work(given)))

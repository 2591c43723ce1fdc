"""Pure functions of what was read, worked out once for equal bytes and rows: a campaign sees the
same file thousands of times. What is read, and what comes of it, stay the gateway's own."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from functools import cache, lru_cache

from gateway.spool import database, derived, frame, seals, segment, tables
from gateway.spool.frame import Frame
from gateway.spool.segment import Head

FILES, ROWS = 4_096, 65_536
Found = tuple[tuple[int, Frame], ...]


def remember() -> None:
    """For this process, from now on."""
    _frames.clear()
    segment.frames = _remembered
    tables.text_of = lru_cache(ROWS)(frame.text_of)
    derived.wrong = _proved
    database._scripts = cache(database._scripts)
    seals.tables = _tables
    Frame.row = property(lambda self: _row(self.text))  # type: ignore[assignment]


_walk = segment.frames
_frames: dict[tuple[bytes, Head], Found] = {}


def _remembered(
    raw: memoryview, head: Head, below: int | None = None
) -> Iterator[tuple[int, Frame]]:
    """As `segment.frames`."""
    key = hashlib.blake2b(raw, digest_size=16).digest(), head
    if key not in _frames:
        if len(_frames) >= FILES:
            _frames.clear()
        _frames[key] = tuple(_walk(raw, head))
    for at, found in _frames[key]:
        if below is not None and found.seq >= below:
            return
        yield at, found


_prove = derived.wrong
_proofs: dict[bytes, tuple[str, ...]] = {}
_READ = (
    "SELECT seq, hash FROM journal ORDER BY seq",
    "SELECT * FROM passage ORDER BY id",
    "SELECT * FROM record ORDER BY lane, seq",
    "SELECT * FROM shift ORDER BY id",
    "SELECT * FROM command ORDER BY lane, key",
)
"""All that the proof looks at; the journal's rows were proved by their hashes before."""


def _proved(db: sqlite3.Connection) -> Iterator[str]:
    """As `derived.wrong`."""
    seen = hashlib.blake2b(digest_size=16)
    for query in _READ:
        seen.update(repr(db.execute(query).fetchall()).encode())
    if seen.digest() not in _proofs:
        _proofs[seen.digest()] = tuple(_prove(db))
    yield from _proofs[seen.digest()]


_all_tables = seals.tables
_schemas: dict[bytes, list[seals.Table]] = {}


def _tables(db: sqlite3.Connection) -> list[seals.Table]:
    """As `seals.tables`: what the schema says, once for each schema."""
    said = repr(db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall())
    name = hashlib.blake2b(said.encode(), digest_size=16).digest()
    if name not in _schemas:
        _schemas[name] = _all_tables(db)
    return _schemas[name]


@lru_cache(ROWS)
def _row(text: bytes) -> frame.Row:
    return frame.Row(*json.loads(text))

"""When one of the two copies of money is damaged: set it aside, build it anew from the other.

Nothing is deleted: what is replaced goes to `quarantine/`, numbered, and stays there.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from gateway.spool import segment, tables
from gateway.spool.frame import GENESIS, Row, chained, pack, text_of
from gateway.spool.log import BLOCK, BLOCK_MIN, Spool
from gateway.spool.segment import HEAD_SIZE, Head

log = logging.getLogger(__name__)

QUARANTINE = "quarantine"
MONEY = frozenset({"journal", "passage", "record", "command", "shift"})
"""Tables that follow from the log; all others are salvaged row by row."""
ROWS_A_COMMIT = 2_000


class Repair(NamedTuple):
    """What was found and done. `aside`: where the damaged file is now, below the data folder."""

    what: str
    aside: str


def set_aside(data: Path, *files: Path) -> str:
    """Move files to the quarantine, together, under the next number; the name of the first."""
    folder = data / QUARANTINE
    folder.mkdir(exist_ok=True)
    number = 1 + max((int(p.name[:4]) for p in folder.glob("[0-9][0-9][0-9][0-9]-*")), default=0)
    moved = [folder / f"{number:04d}-{file.name}" for file in files]
    for file, target in zip(files, moved, strict=True):
        if file.exists():
            file.replace(target)
    for touched in {folder, data, *(file.parent for file in files)}:
        segment.sync_folder(touched)
    return str(moved[0].relative_to(data))


def newest_aside(data: Path, name: str) -> str:
    """The newest file of that name in the quarantine, below the data folder; empty if none."""
    found = sorted((data / QUARANTINE).glob(f"[0-9][0-9][0-9][0-9]-{name}"))
    return str(found[-1].relative_to(data)) if found else ""


# ---- the log from the database ---------------------------------------------------------------


def mend_log(spool: Spool, data: Path, db: sqlite3.Connection | None) -> list[Repair]:
    """Write each damaged file of the log anew, from its own good rows and the database's."""
    repairs = []
    for bad in spool.damaged:
        first, previous = _beginning(spool, bad.number)
        below = _following(spool, bad.number)
        known = {**_strays(bad.path), **_told(db, first, below)}
        rows = list(_chain(known, first, previous, below))
        end = rows[-1].seq if rows else first - 1
        half = bad.path.with_suffix(".mended")
        _write(half, Head(BLOCK, first, previous), rows)
        aside = set_aside(data, bad.path)
        half.rename(bad.path)
        segment.sync_folder(spool.folder)
        what = f"流水日志 {bad.path.name} 损坏（{bad.what}），已用数据库重建到第 {end} 条"
        if below is not None and end < below - 1:
            what += f"；第 {end + 1} 到 {below - 1} 条两份都没有"
        repairs.append(Repair(what, aside))
        log.error("log file rebuilt", extra={"file": bad.path.name, "rows": len(rows)})
    return repairs


def _beginning(spool: Spool, number: int) -> tuple[int, bytes]:
    """The first row of that file and the hash it stands on."""
    path = segment.path_of(spool.folder, number)
    with path.open("rb") as file:
        head = segment.read_head(file.read(HEAD_SIZE))
    if head:
        return head.first_seq, head.previous
    last = (0, GENESIS)
    for row, row_hash in spool.rows():
        last = max(last, (row.seq, row_hash)) if _number_of(spool, row.seq) < number else last
    return last[0] + 1, last[1]


def _number_of(spool: Spool, seq: int) -> int:
    return max((f.number for f in spool._files if f.head.first_seq <= seq), default=0)  # noqa: SLF001


def _following(spool: Spool, number: int) -> int | None:
    later = [f.head.first_seq for f in spool._files if f.number > number]  # noqa: SLF001
    return min(later, default=None)


def _strays(path: Path) -> dict[int, tuple[Row, bytes]]:
    raw = memoryview(path.read_bytes())
    found: dict[int, tuple[Row, bytes]] = {}
    for frame in segment.strays(raw, BLOCK_MIN):
        found.setdefault(frame.seq, (frame.row, frame.hash))
    return found


def _told(
    db: sqlite3.Connection | None, first: int, below: int | None
) -> dict[int, tuple[Row, bytes]]:
    found: dict[int, tuple[Row, bytes]] = {}
    if db is None:
        return found
    with suppress(sqlite3.Error):
        for told in tables.rows(db, first - 1):
            if below is not None and told.row.seq >= below:
                break
            found[told.row.seq] = (told.row, told.hash)
    return found


def _chain(
    known: dict[int, tuple[Row, bytes]], first: int, previous: bytes, below: int | None
) -> Iterator[Row]:
    """Of what is known, the unbroken run from `first`."""
    seq = first
    while seq in known and (below is None or seq < below):
        row, row_hash = known[seq]
        if chained(previous, text_of(row)) != row_hash:
            return
        yield row
        seq, previous = seq + 1, row_hash


def _write(path: Path, head: Head, rows: Iterable[Row]) -> None:
    from gateway.spool.log import SEGMENT_BYTES

    data, last = bytearray(segment.pack_head(head)), head.previous
    for row in rows:
        text = text_of(row)
        last = chained(last, text)
        # Each row was on disk when this was written.
        data += pack(row.seq, row.seq - 1, last, text, head.block)
    with path.open("wb") as file:
        file.write(bytes(data).ljust(SEGMENT_BYTES, b"\0"))
        file.flush()
        os.fsync(file.fileno())


# ---- the database from the log ---------------------------------------------------------------


def salvage(old: Path, db: sqlite3.Connection) -> int:
    """Copy what can still be read of the tables that do not follow from the log; rows copied."""
    copied = 0
    try:
        with closing(sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True)) as source:
            for table in _tables(db):
                with suppress(sqlite3.Error):
                    copied += _copy(source, db, table)
    except sqlite3.Error as broken:
        log.error("nothing could be salvaged", extra={"reason": str(broken)})
    return copied


def _tables(db: sqlite3.Connection) -> list[str]:
    names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [name for (name,) in names if name not in MONEY and not name.startswith("sqlite_")]


def _copy(source: sqlite3.Connection, db: sqlite3.Connection, table: str) -> int:
    copied = 0
    for values in source.execute(f"SELECT * FROM {table}"):  # noqa: S608
        marks = ",".join("?" * len(values))
        with suppress(sqlite3.Error):
            db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)  # noqa: S608
            copied += 1
    return copied

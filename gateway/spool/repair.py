"""When one of the two copies of money is damaged: set it aside, build it anew from the other.

Nothing is deleted: what is replaced goes to `quarantine/`, numbered, and stays there.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from gateway.durable import sync_folder, write_synced
from gateway.spool import seals, segment, tables
from gateway.spool.frame import GENESIS, Row, chained, pack, text_of
from gateway.spool.log import BLOCK_MIN, Damaged, Spool
from gateway.spool.progress import Step, unheard
from gateway.spool.segment import Head

log = logging.getLogger(__name__)

QUARANTINE = "quarantine"
ROWS_A_COMMIT = 2_000
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""The second when SQLite's own message quotes a text that is none any more."""


class Repair(NamedTuple):
    """What was found and done. `aside`: where the damaged file is now, below the data folder;
    empty if nothing had to be moved."""

    what: str
    aside: str


def set_aside(home: Path, *files: Path) -> str:
    """Move files to the quarantine in `home`, their own folder, together, under the next number;
    the first one's name below `home`."""
    folder = home / QUARANTINE
    folder.mkdir(exist_ok=True)
    number = 1 + max((int(p.name[:4]) for p in folder.glob("[0-9][0-9][0-9][0-9]-*")), default=0)
    moved = [folder / f"{number:04d}-{file.name}" for file in files]
    for file, target in zip(files, moved, strict=True):
        if file.exists():
            file.replace(target)
    sync_folder(folder)
    sync_folder(home)
    return str(moved[0].relative_to(home))


def keep_aside(home: Path, name: str, text: str) -> str:
    """Write into the quarantine what is taken out of a file that stays; its name below `home`."""
    half = home / name
    write_synced(half, text.encode())
    return set_aside(home, half)


def newest_aside(data: Path, name: str) -> str:
    """The newest file of that name in the quarantine, below the data folder; empty if none."""
    found = sorted((data / QUARANTINE).glob(f"[0-9][0-9][0-9][0-9]-{name}"))
    return str(found[-1].relative_to(data)) if found else ""


# ---- the log from the database ---------------------------------------------------------------


class _Place(NamedTuple):
    """Which rows a damaged file had: from `first`, standing on `previous`, to before `below`."""

    first: int
    previous: bytes
    below: int | None


Known = dict[int, tuple[Row, bytes]]


def mend_log(spool: Spool, db: sqlite3.Connection | None) -> list[Repair]:
    """Write each damaged file of the log anew, from its own good rows and the database's.

    A place that neither copy can fill stays as it is, and is told once. Raises: OSError.
    """
    repairs = []
    for bad in spool.damaged:
        mended = _mend(spool, bad, db)
        if mended:
            repairs.append(mended)
            log.error("log file mended", extra={"file": bad.path.name, "what": mended.what})
    return repairs


def _mend(spool: Spool, bad: Damaged, db: sqlite3.Connection | None) -> Repair | None:
    place = _place(spool, bad.number)
    known = {**_strays(bad.path), **_told(db, place)}
    rows = list(_chain(known, place))
    content = _content(Head(spool.block, place.first, place.previous), rows)
    if bad.path.exists() and bad.path.read_bytes() == content:
        return None
    aside = _replace(spool, bad, content)
    end = rows[-1].seq if rows else place.first - 1
    what = f"流水日志 {bad.path.name} 损坏（{bad.what}），已重建到第 {end} 条"
    last = max(known, default=end) if place.below is None else place.below - 1
    if end < last:
        what += f"；第 {end + 1} 到 {last} 条接不上，请保留隔离的文件"
    return Repair(what, aside)


def _place(spool: Spool, number: int) -> _Place:
    """By its own head; without one, the gap that the other files leave, or their end."""
    damaged = {bad.number for bad in spool.damaged}
    seq, last = 0, GENESIS
    for other, head, scan, below in spool.walk():
        if other == number:
            return _Place(head.first_seq, head.previous, below)
        if head.first_seq > seq + 1:
            return _Place(seq + 1, last, head.first_seq)
        seq, last = scan.seq, scan.hash
        if other in damaged and below is not None:  # it will be whole up to there
            seq, last = below - 1, _standing(spool, below)
    return _Place(seq + 1, last, None)


def _standing(spool: Spool, below: int) -> bytes:
    """The hash that the file beginning with that row stands on."""
    return next((h.previous for _, h, _, _ in spool.walk() if h.first_seq == below), GENESIS)


def _strays(path: Path) -> Known:
    found: Known = {}
    if path.exists():
        for frame in segment.strays(memoryview(path.read_bytes()), BLOCK_MIN):
            found.setdefault(frame.seq, (frame.row, frame.hash))
    return found


def _told(db: sqlite3.Connection | None, place: _Place) -> Known:
    found: Known = {}
    if db is None:
        return found
    with suppress(*UNREADABLE):
        for told in tables.rows(db, place.first - 1):
            if place.below is not None and told.row.seq >= place.below:
                break
            found[told.row.seq] = (told.row, told.hash)
    return found


def _chain(known: Known, place: _Place) -> Iterator[Row]:
    """Of what is known, the unbroken run from the first."""
    seq, previous = place.first, place.previous
    while seq in known and (place.below is None or seq < place.below):
        row, row_hash = known[seq]
        if chained(previous, text_of(row)) != row_hash:
            return
        yield row
        seq, previous = seq + 1, row_hash


def _content(head: Head, rows: Iterable[Row]) -> bytes:
    from gateway.spool.log import SEGMENT_BYTES

    data, last = bytearray(segment.pack_head(head)), head.previous
    for row in rows:
        text = text_of(row)
        last = chained(last, text)
        # Each row was on disk when this was written.
        data += pack(row.seq, row.seq - 1, last, text, head.block)
    return bytes(data).ljust(SEGMENT_BYTES, b"\0")


def _replace(spool: Spool, bad: Damaged, content: bytes) -> str:
    """Put a file with that content in its place; where the old one is now."""
    half = bad.path.with_suffix(".mended")
    write_synced(half, content)
    was_there = bad.path.exists()
    aside = set_aside(spool.folder, bad.path) if was_there else ""
    half.rename(bad.path)
    sync_folder(spool.folder)
    return str(Path(spool.folder.name) / aside) if aside else ""


# ---- the database from the log ---------------------------------------------------------------


def salvage(old: Path, db: sqlite3.Connection, step: Step = unheard) -> int:
    """Copy what can still be read of the tables that do not follow from the log; rows copied.

    Only rows that are what they were when they were written: a wrong mark is worse than none.
    Raises: sqlite3.Error, if `db` does not take them.
    """
    copied = 0
    db.execute("BEGIN")
    for count, (table, values) in enumerate(_salvaged(old, seals.tables(db)), 1):
        step()
        names, marks = ", ".join(table.names), ", ".join("?" * len(table.names))
        with suppress(sqlite3.IntegrityError):
            sql = f"INSERT OR IGNORE INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608
            copied += db.execute(sql, values).rowcount
        if count % ROWS_A_COMMIT == 0:
            db.execute("COMMIT")
            db.execute("BEGIN")
    db.execute("COMMIT")
    return copied


def _salvaged(
    old: Path, wanted: Iterable[seals.Table]
) -> Iterator[tuple[seals.Table, tuple[Any, ...]]]:
    try:
        with closing(sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True)) as source:
            for table in wanted:
                for values in _from_both_sides(source, table):
                    yield table, values
    except UNREADABLE as broken:
        log.error("nothing could be salvaged", extra={"reason": str(broken)})


def _from_both_sides(source: sqlite3.Connection, table: seals.Table) -> Iterator[tuple[Any, ...]]:
    """Past a page that cannot be read; some twice then."""
    for order in ("ASC", "DESC"):
        keys = ", ".join(f"{name} {order}" for name in table.keys)
        try:
            for values in source.execute(
                f"SELECT {', '.join(table.names)} FROM {table.name} ORDER BY {keys}"  # noqa: S608
            ):
                if _is_sealed(source, table, values):
                    yield values
        except UNREADABLE as broken:
            facts = {"table": table.name, "order": order, "reason": str(broken)}
            log.error("a table cannot be read to its end", extra=facts)
        else:
            return


def _is_sealed(source: sqlite3.Connection, table: seals.Table, values: tuple[Any, ...]) -> bool:
    """A seal that cannot be read proves nothing."""
    with suppress(*UNREADABLE):
        return seals.of(source, table.name, table.key_of(values)) == seals.checksum(*values)
    return False

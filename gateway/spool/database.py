"""The database file: how it is opened, what must hold of it, and which faults mean what."""

import sqlite3
import sys
from contextlib import closing, suppress
from functools import cache
from importlib import resources
from pathlib import Path

from gateway.durable import sync_folder
from gateway.errors import StoreUnavailable
from gateway.spool import derived, seals, tables
from gateway.spool.frame import GENESIS
from gateway.spool.progress import Step, unheard

BUSY_MS = 5_000
JOURNAL_SIZE_MAX = 16 * 1024 * 1024  # bytes the WAL may keep after a checkpoint

PRAGMAS = {
    # pragma: (value to set, value to read back)
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    "journal_size_limit": (str(JOURNAL_SIZE_MAX), JOURNAL_SIZE_MAX),
}


def connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        for name, (value, wanted) in PRAGMAS.items():
            db.execute(f"PRAGMA {name}={value}")
            got = db.execute(f"PRAGMA {name}").fetchone()[0]
            if got != wanted:
                raise StoreUnavailable(f"数据库设置 {name} 没有生效：{got}")
        seals.equip(db)
        _migrate(db)
        seals.install(db)
        sync_folder(path.parent)  # the file's own name must survive the first power cut
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, last: int = sys.maxsize) -> None:
    """Apply schema/NNNN_*.sql in order up to `last`, each in one transaction with its number."""
    have: int = db.execute("PRAGMA user_version").fetchone()[0]
    scripts = _scripts()
    if have > max(scripts):
        raise StoreUnavailable(f"数据库版本 {have} 比程序新，请不要降级程序")
    for number in sorted(n for n in scripts if have < n <= last):
        db.executescript(
            f"BEGIN IMMEDIATE; {scripts[number]}; PRAGMA user_version={number}; COMMIT;"
        )


def _scripts() -> dict[int, str]:
    return {
        int(file.name[:4]): file.read_text(encoding="utf-8")
        for file in resources.files("gateway").joinpath("schema").iterdir()
        if file.name.endswith(".sql")
    }


# ---- is it what was written? -----------------------------------------------------------------

_HEADER = ((0, b"SQLite format 3\0"), (20, b"\0\x40\x20\x20"))
"""Offset and what stands there in every file that SQLite makes for us (sqlite.org/fileformat2)."""


def first_look(path: Path) -> str:
    """What is wrong before it is used: what would make SQLite refuse it, or take it for another.

    Raises: sqlite3.Error.
    """
    if not _is_header_whole(path):
        return "文件头被改过"
    with closing(sqlite3.connect(path)) as db:
        (have,) = db.execute("PRAGMA user_version").fetchone()
        odd = _schema_of(db) ^ _our_schema(newest := max(_scripts()))
    wrong = [name for kind, name, *_ in odd if name != "seal" and "_seal_" not in name]
    if wrong:
        return "表结构被改过" if have == newest else ""
    is_older = have < newest and _our_schema(have) == _our_schema(newest)
    return "" if have == newest or is_older else f"版本号被改成 {have}"


def _is_header_whole(path: Path) -> bool:
    """Without a log of SQLite's own beside it, which would have the last word.

    That is -wal, or -journal while the file is being made: a power cut then leaves a torn first
    page, and SQLite takes it back.
    """
    own = [Path(f"{path}-{log}") for log in ("wal", "journal")]
    with path.open("rb") as file:
        raw = file.read(100)
    if not raw or any(log.exists() and log.stat().st_size for log in own):
        return True
    is_ours = all(raw[at : at + len(told)] == told for at, told in _HEADER)
    return len(raw) == 100 and is_ours and raw[18:20] in (b"\1\1", b"\2\2")


@cache
def _our_schema(version: int) -> frozenset[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        seals.equip(db)
        _migrate(db, version)
        seals.install(db)
        return _schema_of(db)


def _schema_of(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    rows = db.execute("SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_master")
    return frozenset(rows)


def trouble(db: sqlite3.Connection, step: Step = unheard) -> str:
    """What is wrong with the tables of money, and with the file; empty for nothing."""
    try:
        said = [text for (text,) in db.execute("PRAGMA integrity_check(3)") if text != "ok"]
        if said:
            return "；".join(said)
        for told in tables.rows(db):
            step()
            if not told.is_sound:
                return f"流水第 {told.row.seq} 条的哈希链断了"
        return next(derived.wrong(db, step), "")
    except (sqlite3.Error, ValueError) as broken:  # a text that is none any more
        return str(broken)


def hash_at(db: sqlite3.Connection, seq: int) -> bytes:
    if not seq:
        return GENESIS
    row = db.execute("SELECT hash FROM journal WHERE seq = ?", (seq,)).fetchone()
    return row[0] if row else b""


def is_disk_trouble(fault: BaseException) -> bool:
    """The disk's or the file's, not a broken constraint and not our own wrong SQL."""
    if not isinstance(fault, sqlite3.OperationalError | sqlite3.DatabaseError):
        return False
    if isinstance(fault, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return False
    return getattr(fault, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def is_damage(fault: BaseException) -> bool:
    """The file is not what SQLite once wrote."""
    if str(fault).startswith("Could not decode"):  # Python's own, of a text that is none any more
        return True
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_wrong(fault: BaseException) -> bool:
    """The tables are not what our own statements expect: damaged, or changed by somebody."""
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    kinds = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)
    return is_damage(fault) or code in kinds


def is_our_sql(fault: BaseException) -> bool:
    """A table or column is missing: the schema itself was damaged, or is nobody's."""
    return getattr(fault, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR


def is_marked_read_only(fault: BaseException, path: Path) -> bool:
    """SQLite will not write, and the disk would: the file's own header forbids it."""
    if getattr(fault, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY:
        return False
    with suppress(OSError), path.open("r+b"):
        return True
    return False

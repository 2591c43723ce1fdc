"""The database file: how it is opened, what must hold of it, and which faults mean what."""

import sqlite3
from importlib import resources
from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.spool import tables
from gateway.spool.frame import GENESIS
from gateway.spool.segment import sync_folder

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
        _migrate(db)
        sync_folder(path.parent)  # the file's own name must survive the first power cut
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    """Apply schema/NNNN_*.sql in order, each in its own transaction with its number."""
    have: int = db.execute("PRAGMA user_version").fetchone()[0]
    scripts = {
        int(file.name[:4]): file.read_text(encoding="utf-8")
        for file in resources.files("gateway").joinpath("schema").iterdir()
        if file.name.endswith(".sql")
    }
    if have > max(scripts):
        raise StoreUnavailable(f"数据库版本 {have} 比程序新，请不要降级程序")
    for number in sorted(n for n in scripts if n > have):
        db.executescript(
            f"BEGIN IMMEDIATE; {scripts[number]}; PRAGMA user_version={number}; COMMIT;"
        )


def trouble(db: sqlite3.Connection) -> str:
    """What is wrong with the tables of money, and with the file; empty for nothing."""
    try:
        said = [text for (text,) in db.execute("PRAGMA quick_check(3)") if text != "ok"]
        if said:
            return "；".join(said)
        for told in tables.rows(db):
            if not told.is_sound:
                return f"流水第 {told.row.seq} 条的哈希链断了"
    except sqlite3.Error as broken:
        return str(broken)
    return ""


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
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_our_sql(fault: BaseException) -> bool:
    """A table or column is missing: the schema itself was damaged, or is nobody's."""
    return getattr(fault, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR

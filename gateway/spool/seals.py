"""A checksum beside each row that does not follow from the log: a flipped bit is found out.

Triggers keep them, so that no writer needs to know. A row that is not what it was is taken out,
which errs to the safe side: a record is sent again, somebody signs in or is paired again, a
package is fetched again.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gateway.spool.progress import Step, unheard
from gateway.spool.tables import MONEY

TABLE = """
CREATE TABLE IF NOT EXISTS seal (
    of          TEXT NOT NULL,     -- table
    key         TEXT NOT NULL,     -- its primary key, parts joined by spaces
    sum         INTEGER NOT NULL,  -- CRC-32 of all its values
    PRIMARY KEY (of, key)
) STRICT, WITHOUT ROWID
"""
TRIGGER = """CREATE TRIGGER {name}_seal_{when} AFTER {when} ON {name} BEGIN
  DELETE FROM seal WHERE of = '{name}' AND key = {key};
  {put}
END"""
PUT = "INSERT INTO seal (of, key, sum) VALUES ('{name}', {key}, checksum({values}));"


class Table(NamedTuple):
    name: str
    names: tuple[str, ...]
    """Of its columns."""
    keys: tuple[str, ...]

    def key_of(self, values: Sequence[Any]) -> str:
        """As the seal names that row."""
        told = dict(zip(self.names, values, strict=True))
        return " ".join(str(told[name]) for name in self.keys)

    def key(self, row: str) -> str:
        """The same as SQL; `row` is new, old or an alias.

        As text, or SQLite compares numbers and walks every seal of the table for each row.
        """
        return " || ' ' || ".join(f"CAST({row}.{name} AS TEXT)" for name in self.keys)


class Broken(NamedTuple):
    """A row that is not what it was, or (without values) is not there any more."""

    table: str
    key: str
    values: tuple[Any, ...] = ()


def checksum(*values: Any) -> int:
    """CRC-32 over all values with their kinds: notices each flipped bit."""
    crc = 0
    for value in values:
        raw = value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
        head = f"{type(value).__name__}{len(raw)}:".encode()
        crc = zlib.crc32(raw, zlib.crc32(head, crc))
    return crc


def equip(db: sqlite3.Connection) -> None:
    """What the triggers call; every connection that writes needs it."""
    db.create_function("checksum", -1, checksum, deterministic=True)


def install(db: sqlite3.Connection) -> None:
    """Make what is missing; rows that were never sealed are sealed as they are now."""
    there = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    wanted = {name: (table, sql) for table in tables(db) for name, sql in _triggers(table)}
    if {name: sql for name, (_, sql) in wanted.items()} == there:
        return
    db.execute("BEGIN IMMEDIATE")
    db.execute(TABLE)
    for name in there:
        db.execute(f"DROP TRIGGER {name}")
    for table in {table for name, (table, sql) in wanted.items() if there.get(name) != sql}:
        db.execute("DELETE FROM seal WHERE of = ?", (table.name,))
        put = ", ".join(f"t.{name}" for name in table.names)
        db.execute(
            f"INSERT INTO seal SELECT '{table.name}', {table.key('t')}, checksum({put})"  # noqa: S608
            f" FROM {table.name} AS t"
        )
    for _, sql in wanted.values():
        db.execute(sql)
    db.execute("COMMIT")


def tables(db: sqlite3.Connection) -> list[Table]:
    """Those that have seals."""
    names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    soft = [n for (n,) in names if n not in MONEY | {"seal"} and not n.startswith("sqlite_")]
    return [_table(db, name) for name in soft]


def is_there(db: sqlite3.Connection) -> bool:
    """An older program made no seals."""
    found = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'seal'").fetchone()
    return bool(found[0])


def of(db: sqlite3.Connection, table: str, key: str) -> int | None:
    """The checksum that was kept of that row; None if none was. Raises: sqlite3.Error.

    One by one: those of a year do not fit into the memory that the box has.
    """
    found = db.execute("SELECT sum FROM seal WHERE of = ? AND key = ?", (table, key)).fetchone()
    return found[0] if found else None


def broken(db: sqlite3.Connection, step: Step = unheard) -> Iterator[Broken]:
    """Each row that its seal does not fit, each seal without a row. Raises: sqlite3.Error."""
    sealed = tables(db)
    for table in sealed:
        found = 0
        names = ", ".join(table.names)
        for values in db.execute(f"SELECT {names} FROM {table.name}"):  # noqa: S608
            step()
            key = table.key_of(values)
            kept = of(db, table.name, key)
            found += kept is not None
            if kept != checksum(*values):
                yield Broken(table.name, key, tuple(values))
        yield from _left(db, table, found)
    marks = ", ".join("?" * len(sealed))
    nobodys = f"SELECT of, key FROM seal WHERE of NOT IN ({marks})"  # noqa: S608
    for name, key in db.execute(nobodys, [table.name for table in sealed]):
        yield Broken(name, key)


def _left(db: sqlite3.Connection, table: Table, found: int) -> Iterator[Broken]:
    """The seals of rows that are gone; `found`: so many belong to rows that are there."""
    (count,) = db.execute("SELECT count(*) FROM seal WHERE of = ?", (table.name,)).fetchone()
    if count > found:
        there = f"SELECT {table.key('t')} FROM {table.name} AS t"  # noqa: S608
        gone = f"SELECT key FROM seal WHERE of = ? EXCEPT {there}"  # noqa: S608
        for (key,) in db.execute(gone, (table.name,)):
            yield Broken(table.name, key)


def take_out(db: sqlite3.Connection, found: Sequence[Broken], step: Step = unheard) -> None:
    """Remove those rows and seals, in one transaction."""
    by_name = {table.name: table for table in tables(db)}
    db.execute("BEGIN IMMEDIATE")
    for bad in found:
        step()
        if table := by_name.get(bad.table):
            where = f"{table.key('t')} = ?"
            db.execute(f"DELETE FROM {bad.table} AS t WHERE {where}", (bad.key,))  # noqa: S608
        db.execute("DELETE FROM seal WHERE of = ? AND key = ?", (bad.table, bad.key))
    db.execute("COMMIT")


def told(found: Sequence[Broken]) -> str:
    """What was taken out, as lines of JSON: for the quarantine."""
    lines = [[bad.table, bad.key, *map(_shown, bad.values)] for bad in found]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _table(db: sqlite3.Connection, name: str) -> Table:
    columns = db.execute(f"PRAGMA table_info({name})").fetchall()
    keys = sorted((column[5], column[1]) for column in columns if column[5])
    return Table(name, tuple(column[1] for column in columns), tuple(key for _, key in keys))


def _triggers(table: Table) -> Iterator[tuple[str, str]]:
    values = ", ".join(f"new.{name}" for name in table.names)
    put = PUT.format(name=table.name, key=table.key("new"), values=values)
    for when, row, then in (
        ("INSERT", "new", put),
        ("UPDATE", "old", put),
        ("DELETE", "old", ""),
    ):
        sql = TRIGGER.format(name=table.name, when=when, key=table.key(row), put=then)
        yield f"{table.name}_seal_{when}", sql

"""The compiled table: one SQLite file, never changed once it has its name. Blocks.

Each row carries a sum over its key and itself; what says of the whole table carries one too. A row
that is not what was written is an error of that one fare, never a wrong fare.
"""

import json
import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway.durable import sync_folder
from gateway.params import MinimumFare, ProvinceShare, TableDamaged, digest_of
from gateway.units import plausible

KEPT = 256
"""Rows that are remembered: a passage asks for the same one several times."""
SPOT = 16
MADE = """
CREATE TABLE fare (entry_hex TEXT, vehicle_type INTEGER, told BLOB NOT NULL, crc INTEGER NOT NULL,
                   PRIMARY KEY (entry_hex, vehicle_type)) WITHOUT ROWID;
CREATE TABLE about (told TEXT NOT NULL, crc INTEGER NOT NULL)
"""


class About(BaseModel):
    """What a compiled table says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str = Field(min_length=1, max_length=40)
    effective_from: Annotated[AwareDatetime, AfterValidator(plausible)]
    exit_hex: str
    rows: int = Field(ge=0)
    digest: str
    """See `params.digest_of`."""
    package_sha256: str = ""
    """Of the package it was made of."""


class FareTable:
    """Opened for look-ups; may be asked by any thread."""

    def __init__(self, path: Path, db: sqlite3.Connection, about: About) -> None:
        self.path, self.about, self.exit_hex = path, about, about.exit_hex
        self._db, self._lock = db, threading.Lock()
        weakref.finalize(self, db.close)
        self._kept: dict[tuple[str, int], MinimumFare | None] = {}
        self.on_damage: Callable[[str], None] = lambda _: None
        """Hears why, of each row that could not be had."""

    @classmethod
    def open(cls, path: Path) -> "FareTable":
        """Raises: TableDamaged."""
        try:
            db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            try:
                told, crc = db.execute("SELECT told, crc FROM about").fetchone()
                if zlib.crc32(told.encode()) != crc:
                    raise TableDamaged(f"费额表文件 {path.name} 的说明损坏")
                return cls(path, db, About.model_validate_json(told))
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, ValidationError, TypeError, AttributeError) as bad:
            raise TableDamaged(f"费额表文件 {path.name} 不能打开") from bad

    def close(self) -> None:
        self._db.close()

    def find(self, entry_hex: str, vehicle_type: int) -> MinimumFare | None:
        """Raises: TableDamaged."""
        key = (entry_hex, vehicle_type)
        with self._lock:
            if key in self._kept:
                return self._kept[key]
            try:
                row = self._db.execute(
                    "SELECT told, crc FROM fare WHERE entry_hex = ? AND vehicle_type = ?", key
                ).fetchone()
                fare = row and _unpack(entry_hex, vehicle_type, *row)
            except (sqlite3.Error, TableDamaged) as bad:
                told = f"费额表 {self.about.version} 损坏：{bad}"
                self.on_damage(told)
                raise TableDamaged(told) from bad
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = fare
            return fare

    def spot_check(self) -> None:
        """A few rows spread over the file, quick enough for a switch. Raises: TableDamaged."""
        sql = "SELECT entry_hex, vehicle_type, told, crc FROM fare WHERE entry_hex >= ? LIMIT 1"
        with self._lock:
            try:
                for place in range(SPOT):
                    for row in self._db.execute(sql, (f"{place:X}",)):
                        _unpack(*row)
            except sqlite3.Error as bad:
                raise TableDamaged(f"费额表 {self.about.version} 损坏：{bad}") from bad
        if self.about.rows == 0:
            raise TableDamaged(f"费额表 {self.about.version} 是空的")

    def check(self) -> None:
        """All of it. Raises: TableDamaged."""
        with closing(FareTable.open(self.path)) as own:
            rows, digest = digest_of(own.fares())
        if (rows, digest) != (self.about.rows, self.about.digest):
            raise TableDamaged(f"费额表 {self.about.version} 的内容与说明不符")

    def fares(self) -> Iterator[MinimumFare]:
        """All rows in the order of their keys. Raises: TableDamaged."""
        sql = "SELECT entry_hex, vehicle_type, told, crc FROM fare ORDER BY 1, 2"
        try:
            for row in self._db.execute(sql):
                yield _unpack(*row)
        except sqlite3.Error as bad:
            raise TableDamaged(f"费额表 {self.about.version} 损坏：{bad}") from bad


class Maker:
    """Writes one: rows in any order, `close` gives it its name. A context; leaving it otherwise
    removes the half."""

    def __init__(self, path: Path, start: Path | None = None) -> None:
        """`start`: a compiled table whose rows are there already."""
        self._path, self._half = path, path.with_name(f"{path.name}.new")
        self._half.unlink(missing_ok=True)
        if start is not None:
            with closing(FareTable.open(start)) as base:
                self._begin()
                self.put(base.fares())
        else:
            self._begin()

    def _begin(self) -> None:
        self._db = sqlite3.connect(self._half, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA cache_size = -8000")
        self._db.executescript(MADE)
        self._db.execute("BEGIN")

    def __enter__(self) -> "Maker":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._half.unlink(missing_ok=True)

    def put(self, fares: Iterable[MinimumFare]) -> None:
        """New rows and those that replace older ones."""
        for fare in fares:
            told, key = _pack(fare), (fare.entry_hex, fare.vehicle_type)
            crc = zlib.crc32(_key(*key) + told)
            self._db.execute("INSERT OR REPLACE INTO fare VALUES (?, ?, ?, ?)", (*key, told, crc))

    def count(self) -> int:
        count: int = self._db.execute("SELECT count(*) FROM fare").fetchone()[0]
        return count

    def remove(self, keys: Iterable[tuple[str, int]]) -> None:
        for key in keys:
            self._db.execute("DELETE FROM fare WHERE entry_hex = ? AND vehicle_type = ?", key)

    def close(self, facts: dict[str, Any]) -> About:
        """`facts`: of the table, without count and digest. Raises: OSError; ValidationError."""
        sql = "SELECT entry_hex, vehicle_type, told, crc FROM fare ORDER BY 1, 2"
        rows, digest = digest_of(_unpack(*row) for row in self._db.execute(sql))
        about = About(**facts, rows=rows, digest=digest)
        told = about.model_dump_json()
        self._db.execute("INSERT INTO about VALUES (?, ?)", (told, zlib.crc32(told.encode())))
        self._db.execute("COMMIT")
        self._db.close()
        with self._half.open("rb") as file:
            os.fsync(file.fileno())
        self._half.replace(self._path)
        sync_folder(self._path.parent)
        return about


def _key(entry_hex: str, vehicle_type: int) -> bytes:
    return f"{entry_hex}|{vehicle_type}|".encode()


def _pack(fare: MinimumFare) -> bytes:
    shares = [[s.province, s.fee, s.fee95, s.mileage_m] for s in fare.shares]
    told = [fare.fee, fare.fee95, fare.mileage_m, shares]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _unpack(entry_hex: str, vehicle_type: int, told: bytes, crc: int) -> MinimumFare:
    is_blob = isinstance(told, bytes)  # a damaged file may have anything in this place
    if not is_blob or zlib.crc32(_key(entry_hex, vehicle_type) + told) != crc:
        raise TableDamaged(f"{entry_hex} 车型 {vehicle_type} 的一行不是写入的内容")
    fee, fee95, mileage_m, shares = json.loads(told)
    # checked when it was compiled, and its sum is right
    return MinimumFare.model_construct(
        entry_hex=entry_hex,
        vehicle_type=vehicle_type,
        fee=fee,
        fee95=fee95,
        mileage_m=mileage_m,
        shares=tuple(
            ProvinceShare.model_construct(province=province, fee=own, fee95=own95, mileage_m=own_m)
            for province, own, own95, own_m in shares
        ),
    )

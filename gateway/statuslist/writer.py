"""Writes a list: entries in, in strict order, one file out, on disk when this returns. Blocks."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Self

from gateway.durable import sync_folder
from gateway.statuslist.form import (
    BLOCK_BYTES,
    ENTRIES_MAX,
    ENTRY_BYTES,
    KEY_BYTES,
    Head,
    entry,
    head_block,
    read_head,
    seal,
    tag_of,
    unsigned_head,
)

ROWS_BYTES = ENTRIES_MAX * ENTRY_BYTES
Sign = Callable[[bytes], bytes]


def unsigned(_: bytes) -> bytes:
    """For a list that this box made itself, of signed ones."""
    return b""


class Writer:
    """Use as a context; `close` ends it well, leaving the block otherwise removes the half."""

    def __init__(self, path: Path, version: str, base: str, effective_from: datetime) -> None:
        self._path, self._version, self._base = path, version, base
        self._effective_from = effective_from
        self._half = path.with_name(f"{path.name}.new")
        self._tag = tag_of(version, base)
        self._sha, self._first_keys = hashlib.sha256(), bytearray()
        self._rows, self._kind, self._blocks = bytearray(), 0, 0
        self._counts = {0: 0, 1: 0, 2: 0}

    def __enter__(self) -> Self:
        self._file = self._half.open("wb", buffering=1024 * 1024)
        self._file.write(bytes(BLOCK_BYTES))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._half.unlink(missing_ok=True)

    def add(self, kind: int, rows: bytes) -> None:
        """Any number of entries of 16 bytes; cards before OBUs, ascending, no number twice."""
        if kind != self._kind:
            self._flush()
            self._kind = kind
        self._rows += rows
        self._counts[kind] += len(rows) // ENTRY_BYTES
        whole = len(self._rows) - len(self._rows) % ROWS_BYTES
        for start in range(0, whole, ROWS_BYTES):
            self._block(bytes(self._rows[start : start + ROWS_BYTES]))
        del self._rows[:whole]

    def close(self, reasons: Mapping[int, str], sign: Sign = unsigned) -> Head:
        """Head last, then the name. Raises: OSError."""
        self._flush()
        self._sha.update(self._first_keys)
        self._file.write(self._first_keys)
        facts = {
            "version": self._version,
            "base": self._base,
            "effective_from": self._effective_from.isoformat(),
            "reasons": {str(one): text for one, text in reasons.items()},
            "cards": self._counts[1],
            "obus": self._counts[2],
            "blocks": self._blocks,
            "first_keys_crc32": zlib.crc32(self._first_keys),
            "sha256": self._sha.hexdigest(),
        }
        signed = unsigned_head(facts)
        block = head_block(signed, sign(signed))
        self._file.seek(0)
        self._file.write(block)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._half.replace(self._path)
        sync_folder(self._path.parent)
        return read_head(block)

    def _flush(self) -> None:
        if self._rows:
            self._block(bytes(self._rows))
            self._rows.clear()

    def _block(self, rows: bytes) -> None:
        block = seal(self._blocks, self._kind, self._tag, rows)
        self._first_keys += bytes([self._kind]) + rows[:KEY_BYTES]
        self._sha.update(block)
        self._file.write(block)
        self._blocks += 1


Row = tuple[str, tuple[int, ...], int]
"""Number, types (none = off the list), seconds since 1970."""


def write_list(
    path: Path,
    rows: Iterable[Row],
    version: str,
    effective_from: datetime,
    reasons: Mapping[int, str],
    sign: Sign = unsigned,
    *,
    base: str = "",
) -> Head:
    """A whole list of rows in any order; all of them in memory at once, so not for millions.

    Raises: ValueError, if a number is there twice or is none.
    """
    entries = sorted(entry(*row) for row in rows)
    keys = {(kind, one[:KEY_BYTES]) for kind, one in entries}
    if len(keys) != len(entries):
        raise ValueError("a number is there twice")
    with Writer(path, version, base, effective_from) as out:
        walk = iter(entries)
        while some := list(islice(walk, ENTRIES_MAX)):
            for kind in sorted({one[0] for one in some}):
                out.add(kind, b"".join(one[1] for one in some if one[0] == kind))
        return out.close(reasons, sign)

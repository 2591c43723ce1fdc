"""Rows to fill a log with, and a log filled with them."""

from pathlib import Path

from gateway.spool.frame import GENESIS, Row, chained, text_of
from gateway.spool.log import Spool


def row(seq: int, size: int = 20, lane: str = "X03") -> Row:
    """A note of `size` bytes that do not deflate well."""
    filling = "".join(chr(33 + (seq * 7919 + n * n * 31) % 90) for n in range(size))
    body = '{"n": "' + filling.replace('"', "'").replace("\\", "/") + '"}'
    return Row(seq, lane, "", 1_700_000_000_000 + seq, seq, "boot", "1001", "probe", "", body)


def filled(folder: Path, count: int, size: int = 20) -> list[bytes]:
    """A log of that many rows, one write each; their hashes."""
    spool = Spool.open(folder)
    try:
        return [spool.append([row(seq, size)])[0] for seq in range(1, count + 1)]
    finally:
        spool.close()


def hashes(count: int, size: int = 20) -> list[bytes]:
    """What the rows' hashes must be."""
    found, last = [], GENESIS
    for seq in range(1, count + 1):
        last = chained(last, text_of(row(seq, size)))
        found.append(last)
    return found

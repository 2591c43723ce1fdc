"""One row of the journal as bytes on disk. Pure.

A frame: 64 bytes of head, the data, zeros up to the next block. Little-endian. The data are the
row as compact JSON, a long one deflated where that saves a block. The hash chains the rows:
SHA-256(hash of the row before ‖ the row as JSON), so it does not depend on how the data were
packed.
"""

import hashlib
import json
import struct
import zlib
from typing import NamedTuple

from pydantic_core import to_json

GENESIS = bytes(32)
"""What the first row's hash stands on."""
MAGIC = b"LGF1"
HEAD = struct.Struct("<4sIIHHQQ32s")
"""Magic, CRC-32 of all that follows up to the data's end, size of the data, packing, lag, seq,
durable, hash."""
_CHECKED_FROM = 8
PLAIN, DEFLATED = 0, 1
DATA_MAX = 1 << 20
SHORT = 960  # bytes of a text that is not worth a processor's time, here and at each verification
LAG_MAX = 0xFFFF
"""The tables are that far behind this row, or farther, or nobody knows."""
MAGIC_KEY = struct.unpack("<I", MAGIC)[0]


class Row(NamedTuple):
    """A line of the journal. `state` is empty for a note, which changed nothing.

    `extra`: JSON, what else this row means for the tables (tables.py); empty for nothing.
    `line`: the record that came of it, as it is sent; empty for none.
    """

    seq: int
    lane: str
    passage_id: str
    at_ms: int
    mono_ms: int
    boot_id: str
    operator: str
    event: str
    state: str
    body: str
    extra: str = ""
    line: str = ""


class Frame(NamedTuple):
    """What was read at one place."""

    seq: int
    durable: int
    """The newest row that was on disk for certain when this one was written."""
    followed: int
    """The newest row that the tables had on disk for certain by then; 0 if nobody knows."""
    hash: bytes
    text: bytes
    """The row as JSON."""
    size: int
    """On disk, filling included."""

    @property
    def row(self) -> Row:
        return Row(*json.loads(self.text))


def text_of(row: Row) -> bytes:
    """The bytes that are hashed: JSON without blanks, UTF-8, escaped only where it must be."""
    return to_json(row)


def chained(previous: bytes, text: bytes) -> bytes:
    return hashlib.sha256(previous + text).digest()


def pack(
    seq: int, durable: int, row_hash: bytes, text: bytes, block: int, followed: int = 0
) -> bytes:
    """The frame of one row, a multiple of `block` long."""
    assert len(text) <= DATA_MAX, "nobody could read it again"
    data, packing = text, PLAIN
    if len(text) > SHORT and _blocks(len(text), block) > 1:
        deflated = zlib.compress(text, 6)
        if _blocks(len(deflated), block) < _blocks(len(text), block):
            data, packing = deflated, DEFLATED
    lag = min(seq - followed, LAG_MAX)
    head = HEAD.pack(MAGIC, 0, len(data), packing, lag, seq, durable, row_hash)
    crc = zlib.crc32(data, zlib.crc32(head[_CHECKED_FROM:]))
    head = head[:4] + crc.to_bytes(4, "little") + head[_CHECKED_FROM:]
    return (head + data).ljust(_blocks(len(data), block) * block, b"\0")


def unpack(raw: memoryview, at: int, block: int) -> Frame | None:
    """The frame that begins there, if one does and all its bytes are as they were written."""
    if at + HEAD.size > len(raw):
        return None
    magic, crc, length, packing, lag, seq, durable, row_hash = HEAD.unpack_from(raw, at)
    size = _blocks(length, block) * block
    if magic != MAGIC or packing > DEFLATED or length > DATA_MAX or at + size > len(raw):
        return None
    whole, end = bytes(raw[at : at + size]), HEAD.size + length
    if zlib.crc32(whole[_CHECKED_FROM:end]) != crc or whole[end:].strip(b"\0"):
        return None
    data = whole[HEAD.size : end]
    try:
        text = zlib.decompress(data) if packing else data
    except zlib.error:
        return None
    followed = seq - lag if lag < LAG_MAX else 0
    return Frame(seq, durable, followed, row_hash, text, size)


def _blocks(length: int, block: int) -> int:
    return -(-(HEAD.size + length) // block)

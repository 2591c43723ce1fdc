"""One file of the log: made of zeros beforehand, given a head when it is put to use, then filled.

Written past the page cache where the file system allows it: a commit is one write of whole
blocks, and no block that holds an older row is ever written again.
"""

import errno
import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from gateway.durable import sync_folder
from gateway.spool.frame import Frame, chained, unpack

HEAD_SIZE = 4096
MAGIC = b"LGSEG1\0\0"
HEAD = struct.Struct("<8sIIQ32s")
"""Magic, CRC-32 of the rest, block size, seq of the first row, hash of the row before it."""
NAME = re.compile(r"(\d{6})\.seg")
_FILL = 1 << 20
_BUFFER = 1 << 20


class Head(NamedTuple):
    block: int
    first_seq: int
    previous: bytes


class Scan(NamedTuple):
    """What a walk through a file found. `end`: where the first thing that is no frame begins."""

    seq: int
    """The last good row; first_seq - 1 if there is none."""
    hash: bytes
    end: int
    verdict: str
    """whole | torn: a write that was never answered for | damaged: rows that were are gone."""
    followed: int = 0
    """As the newest frame says: what the tables had on disk by then."""


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.seg"


def numbers(folder: Path) -> list[int]:
    found = (NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in found if name)


def pack_head(head: Head) -> bytes:
    rest = HEAD.pack(MAGIC, 0, *head)[12:]
    whole = MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest
    return whole.ljust(HEAD_SIZE, b"\0")


def read_head(raw: bytes | memoryview) -> Head | None:
    """None for a file that is spare or whose head is no head."""
    if len(raw) < HEAD_SIZE:
        return None
    magic, crc, block, first_seq, previous = HEAD.unpack_from(raw)
    is_whole = magic == MAGIC and crc == zlib.crc32(raw[12 : HEAD.size])
    if not is_whole or any(raw[HEAD.size : HEAD_SIZE]):
        return None
    return Head(block, first_seq, previous)


def is_blank(raw: bytes | memoryview) -> bool:
    """Nothing was ever written here."""
    return bytes(raw) == bytes(len(raw))


def frames(raw: memoryview, head: Head, below: int | None = None) -> Iterator[tuple[int, Frame]]:
    """(offset, frame) of the unbroken chain from the file's beginning. `below`: end before it."""
    at, seq, previous = HEAD_SIZE, head.first_seq, head.previous
    while below is None or seq < below:
        frame = unpack(raw, at, head.block)
        if frame is None or frame.seq != seq or chained(previous, frame.text) != frame.hash:
            return
        yield at, frame
        at, seq, previous = at + frame.size, seq + 1, frame.hash


def scan(raw: memoryview, head: Head, below: int | None = None, known: int = 0) -> Scan:
    """Walk the file; tell what was cut off by a power cut from what was lost since.

    `below`: the next file's first row, which proves that all before it were on disk. `known`: a
    row that others have from here, which proves as much.
    """
    seq, last, end, followed = head.first_seq - 1, head.previous, HEAD_SIZE, 0
    for at, frame in frames(raw, head, below):
        seq, last, end, followed = frame.seq, frame.hash, at + frame.size, frame.followed
    if below is not None:
        return Scan(seq, last, end, "whole" if seq == below - 1 else "damaged", followed)
    return Scan(seq, last, end, _verdict(raw, head.block, end, seq, known), followed)


def strays(raw: memoryview, block: int, start: int = HEAD_SIZE) -> Iterator[Frame]:
    """Every frame from `start` on that is whole in itself, whatever stands between them."""
    at = start
    while at < len(raw):
        frame = unpack(raw, at, block)
        if frame is not None:
            yield frame
        at += frame.size if frame else block


def _verdict(raw: memoryview, block: int, end: int, seq: int, known: int) -> str:
    if is_blank(raw[end:]):
        return "whole"
    if known > seq or any(frame.durable > seq for frame in strays(raw, block, end)):
        return "damaged"
    return "torn"


class Writing:
    """A file that is being filled."""

    def __init__(self, path: Path) -> None:
        self._buffer = mmap.mmap(-1, _BUFFER)  # page-aligned, as writing past the cache demands
        self._path, self._fd = path, _open(path)
        self.size = os.fstat(self._fd).st_size

    def put(self, data: bytes, at: int) -> None:
        """Write whole blocks; they are on disk when this returns. Raises: OSError."""
        for start in range(0, len(data), _BUFFER):
            piece = data[start : start + _BUFFER]
            self._buffer[: len(piece)] = piece
            done = self._write(memoryview(self._buffer)[: len(piece)], at + start)
            if done != len(piece):
                raise OSError(errno.ENOSPC, f"only {done} of {len(piece)} bytes were taken")

    def _write(self, piece: memoryview, at: int) -> int:
        try:
            return os.pwrite(self._fd, piece, at)
        except OSError as no:
            if no.errno != errno.EINVAL:
                raise
        # Larger sectors than our blocks, or a file of an odd length: not past the cache then.
        plain = os.open(self._path, _SYNCED)
        os.close(self._fd)
        self._fd = plain
        return os.pwrite(self._fd, piece, at)

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_SYNCED = os.O_RDWR | os.O_DSYNC


def _open(path: Path) -> int:
    """Each write waits for the disk. Past the cache if the file system can (tmpfs cannot)."""
    try:
        return os.open(path, _SYNCED | os.O_DIRECT)
    except OSError as no:
        if no.errno != errno.EINVAL:
            raise
        return os.open(path, _SYNCED)


def create(folder: Path, number: int, size: int) -> None:
    """Make a spare file: real blocks of zeros, its name durable. Raises: OSError."""
    half = folder / f"{number:06d}.new"
    try:
        _blank(half, size)
    except OSError:
        half.unlink(missing_ok=True)  # a full disk needs its space back
        raise
    half.rename(path_of(folder, number))
    sync_folder(folder)


def _blank(path: Path, size: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        for start in range(0, size, _FILL):
            piece = bytes(min(_FILL, size - start))
            if os.write(fd, piece) != len(piece):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)

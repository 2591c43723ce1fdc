"""Looks up in one list file, and checks a whole one. Blocks; each block read is proved first.

Read with pread, not mapped: a sector that cannot be read is an OSError of one look-up here, and
would be a SIGBUS of the whole program there.
"""

import hashlib
import os
import weakref
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import lt
from pathlib import Path
from struct import Struct
from sys import byteorder

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.params import ListDamaged
from gateway.statuslist.form import (
    BLOCK_BYTES,
    CARD,
    ENTRIES_MAX,
    ENTRY_BYTES,
    FIRST_BYTES,
    KEY_BYTES,
    OBU,
    STATE,
    Head,
    read_head,
    unseal,
)

CHUNK_BLOCKS = 256
_KEYS = Struct("10s6x")
RESIDENT_MAX = 500_000
"""Entries of a delta whose first digits stay in memory, 8 bytes each."""
_SHORT = {CARD: Struct(">xQ2x"), OBU: Struct(">3xQ")}
"""A first key's part that fits a machine word: of a card 16 of 20 digits, of an OBU all 16."""


class ListFile:
    """Opened: the head and each block's first key are read and proved, the rest is not."""

    def __init__(self, path: Path, fd: int, head: Head, first_keys: bytes) -> None:
        self.path, self.head = path, head
        self._fd, self._first_keys, self._tag = fd, first_keys, head.tag
        self._cards = first_keys[::FIRST_BYTES].count(CARD)  # blocks of cards come first
        split = self._cards * FIRST_BYTES
        parts = {CARD: first_keys[:split], OBU: first_keys[split:]}
        self._short = {
            kind: array("Q", (word for (word,) in _SHORT[kind].iter_unpack(part)))
            for kind, part in parts.items()
        }
        is_small = head.base and head.cards + head.obus <= RESIDENT_MAX
        self._words = self._begun() if is_small else None
        """Of a small delta, how its numbers begin: nearly every look-up is of none of them, and
        then no block is read."""
        self.close = weakref.finalize(self, os.close, fd)
        """Or when nobody looks at it any more: a file may be replaced during a look-up."""

    @classmethod
    def open(cls, path: Path, key: Ed25519PublicKey | None = None) -> "ListFile":
        """Raises: OSError; ListDamaged."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = read_head(os.pread(fd, BLOCK_BYTES, 0), key)
            if (size := os.fstat(fd).st_size) != head.size:
                raise ListDamaged(f"状态名单长度不符：应为 {head.size} 字节，实为 {size} 字节")
            first_keys = _read(fd, BLOCK_BYTES * (1 + head.blocks), FIRST_BYTES * head.blocks)
            if zlib.crc32(first_keys) != head.first_keys_crc32:
                raise ListDamaged("状态名单的索引损坏")
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, head, first_keys)

    def find(self, kind: int, key: bytes) -> bytes | None:
        """The state of this number, 6 bytes; None: not in this list. Raises: OSError; ListDamaged,
        if it may be in it and cannot be read."""
        if self._words is not None and not _has(self._words[kind], key):
            return None
        number = self._block_of(kind, key)
        if number is None:
            return None
        own_kind, rows = self.block(number)
        if own_kind != kind:
            raise ListDamaged("状态名单的索引与内容不符")
        low, high = 0, len(rows) // ENTRY_BYTES
        while low < high:
            middle = (low + high) >> 1
            at = middle * ENTRY_BYTES
            if rows[at : at + KEY_BYTES] < key:
                low = middle + 1
            else:
                high = middle
        at = low * ENTRY_BYTES
        return rows[at + KEY_BYTES : at + ENTRY_BYTES] if rows.startswith(key, at) else None

    def block(self, number: int) -> tuple[int, bytes]:
        """Kind and entries of one block. Raises: OSError; ListDamaged."""
        raw = os.pread(self._fd, BLOCK_BYTES, BLOCK_BYTES * (1 + number))
        return unseal(raw, number, self._tag)

    def rows(self, kind: int) -> Iterator[bytes]:
        """All entries of a kind, in order. Raises as `block`."""
        for number in range(self.head.blocks):
            if self._first_keys[number * FIRST_BYTES] == kind:
                _, rows = self.block(number)
                for at in range(0, len(rows), ENTRY_BYTES):
                    yield rows[at : at + ENTRY_BYTES]

    def scrub(self, first: int, count: int) -> None:
        """Prove these blocks from the disk itself. Raises as `block`."""
        last = min(first + count, self.head.blocks)
        start, length = BLOCK_BYTES * (1 + first), BLOCK_BYTES * (last - first)
        os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)
        for number in range(first, last):
            self.block(number)
        os.posix_fadvise(self._fd, start, length, os.POSIX_FADV_DONTNEED)

    def drop_pages(self) -> None:
        """Forget what the system keeps of it in memory; the next look-up is a cold one."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def check(self) -> None:
        """Everything that can be wrong with a list, in one pass. Raises: OSError; ListDamaged."""
        head, sha, order = self.head, hashlib.sha256(), _Order()
        for first in range(0, head.blocks, CHUNK_BLOCKS):
            count = min(CHUNK_BLOCKS, head.blocks - first)
            raw = _read(self._fd, BLOCK_BYTES * (1 + first), BLOCK_BYTES * count)
            sha.update(raw)
            for at in range(count):
                block = raw[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
                kind, rows = unseal(block, first + at, self._tag)
                order.follow(kind, rows, self._first_of(first + at))
                if not head.base and _has_leaver(rows):
                    raise ListDamaged("全量名单里有已移出的号码")
        sha.update(self._first_keys)
        if sha.hexdigest() != head.sha256:
            raise ListDamaged("状态名单校验和不符")
        if (order.counts[CARD], order.counts[OBU]) != (head.cards, head.obus):
            raise ListDamaged("状态名单条数与文件头不符")

    def _begun(self) -> dict[int, "array[int]"] | None:
        """The first 8 bytes of each key, proved; None, if a block cannot be."""
        words = {CARD: array("Q"), OBU: array("Q")}
        try:
            for number in range(self.head.blocks):
                kind, rows = self.block(number)
                halves = array("Q", rows)
                if byteorder == "little":
                    halves.byteswap()
                words[kind].extend(halves[::2])
        except (OSError, ListDamaged, KeyError):
            return None  # each look-up will find it out for its own block
        return words

    def _block_of(self, kind: int, key: bytes) -> int | None:
        """The one block that can have it; None: it comes before the first."""
        short, offset = self._short[kind], self._cards if kind == OBU else 0
        word = int.from_bytes(key[:8] if kind == CARD else key[2:], "big")
        found = bisect_right(short, word)
        if found and short[found - 1] == word:  # several blocks may begin alike: all digits then
            low, first = bisect_left(short, word, 0, found), bytes([kind]) + key
            numbers = range(offset + low, offset + found)
            found = low + bisect_right(numbers, first, key=self._first_of)
        return offset + found - 1 if found else None

    def _first_of(self, number: int) -> bytes:
        return self._first_keys[number * FIRST_BYTES : (number + 1) * FIRST_BYTES]


def _has(words: "array[int]", key: bytes) -> bool:
    word = int.from_bytes(key[:8], "big")
    at = bisect_left(words, word)
    return at < len(words) and words[at] == word


class _Order:
    """Blocks follow each other as a look-up takes for granted."""

    def __init__(self) -> None:
        self._last, self._is_short = b"", False
        self.counts = {CARD: 0, OBU: 0}

    def follow(self, kind: int, rows: bytes, first: bytes) -> None:
        keys = [key for (key,) in _KEYS.iter_unpack(rows)]
        is_odd = kind == OBU and keys and not keys[-1].startswith(b"\0\0")
        if kind not in self.counts or is_odd or not keys or bytes([kind]) + keys[0] != first:
            raise ListDamaged("状态名单的索引与内容不符")
        if self._is_short and kind == self._last[0]:
            raise ListDamaged("状态名单的块没有写满")
        if first <= self._last or not all(map(lt, keys, keys[1:])):
            raise ListDamaged("状态名单的号码没有排好序")
        self._last, self._is_short = bytes([kind]) + keys[-1], len(keys) < ENTRIES_MAX
        self.counts[kind] += len(keys)


def _has_leaver(rows: bytes) -> bool:
    if 0 not in rows[KEY_BYTES + 1 :: ENTRY_BYTES]:
        return False  # quick, and true of nearly all
    starts = range(KEY_BYTES, len(rows), ENTRY_BYTES)
    return any(not STATE.unpack_from(rows, at)[0] for at in starts)


def _read(fd: int, at: int, length: int) -> bytes:
    """Raises: OSError; ListDamaged, if the file is shorter."""
    parts: list[bytes] = []
    while length:
        part = os.pread(fd, length, at)
        if not part:
            raise ListDamaged("状态名单文件不完整")
        parts.append(part)
        at, length = at + len(part), length - len(part)
    return b"".join(parts)

"""Evidence at the centre: files by sha256, taken in pieces, whole or not at all (§7.8)."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from gateway.durable import sync_folder

SIZE_MAX = 8 * 1024 * 1024
_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `first`…`last` of a file of `size` bytes."""

    first: int
    last: int
    size: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a piece, and how much of the file is there now."""

    outcome: Literal["complete", "more", "wrong_offset", "hash_differs"]
    offset: int


def read_range(content_range: str | None, length: int | None) -> Piece:
    """A Content-Range header, or the whole body. Raises: ValueError."""
    if content_range is None:
        if not length:
            raise ValueError("没有说明内容长度")
        piece = Piece(0, length - 1, length)
    elif found := _RANGE.match(content_range):
        piece = Piece(*map(int, found.groups()))
    else:
        raise ValueError("Content-Range 写得不对")
    if not (piece.first <= piece.last < piece.size <= SIZE_MAX):
        raise ValueError("Content-Range 超出范围")
    return piece


class Photos:
    """One folder. A broken upload leaves its first part, and `offset` tells how much."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = WeakValueDictionary[str, asyncio.Lock]()
        """Of the photos that somebody is sending now."""
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.jpg"

    def _part(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.part"

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def offset(self, sha256: str) -> int:
        """How many bytes of an unfinished upload are here."""
        part = self._part(sha256)
        return part.stat().st_size if part.exists() else 0

    def drop_part(self, sha256: str) -> None:
        """Forget an unfinished upload: the whole file has come another way."""
        self._part(sha256).unlink(missing_ok=True)

    async def take(self, sha256: str, piece: Piece, body: AsyncIterator[bytes]) -> Taken:
        """Append a piece as it arrives; when the last byte is here, check and keep."""
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            if self.has(sha256):
                return Taken("complete", piece.size)
            if (offset := self.offset(sha256)) != piece.first:
                return Taken("wrong_offset", offset)
            await self._append(sha256, piece, body)
            if (offset := self.offset(sha256)) < piece.size:
                return Taken("more", offset)
            # Beside the loop: a disk that takes its time must not keep the records waiting.
            return await asyncio.to_thread(self._finish, sha256, piece.size)

    async def _append(self, sha256: str, piece: Piece, body: AsyncIterator[bytes]) -> None:
        left = piece.last - piece.first + 1
        with self._part(sha256).open("ab", buffering=0) as part:
            async for chunk in body:
                part.write(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    break

    def _finish(self, sha256: str, size: int) -> Taken:
        part = self._part(sha256)
        if hashlib.sha256(part.read_bytes()).hexdigest() != sha256:
            part.unlink()
            return Taken("hash_differs", 0)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(self.path(sha256))
        sync_folder(self._folder)
        return Taken("complete", size)

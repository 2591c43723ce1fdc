"""One package from the centre into a file: bounded memory, taken up where a cut line left it."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from shutil import disk_usage

from gateway.errors import CenterUnavailable, ParameterInvalid
from gateway.sync.center import CenterClient, ManifestEntry

WRITE_BYTES = 1024 * 1024
FREE_BYTES_MIN = 512 * 1024 * 1024
"""So much is left to money and photos: a list can wait for a better disk."""


async def fetch_into(client: CenterClient, entry: ManifestEntry, part: Path) -> None:
    """All bytes of `entry` are in `part` then, not yet checked; other parts in its folder are gone.

    Raises: CenterUnavailable, what came so far is kept; OSError; ParameterInvalid.
    """
    have = await asyncio.to_thread(_make_room, part)
    free = (await asyncio.to_thread(disk_usage, part.parent)).free
    if free < entry.size - have + FREE_BYTES_MIN:
        raise ParameterInvalid(
            f"参数 {entry.name} 版本 {entry.version} 有 {entry.size >> 20} MB，磁盘剩余空间不够"
        )
    if have < entry.size:
        have, pieces = await client.pieces(entry.name, entry.version, entry.base, have)
        async with aclosing(pieces):
            have = await _keep(pieces, part, have, entry.size)
    if have > entry.size:
        raise ParameterInvalid(f"参数 {entry.name} 版本 {entry.version} 比目录所说的长")
    if have < entry.size:
        raise CenterUnavailable("参数没有传完，稍后从断处续传")


def sha256_of(path: Path) -> str:
    """Hex. Blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _keep(pieces: AsyncGenerator[bytes, None], part: Path, size: int, size_max: int) -> int:
    """What came is on its way to the disk however this ends; the part's size then."""
    some = bytearray()
    try:
        async for piece in pieces:
            some += piece
            if len(some) >= WRITE_BYTES:
                size = await asyncio.to_thread(_append, part, size, bytes(some))
                some.clear()
            if size > size_max:
                break
    finally:
        size = await asyncio.to_thread(_append, part, size, bytes(some))
    return size


def _make_room(part: Path) -> int:
    """Halves of others are of no use any more; how much of this one is here."""
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in part.parent.glob("*.part"):
        if other != part:
            other.unlink(missing_ok=True)
    return part.stat().st_size if part.exists() else 0


def _append(part: Path, at: int, some: bytes) -> int:
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(at)
        file.seek(at)
        file.write(some)
    return at + len(some)

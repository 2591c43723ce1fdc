"""Photos as evidence: JPEG bytes under the name of their own SHA-256, then a row that says so.

The file is durable before the row exists, so a row never promises a photo that a power cut took;
a crash in between leaves a file that nobody asks for, and the same photo again adopts it. The
module knows no passage: who needs a photo keeps its name.
"""

import asyncio
import hashlib
import re
import sqlite3
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from gateway.durable import sync_folder, write_synced
from gateway.errors import NotFound, PhotoInvalid, StoreUnavailable
from gateway.spool.health import words
from gateway.store import Store
from gateway.units import Clock

SIZE_MAX = 2 * 1024 * 1024  # bytes
SIDE_MAX = 4096  # pixels

DROPPED_AT_ONCE = 200  # photos
LISTED_AT_ONCE = 32  # photos, read and listed again with one sync
JOURNAL_ROWS = 4_000  # so far back a start looks; SQLite keeps less than that in its own log
NEWEST_PHOTOS = """
    SELECT DISTINCT name AS sha256 FROM (
        SELECT json_extract(body, iif(event = 'PhotoBound', '$.sha256', '$.photo')) AS name
        FROM journal
        WHERE seq > (SELECT max(seq) FROM journal) - ? AND event IN ('PhotoBound', 'PlateSubmitted')
    ) WHERE name IS NOT NULL AND name NOT IN (SELECT sha256 FROM evidence)"""

SHA256 = re.compile(r"[0-9a-f]{64}")
INCOMING = "incoming"  # folder of half-written files; emptied at the first photo after a start

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0…SOF15 without DHT, JPG, DAC
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and RSTn carry no length


class Evidence:
    """The folder of photos and the table `evidence`; their only writer."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        clock: Clock,
        refusal: Callable[[], str] = lambda: "",
    ) -> None:
        """`refusal`: why no photo is kept now, in Chinese; empty while they are."""
        self._store, self._folder, self._clock = store, folder, clock
        self._refusal = refusal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evidence")
        self._is_swept = False
        self._durable: set[Path] = set()
        """Subfolders whose own names were synced in this life."""

    async def keep(self, jpeg: bytes, source: str) -> str:
        """Keep a photo; once it returns, file and row survive a power cut. Twice is once.

        Args:    jpeg: ≤ 2 MB, ≤ 4096 pixels a side. source: camera | handheld.
        Returns: its SHA-256, 64 lower-case hex digits.
        Raises:  PhotoInvalid; StoreUnavailable, if the disk does not take it.
        """
        check_jpeg(jpeg)
        if why := self._refusal():
            raise StoreUnavailable(f"照片没有存：{why}", "请记原因后无照片继续")
        sha256 = hashlib.sha256(jpeg).hexdigest()
        await asyncio.get_running_loop().run_in_executor(
            self._thread, partial(self._put, sha256, jpeg)
        )
        row = (sha256, len(jpeg), self._clock.now_ms(), source)
        await self._store.write(partial(_insert, row))
        return sha256

    async def keep_named(self, sha256: str, body: bytes, source: str = "handheld") -> str:
        """Keep a photo that was sent under its name. Raises: as `keep`; PhotoInvalid, if not it."""
        if SHA256.fullmatch(sha256) is None:
            raise PhotoInvalid("照片编号不是 64 位十六进制")
        if len(body) <= SIZE_MAX and hashlib.sha256(body).hexdigest() != sha256:
            raise PhotoInvalid("照片内容和编号对不上，可能没有传完")
        return await self.keep(body, source)

    async def has(self, sha256: str) -> bool:
        """Whether that photo was kept."""
        return bool(await self._store.rows("SELECT 1 FROM evidence WHERE sha256 = ?", sha256))

    async def recover(self) -> int:
        """At a start: rows for photos of the newest passages that lack one; how many.

        A disk may lose the end of what SQLite synced and nothing of what the log did.
        Raises: StoreUnavailable.
        """
        rows = await self._store.rows(NEWEST_PHOTOS, JOURNAL_ROWS)
        return await self._list(self.path(row["sha256"]) for row in rows)

    async def restore(self, step: Callable[[], None] = lambda: None) -> int:
        """After a damage: the same for all photos in the folder. `step`: some more are done.

        Row by row as they are read: a start that is cut off has not read them in vain.
        Raises: StoreUnavailable.
        """
        listed = 0
        for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]")):
            paths = await self._without_row(folder)
            for first in range(0, len(paths), LISTED_AT_ONCE):
                listed += await self._list(paths[first : first + LISTED_AT_ONCE])
                step()
        return listed

    async def _without_row(self, folder: Path) -> list[Path]:
        """Of the photos whose names begin like the folder's."""
        rows = await self._store.rows(
            "SELECT sha256 FROM evidence WHERE sha256 >= ? AND sha256 < ?",
            folder.name,
            f"{folder.name}g",
        )
        kept = {row["sha256"] for row in rows}
        run = asyncio.get_running_loop().run_in_executor
        there = await run(self._thread, lambda: sorted(folder.glob("*.jpg")))
        return [path for path in there if _name_of(path) not in kept]

    async def _list(self, paths: Iterable[Path]) -> int:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, _rows_of, paths)
        await self._store.write(partial(_insert_all, found))
        return len(found)

    def path(self, sha256: str) -> Path:
        """Where the photo of that name lies, or would. Raises: NotFound, if it is no name."""
        if SHA256.fullmatch(sha256) is None:
            raise NotFound(f"没有这张照片：{sha256[:80]}")
        return self._folder / sha256[:2] / f"{sha256[2:]}.jpg"

    async def drop_held(self, kept_ms: int) -> int:
        """Delete photos that the centre holds and that are older; bytes, of a page at most.

        The row goes first: a cut in between leaves a file that nobody asks for.
        """
        rows = await self._store.rows(
            "SELECT e.sha256, e.size FROM evidence e JOIN evidence_delivery d"
            " ON d.sha256 = e.sha256 WHERE e.at_ms < ? ORDER BY e.at_ms LIMIT ?",
            self._clock.now_ms() - kept_ms,
            DROPPED_AT_ONCE,
        )
        names = [str(row["sha256"]) for row in rows]
        if names:
            await self._store.write(partial(_forget, names))
            run = asyncio.get_running_loop().run_in_executor
            await run(self._thread, self._unlink, [self.path(name) for name in names])
        return sum(row["size"] for row in rows)

    async def drop_leftovers(self) -> int:
        """Delete what was half written and what a maintainer packed into this folder's parent."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._thread, self._drop_leftovers)

    async def close(self) -> None:
        """Finish what is being written."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)
        self._thread.shutdown()

    # ---- in the thread ----

    def _put(self, sha256: str, jpeg: bytes) -> None:
        path, incoming = self.path(sha256), self._folder / INCOMING / sha256
        try:
            self._sweep()
            if not (path.exists() and path.read_bytes() == jpeg):
                write_synced(incoming, jpeg)
                path.parent.mkdir(parents=True, exist_ok=True)
                incoming.rename(path)
            # One that is there, too: a life that was killed may have named it and not come here.
            sync_folder(path.parent)
            if path.parent not in self._durable:
                sync_folder(self._folder)
                self._durable.add(path.parent)
        except OSError as broken:
            with suppress(OSError):  # a full disk needs its space back
                incoming.unlink(missing_ok=True)
            raise StoreUnavailable(
                f"照片存不下：{words(broken)}", "照片没有存上。请通知维护人员检查磁盘"
            ) from broken

    def _unlink(self, paths: Sequence[Path]) -> None:
        for path in paths:
            with suppress(OSError):
                path.unlink()

    def _drop_leftovers(self) -> int:
        """In the photos' own thread: nothing of ours is being written meanwhile."""
        freed = 0
        with suppress(OSError):
            halves = (self._folder / INCOMING).glob("*")
            bundles = filter(_is_bundle, self._folder.parent.glob("*.tar.gz"))
            for left in [*halves, *bundles]:
                size = left.stat().st_size
                left.unlink()
                freed += size
        return freed

    def _sweep(self) -> None:
        """What a crash left half-written was never promised to anyone."""
        if not self._is_swept:
            incoming = self._folder / INCOMING
            incoming.mkdir(parents=True, exist_ok=True)
            sync_folder(self._folder.parent)
            for left in incoming.iterdir():
                left.unlink()
            self._is_swept = True


def _name_of(path: Path) -> str:
    return f"{path.parent.name}{path.stem}"


def _rows_of(paths: Iterable[Path]) -> list[tuple[str, int, int, str]]:
    """Of those that are there and whole."""
    rows = []
    for path in paths:
        with suppress(OSError):
            body = path.read_bytes()
            if hashlib.sha256(body).hexdigest() == _name_of(path):
                rows.append((_name_of(path), len(body), int(path.stat().st_mtime * 1000), "camera"))
    return rows


def _is_bundle(path: Path) -> bool:
    """Packed by `support`; an archive that somebody else put there is not ours to delete."""
    try:
        with tarfile.open(path) as tar:
            first = tar.next()
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return False
    return first is not None and first.name.startswith("lane-gateway/")


def _forget(names: Sequence[str], db: sqlite3.Connection) -> None:
    db.executemany("DELETE FROM evidence WHERE sha256 = ?", [(name,) for name in names])


def _insert(row: tuple[str, int, int, str], db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING", row)


def _insert_all(rows: Iterable[tuple[str, int, int, str]], db: sqlite3.Connection) -> None:
    for row in rows:
        _insert(row, db)


def check_jpeg(data: bytes) -> tuple[int, int]:
    """Width and height of a whole JPEG, from its markers (ITU-T T.81 annex B); decodes nothing.

    Raises: PhotoInvalid, if it is none, is cut off, or is larger than 2 MB or 4096 pixels.
    """
    if len(data) > SIZE_MAX:
        raise PhotoInvalid(f"照片太大：{len(data) // 1024} KB，最多 {SIZE_MAX // 1024} KB")
    if not data.startswith(SOI):
        raise PhotoInvalid("这不是 JPEG 照片")
    if not data.endswith(EOI):
        raise PhotoInvalid("照片不完整，结尾缺失")
    width, height = _size(data)
    if not (0 < width <= SIDE_MAX and 0 < height <= SIDE_MAX):
        raise PhotoInvalid(f"照片尺寸 {width}×{height} 不行，每边最多 {SIDE_MAX} 像素")
    return width, height


def _size(data: bytes) -> tuple[int, int]:
    """Walk the segments up to the first scan."""
    size: tuple[int, int] | None = None
    at = len(SOI)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in ALONE:  # fill byte, or a marker without a segment
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        if marker in FRAMES and length >= 8 and at + 9 <= len(data):
            size = int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        if marker == SOS and size is not None and at + 2 + length + len(EOI) < len(data):
            return size
        if length < 2 or marker == SOS:
            break
        at += 2 + length
    raise PhotoInvalid("照片已损坏，看不出尺寸")

"""Recovery alone, on one disk that a cut left: open both copies, judge them, go on by one row.

The gateway's own code on real files, in one thread. Thousands of disks hold the same money in the
end; `Opened.content` says which, so that what follows needs to be lived only once for each.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import StoreUnavailable
from gateway.spool import copies as copies_module
from gateway.spool import derived, tables, verify
from gateway.spool.copies import Copies
from gateway.spool.draft import Draft
from gateway.spool.log import Spool
from gateway.spool.writer import LOG, Job, Writer
from tests.powercut.disk import Content, Image
from tests.rig import invariants
from tests.rig.invariants import Promises, Scene, photo_path
from tests.still_clock import StillClock

DATABASE = "lane.db"
PHOTOS = "/evidence"
CUT, NEIGHBOUR, SPOILT = "cut", "neighbour", "spoilt"
"""What happened: a cut that the disk stood as promised: nothing is found damaged. One that broke a
promise of the disk. One of the two copies spoilt besides: nothing of money is missing."""
LOSSES = (CUT, NEIGHBOUR, SPOILT)
UNTOUCHED_S = 1_000
"""When files were last written that nobody has written to since we did."""


class Opened(NamedTuple):
    """What recovery made of a disk."""

    violations: list[str]
    content: bytes
    """Digest of all money, all other tables and all photos; equal content, equal life."""
    repairs: int
    rows: int
    """In the log."""
    torn_bytes: int


class Answer:
    """What a caller hears from the writer, at once: a future, and the loop it belongs to."""

    fault: BaseException | None = None

    def call_soon_threadsafe(self, how: Any, *what: Any) -> None:
        how(*what)

    def done(self) -> bool:
        return False

    def set_result(self, _: Any) -> None:
        """Nothing more to be heard."""

    def set_exception(self, fault: BaseException) -> None:
        self.fault = fault

    def exception(self) -> BaseException | None:
        return self.fault


class Inline(Spool):
    """The log without its background thread."""

    def replenish(self) -> None:
        self._fill()


def use_inline_log(*, is_inline: bool) -> None:
    copies_module.Spool = Inline if is_inline else Spool


class Opening:
    """Tries disks one after the other in one folder, and writes only what a recovery may touch."""

    def __init__(self, folder: Path, block: int) -> None:
        """`block`: as the box is told to write its log."""
        self.folder, self._path, self._block = folder, folder / DATABASE, block
        self._laid: dict[str, bytes] = {}
        """Path → digest of what was written there."""
        self._tables: list[str] = []
        self._photos: dict[bytes, tuple[int, str]] = {}

    def judge(
        self, image: Image, world: Promises, hashes: Sequence[str], loss: str = CUT
    ) -> Opened:
        """Recover and judge. `loss`: CUT, NEIGHBOUR or SPOILT."""
        self.lay_out(image)
        use_inline_log(is_inline=True)
        working = Writer(self._path, StillClock(), self._block)
        copies = working.copies
        try:
            copies.open()
        except (sqlite3.Error, OSError, StoreUnavailable) as no:
            with suppress(AttributeError):
                copies.spool.close()
            copies.abandon()
            return Opened([f"the box does not start: {no!r}"], b"", 0, 0, 0)
        try:
            return self._judge(working, image, world, hashes, loss)
        finally:
            copies.spool.close()
            copies.abandon()

    def recover(self) -> None:
        """Open and leave, as a start does that is cut off; for whoever records it."""
        use_inline_log(is_inline=False)
        copies = Copies(self._path, StillClock(), self._block)
        with suppress(sqlite3.Error, OSError, StoreUnavailable):
            copies.open()
        with suppress(AttributeError):
            copies.spool.close()
        copies.abandon()
        self._laid.clear()

    def lay_out(self, image: Image) -> None:
        """Make the folder hold just this, photos left out."""
        wanted = {p: c for p, c in image.items() if not p.startswith(PHOTOS)}
        self.folder.mkdir(exist_ok=True)
        for path in sorted(_below(self.folder), reverse=True):
            if path not in wanted:
                target = Path(f"{self.folder}{path}")
                target.rmdir() if target.is_dir() else target.unlink()
        for path in sorted(wanted):
            content, target = wanted[path], Path(f"{self.folder}{path}")
            if content is None:
                target.mkdir(exist_ok=True)
            elif isinstance(content, Content):
                self._write(path, target, content)
            else:
                _overwrite(target, content)

    def _write(self, path: str, target: Path, content: Content) -> None:
        """Unless it is there already: whoever writes to a file takes our mark from it."""
        if self._laid.get(path) == content.digest:
            with suppress(FileNotFoundError):
                if target.stat().st_mtime == UNTOUCHED_S:
                    return
        _overwrite(target, content)
        os.utime(target, (UNTOUCHED_S, UNTOUCHED_S))
        self._laid[path] = content.digest

    # ---- inside ----

    def _judge(
        self,
        working: Writer,
        image: Image,
        world: Promises,
        hashes: Sequence[str],
        loss: str,
    ) -> Opened:
        copies = working.copies
        db, spool = copies.handle(), copies.spool
        db.row_factory = sqlite3.Row
        scene = Scene(db, self.folder, world, hashes, lambda sha256: self._photo(image, sha256))
        violations = invariants.on_opening(scene, was_damaged=loss != CUT)
        if loss == CUT:
            violations += invariants.quiet(scene)
        db.row_factory = None
        violations += self._alike(copies, db)
        content = self._content(image, spool.hash, db)
        repairs, rows = len(copies.repairs), spool.seq
        violations += self._goes_on(working)
        return Opened(violations, content, repairs, rows, spool.torn_bytes)

    def _alike(self, copies: Copies, db: sqlite3.Connection) -> Iterator[str]:
        """The log is unbroken, ends where the tables end, and they are what it says."""
        spool = copies.spool
        if tables.head(db) != (spool.seq, spool.hash):
            yield f"the log ends at {spool.seq}, the tables at {tables.head(db)[0]}, or otherwise"
        for damage in verify.log_damage(spool.folder):
            yield f"the log is damaged after recovery: row {damage.row}: {damage.what}"
        yield from derived.wrong(db)

    def _goes_on(self, working: Writer) -> Iterator[str]:
        """One more row can be written, and is found by whoever opens the log next."""
        spool, told = working.copies.spool, Answer()
        before = spool.seq

        def entry(draft: Draft) -> None:
            draft.add("", "", (0, 0, "", ""), "probe")

        working.serve([Job(entry, LOG, told, told)])  # type: ignore[arg-type]
        if told.fault:
            yield f"nothing can be written after recovery: {told.fault}"
            return
        newest = spool.seq, spool.hash
        spool.close()
        again = Inline.open(spool.folder, self._block)
        if newest[0] != before + 1 or (again.seq, again.hash) != newest or again.damaged:
            yield f"a row written after recovery is not found: {again.seq} of {newest[0]}"
        again.close()

    def _content(self, image: Image, log_hash: bytes, db: sqlite3.Connection) -> bytes:
        seen = hashlib.blake2b(log_hash, digest_size=16)
        self._tables = self._tables or _tables(db)
        for name in self._tables:
            seen.update(repr((name, db.execute(f"SELECT * FROM {name}").fetchall())).encode())
        for path in sorted(image):
            content = image[path]
            if path.startswith(PHOTOS) and isinstance(content, Content):
                seen.update(path.encode() + content.digest)
        return seen.digest()

    def _photo(self, image: Image, sha256: str) -> tuple[int, str]:
        body = image.get(f"/{photo_path(sha256)}") or b""
        if not isinstance(body, Content):
            return len(body), hashlib.sha256(body).hexdigest()
        if body.digest not in self._photos:
            self._photos[body.digest] = len(body), hashlib.sha256(body).hexdigest()
        return self._photos[body.digest]


def _below(folder: Path) -> Iterator[str]:
    """Paths as in an image."""
    for where, folders, files in os.walk(folder):
        inside = where[len(str(folder)) :]
        for name in (*folders, *files):
            yield f"{inside}/{name}"


def _overwrite(target: Path, content: bytes | bytearray) -> None:
    fd = os.open(target, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)


def _tables(db: sqlite3.Connection) -> list[str]:
    """All but those whose rows are named by the newest hash, or by another table's."""
    names: Any = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    proved = ("journal", "seal")
    return [name for (name,) in names if name not in proved and not name.startswith("sqlite_")]

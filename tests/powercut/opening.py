# Thousands of times over: a path object costs more than the call it is for.
# ruff: noqa: PTH102, PTH112, PTH116, PTH208
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
from tests.powercut.memory import content_of
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
JUDGED_MAX = 32_768


class Opened(NamedTuple):
    """What recovery made of a disk."""

    violations: list[str]
    content: bytes
    """Digest of all money, all other tables and all photos; equal content, equal life."""
    repairs: int
    rows: int
    """In the log."""
    torn_bytes: int


class Judged(NamedTuple):
    """What was said of a log and tables as recovery left them, and their name."""

    violations: list[str]
    content: bytes
    rows: int


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

    def __init__(self, folder: Path, block: int, *, is_plain: bool = False) -> None:
        """`block`: as the box is told to write its log. `is_plain`: judge what is alike again."""
        self.folder, self._path, self._block = folder, folder / DATABASE, block
        self._laid: dict[str, bytes] = {}
        """Path → digest of what was written there."""
        self._is_plain = is_plain
        self._judged: dict[bytes, Judged] = {}
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
        root = str(self.folder)
        for path, is_folder in sorted(_below(root), reverse=True):
            if path not in wanted:
                (os.rmdir if is_folder else os.unlink)(f"{root}{path}")
        for path in sorted(wanted):
            content, target = wanted[path], f"{root}{path}"
            if content is None:
                with suppress(FileExistsError):
                    os.mkdir(target)
            elif isinstance(content, Content):
                self._write(path, target, content)
            else:
                _overwrite(target, content)

    def _write(self, path: str, target: str, content: Content) -> None:
        """Unless it is there already: whoever writes to a file takes our mark from it."""
        if self._laid.get(path) == content.digest and _is_untouched(target):
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
        spool = copies.spool
        name = self._name(copies, image, world, hashes, loss)
        judged = None if self._is_plain else self._judged.get(name)
        if judged is None:
            judged = self._found(working, image, world, hashes, loss)
            if len(self._judged) >= JUDGED_MAX:
                self._judged.clear()
            self._judged[name] = judged
        repairs = len(copies.repairs)
        return Opened(judged.violations, judged.content, repairs, judged.rows, spool.torn_bytes)

    def _name(
        self, copies: Copies, image: Image, world: Promises, hashes: Sequence[str], loss: str
    ) -> bytes:
        """Of all that `_found` looks at. The newest hash stands for all before it."""
        newest = hashes[-1] if hashes else ""
        spool = copies.spool
        told = [loss, newest, spool.seq, spool.hash, world.digest, content_of(copies.handle())]
        return _digest([*told, *self._log_files(spool.folder), *_photos(image)])

    def _log_files(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Name and digest of each, read again unless it is as we laid it out."""
        inside = str(folder)[len(str(self.folder)) :]
        for name in sorted(os.listdir(folder)):
            target = f"{folder}/{name}"
            laid = self._laid.get(f"{inside}/{name}")
            if os.path.isdir(target):
                yield name, b""
            elif laid and _is_untouched(target):
                yield name, laid
            else:
                yield name, hashlib.sha256(Path(target).read_bytes()).digest()

    def _found(
        self, working: Writer, image: Image, world: Promises, hashes: Sequence[str], loss: str
    ) -> Judged:
        copies = working.copies
        db, rows = copies.handle(), copies.spool.seq
        db.row_factory = sqlite3.Row
        scene = Scene(db, self.folder, world, hashes, lambda sha256: self._photo(image, sha256))
        violations = invariants.on_opening(scene, was_damaged=loss != CUT)
        if loss == CUT:
            violations += invariants.quiet(scene)
        db.row_factory = None
        violations += self._alike(copies, db)
        content = self._content(image, copies.spool.hash, db)
        violations += self._goes_on(working)
        return Judged(violations, content, rows)

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
        self._tables = self._tables or _tables(db)
        rows = ((name, db.execute(f"SELECT * FROM {name}").fetchall()) for name in self._tables)
        return _digest([log_hash, *rows, *_photos(image)])

    def _photo(self, image: Image, sha256: str) -> tuple[int, str]:
        body = image.get(f"/{photo_path(sha256)}") or b""
        if not isinstance(body, Content):
            return len(body), hashlib.sha256(body).hexdigest()
        if body.digest not in self._photos:
            self._photos[body.digest] = len(body), hashlib.sha256(body).hexdigest()
        return self._photos[body.digest]


def _digest(told: Sequence[Any]) -> bytes:
    return hashlib.sha256(repr(told).encode()).digest()


def _photos(image: Image) -> Iterator[tuple[str, bytes]]:
    for path in sorted(image):
        content = image[path]
        if path.startswith(PHOTOS) and isinstance(content, Content):
            yield path, content.digest


def _below(root: str, inside: str = "") -> Iterator[tuple[str, bool]]:
    """Path as in an image, and whether it is a folder."""
    with os.scandir(f"{root}{inside}") as entries:
        for entry in entries:
            path, is_folder = f"{inside}/{entry.name}", entry.is_dir()
            yield path, is_folder
            if is_folder:
                yield from _below(root, path)


def _is_untouched(target: str) -> bool:
    with suppress(FileNotFoundError):
        return os.stat(target).st_mtime == UNTOUCHED_S
    return False


def _overwrite(target: str, content: bytes | bytearray) -> None:
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

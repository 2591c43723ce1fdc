"""The lists at hand: a full one and the deltas behind it, as files of one folder. Blocks.

The files' own heads are the only truth of what belongs together: nothing is parsed at a start and
no second record can disagree. A list serves once it is whole, checked, synced and renamed; what it
replaced is removed after that. Deltas are joined in the background so that a look-up never has to
ask more than `DELTAS_MAX` files before the full one.
"""

import errno
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.durable import sync_folder
from gateway.errors import ParameterInvalid
from gateway.params import ListDamaged, Listed
from gateway.statuslist.form import (
    CARD,
    KEY_BYTES,
    OBU,
    STATE,
    Head,
    key_of,
    listed,
)
from gateway.statuslist.reader import ListFile
from gateway.statuslist.writer import Writer

log = logging.getLogger(__name__)

DELTAS_MAX = 3
AT_ONCE_BYTES = 8 * 1024 * 1024
"""Larger files are checked and joined by a process of their own, at the lowest priority."""
CHILD_S_MAX = 1800.0
GONE = STATE.pack(0, 0)[:2]
"""The reasons of a number that has left the list."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A full list and the deltas on it: one version, looked up in as one."""

    full: ListFile
    deltas: tuple[ListFile, ...]
    """Oldest first."""
    damaged: Callable[[Path], None]

    @property
    def head(self) -> Head:
        """Of the newest part."""
        return self.parts[-1].head

    @property
    def parts(self) -> tuple[ListFile, ...]:
        return (self.full, *self.deltas)

    @property
    def entries(self) -> int:
        """Of the full list; what deltas added and took away is not counted."""
        return self.full.head.cards + self.full.head.obus

    def state_of(self, kind: int, key: bytes) -> bytes | None:
        """The newest state of this number; None: not listed. Raises: ListDamaged, if that cannot
        be said."""
        for part in reversed(self.parts):
            try:
                state = part.find(kind, key)
            except ListDamaged:
                self.damaged(part.path)
                raise
            except OSError as no:
                self.damaged(part.path)
                raise ListDamaged(f"状态名单读不出：{no.strerror}") from no
            if state is not None:
                return None if state[:2] == GONE else state
        return None

    def find(self, number: str) -> Listed | None:
        """What is known of a card or OBU number. Raises: ListDamaged."""
        key = key_of(number)
        state = key and self.state_of(*key)
        return listed(number, state, self.head.reasons) if state else None

    def drop_pages(self) -> None:
        for part in self.parts:
            part.drop_pages()


class Archive:
    """One folder; its only writer. `serving` may be read by any thread."""

    def __init__(self, folder: Path, key: Callable[[], Ed25519PublicKey | None]) -> None:
        """`key`: what a list from the centre must be signed with; None: anybody's is taken."""
        self.folder, self._key = folder, key
        self._files: dict[Path, ListFile] = {}
        self._damaged: set[Path] = set()
        self._lock = threading.Lock()
        self.serving: Serving | None = None
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def is_damaged(self) -> bool:
        """A part of what serves has bytes that are not those written: a full list is wanted."""
        serving = self.serving
        return serving is not None and any(p.path in self._damaged for p in serving.parts)

    def load(self, now_ms: int) -> None:
        """Open what is there; what is not a list is set aside. A disk that takes nothing costs no
        start: what could not be tidied is met again by the next one."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            for path in self.folder.glob("*.new"):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            for path in sorted(self.folder.glob("*.list")):
                try:
                    self._files[path] = ListFile.open(path)
                except (OSError, ListDamaged) as bad:
                    log.error("a status list is left out", extra={"why": str(bad)})
                    with suppress(OSError):
                        path.replace(path.with_suffix(".damaged"))
            self._choose(now_ms)

    def room(self, name: str) -> Path:
        """Where a list may be put down while it is fetched; survives a restart."""
        return self.folder / f"{name}.part"

    def take(
        self, path: Path, now_ms: int, expect: Callable[[Head], None] = lambda _: None
    ) -> Head:
        """A fetched file: checked, kept, serving if its time has come; `path` is gone then.

        Raises: ListDamaged or ParameterInvalid, if it is not whole, not signed, older than what
        serves or a delta of another list, or `expect` says so: nothing has changed then. OSError.
        """
        try:
            fresh = ListFile.open(path, self._key())
            expect(fresh.head)
            self._must_fit(fresh.head)
            self._check(path, fresh)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            final = self.folder / _name(fresh.head)
            path.replace(final)
            sync_folder(self.folder)
            kept = ListFile.open(final)
            with self._lock:
                self._files[final] = kept
                self._damaged.discard(final)
                self._choose(now_ms)
        except ParameterInvalid:
            path.unlink(missing_ok=True)
            raise
        return fresh.head

    def choose(self, now_ms: int) -> bool:
        """Whose time has come serves from now on. True if that is another one than before."""
        with self._lock:
            before = self.serving
            self._choose(now_ms)
            return before is None or self.serving is None or before.head != self.serving.head

    @property
    def newest(self) -> Head | None:
        """Of the newest list here, even if its time has not come."""
        with self._lock:
            chain = self._best(list(self._files.values()))
        return chain[-1].head if chain else None

    def held(self) -> list[Head]:
        """All lists here, also those whose time has not come."""
        return [one.head for path, one in self._files.items() if path not in self._damaged]

    def join(self, now_ms: int) -> bool:
        """Join two deltas if there are more than a look-up should ask. True if it did.

        Raises: OSError; ListDamaged.
        """
        serving = self.serving
        if serving is None or len(serving.deltas) <= DELTAS_MAX:
            return False
        older, newer = min(
            zip(serving.deltas, serving.deltas[1:], strict=False),
            key=lambda pair: pair[0].head.size + pair[1].head.size,
        )
        final = self.folder / f"delta-{older.head.base}-{newer.head.version}.list"
        try:
            self._join(older.path, newer.path, final)
        except ListDamaged:
            self._blame((older, newer))
            raise
        with self._lock:
            self._files[final] = ListFile.open(final)
            self._choose(now_ms)
        return True

    def scrub(self) -> Iterator[int]:
        """Prove all that serves from the disk, a piece with each step; yields its bytes."""
        serving = self.serving
        for part in serving.parts if serving else ():
            for first in range(0, part.head.blocks, 64):
                try:
                    part.scrub(first, 64)
                except (OSError, ListDamaged) as bad:
                    self._damage(part.path)
                    log.error("a status list is damaged", extra={"why": str(bad)})
                yield 64 * 4096

    def interrupt(self) -> None:
        """The program ends: its child need not go on, what was fetched is checked next time."""
        if self._running is not None:
            self._running.kill()

    # ---- inside ----

    def _check(self, path: Path, opened: ListFile) -> None:
        """Raises: ListDamaged; OSError, if it could not be done."""
        if opened.head.size <= AT_ONCE_BYTES:
            opened.check()
        else:
            self._child("check", path)

    def _join(self, older: Path, newer: Path, out: Path) -> None:
        if older.stat().st_size + newer.stat().st_size <= AT_ONCE_BYTES:
            join(older, newer, out)
        else:
            self._child("join", older, newer, out)

    def _child(self, *words: str | Path) -> None:
        command = [sys.executable, "-m", "gateway.statuslist", *map(str, words)]
        with subprocess.Popen(  # noqa: S603 - our own module, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as child:
            self._running = child
            try:
                said, _ = child.communicate(timeout=CHILD_S_MAX)
            except subprocess.TimeoutExpired as late:
                child.kill()
                raise OSError(errno.ETIMEDOUT, "a list was not checked in time") from late
            finally:
                self._running = None
        if child.returncode < 0:
            raise OSError(errno.EINTR, "the child was ended")
        if child.returncode:
            raise ListDamaged(said.decode(errors="replace").strip() or "状态名单检查没有做成")

    def _must_fit(self, head: Head) -> None:
        newest = self.newest
        if head.base and head.base not in {one.version for one in self.held()}:
            raise ParameterInvalid(f"增量名单 {head.version} 的基础版本 {head.base} 不在本机")
        if newest is None or (self.is_damaged and not head.base):
            return
        is_the_same_in_one = newest.base and not head.base and head.rank == newest.rank
        if head.rank <= newest.rank and not is_the_same_in_one:
            raise ParameterInvalid(f"状态名单 {head.version} 不比本机的 {newest.version} 新")

    def _choose(self, now_ms: int) -> None:
        due = [one for one in self._files.values() if one.head.effective_from_ms <= now_ms]
        if best := self._best(due):
            before, self.serving = self.serving, Serving(best[0], tuple(best[1:]), self._damage)
            if before is None or before.head != self.serving.head:
                log.info("status list switched", extra={"version": self.serving.head.version})
            self._tidy(now_ms)

    def _best(self, files: list[ListFile]) -> list[ListFile]:
        """The way to the newest version, over whole files and few of them where there is a choice;
        a file that is damaged is better than an older list."""
        ways = [_chain(full, files) for full in files if not full.head.base]
        bad = self._damaged
        return max(
            ways,
            key=lambda w: (w[-1].head.rank, -len(bad & {p.path for p in w}), -len(w)),
            default=[],
        )

    def _tidy(self, now_ms: int) -> None:
        """Remove what the new one made useless; what is yet to come stays. What a disk does not
        let go is met again by the next start."""
        assert self.serving is not None
        kept = {part.path for part in self.serving.parts}
        for path, one in list(self._files.items()):
            if path not in kept and one.head.effective_from_ms <= now_ms:
                del self._files[path]
                self._damaged.discard(path)
                _drop(path)
        for path in self.folder.glob("*.damaged"):
            _drop(path)

    def _damage(self, path: Path) -> None:
        self._damaged.add(path)

    def _blame(self, parts: Iterable[ListFile]) -> None:
        for part in parts:
            with suppress(OSError):
                try:
                    part.check()
                except ListDamaged:
                    self._damage(part.path)


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _chain(full: ListFile, due: list[ListFile]) -> list[ListFile]:
    """The full list and what follows on it, as far as it goes; joined deltas before single ones."""
    chain = [full]
    while True:
        head = chain[-1].head
        nexts = [d for d in due if d.head.base == head.version and d.head.rank > head.rank]
        if not nexts:
            return chain
        chain.append(max(nexts, key=lambda d: d.head.rank))


def _name(head: Head) -> str:
    return f"delta-{head.base}-{head.version}.list" if head.base else f"full-{head.version}.list"


def join(older: Path, newer: Path, out: Path) -> None:
    """Two deltas that follow each other → one that does what both do. Raises: ListDamaged."""
    first, then = ListFile.open(older), ListFile.open(newer)
    head = then.head
    with Writer(out, head.version, first.head.base, head.effective_from) as made:
        for kind in (CARD, OBU):
            some = bytearray()
            for row in _merged(first.rows(kind), then.rows(kind)):
                some += row
                if len(some) > 1_000_000:
                    made.add(kind, bytes(some))
                    some.clear()
            made.add(kind, bytes(some))
        made.close({**first.head.reasons, **head.reasons})


def _merged(older: Iterator[bytes], newer: Iterator[bytes]) -> Iterator[bytes]:
    """In order; of two states of one number the newer."""
    a, b = next(older, None), next(newer, None)
    while a is not None and b is not None:
        if a[:KEY_BYTES] < b[:KEY_BYTES]:
            yield a
            a = next(older, None)
            continue
        if a[:KEY_BYTES] == b[:KEY_BYTES]:
            a = next(older, None)
        yield b
        b = next(newer, None)
    if a is not None:
        yield a
        yield from older
    if b is not None:
        yield b
        yield from newer

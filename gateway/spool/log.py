"""The log as a whole: a row of files, the newest one growing. One thread, one process.

What `append` returned from survives a power cut. After a failed write nothing is believed: the
file is read again, and what is really there counts, also what was refused a moment ago.
"""

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from gateway.durable import sync_folder
from gateway.spool import segment
from gateway.spool.frame import GENESIS, Frame, Row, chained, pack, text_of
from gateway.spool.progress import Step, unheard
from gateway.spool.segment import HEAD_SIZE, Head, Scan, Writing

log = logging.getLogger(__name__)

BLOCK = 512  # bytes; 4096 for a disk that may spoil the neighbours of a sector it was writing
BLOCK_MIN = 512
SEGMENT_BYTES = 8 * 1024 * 1024
RESERVE_BYTES = 16 * 1024 * 1024
"""Blank files kept ready, so that 1 000 passages are finished after the disk is full: one is some
12 rows, 9.2 KB in blocks of 512 (seen), and twice that is kept; see `reserve_bytes` for larger
blocks."""


CHECKED_AT_START = 8 * 1024 * 1024
"""Bytes of the newest files that are walked at each start; the older ones behind the selling."""
REFILL_S = 60.0  # between attempts to make the reserve whole again


class Stale(OSError):
    """The last write failed and the file could not be looked at since."""


class Gone(OSError):
    """Rows that were on disk cannot be read any more."""


class Damaged(NamedTuple):
    """A file of which rows are missing that were once on disk."""

    number: int
    path: Path
    what: str


class _File(NamedTuple):
    number: int
    head: Head


class Spool:
    """`seq` and `hash`: the newest row on disk; 0 and GENESIS for none.

    The order of the files is what their heads say; their names only tell them apart.
    """

    def __init__(self, folder: Path, block: int = BLOCK, step: Step = unheard) -> None:
        self.folder, self.block = folder, block
        self._step = step
        self.seq, self.hash = 0, GENESIS
        self.followed = 0
        """The newest row that the tables have on disk for certain: each frame says so."""
        self.damaged: list[Damaged] = []
        self.torn_bytes = 0
        """Of a write that was under way when the power was cut; nobody was told it was done."""
        self.is_full = False
        """For tests and drills: pretend that not one block is left."""
        self._files: list[_File] = []
        self._writing: Writing | None = None
        self._end = 0
        self._is_stale = False
        self._refused: set[int] = set()
        """Spare files that took no write in this life."""
        self._filling: threading.Thread | None = None
        self._filled_at = -REFILL_S

    @classmethod
    def open(
        cls,
        folder: Path,
        block: int = BLOCK,
        *,
        known: int = 0,
        is_checked: bool = False,
        step: Step = unheard,
    ) -> Self:
        """Look at the newest files and find the end. Raises: OSError.

        `block`: of what is written from now on; in bytes. `known`: a row that the tables have.
        `is_checked`: walk all files, not only the newest ones. `step`: one file was read.
        `damaged` then says what must be repaired (repair.py) before anything is appended.
        """
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            sync_folder(folder.parent)
        spool = cls(folder, block, step)
        _adopt_mended(folder)
        scan = spool._find_end(known)
        spool.seq, spool.hash, spool._end = scan.seq, scan.hash, scan.end
        spool.followed = min(scan.followed, scan.seq)
        spool._look_back(sys.maxsize if is_checked else CHECKED_AT_START)
        if not spool.damaged:
            spool._make_room()
        return spool

    def append(self, rows: Sequence[Row], texts: Sequence[bytes] = ()) -> list[bytes]:
        """Write rows whose `seq` go on from `self.seq`, all or none; their hashes.

        `texts`: of each row, what `text_of` says, if that is known already.
        Raises: OSError; nothing of it counts then, unless `look_again` finds it.
        """
        if self._is_stale:
            raise Stale(errno.EIO, "the last write failed")
        if self.is_full:
            raise OSError(errno.ENOSPC, "no block left")
        assert rows[0].seq == self.seq + 1, "a row is never written over another"
        hashes, data, last = [], bytearray(), self.hash
        for row, text in zip(rows, texts or map(text_of, rows), strict=True):
            last = chained(last, text)
            hashes.append(last)
            data += pack(row.seq, self.seq, last, text, self.block, self.followed)
        self._is_stale = True  # until the disk has said yes
        self._put(bytes(data))
        self._is_stale = False
        self.seq, self.hash = rows[-1].seq, last
        return hashes

    @property
    def is_stale(self) -> bool:
        """A write failed; `look_again` before the next one."""
        return self._is_stale

    def look_again(self) -> None:
        """After a failed write: read what is really there, and write it once more to be sure.

        A place that takes no second write is left behind for the next file.
        Raises: OSError; Gone, if the log lost what it had.
        """
        self._drop()
        scan = self._find_end(self.seq)
        if self.damaged or scan.seq < self.seq:
            raise Gone(errno.EIO, "rows that were on disk are gone")
        self._end = scan.end
        try:
            self._write_again()
        except OSError:
            self._go_on_elsewhere()
        else:
            self.seq, self.hash = scan.seq, scan.hash
        self._is_stale = False

    def rows(self, after: int = 0) -> Iterator[tuple[Row, bytes]]:
        """(row, hash) of all rows behind `after`, oldest first, what cannot be read left out."""
        for file, below in self._ranges():
            if below <= after + 1:
                continue
            for frame in self._frames(file, below):
                if frame.seq > after:
                    yield frame.row, frame.hash

    def walk(self) -> Iterator[tuple[int, Head, Scan, int | None]]:
        """Each file in use, read whole: (number, head, what is there, the next one's first row)."""
        for file, below in self._ranges():
            self._step()
            raw = segment.path_of(self.folder, file.number).read_bytes()
            limit = below if file is not self._files[-1] else None
            yield file.number, file.head, segment.scan(memoryview(raw), file.head, limit), limit

    @property
    def spare_bytes(self) -> int:
        """Room for rows that needs no further space of the file system. From any thread."""
        spare = sum(segment.path_of(self.folder, n).stat().st_size for n in self._spares())
        writing = self._writing  # read once: the writer's thread drops it after a failure
        return spare + (writing.size - self._end if writing else 0)

    def keep_reserve(self) -> None:
        """Now and then: what a full disk refused may be had by now."""
        if time.monotonic() - self._filled_at >= REFILL_S:
            self.replenish()

    def replenish(self) -> None:
        """Make blank files in the background until the reserve is whole."""
        if self._filling is None or not self._filling.is_alive():
            self._filled_at = time.monotonic()
            self._filling = threading.Thread(target=self._fill, name="spool-reserve", daemon=True)
            self._filling.start()

    def close(self) -> None:
        if self._filling:
            self._filling.join()
        self._drop()

    # ---- inside ----

    def _find_end(self, known: int) -> Scan:
        self.damaged, self._files = [], []
        strange = []
        for number in segment.numbers(self.folder):
            path = segment.path_of(self.folder, number)
            with path.open("rb") as file:
                raw = file.read(HEAD_SIZE)
            if head := segment.read_head(raw):
                self._files.append(_File(number, head))
            elif not segment.is_blank(raw) or not segment.is_blank(path.read_bytes()):
                strange.append(number)
        self._files.sort(key=lambda file: (file.head.first_seq, file.number))
        self._miss()
        scan = self._scan_newest(known)
        for number in strange:
            self._judge(number, scan.seq, known)
        return scan

    def _miss(self) -> None:
        """Files are numbered without holes: one below the newest in use that is not there was."""
        there = set(segment.numbers(self.folder))
        for number in range(1, self._newest_number()):
            if number not in there:
                self._found(number, "文件不见了")

    def _found(self, number: int, what: str) -> None:
        self.damaged.append(Damaged(number, segment.path_of(self.folder, number), what))

    def _scan_newest(self, known: int) -> Scan:
        if not self._files:
            return Scan(0, GENESIS, 0, "whole")
        newest = self._files[-1]
        path = segment.path_of(self.folder, newest.number)
        raw = path.read_bytes()
        scan = segment.scan(memoryview(raw), newest.head, known=known)
        if scan.verdict == "damaged":
            self._found(newest.number, f"第 {scan.seq + 1} 条起读不出")
        elif scan.verdict == "torn":
            self._wipe(path, scan.end, len(raw.rstrip(b"\0")))
        return scan

    def _look_back(self, left: int) -> None:
        """Walk the files before the newest, as many as fit into `left` bytes."""
        if self._files and self._files[0].head.first_seq > 1:
            self._lack(0)
        for file, below in reversed(self._ranges()[:-1]):
            self._step()
            raw = segment.path_of(self.folder, file.number).read_bytes()
            left -= len(raw)
            if left < 0:
                return
            scan = segment.scan(memoryview(raw), file.head, below)
            if scan.verdict == "damaged" and segment.is_blank(raw[scan.end :]):
                self._lack(file.number)  # it is whole: what came behind it was in another
            elif scan.verdict == "damaged":
                self._found(file.number, f"第 {scan.seq + 1} 条起读不出")

    def _lack(self, before: int) -> None:
        """Rows are missing behind that file: in one that lost its head, or was emptied."""
        used = {file.number for file in self._files}
        if any(bad.number not in used for bad in self.damaged):
            return
        unused = (n for n in range(1, self._newest_number()) if n not in used)
        number = next(unused, before)
        self._found(number, "文件被清空" if number != before else "后面缺流水")

    def _ranges(self) -> list[tuple[_File, int]]:
        """Each file with the row that it ends before."""
        ends = [file.head.first_seq for file in self._files[1:]] + [self.seq + 1]
        return list(zip(self._files, ends, strict=True)) if self._files else []

    def _judge(self, number: int, newest_seq: int, known: int) -> None:
        """A file without a head: one that was just being put to use, or one that lost it."""
        path = segment.path_of(self.folder, number)
        raw = path.read_bytes()
        proofs = (frame.durable for frame in segment.strays(memoryview(raw), BLOCK_MIN))
        if number < self._newest_number() or max(known, *proofs, 0) > newest_seq:
            self._found(number, "文件头读不出")
        else:
            self._wipe(path, 0, len(raw.rstrip(b"\0")))

    def _wipe(self, path: Path, start: int, end: int) -> None:
        """Bytes that nobody was told of: blank them, so that they are never wondered at again."""
        self.torn_bytes += end - start
        log.warning("a torn write was left by a power cut", extra={"bytes": end - start})
        filled = -(-end // HEAD_SIZE) * HEAD_SIZE
        with suppress(OSError), Writing(path) as writing:
            writing.put(bytes(min(filled, writing.size) - start), start)

    def _frames(self, file: _File, below: int) -> Iterator[Frame]:
        raw = segment.path_of(self.folder, file.number).read_bytes()
        for _, frame in segment.frames(memoryview(raw), file.head, below):
            yield frame

    def _put(self, data: bytes) -> None:
        if self._writing is None:
            self._writing = self._reopened()
        if self._writing is not None and self._end + len(data) <= self._writing.size:
            self._writing.put(data, self._end)
            self._end += len(data)
            return
        self._begin_next(data)

    def _reopened(self) -> Writing | None:
        if not self._files or not self._end or self._files[-1].head.block != self.block:
            return None
        return Writing(segment.path_of(self.folder, self._files[-1].number))

    def _begin_next(self, data: bytes) -> None:
        """Head and first rows in one write: either the file is in use, or it is still blank."""
        number = self._next_spare(HEAD_SIZE + len(data))
        head = Head(self.block, self.seq + 1, self.hash)
        self._drop()
        try:
            writing = Writing(segment.path_of(self.folder, number))
            writing.put(segment.pack_head(head) + data, 0)
        except OSError:
            self._refused.add(number)
            raise
        self._writing, self._end = writing, HEAD_SIZE + len(data)
        self._files.append(_File(number, head))
        self.replenish()

    def _next_spare(self, size: int) -> int:
        """A blank file that has room, or a new one; such as took no write are tried last."""
        if not self._spares() and self._filling:
            self._filling.join()
        hole = self._next_number()
        for number in self._spares():
            if number > hole:  # else the next start would miss a file
                with suppress(OSError):
                    return self._create(hole, size)
            path = segment.path_of(self.folder, number)
            if number not in self._refused and path.stat().st_size >= size:
                return number
        try:
            return self._create(hole, size)
        except OSError:
            self._refused.clear()
            raise

    def _create(self, number: int, size: int) -> int:
        segment.create(self.folder, number, max(SEGMENT_BYTES, size))
        return number

    def _write_again(self) -> None:
        """What a failed write left behind our newest row is written once more; if it left
        nothing, a blank block is. No block with a row that somebody was told of is touched."""
        if not self._files:
            return
        newest = self._files[-1]
        path = segment.path_of(self.folder, newest.number)
        raw = path.read_bytes()
        start = 0 if newest.head.first_seq > self.seq else self._end
        for at, frame in segment.frames(memoryview(raw), newest.head):
            if frame.seq == self.seq + 1 and start:
                start = at
        left = raw[start : self._end] or bytes(min(HEAD_SIZE, len(raw) - start))
        self._writing = Writing(path)
        if left:
            self._writing.put(left, start)

    def _go_on_elsewhere(self) -> None:
        """The newest file takes no more: what it has behind our newest row was never answered
        for, and the next file begins before it."""
        log.error("a log file takes no more writes", extra={"rows": self.seq})
        self._drop()
        self._end = 0

    def _spares(self) -> list[int]:
        used = {file.number for file in self._files} | {bad.number for bad in self.damaged}
        newest = self._newest_number()
        return [n for n in segment.numbers(self.folder) if n > newest and n not in used]

    def _newest_number(self) -> int:
        return max((file.number for file in self._files), default=0)

    def _next_number(self) -> int:
        """The lowest behind the newest file in use that no file has."""
        there, number = set(segment.numbers(self.folder)), self._newest_number() + 1
        while number in there:
            number += 1
        return number

    def _make_room(self) -> None:
        """The first file at once: without it nothing can be sold. The others can wait."""
        if not self._files and not self._spares():
            segment.create(self.folder, 1, SEGMENT_BYTES)
        self.replenish()

    def _fill(self) -> None:
        try:
            while len(self._spares()) * SEGMENT_BYTES < reserve_bytes(self.block):
                segment.create(self.folder, self._next_number(), SEGMENT_BYTES)
        except OSError as full:
            log.error("the reserve is not whole", extra={"reason": os.strerror(full.errno or 0)})

    def _drop(self) -> None:
        if self._writing:
            self._writing.close()
        self._writing = None


def reserve_bytes(block: int) -> int:
    """One passage is 45 KB in blocks of 4096 (seen): four times as much is kept."""
    return RESERVE_BYTES * max(1, block // 1024)


def _adopt_mended(folder: Path) -> None:
    """A power cut between setting a damaged file aside and putting the mended one in its place."""
    for half in folder.glob("*.mended"):
        place = half.with_suffix(".seg")
        if place.exists():
            half.unlink()  # it was not yet whole, and the damaged one is still there
        else:
            half.rename(place)
            sync_folder(folder)

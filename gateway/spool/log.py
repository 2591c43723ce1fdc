"""The log as a whole: a row of files, the newest one growing. One thread, one process.

What `append` returned from survives a power cut. After a failed write nothing is believed: the
file is read again, and what is really there counts, also what was refused a moment ago.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from gateway.spool import segment
from gateway.spool.frame import GENESIS, Frame, Row, chained, pack, text_of
from gateway.spool.segment import HEAD_SIZE, Head, Scan, Writing

log = logging.getLogger(__name__)

BLOCK = 512  # bytes; 4096 for a disk that may spoil the neighbours of a sector it was writing
BLOCK_MIN = 512
SEGMENT_BYTES = 8 * 1024 * 1024
RESERVE_BYTES = 16 * 1024 * 1024
"""Blank files kept ready: 1 000 passages of some 8 KB are finished after the disk is full."""


class Stale(OSError):
    """The last write failed and the file could not be looked at since."""


class Damaged(NamedTuple):
    """A file of which rows are missing that were once on disk."""

    number: int
    path: Path
    what: str


class _File(NamedTuple):
    number: int
    head: Head


class Spool:
    """`seq` and `hash`: the newest row on disk; 0 and GENESIS for none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seq, self.hash = 0, GENESIS
        self.damaged: list[Damaged] = []
        self.torn_bytes = 0
        """Of a write that was under way when the power was cut; nobody was told it was done."""
        self.is_full = False
        """For tests and drills: pretend that not one block is left."""
        self._files: list[_File] = []
        self._writing: Writing | None = None
        self._end = 0
        self._is_stale = False
        self._filling: threading.Thread | None = None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Look at the newest file and find the end. Raises: OSError.

        `damaged` then says what must be repaired (repair.py) before anything is appended.
        """
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:
            segment.sync_folder(folder.parent)
        spool = cls(folder)
        spool._find_end()
        if not spool.damaged:
            spool._make_room()
        return spool

    def append(self, rows: Sequence[Row]) -> list[bytes]:
        """Write rows whose `seq` go on from `self.seq`, all or none; their hashes.

        Raises: OSError; nothing of it counts then, unless `look_again` finds it.
        """
        if self._is_stale:
            raise Stale(5, "the last write failed")
        if self.is_full:
            raise OSError(28, "no block left")
        hashes, data, last = [], bytearray(), self.hash
        for row in rows:
            text = text_of(row)
            last = chained(last, text)
            hashes.append(last)
            data += pack(row.seq, self.seq, last, text, BLOCK)
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

        A place that takes no second write is left behind for the next file. Raises: OSError.
        """
        self._drop()
        seq = self.seq
        self._find_end()
        if self.damaged or self.seq < seq:
            raise OSError(5, "rows that were on disk are gone")
        with suppress(OSError):
            self._write_again(seq)
            self._is_stale = False
            return
        self._go_on_elsewhere(seq)
        self._is_stale = False

    def rows(self, after: int = 0) -> Iterator[tuple[Row, bytes]]:
        """(row, hash) of all rows behind `after`, oldest first, damaged files skipped."""
        for number, file in enumerate(self._files):
            following = self._files[number + 1] if number + 1 < len(self._files) else None
            below = following.head.first_seq if following else self.seq + 1
            if below <= after + 1:
                continue
            for frame in self._frames(file, below):
                if frame.seq > after:
                    yield frame.row, frame.hash

    @property
    def spare_bytes(self) -> int:
        """Room for rows that needs no further space of the file system."""
        spare = sum(segment.path_of(self.folder, n).stat().st_size for n in self._spares())
        current = self._writing.size - self._end if self._writing else 0
        return spare + current

    def replenish(self) -> None:
        """Make blank files in the background until the reserve is whole."""
        if self._filling is None or not self._filling.is_alive():
            self._filling = threading.Thread(target=self._fill, name="spool-reserve", daemon=True)
            self._filling.start()

    def close(self) -> None:
        if self._filling:
            self._filling.join()
        self._drop()

    # ---- inside ----

    def _find_end(self) -> None:
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
        scan = self._scan_newest()
        for number in strange:
            self._judge(number, scan.seq)
        self.seq, self.hash, self._end = scan.seq, scan.hash, scan.end

    def _scan_newest(self) -> Scan:
        if not self._files:
            return Scan(0, GENESIS, 0, "whole")
        newest = self._files[-1]
        path = segment.path_of(self.folder, newest.number)
        raw = path.read_bytes()
        scan = segment.scan(memoryview(raw), newest.head)
        if scan.verdict == "damaged":
            what = f"第 {scan.seq + 1} 条起读不出"
            self.damaged.append(Damaged(newest.number, path, what))
        elif scan.verdict == "torn":
            self._wipe(path, scan.end, len(raw.rstrip(b"\0")))
        return scan

    def _judge(self, number: int, newest_seq: int) -> None:
        """A file without a head: one that was just being put to use, or one that lost it."""
        path = segment.path_of(self.folder, number)
        raw = memoryview(path.read_bytes())
        is_used = any(frame.durable > newest_seq for frame in segment.strays(raw, BLOCK_MIN))
        if is_used or any(number < file.number for file in self._files):
            self.damaged.append(Damaged(number, path, "文件头读不出"))
        else:
            self._wipe(path, 0, len(bytes(raw).rstrip(b"\0")))

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
        if not self._files or not self._end or self._files[-1].head.block != BLOCK:
            return None
        return Writing(segment.path_of(self.folder, self._files[-1].number))

    def _begin_next(self, data: bytes) -> None:
        """Head and first rows in one write: either the file is in use, or it is still blank."""
        if not self._spares() and self._filling:
            self._filling.join()
        number = next(iter(self._spares()), None)
        if number is None:
            number = self._next_number()
            segment.create(self.folder, number, max(SEGMENT_BYTES, HEAD_SIZE + len(data)))
        head = Head(BLOCK, self.seq + 1, self.hash)
        self._drop()
        writing = Writing(segment.path_of(self.folder, number))
        writing.put(segment.pack_head(head) + data, 0)
        self._writing, self._end = writing, HEAD_SIZE + len(data)
        self._files.append(_File(number, head))
        self.replenish()

    def _write_again(self, seq: int) -> None:
        """What a failed write left beyond `seq` is written once more, or the end as it is."""
        if not self._files:
            return
        newest = self._files[-1]
        path = segment.path_of(self.folder, newest.number)
        raw = path.read_bytes()
        start = HEAD_SIZE
        for at, frame in segment.frames(memoryview(raw), newest.head):
            start = at if frame.seq <= seq else start
        self._writing = Writing(path)
        self._writing.put(raw[: self._end], 0) if start == HEAD_SIZE else self._writing.put(
            raw[start : self._end], start
        )

    def _go_on_elsewhere(self, seq: int) -> None:
        """The newest file takes no more: what it has beyond `seq` was never answered for."""
        log.error("a log file takes no more writes", extra={"rows": self.seq})
        newest = self._files[-1]
        last = newest.head.previous
        for frame in self._frames(newest, seq + 1):
            last = frame.hash
        self._drop()
        self.seq, self.hash, self._end = seq, last, 0

    def _spares(self) -> list[int]:
        newest = self._files[-1].number if self._files else 0
        return [n for n in segment.numbers(self.folder) if n > newest]

    def _next_number(self) -> int:
        return max(segment.numbers(self.folder), default=0) + 1

    def _make_room(self) -> None:
        """The first file at once: without it nothing can be sold. The others can wait."""
        if not self._files and not self._spares():
            segment.create(self.folder, 1, SEGMENT_BYTES)
        self.replenish()

    def _fill(self) -> None:
        try:
            while len(self._spares()) * SEGMENT_BYTES < RESERVE_BYTES:
                segment.create(self.folder, self._next_number(), SEGMENT_BYTES)
        except OSError as full:
            log.error("the reserve is not whole", extra={"reason": os.strerror(full.errno or 0)})

    def _drop(self) -> None:
        if self._writing:
            self._writing.close()
        self._writing = None

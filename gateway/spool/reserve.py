"""Room kept for the tables: a file of real blocks, given back piece by piece on a full disk.

SQLite cannot be told to keep room; so the room is held by a file of ours beside it and let go when
SQLite finds none. The log keeps its own (log.py).
"""

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

RESERVE = "reserve"  # file beside the database
SIZE = 64 * 1024 * 1024
"""1 000 passages of some 40 KB (rows, indexes, answers) and SQLite's own log of up to 16 MB."""
STEP = 4 * 1024 * 1024  # bytes let go at once


class Reserve:
    """`held_bytes` of `size` are really allocated. Used by two threads, one at a time."""

    def __init__(self, path: Path, size: int = SIZE, step: int = STEP) -> None:
        self._path, self.size, self.step = path, size, min(step, size)
        self._turn = threading.Lock()
        self.held_bytes = 0
        with suppress(OSError):
            self.held_bytes = path.stat().st_size

    @property
    def is_whole(self) -> bool:
        return self.held_bytes >= self.size

    def release(self) -> bool:
        """Give one piece back to the file system; False if there is none left."""
        with self._turn:
            left = max(0, self.held_bytes - self.step)
            if not self.held_bytes:
                return False
            try:
                os.truncate(self._path, left)
            except OSError as broken:
                log.error("the reserve cannot be used", extra={"reason": str(broken)})
                return False
            self.held_bytes = left
        log.warning("the tables live on their reserve", extra={"left_bytes": left})
        return True

    def rebuild(self) -> None:
        """Take one piece back. Blocks; raises: OSError, if the disk has none."""
        with self._turn:
            if self.is_whole:
                return
            wanted = min(self.size, self.held_bytes + self.step)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(fd, 0, wanted)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, self.held_bytes)
                raise
            finally:
                os.close(fd)
            self.held_bytes = wanted

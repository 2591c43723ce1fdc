"""What the disk last said to the two copies of money. Set in one thread, read by anyone."""

import errno
import sqlite3
import statistics
from collections import Counter, deque

SYNCS = 21  # the newest, of which the middle one is told


class Health:
    """Plain values: whoever reads may be a moment late, never wrong for long."""

    def __init__(self) -> None:
        self.log_errno = 0
        """What the newest write of the log failed with; 0: the disk took it."""
        self.tables_errno = 0
        """The same of the tables. They may lag behind the log, which is no loss."""
        self.faults: Counter[int] = Counter()
        """Failed writes of this life by errno."""
        self._syncs_ms: deque[float] = deque(maxlen=SYNCS)

    def took(self, ms: float) -> None:
        """A write is on disk, after so long."""
        self._syncs_ms.append(ms)

    def log_said(self, number: int) -> None:
        """0, or why the log took nothing."""
        self.log_errno = number
        if number:
            self.faults[number] += 1

    def tables_said(self, number: int) -> None:
        """0, or why the tables took nothing."""
        self.tables_errno = number
        if number:
            self.faults[number] += 1

    @property
    def median_ms(self) -> float:
        """Of the newest writes; 0 before the first."""
        return statistics.median(self._syncs_ms) if self._syncs_ms else 0.0


_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR_SHMSIZE: errno.ENOSPC,  # no room for the index of its own log
    sqlite3.SQLITE_READONLY: errno.EROFS,
}


def errno_of(fault: BaseException) -> int:
    """Of an OSError or of SQLite's own kind; EIO where nothing better is known."""
    if isinstance(fault, OSError):
        return fault.errno or errno.EIO
    code = getattr(fault, "sqlite_errorcode", 0)
    return _ERRNO.get(code) or _ERRNO.get(code & 0xFF, errno.EIO)


_WORDS = {errno.ENOSPC: "磁盘满了", errno.EDQUOT: "磁盘满了", errno.EROFS: "磁盘变成了只读"}


def words(fault: BaseException) -> str:
    """The same for people, in Chinese; the system's own words go to the log."""
    return _WORDS.get(errno_of(fault), "磁盘读写出错")

"""What one passage writes to the disk: the log, the files kept ready for it, the tables.

The log's bytes are counted by its own end. Blank files cost as much again, once each: they are
filled with zeros before they are used. The rest is what /proc/PID/io says of the whole process
less both: the tables' pages, first into SQLite's log, then into the file, and the photo.
"""

import time
from pathlib import Path
from typing import NamedTuple

from gateway.spool.log import SEGMENT_BYTES
from gateway.spool.segment import numbers
from gateway.store import SPOOL
from tests.bench import box

WARM_UP = 20
LONE_S = 1.0  # so that the tables follow each vehicle for itself
SETTLE_S = 3.0  # the tables have followed by then


class Wear(NamedTuple):
    """Bytes for one passage."""

    log: float
    blank: float
    photo: float
    all: float

    @property
    def tables(self) -> float:
        return self.all - self.log - self.blank - self.photo


def measure(folder: Path, count: int, pause_s: float) -> Wear:
    """`pause_s`: between vehicles. In a row they share pages that a lane would write singly."""
    with box.instant(folder) as (port, pid):
        browser = box.Dialogue(port)
        browser.sign_in()
        _drive(browser, WARM_UP, 0.0)
        time.sleep(SETTLE_S)
        before = _written(folder, pid)
        _drive(browser, count, pause_s)
        time.sleep(SETTLE_S)
        after = _written(folder, pid)
        browser.close()
    return Wear(*((late - early) / count for early, late in zip(before, after, strict=True)))


def _drive(browser: box.Dialogue, count: int, pause_s: float) -> None:
    for _ in range(count):
        browser.passage(browser.call("POST", "/bench/vehicle", {"preset": "truck"}))
        time.sleep(pause_s)


def _written(folder: Path, pid: int) -> Wear:
    spool, evidence = folder / SPOOL, folder / "evidence"
    blank = len(numbers(spool)) * SEGMENT_BYTES
    photos = sum(path.stat().st_blocks * 512 for path in evidence.rglob("*") if path.is_file())
    return Wear(_log_bytes(spool), blank, photos, box.bytes_written(pid))


def _log_bytes(spool: Path) -> int:
    """Up to the end of what is in use, past the page cache as it is written."""
    paths = [spool / f"{number:06d}.seg" for number in numbers(spool)]
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in paths)

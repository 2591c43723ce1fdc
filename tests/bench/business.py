"""A box with a million rows behind it: how long until it sells, and until all is verified.

Open for business is the first snapshot of a lane that a signed-in browser gets over HTTP, counted
from the process's start. The centre cannot be reached: nothing else is at work. Every start finds
the folder as the one before left it, its pages in memory except for the one start that is called
cold. Verification walks the log as `lane-gateway journal verify` does: CRC and hash chain of each
row, two processes.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

from gateway.spool import verify
from gateway.store import SPOOL
from tests.bench import box

PROCESSES = 2


class Opening(NamedTuple):
    """Seconds from the process's start."""

    snapshot: float
    processor: float
    """Of all its threads, until then."""
    rev: int


def verified(data: Path) -> float:
    """Seconds. Raises: AssertionError, if anything is damaged."""
    begun = time.perf_counter()
    damages = verify.log_damage(data / SPOOL, PROCESSES)
    took = time.perf_counter() - begun
    assert not damages, damages
    return took


def opened(data: Path) -> Opening:
    begun = time.perf_counter()
    with box.instant(data, "alone") as (port, pid):
        browser = box.Dialogue(port)
        browser.sign_in()
        told = browser.call("GET", "/api/lanes/X03")
        snapshot = time.perf_counter() - begun
        busy = box.processor_s(pid)
        browser.close()
    assert told["problem"] is None, told["problem"]
    return Opening(snapshot, busy, told["rev"])


def out_of_memory(data: Path) -> None:
    """Let the next reader of these files wait for the disk."""
    for path in (*data.glob("lane.db*"), *(data / SPOOL).iterdir()):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

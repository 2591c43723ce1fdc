"""What the kernel says of its own clock: adjtimex(2), asked and never told."""

import ctypes
from pathlib import Path

from gateway.units import RELEASED_MS, Clock, Quality

STA_UNSYNC = 0x0040
TIME_ERROR = 5
ERROR_US_MAX = 16_000_000  # what the kernel itself calls hopeless
SYNCED = Path("/run/systemd/timesync/synchronized")
"""Made by systemd-timesyncd; read where the sandbox does not let us ask the kernel."""
RTC = Path("/sys/class/rtc/rtc0")


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, Linux."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),  # not read; more than enough room for it
    )


def quality(clock: Clock) -> Quality:
    """Of the machine's clock, now. `clock` only to tell whether it was ever set."""
    error_us = _error_us()
    if error_us is not None or (SYNCED.exists() and clock.now_ms() >= RELEASED_MS):
        return Quality("ntp", is_synchronised=True, error_ms=(error_us or 0) // 1000)
    if clock.now_ms() < RELEASED_MS:
        return Quality("unset", is_synchronised=False)
    return Quality("rtc" if RTC.exists() else "manual", is_synchronised=False)


def _error_us() -> int | None:
    """The largest error, while somebody keeps the clock in step; None if nobody does."""
    asked = _Timex()
    try:
        said = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None
    is_kept = said not in (-1, TIME_ERROR) and not asked.status & STA_UNSYNC
    return asked.maxerror if is_kept and asked.maxerror < ERROR_US_MAX else None

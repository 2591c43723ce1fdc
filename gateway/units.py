"""Scalars of the lane, each named by its unit, and the clock everyone is given."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Literal, NamedTuple, NewType, Protocol

Fen = NewType("Fen", int)
"""Money, 1/100 yuan, never a float."""
Kilogram = NewType("Kilogram", int)
PassageId = NewType("PassageId", str)
"""Our own key of one vehicle at one lane: 本车道一次过车."""

COUNT_MAX = 2**62
"""Of what others count for us: SQLite's integers hold it, and sums of a few."""
FEN_MAX = 2**32 - 1
"""Of any one amount: cards and PSAMs hold four bytes."""
YEARS = range(1970, 2200)
"""What anybody may say of time: it can be told in any zone."""
MS_MAX = 7_258_118_400_000
"""Where they end: 2200-01-01 UTC."""

BEIJING = timezone(timedelta(hours=8), "CST")
"""Every date and time on cards and in records is Beijing time; China has no other."""


RELEASED_MS = 1_735_689_600_000
"""2025-01-01 UTC: no box lives before this; a clock that says so was never set."""


class Quality(NamedTuple):
    """Who keeps the machine's clock, and how well (reliability.md rule 8)."""

    source: Literal["ntp", "rtc", "manual", "unset"]
    is_synchronised: bool
    error_ms: int | None = None
    """At most, as the kernel says; None where nobody keeps it."""


class ClockState(NamedTuple):
    """What is known of the clock at one moment. `source` as in `Quality`; empty: unknown."""

    source: str = ""
    is_synchronised: bool | None = None
    error_ms: int | None = None
    ahead_ms: int = 0
    """Assumed time minus the wall clock's: not 0 while the wall clock is not believed."""
    offset_ms: int | None = None
    """The centre's clock minus ours, as of its last answer."""


class Clock(Protocol):
    """All time comes from here, so that tests can hold it still."""

    boot_id: str

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 UTC. May jump."""

    def monotonic_ms(self) -> int:
        """Milliseconds since boot. Never jumps back within one boot."""

    async def sleep(self, seconds: float) -> None: ...


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else "unknown"


class SystemClock:
    """The machine's clock; with `boot_id` the only reading of time in the house."""

    def __init__(self) -> None:
        self.boot_id = _boot_id()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def beijing(at_ms: int) -> datetime:
    """Milliseconds since 1970 UTC as an aware Beijing datetime."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(BEIJING)


def iso(at_ms: int) -> str:
    """ISO 8601 with offset, to the second: 2020-11-11T10:30:00+08:00."""
    return beijing(at_ms).isoformat(timespec="seconds")


def compact(at_ms: int) -> str:
    """yyyymmddHHMMSS in Beijing time, as cards and ids want it."""
    return beijing(at_ms).strftime("%Y%m%d%H%M%S")


def plausible(at: datetime) -> datetime:
    """As it came. Raises: ValueError, if it is of no year that a lane has to do with."""
    if at.year not in YEARS:
        raise ValueError(f"no year of ours: {at.year}")
    return at


def moment_ms(text: str) -> int:
    """ISO 8601 → ms since 1970 UTC. Raises: ValueError, also without a zone or out of YEARS."""
    moment = plausible(datetime.fromisoformat(text))
    if moment.tzinfo is None:
        raise ValueError("a time without zone")
    return round(moment.timestamp() * 1000)


def yuan(amount_fen: int) -> str:
    """For people: 4280 → 42.80."""
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d}"

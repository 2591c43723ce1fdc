"""A clock that stands still until it is told otherwise."""

import asyncio


class StillClock:
    """Time passes only by sleeping, or when a test says so."""

    boot_id = "test"

    def __init__(self, late_s: float = 0.0) -> None:
        self.ms = 1_700_000_000_000
        self.slept: list[float] = []
        self.late_s = late_s

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += round((seconds + self.late_s) * 1000)
        await asyncio.sleep(0)

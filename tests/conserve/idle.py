"""A loop whose time passes only while it has nothing to do, and then quickly.

A busy machine therefore makes no request late, nor does a slow disk, if the loop is told that
somebody waits for it: what is late is late because the plan says so.
"""

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

SPEED = 400.0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    passed_s, speed = 0.0, SPEED
    is_waiting: Callable[[], bool] = staticmethod(lambda: False)

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        began = time.perf_counter()
        events = super().select(timeout / self.speed)
        if not self.is_waiting():
            self.passed_s += min(timeout, (time.perf_counter() - began) * self.speed)
        return events


class IdleLoop(asyncio.SelectorEventLoop):
    """Real sockets and threads; time as its selector counts it."""

    def __init__(self, speed: float = SPEED) -> None:
        """`speed`: seconds that pass in an idle one."""
        self._idle = _Selector()
        self._idle.speed = speed
        super().__init__(self._idle)

    def stands_while(self, is_waiting: Callable[[], bool]) -> None:
        """No time passes while this says so."""
        self._idle.is_waiting = is_waiting

    def time(self) -> float:
        return self._idle.passed_s


class IdleClock:
    """The loop's time for everyone."""

    boot_id = "conserve"

    def __init__(self, began_ms: int) -> None:
        self._began_ms = began_ms

    def monotonic_ms(self) -> int:
        return 1_000_000 + round(asyncio.get_event_loop().time() * 1000)

    def now_ms(self) -> int:
        return self._began_ms + self.monotonic_ms()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

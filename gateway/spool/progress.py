"""How far a long start has come: said while it moves, so that nobody ends it for being slow.

Knows nobody who listens. A start that hangs says nothing, and is ended.
"""

import time
from collections.abc import Callable

EVERY_S = 5.0  # between two words of the same work
HANG_S = 60.0  # a work that makes no step for so long hangs
SILENT_BYTES_S = 10_000_000  # what the slowest disk reads, where SQLite says nothing meanwhile

Hear = Callable[[str, float], None]
"""What is done now, in Chinese, and for how many seconds from now that may be the last word."""
Step = Callable[[], None]


def unheard() -> None:
    """A step that nobody waits for."""


class Progress:
    """Told by whoever works through much; one at a time, in whatever thread."""

    def __init__(
        self, hear: Hear = lambda _, __: None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._hear, self._now = hear, now
        self._what, self._count = "", 0
        self._said_s = float("-inf")
        self._is_over = False

    def begin(self, what: str, silent_bytes: int = 0) -> None:
        """Another work begins. `silent_bytes`: to be read before its first step."""
        self._what, self._count = what, 0
        self._say(HANG_S + silent_bytes / SILENT_BYTES_S)

    def step(self) -> None:
        """One more row, or photo, or file is done."""
        self._count += 1
        if self._now() - self._said_s >= EVERY_S:
            self._say(HANG_S)

    def end(self) -> None:
        """The start is over: what is mended later keeps nobody waiting."""
        self._is_over = True

    def _say(self, allowed_s: float) -> None:
        self._said_s = self._now()
        if not self._is_over:
            self._hear(f"{self._what}：{self._count}" if self._count else self._what, allowed_s)

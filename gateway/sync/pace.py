"""How much goes into one body: as much as lately came back within a fraction of a second.

A slow line gets small bodies, so that a vehicle that is saved now never waits long behind old
ones; a quick one gets large bodies. Counts plain bytes, before compression.
"""

TARGET_S = 0.35  # of one exchange: with a live one behind it the second is still this one
BYTES_MIN, BYTES_FIRST, BYTES_MAX = 8 * 1024, 64 * 1024, 1536 * 1024
LINES_MAX = 1000
LINE_BYTES = 1500  # until one was seen


class Pace:
    """Of one lane's sending."""

    def __init__(self) -> None:
        self.bytes = BYTES_FIRST
        self._line_bytes = float(LINE_BYTES)
        self.lines_max = LINES_MAX
        """Halved while a batch gets no verdict, to find the line that it stumbles over."""

    @property
    def lines(self) -> int:
        """How many to read for the next body."""
        return max(1, min(self.lines_max, round(self.bytes / self._line_bytes) + 1))

    def took(self, count: int, size: int, seconds: float) -> None:
        """A body of so many lines and bytes was answered after so long."""
        self._line_bytes += 0.3 * (size / count - self._line_bytes)
        if count >= self.lines_max:
            self.lines_max = min(LINES_MAX, self.lines_max * 2)
        is_full = size * 2 > self.bytes or count >= LINES_MAX
        fits = size * TARGET_S / max(seconds, 0.001)
        if seconds > TARGET_S or is_full:
            self.bytes = round(min(max(fits, BYTES_MIN), self.bytes * 2, BYTES_MAX))

    def failed(self) -> None:
        """No answer: perhaps it was too much for this line."""
        self.bytes = max(BYTES_MIN, self.bytes // 2)

    def stumbled(self, count: int) -> None:
        """Somebody answered, but not with verdicts."""
        self.lines_max = max(1, count // 2)

"""The demo with a watch that can be pushed: SIGUSR1 lets two minutes pass on the clock of offers.

Only the reading of time is another one; everything else is the program itself.
"""

import signal
import sys

from gateway import demo
from gateway.__main__ import main
from gateway.pairing import OFFER_MS
from gateway.units import SystemClock


class PushedClock(SystemClock):
    """The machine's clock; its monotonic side can be moved on."""

    pushed_ms = 0

    def monotonic_ms(self) -> int:
        return super().monotonic_ms() + self.pushed_ms


def push(*_: object) -> None:
    PushedClock.pushed_ms += OFFER_MS


if __name__ == "__main__":
    demo.SystemClock = PushedClock  # type: ignore[misc]
    signal.signal(signal.SIGUSR1, push)
    sys.exit(main(["demo", *sys.argv[1:]]))

"""Who else is at work on this machine while something is measured, so that a reader can judge."""

import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple, Self


class Times(NamedTuple):
    """Seconds of all processors since boot: /proc/stat; and of this process and its children."""

    total: float
    busy: float
    stolen: float
    own: float

    @classmethod
    def now(cls) -> Self:
        fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
        values = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields[:8]]
        idle = values[3] + values[4]
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        return cls(sum(values), sum(values) - idle - values[7], values[7], own)


class Burden:
    """`with Burden() as others: …`, then `others.share` is the part of all processors that other
    processes and the hypervisor's other guests took meanwhile, 0 to 1."""

    share = 0.0

    def __enter__(self) -> Self:
        self._before = Times.now()
        return self

    def __exit__(self, *_: object) -> None:
        before, after = self._before, Times.now()
        spent = max(after.total - before.total, 0.01)
        others = after.busy - before.busy + after.stolen - before.stolen - (after.own - before.own)
        self.share = min(1.0, max(0.0, others / spent))

    def __str__(self) -> str:
        return f"others had {self.share * 100:.0f} % of the processors"


def wait_for_quiet(share: float, patience_s: float) -> float:
    """Wait until others take no more than `share`, or for as long as `patience_s`; what they
    took in the last second."""
    until, seen = time.monotonic() + patience_s, [1.0]
    while True:
        with Burden() as others:
            time.sleep(0.5)
        seen = [*seen[-1:], others.share]
        if max(seen) <= share or time.monotonic() > until:
            return statistics.mean(seen)

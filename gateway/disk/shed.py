"""What is given up when space runs short, in this order and no other. Money is not in the list.

Photos that the centre lacks are never deleted: only new ones are refused, and last of all.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from gateway.disk.states import Volume

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """Given up while free space is below `below` of the soft line; 0: below the hard line."""

    name: str
    below: float
    text: str


SECOND, SMALLER, HELD, SUPPORT, PHOTOS = (
    "second_photos",
    "small_photos",
    "held_photos",
    "support",
    "photos",
)
ORDER: tuple[Step, ...] = (
    Step(SECOND, 1.0, "同一辆车只存第一张照片"),
    Step(SMALLER, 0.8, "照片改小后再存"),
    Step(HELD, 0.6, "删除上级已有、又过了保存期的照片"),
    Step(SUPPORT, 0.4, "删除旧的支持包、导出文件和没写完的文件"),
    Step(PHOTOS, 0.0, "不再存照片，只写流水"),
)
REPEAT_MS = 60_000
"""Between attempts to delete more. What was deleted is never enough for long."""
Delete = Callable[[], Awaitable[int]]
"""Deletes what may go now; bytes."""


class Shed:
    """How far down the list we are. `deleters`: of the steps that make room at once."""

    def __init__(self, deleters: Mapping[str, Delete], on_change: Callable[[], None]) -> None:
        self._deleters, self._on_change = deleters, on_change
        self.level = 0
        """The first so many steps of ORDER are in force."""
        self._again_ms = 0

    def is_given_up(self, name: str) -> bool:
        return any(step.name == name for step in ORDER[: self.level])

    @property
    def text(self) -> str:
        """What is given up now, in words; empty for nothing."""
        return "；".join(step.text for step in ORDER[: self.level])

    async def adapt(self, volume: Volume, now_ms: int) -> list[tuple[Step, bool, int]]:
        """(step, whether it began or ended, bytes deleted) of all that changed now."""
        wanted = level_of(volume, self.level)
        told: list[tuple[Step, bool, int]] = []
        for step in ORDER[wanted : self.level]:
            told.append((step, False, 0))
        begun = ORDER[self.level : wanted]
        is_due = now_ms >= self._again_ms
        is_new, self.level = wanted != self.level, wanted
        for step in ORDER[:wanted]:
            if step in begun or is_due:
                freed = await self._delete(step.name)
                if step in begun or freed:
                    told.append((step, True, freed))
        if is_due or begun:
            self._again_ms = now_ms + REPEAT_MS
        if is_new:
            self._on_change()
        return told

    async def _delete(self, name: str) -> int:
        deleter = self._deleters.get(name)
        freed = await deleter() if deleter else 0
        if freed:
            log.warning("space was shed", extra={"step": name, "bytes": freed})
        return freed


def level_of(volume: Volume, level: int) -> int:
    """How many steps that much free space demands; a step ends a tenth above where it began."""
    wanted = 0
    for number, step in enumerate(ORDER, 1):
        line = step.below * volume.soft_bytes if step.below else volume.hard_bytes
        if volume.free_bytes < line * (1.1 if number <= level else 1.0):
            wanted = number
    return wanted

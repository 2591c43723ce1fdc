"""What time is assumed, given what the clocks say. Pure: no clock is read here.

Three ways, and the rules between them:

FOLLOW  the wall clock is believed: assumed = wall.
HOLD    the wall clock went back a little (a correction): assumed crawls on until it is overtaken,
        so that no row is earlier than the one before it.
RUN     the wall clock is not believed: assumed goes on by the monotonic clock.

A synchronised clock is always believed in the end. Only a correction of more than two hours back,
by a synchronised clock, makes the assumed time step back: the time before it was wrong.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from gateway.units import RELEASED_MS, Quality

JUMP_MS = 2_000
FORWARD_MS_MAX = 86_400_000
"""Further ahead in one jump is believed of a synchronised clock only."""
ASLEEP_MS_MAX = 400 * 86_400_000
"""A box was not switched off for longer than this; a clock that says so is not believed."""
HOLD_MS_MAX = 2 * 3_600_000
CRAWL = 2  # while held, assumed time goes at half its speed: intervals stay plausible


class Mode(StrEnum):
    FOLLOW = "follow"
    HOLD = "hold"
    RUN = "run"


class Floor(NamedTuple):
    """The newest row of the journal: the time that is certainly past."""

    at_ms: int
    mono_ms: int
    boot_id: str


class Change(NamedTuple):
    """For the journal: assumed time before and after, what the wall clock said, and whose it is."""

    from_ms: int
    to_ms: int
    wall_ms: int
    mode: Mode
    quality: Quality


class Timeline:
    """Fed with readings, in order; `assumed` of each."""

    def __init__(self, quality: Callable[[], Quality]) -> None:
        """`quality`: asked at each jump."""
        self.mode = Mode.FOLLOW
        self.changes: list[Change] = []
        """Not yet journaled."""
        self._quality = quality
        self._wall_ms = self._mono_ms = self._assumed_ms = 0
        self._base_ms = self._base_mono_ms = 0
        """Where HOLD and RUN began."""
        self._is_begun = False

    def begin(self, wall_ms: int, mono_ms: int, boot_id: str, floor: Floor | None) -> None:
        """The first reading of this life, and what the journal knows."""
        self._is_begun = True
        past_ms = floor.at_ms if floor else RELEASED_MS
        expected_ms = past_ms
        if floor and floor.boot_id == boot_id and mono_ms >= floor.mono_ms:
            expected_ms += mono_ms - floor.mono_ms
            self._judge(wall_ms, mono_ms, expected_ms)
        elif wall_ms >= past_ms and (not floor or wall_ms - past_ms <= ASLEEP_MS_MAX):
            self._note(wall_ms, mono_ms, wall_ms)
        else:
            self._correct(wall_ms, mono_ms, expected_ms)

    def at(self, wall_ms: int, mono_ms: int) -> int:
        """The assumed time of a reading."""
        if not self._is_begun:
            return wall_ms
        passed_ms = mono_ms - self._mono_ms
        if abs(wall_ms - self._wall_ms - passed_ms) > JUMP_MS:
            self._judge(wall_ms, mono_ms, self._going_on(mono_ms))
        else:
            self._note(wall_ms, mono_ms, self._next(wall_ms, mono_ms))
        return self._assumed_ms

    def believe_the_kernel(self, wall_ms: int, mono_ms: int) -> None:
        """Now and then: a clock that was set right since is followed again."""
        if self.mode is Mode.RUN and self._quality().is_synchronised:
            self._judge(wall_ms, mono_ms, self._going_on(mono_ms))

    @property
    def ahead_ms(self) -> int:
        """Assumed minus wall, at the newest reading."""
        return self._assumed_ms - self._wall_ms

    # ---- between jumps ----

    def _next(self, wall_ms: int, mono_ms: int) -> int:
        if self.mode is Mode.FOLLOW:
            return max(wall_ms, self._assumed_ms)
        going_on_ms = self._going_on(mono_ms)
        if self.mode is Mode.HOLD and wall_ms >= going_on_ms:
            self._enter(Mode.FOLLOW, wall_ms, mono_ms, going_on_ms, wall_ms)
            return wall_ms
        return going_on_ms

    def _going_on(self, mono_ms: int) -> int:
        """Assumed time, had nothing jumped."""
        if self.mode is Mode.FOLLOW:
            return self._assumed_ms + mono_ms - self._mono_ms
        passed_ms = mono_ms - self._base_mono_ms
        return self._base_ms + (passed_ms // CRAWL if self.mode is Mode.HOLD else passed_ms)

    # ---- at a jump ----

    def _judge(self, wall_ms: int, mono_ms: int, expected_ms: int) -> None:
        """`expected_ms`: what it would be by the monotonic clock."""
        ahead_ms = wall_ms - expected_ms
        if abs(ahead_ms) <= JUMP_MS:
            self._enter(Mode.FOLLOW, wall_ms, mono_ms, expected_ms, max(wall_ms, expected_ms))
        elif 0 < ahead_ms <= FORWARD_MS_MAX and wall_ms >= RELEASED_MS:
            self._enter(Mode.FOLLOW, wall_ms, mono_ms, expected_ms, wall_ms)
        else:
            self._correct(wall_ms, mono_ms, expected_ms)

    def _correct(self, wall_ms: int, mono_ms: int, expected_ms: int) -> None:
        """Back, or very far ahead."""
        is_near = 0 <= expected_ms - wall_ms <= HOLD_MS_MAX and wall_ms >= RELEASED_MS
        if is_near:
            self._enter(Mode.HOLD, wall_ms, mono_ms, expected_ms, expected_ms)
        elif self._quality().is_synchronised and wall_ms >= RELEASED_MS:
            self._enter(Mode.FOLLOW, wall_ms, mono_ms, expected_ms, wall_ms)
        else:
            self._enter(Mode.RUN, wall_ms, mono_ms, expected_ms, expected_ms)

    def _enter(self, mode: Mode, wall_ms: int, mono_ms: int, from_ms: int, to_ms: int) -> None:
        is_new = mode is not self.mode or abs(to_ms - from_ms) > JUMP_MS
        self.mode = mode
        self._base_ms, self._base_mono_ms = to_ms, mono_ms
        if is_new:
            self.changes.append(Change(from_ms, to_ms, wall_ms, mode, self._quality()))
        self._note(wall_ms, mono_ms, to_ms)

    def _note(self, wall_ms: int, mono_ms: int, assumed_ms: int) -> None:
        self._wall_ms, self._mono_ms, self._assumed_ms = wall_ms, mono_ms, assumed_ms

"""Every device the lane may own, as the code above sees it: units in names, faults in text.

Read this first. A driver and its twin (`sim/`) are equal citizens behind these ports.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """A chip's answer: data without the status word, and the status word."""

    data: bytes
    sw: int


class CardLink(Protocol):
    """A chip that answers bytes: the user card, the PSAM in its slot, the OBU's ESAM.

    One caller at a time; an exchange ends within 2 s, with an answer or a fault. After a fault
    the chip must be connected anew: bytes never reach a chip that came after another one left.
    """

    name: str
    """For people and logs: 读卡器, PSAM, OBU."""

    async def connect(self) -> bytes:
        """Power up the chip that is there now and start afresh: its ATR, 2 to 33 bytes.

        Every selection and every open purchase of an earlier connection is gone.
        Raises: CardAbsent, if there is none; DeviceUnavailable, if the reader is gone.
        """

    async def send(self, command: bytes) -> Answer:
        """One command APDU, 4 to 261 bytes, and its final answer, whatever its status word.

        The link itself fetches what 61xx offers (GET RESPONSE) and repeats on 6Cxx with the
        right Le, so callers never see either.
        Raises: NoAnswer, if the command may have arrived and been obeyed (card pulled, reader
        silent); DeviceUnavailable, if it certainly never left.
        """

    async def is_present(self) -> bool:
        """Whether a chip is there now, without disturbing it. Raises: DeviceUnavailable."""

    async def close(self) -> None:
        """Let the chip go. Never raises."""


@dataclass(frozen=True, slots=True)
class PlateReading:
    """What the camera's own recognition says: LPR, 车牌识别."""

    plate: str
    colour: int
    """domain.md §3.1"""
    confidence: tuple[float, ...]
    """One per character, 0 to 1. Not calibrated: a reason to look, never a reason not to."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the lane."""

    jpeg: bytes
    at_ms: int
    reading: PlateReading | None


class Camera(Protocol):
    """The lane camera. A frame is taken after it was asked for, never an old one."""

    name: str
    is_sparing: bool
    """Space is short: pictures of half the size in each direction, and coarser."""

    async def snap(self) -> Frame:
        """A picture taken now, within 3 s. Raises: DeviceUnavailable."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Load:
    """What stands on the scale."""

    weight_kg: int
    is_stable: bool
    at_ms: int
    """When its frame arrived (wall clock)."""


class Scale(Protocol):
    """The weighbridge, listened to all the time."""

    name: str

    async def load(self) -> Load:
        """The newest complete frame, at most 2 s old. Raises: DeviceUnavailable, DeviceGarbled."""

    async def run(self) -> None:
        """Listen until cancelled. Raises: DeviceUnavailable, when the line is lost."""

    async def close(self) -> None: ...


class Health(StrEnum):
    """A lamp: what the collector needs to know of a device."""

    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"
    SIMULATED = "simulated"

"""The camera's twin: a drawn lane with the vehicle that the bench put there, read without error."""

from dataclasses import dataclass

from gateway.devices.camera import CameraChild, StillWatch
from gateway.devices.ports import Frame, PlateReading
from gateway.errors import DeviceUnavailable
from gateway.units import Clock, beijing

TRUCKS_FROM = 11  # vehicle types below are passenger cars (domain.md §5.1)
COMMENT = b"\xff\xfe"

TINY_JPEG = bytes.fromhex(
    "FFD8FFE000104A46494600010100000100010000FFDB00430050373C463C32504641465A55505F78C882786E6E78"
    "F5AFB991C8FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC000"
    "0B080008000801011100FFC40014000100000000000000000000000000000001FFC4001410010000000000000000"
    "0000000000000000FFDA0008010100003F001FFFD9"
)
"""An 8×8 grey picture, for lanes whose devices answer at once."""


@dataclass(frozen=True, slots=True)
class InView:
    """The vehicle before the camera."""

    plate: str
    colour: int
    vehicle_type: int


class SimCamera:
    """Twin of `ChildCamera`. Public fields are the bench: set them, watch them.

    `is_drawn` False: a tiny picture is made in this process, at once; every one differs.
    """

    def __init__(self, name: str, lane: str, clock: Clock, is_drawn: bool = True) -> None:
        self.name = name
        self.in_view: InView | None = None
        self.is_sparing = False
        self.confidence = 0.98
        self.misread_as: str | None = None
        """What the recognition takes the plate for, if it errs."""
        self.fault = ""
        """"" | "frozen" | "mute" | "no_plate" """
        self._lane, self._clock, self._is_drawn = lane, clock, is_drawn
        self._child = CameraChild(name)
        self._watch = StillWatch(name)
        self._count = 0
        self._last: Frame | None = None

    async def start(self) -> None:
        if self._is_drawn:
            await self._child.start()

    async def snap(self) -> Frame:
        """A picture of what is there now. Raises: DeviceUnavailable."""
        if self.fault == "mute":
            raise DeviceUnavailable(f"{self.name}没有应答")
        if self.fault != "frozen" or self._last is None:
            self._last = await self._take()
        self._watch.check(self._last.jpeg)
        return self._last

    async def close(self) -> None:
        await self._child.close()

    async def _take(self) -> Frame:
        at_ms = self._clock.now_ms()
        self._count += 1
        stamp = beijing(at_ms).strftime("%Y-%m-%d %H:%M:%S") + f" {self._count:04d}"
        jpeg = await self._draw(stamp) if self._is_drawn else self._make(stamp)
        return Frame(jpeg, at_ms, self._reading())

    async def _draw(self, stamp: str) -> bytes:
        seen = self.in_view
        scene = {
            "plate": seen.plate if seen else "",
            "colour": seen.colour if seen else 0,
            "is_truck": seen is not None and seen.vehicle_type >= TRUCKS_FROM,
            "is_empty": seen is None,
            "has_plate": self.fault != "no_plate",
            "lane": self._lane,
            "stamp": stamp,
            "is_sparing": self.is_sparing,
        }
        return (await self._child.ask({"do": "draw", **scene}))[1]

    def _make(self, stamp: str) -> bytes:
        plate = self.in_view.plate if self.in_view else ""
        note = f"{self._lane} {stamp} {plate}".encode()
        return TINY_JPEG[:2] + COMMENT + (len(note) + 2).to_bytes(2) + note + TINY_JPEG[2:]

    def _reading(self) -> PlateReading | None:
        if self.in_view is None or self.fault == "no_plate":
            return None
        plate = self.misread_as or self.in_view.plate
        return PlateReading(plate, self.in_view.colour, (self.confidence,) * len(plate))

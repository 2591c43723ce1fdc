"""The scale's twin: the frames an XK3190-A9 would have sent, through the driver's own decoder."""

import asyncio

from gateway.devices.framing import ETX, STX, check_digits
from gateway.devices.ports import Load
from gateway.devices.scale import Readout
from gateway.units import Clock

FRAME_MS = 100  # slower than the indicator, fast enough to be judged
FRAMES = 8
SWAY_KG = 60  # of a vehicle that is still rolling


class SimScale:
    """Twin of `SerialScale`. Public fields are the bench: set them, watch them.

    Nothing is sent until somebody looks; then come the frames of the last 0.8 s.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.weight_kg = 0
        self.fault = ""
        """"" | "unstable" | "silent" | "garbled" """
        self._readout = Readout(name, clock)
        self._sway = 0

    async def load(self) -> Load:
        """As the driver's, faults included."""
        if self.fault == "silent":
            self._readout.forget()
        elif self.fault == "garbled":
            self._readout.forget()
            self._readout.hear(b"\x00\xff" * 20, age_ms=3_000)
        else:
            for age in reversed(range(FRAMES)):
                self._readout.hear(encode_a9(self._shown_kg()), age_ms=age * FRAME_MS)
        return self._readout.load()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to close."""

    def _shown_kg(self) -> int:
        if self.fault != "unstable":
            return self.weight_kg
        self._sway = (self._sway + 1) % 3
        return self.weight_kg + (self._sway - 1) * SWAY_KG


def encode_a9(weight_kg: int, places: int = 0, is_nibbles: bool = False) -> bytes:
    """One frame of 12 bytes. `weight_kg` × 10^places must fit six digits (domain.md §10.1)."""
    sign = "-" if weight_kg < 0 else "+"
    body = f"{sign}{abs(weight_kg) * 10**places:06d}{places}".encode()
    if len(body) != 8:
        raise ValueError(f"{weight_kg} kg do not fit the display")
    return bytes([STX]) + body + check_digits(body)[is_nibbles] + bytes([ETX])

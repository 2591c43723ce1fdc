"""The weighbridge: a line listened to all the time, the newest weight, and whether it stands still.

The XK3190-A9 sends no stable bit in continuous mode; stable is our own judgement of its frames.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.devices.framing import A9Decoder
from gateway.devices.ports import Load
from gateway.errors import DeviceGarbled, DeviceUnavailable
from gateway.units import Clock

log = logging.getLogger(__name__)

STALE_MS = 2_000  # an older weight may be the previous vehicle's
STABLE_FRAMES = 4  # equal ones in a row …
STABLE_MS = 300  # … over at least this long: at 80 frames/s four alone are a blink
REOPEN_S = 10.0  # a line silent for so long is opened anew: half-open TCP, a hung USB adapter
OPEN_S = 5.0
CLOSE_S = 1.0
CHUNK = 512


class Readout:
    """Bytes in, the newest load out. Shared by driver and twin."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name, self._clock = name, clock
        self._noise_ms: int | None = None
        self._weight_kg: int | None = None
        self.forget()

    def hear(self, data: bytes, age_ms: int = 0) -> None:
        """Bytes that arrived `age_ms` ago."""
        now_ms = self._clock.monotonic_ms() - age_ms
        weights = self._decoder.feed(data)
        for weight_kg in weights:
            self._count(weight_kg, now_ms)
        if weights:
            self._heard_ms, self._at_ms = now_ms, self._clock.now_ms() - age_ms
            self._noise_ms = None
        elif data and self._noise_ms is None:
            self._noise_ms = now_ms

    def forget(self) -> None:
        """The line is gone: no weight of before is one of now."""
        self._decoder = A9Decoder()
        self._weight_kg = None
        self._equal_count = 0
        self._equal_since_ms = 0
        self._heard_ms = 0
        self._at_ms = 0
        self._noise_ms = None

    def load(self) -> Load:
        """The newest weight, at most 2 s old.

        Raises: DeviceUnavailable, if the line is silent; DeviceGarbled, if it talks and no
        frame is among it (wrong baud rate, another protocol).
        """
        now_ms = self._clock.monotonic_ms()
        if self._weight_kg is None or now_ms - self._heard_ms > STALE_MS:
            if self._noise_ms is not None and now_ms - self._noise_ms > STALE_MS:
                raise DeviceGarbled(
                    f"{self._name}发来的数据看不懂", "请核对波特率和仪表的输出格式（tF=0）"
                )
            raise DeviceUnavailable(f"{self._name}没有数据")
        is_stable = (
            self._equal_count >= STABLE_FRAMES
            and self._heard_ms - self._equal_since_ms >= STABLE_MS
        )
        return Load(self._weight_kg, is_stable, self._at_ms)

    def _count(self, weight_kg: int, now_ms: int) -> None:
        is_broken = now_ms - self._heard_ms > STALE_MS
        if weight_kg != self._weight_kg or is_broken:
            self._weight_kg, self._equal_count, self._equal_since_ms = weight_kg, 0, now_ms
        self._equal_count += 1


class SerialScale:
    """XK3190-A9 on a serial line (`/dev/ttyS0`) or behind a terminal server (`socket://host:port`)."""

    def __init__(self, name: str, url: str, clock: Clock, baud: int = 9600) -> None:
        self.name = name
        self._url, self._baud = url, baud
        self._readout = Readout(name, clock)

    async def load(self) -> Load:
        """The newest weight. Raises: DeviceUnavailable, DeviceGarbled; see `Readout.load`."""
        return self._readout.load()

    async def run(self) -> None:
        """Listen until cancelled. Raises: DeviceUnavailable, when the line is lost or silent."""
        try:
            async with self._line() as line:
                while True:
                    async with asyncio.timeout(REOPEN_S):
                        data = await line.read(CHUNK)
                    if not data:
                        raise DeviceUnavailable(f"{self.name}的连接断开了")
                    self._readout.hear(data)
        except TimeoutError as silent:
            raise DeviceUnavailable(f"{self.name}没有应答") from silent
        except OSError as lost:  # SerialException is one
            raise DeviceUnavailable(f"{self.name}连不上：{lost.strerror or lost}") from lost
        except ValueError as odd:  # pyserial's word for a speed that this line cannot do
            raise DeviceUnavailable(f"{self.name}连不上：{odd}", "请核对串口和波特率") from odd
        finally:
            self._readout.forget()

    async def close(self) -> None:
        """The line closes with `run`."""

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[asyncio.StreamReader]:
        import serial_asyncio_fast  # the twin, which shares this module, needs none

        async with asyncio.timeout(OPEN_S):
            reader, writer = await serial_asyncio_fast.open_serial_connection(
                url=self._url, baudrate=self._baud
            )
        log.info("scale connected", extra={"device": self.name})
        try:
            yield reader
        finally:
            writer.transport.abort()
            with suppress(OSError, TimeoutError):  # what broke it is known
                await asyncio.wait_for(writer.wait_closed(), CLOSE_S)

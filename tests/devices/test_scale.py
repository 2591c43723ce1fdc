"""The scale: what stable means, silence, noise, a real pty unplugged and plugged in again, TCP."""

import asyncio
import contextlib
import os
import time
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.devices import scale as module
from gateway.devices.ports import Scale
from gateway.devices.scale import Readout, SerialScale
from gateway.devices.sim.scale import SimScale, encode_a9
from gateway.errors import DeviceGarbled, DeviceUnavailable
from gateway.units import SystemClock


class HandClock:
    """A clock that moves when told."""

    boot_id = "test"

    def __init__(self) -> None:
        self.ms = 10_000

    def now_ms(self) -> int:
        return 1_700_000_000_000 + self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def readout(clock: HandClock) -> Readout:
    return Readout("地磅", clock)


def send(readout: Readout, clock: HandClock, *weights: int, every_ms: int = 100) -> None:
    for weight in weights:
        clock.ms += every_ms
        readout.hear(encode_a9(weight))


# ---- what a load is ------------------------------------------------------------------------


def test_equal_frames_over_a_while_are_stable(readout: Readout, clock: HandClock) -> None:
    send(readout, clock, 18_350, 18_350, 18_350)
    assert not readout.load().is_stable
    send(readout, clock, 18_350)
    load = readout.load()
    assert (load.weight_kg, load.is_stable, load.at_ms) == (18_350, True, clock.now_ms())


def test_equal_frames_of_one_blink_are_not_stable(readout: Readout, clock: HandClock) -> None:
    send(readout, clock, *[18_350] * 20, every_ms=12)
    assert not readout.load().is_stable
    send(readout, clock, *[18_350] * 10, every_ms=12)
    assert readout.load().is_stable


def test_one_other_frame_ends_stability(readout: Readout, clock: HandClock) -> None:
    send(readout, clock, *[18_350] * 10)
    assert readout.load().is_stable
    send(readout, clock, 18_360)
    assert not readout.load().is_stable
    send(readout, clock, *[18_350] * 3)
    assert not readout.load().is_stable


def test_gap_ends_stability(readout: Readout, clock: HandClock) -> None:
    send(readout, clock, *[18_350] * 10)
    clock.ms += 5_000
    send(readout, clock, 18_350)
    assert not readout.load().is_stable


def test_silent_scale_has_no_weight_after_two_seconds(readout: Readout, clock: HandClock) -> None:
    with pytest.raises(DeviceUnavailable, match="没有数据"):
        readout.load()
    send(readout, clock, 18_350)
    clock.ms += 2_000
    assert readout.load().weight_kg == 18_350
    clock.ms += 1
    with pytest.raises(DeviceUnavailable, match="没有数据"):
        readout.load()


def test_noise_without_frames_is_garbled_not_silent(readout: Readout, clock: HandClock) -> None:
    for _ in range(30):
        clock.ms += 100
        readout.hear(b"\xf8\x00\x7e")
    with pytest.raises(DeviceGarbled, match="看不懂"):
        readout.load()
    send(readout, clock, 500)
    assert readout.load().weight_kg == 500


def test_negative_weight_is_told_as_it_is(readout: Readout, clock: HandClock) -> None:
    send(readout, clock, -20)
    assert readout.load().weight_kg == -20


def test_lost_line_takes_its_weight_with_it(readout: Readout, clock: HandClock) -> None:
    send(readout, clock, 18_350)
    readout.forget()
    with pytest.raises(DeviceUnavailable):
        readout.load()


# ---- the twin ------------------------------------------------------------------------------


async def test_twin_stands_still_at_once(clock: HandClock) -> None:
    twin = SimScale("地磅", clock)
    twin.weight_kg = 18_350
    assert await twin.load() == module.Load(18_350, True, clock.now_ms())
    twin.weight_kg = 0
    assert await twin.load() == module.Load(0, True, clock.now_ms())


async def test_twin_unstable_silent_and_garbled(clock: HandClock) -> None:
    twin = SimScale("地磅", clock)
    twin.weight_kg = 18_350
    await twin.load()
    twin.fault = "unstable"
    for _ in range(5):
        load = await twin.load()
        assert not load.is_stable
        assert abs(load.weight_kg - 18_350) <= 60
    twin.fault = "silent"
    with pytest.raises(DeviceUnavailable):
        await twin.load()
    twin.fault = "garbled"
    with pytest.raises(DeviceGarbled):
        await twin.load()
    twin.fault = ""
    assert (await twin.load()).is_stable


# ---- the driver on a real line ---------------------------------------------------------------


class Indicator:
    """An XK3190-A9 on a pty: 20 frames a second, since a pty has no baud rate of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weight_kg = 18_350
        self.is_silent = False
        self._fds: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def plug(self) -> None:
        near, far = os.openpty()
        tty.setraw(near)
        os.set_blocking(near, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(far))
        self._fds = [near, far]
        self._task = asyncio.ensure_future(self._feed(near))

    async def unplug(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for fd in self._fds:
            os.close(fd)
        self._fds, self._task = [], None
        self.path.unlink(missing_ok=True)

    async def _feed(self, fd: int) -> None:
        spellings = (False, True)
        count = 0
        while True:
            if not self.is_silent:
                count += 1
                frame = encode_a9(self.weight_kg, is_nibbles=spellings[count % 2])
                with contextlib.suppress(BlockingIOError):
                    os.write(fd, frame[:7])
                await asyncio.sleep(0.007)  # 960 bytes a second
                with contextlib.suppress(BlockingIOError):
                    os.write(fd, frame[7:])
            await asyncio.sleep(0.043)


@pytest.fixture
async def indicator(tmp_path: Path) -> AsyncIterator[Indicator]:
    indicator = Indicator(tmp_path / "ttyS0")
    indicator.plug()
    yield indicator
    await indicator.unplug()


@contextlib.asynccontextmanager
async def listening(scale: SerialScale) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.ensure_future(scale.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, DeviceUnavailable):
            await task


async def eventually(scale: Scale, is_so: Callable[[module.Load], bool]) -> module.Load:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(DeviceUnavailable):
                load = await scale.load()
                if is_so(load):
                    return load
            await asyncio.sleep(0.02)


async def ask_on(scale: Scale) -> None:
    while True:
        await scale.load()
        await asyncio.sleep(0.02)


async def test_weight_comes_over_a_real_line_and_settles(indicator: Indicator) -> None:
    scale = SerialScale("地磅", str(indicator.path), SystemClock())
    async with listening(scale):
        load = await eventually(scale, lambda load: load.is_stable)
        assert load.weight_kg == 18_350
        indicator.weight_kg = 49_120
        load = await eventually(scale, lambda load: load.weight_kg == 49_120)
        assert not load.is_stable
        await eventually(scale, lambda load: load.is_stable)


async def test_scale_that_goes_silent_is_unavailable_after_two_seconds(
    indicator: Indicator,
) -> None:
    scale = SerialScale("地磅", str(indicator.path), SystemClock())
    async with listening(scale) as task:
        await eventually(scale, lambda load: load.is_stable)
        indicator.is_silent = True
        begun_s = time.monotonic()
        with pytest.raises(DeviceUnavailable, match="没有数据"):
            await asyncio.wait_for(ask_on(scale), 5)
        assert 1.5 < time.monotonic() - begun_s < 3
        assert not task.done()
        indicator.is_silent = False
        await eventually(scale, lambda load: load.is_stable)


async def test_a_speed_that_a_line_cannot_do_is_unavailable(indicator: Indicator) -> None:
    scale = SerialScale("地磅", str(indicator.path), SystemClock(), baud=-1)
    with pytest.raises(DeviceUnavailable, match="连不上"):
        await scale.run()


async def test_line_silent_for_long_is_given_up_to_be_opened_anew(
    indicator: Indicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REOPEN_S", 0.3)
    indicator.is_silent = True
    scale = SerialScale("地磅", str(indicator.path), SystemClock())
    with pytest.raises(DeviceUnavailable, match="没有应答"):
        await asyncio.wait_for(scale.run(), 5)


async def test_unplugged_scale_is_noticed_and_comes_back_when_replugged(
    indicator: Indicator,
) -> None:
    scale = SerialScale("地磅", str(indicator.path), SystemClock())
    async with listening(scale) as task:
        await eventually(scale, lambda load: load.is_stable)
        await indicator.unplug()
        with pytest.raises(DeviceUnavailable):
            await asyncio.wait_for(task, 2)
        with pytest.raises(DeviceUnavailable):
            await scale.load()
    with pytest.raises(DeviceUnavailable, match="连不上"):
        await asyncio.wait_for(scale.run(), 2)
    indicator.plug()
    async with listening(scale):
        await eventually(scale, lambda load: load.is_stable)


async def test_scale_behind_a_terminal_server_is_the_same_scale() -> None:
    gone = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not gone.is_set():
            writer.write(encode_a9(7_000))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    scale = SerialScale("地磅", f"socket://127.0.0.1:{port}", SystemClock())
    async with listening(scale) as task:
        load = await eventually(scale, lambda load: load.is_stable)
        assert load.weight_kg == 7_000
        gone.set()
        with pytest.raises(DeviceUnavailable, match="断开"):
            await asyncio.wait_for(task, 5)
    server.close()
    await server.wait_closed()

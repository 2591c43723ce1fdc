"""The camera's child: drawn pictures, a real MJPEG stream, a hang, a death, a frozen picture."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import cv2
import numpy as np
import psutil
import pytest
from aiohttp import web

from gateway.devices import camera_child
from gateway.devices.camera import CameraChild, ChildCamera, StillWatch
from gateway.devices.camera_child import pack
from gateway.devices.ports import Frame
from gateway.devices.sim.camera import InView, SimCamera
from gateway.errors import DeviceUnavailable
from gateway.units import SystemClock

CLOCK = SystemClock()
CAR = InView("甘A10001", 0, 1)


@pytest.fixture
async def twin() -> AsyncIterator[SimCamera]:
    camera = SimCamera("相机", "X03 出口", CLOCK)
    await camera.start()
    yield camera
    await camera.close()


def seen(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


async def until(is_so: Callable[[], bool], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.02)


async def first_picture(camera: ChildCamera, within_s: float = 15) -> bytes:
    async with asyncio.timeout(within_s):
        while True:
            try:
                return (await camera.snap()).jpeg
            except DeviceUnavailable:
                await asyncio.sleep(0.1)


# ---- the twin ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "hue"),
    [(0, (158, 68, 12)), (1, (30, 180, 245)), (4, (170, 215, 150))],
    ids=["blue", "yellow", "green"],
)
async def test_picture_shows_a_plate_in_its_colour(
    twin: SimCamera, colour: int, hue: tuple[int, int, int]
) -> None:
    twin.in_view = InView("甘AD10001" if colour == 4 else "甘A10001", colour, 1)

    frame = await twin.snap()

    image = seen(frame.jpeg)
    assert image.shape == (720, 1280, 3)
    plate = image[560:680, 470:810].reshape(-1, 3).astype(int)
    assert (np.abs(plate - hue).max(axis=1) < 60).mean() > 0.3
    assert frame.reading is not None
    assert (frame.reading.plate, frame.reading.colour) == (twin.in_view.plate, colour)


async def test_reading_is_what_was_drawn_and_as_sure_as_told(twin: SimCamera) -> None:
    twin.in_view, twin.confidence = CAR, 0.4
    frame = await twin.snap()
    assert frame.reading is not None
    assert frame.reading.confidence == (0.4,) * 7

    twin.misread_as = "甘A10007"
    frame = await twin.snap()
    assert frame.reading is not None
    assert frame.reading.plate == "甘A10007"


async def test_different_letters_give_different_plates(twin: SimCamera) -> None:
    pictures = []
    for plate in ("甘A10001", "宁A10001", "甘A10007"):
        twin.in_view = InView(plate, 0, 1)
        pictures.append(seen((await twin.snap()).jpeg)[566:660, 480:800].astype(int))

    letters = [np.abs(one - pictures[0]).max(axis=2) > 90 for one in pictures[1:]]
    left, right = (
        (mask[:, :80].sum() for mask in letters),
        (mask[:, 240:].sum() for mask in letters),
    )
    assert [count > 100 for count in left] == [True, False]
    assert [count > 100 for count in right] == [False, True]


async def test_empty_lane_is_a_picture_without_reading(twin: SimCamera) -> None:
    frame = await twin.snap()
    assert frame.reading is None
    assert seen(frame.jpeg).shape == (720, 1280, 3)


async def test_vehicle_without_plate_gives_no_reading(twin: SimCamera) -> None:
    twin.in_view, twin.fault = CAR, "no_plate"
    assert (await twin.snap()).reading is None


async def test_mute_camera_is_unavailable(twin: SimCamera) -> None:
    twin.fault = "mute"
    with pytest.raises(DeviceUnavailable, match="没有应答"):
        await twin.snap()


async def test_frozen_picture_is_never_taken_for_a_new_one(twin: SimCamera) -> None:
    twin.in_view = CAR
    await twin.snap()
    twin.fault, twin.in_view = "frozen", InView("甘A10002", 0, 1)
    with pytest.raises(DeviceUnavailable, match="画面停住"):
        await twin.snap()
    twin.fault = ""
    assert (await twin.snap()).reading is not None


async def test_instant_twin_starts_no_process_and_never_repeats() -> None:
    camera = SimCamera("相机", "X03", CLOCK, is_drawn=False)
    await camera.start()
    camera.in_view = CAR
    pictures = {(await camera.snap()).jpeg for _ in range(20)}
    await camera.close()

    assert len(pictures) == 20
    assert all(seen(jpeg).shape == (8, 8, 3) for jpeg in pictures)
    assert camera._child.pid is None


def test_same_picture_twice_is_a_still_camera() -> None:
    watch = StillWatch("相机")
    assert watch.check(b"one") == b"one"
    assert watch.check(b"two") == b"two"
    with pytest.raises(DeviceUnavailable):
        watch.check(b"two")


# ---- the child -----------------------------------------------------------------------------


def test_main_process_never_loads_opencv() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import gateway.devices.camera, gateway.devices.sim.camera, sys;"
            "print(sorted({'cv2', 'numpy'} & set(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == "[]"


async def test_hung_child_is_killed_and_replaced(twin: SimCamera) -> None:
    hung = twin._child.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)

    begun_s = time.monotonic()
    with pytest.raises(DeviceUnavailable, match="没有应答"):
        await twin.snap()
    assert time.monotonic() - begun_s < 4

    await twin.start()
    assert not psutil.pid_exists(hung)
    assert twin._child.pid not in (None, hung)
    assert (await twin.snap()).jpeg


class Undead:
    """A child in the kernel's hands: it answers nothing, and SIGKILL does not end it."""

    pid, returncode = 1, None

    def __init__(self) -> None:
        self.stdin, self.stdout = MagicMock(drain=AsyncMock()), AsyncMock()
        self.stdout.readexactly = self.wait
        self.was_killed = False

    def kill(self) -> None:
        self.was_killed = True

    async def wait(self, *_: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_child_that_cannot_be_killed_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.devices.camera.DEADLINE_S", 0.2)
    monkeypatch.setattr("gateway.devices.camera.END_S", 0.1)
    camera, undead = ChildCamera("相机", "/dev/video0", SystemClock()), Undead()

    async def started() -> Any:
        return undead

    child: Any = camera._child
    child._process = undead
    child._starting = asyncio.ensure_future(started())
    async with asyncio.timeout(5):
        with pytest.raises(DeviceUnavailable, match="没有应答"):
            await camera.snap()
        with pytest.raises(DeviceUnavailable, match="正在启动"):
            await camera.snap()
        assert undead.was_killed
        assert child.pid is None, "no second one beside it"
        await camera.close()
    alone = ChildCamera("相机", "/dev/video0", SystemClock())
    only: Any = alone._child
    only._process = undead
    async with asyncio.timeout(5):
        await alone.close()


async def test_hung_child_is_replaced_once_though_several_wait_for_it(
    twin: SimCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two children at once would talk through each other, and one of them would never end."""
    monkeypatch.setattr("gateway.devices.camera.DEADLINE_S", 0.5)
    assert twin._child.pid is not None
    hung = psutil.Process(twin._child.pid)
    hung.suspend()
    waiting = []
    for _ in range(4):
        waiting.append(asyncio.ensure_future(twin.snap()))
        await asyncio.sleep(0.1)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, DeviceUnavailable) for one in told[:1])
    assert all(isinstance(one, DeviceUnavailable | Frame) for one in told), told
    monkeypatch.undo()
    await twin.start()
    assert (await twin.snap()).jpeg
    children = psutil.Process().children()
    assert [child.pid for child in children if "camera_child" in " ".join(child.cmdline())] == [
        twin._child.pid
    ]
    assert not hung.is_running()


async def test_dead_child_is_replaced(twin: SimCamera) -> None:
    dead = twin._child.pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    with pytest.raises(DeviceUnavailable, match="退出"):
        await twin.snap()
    await twin.start()
    assert (await twin.snap()).jpeg


async def test_cancelled_caller_leaves_the_pipe_in_step(twin: SimCamera) -> None:
    twin.in_view = CAR
    for _ in range(5):
        asking = asyncio.ensure_future(twin.snap())
        await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert seen((await twin.snap()).jpeg).shape == (720, 1280, 3)


async def test_pictures_asked_for_together_are_each_answered(twin: SimCamera) -> None:
    frames = await asyncio.gather(*(twin.snap() for _ in range(5)))
    assert len({frame.jpeg for frame in frames}) == 5


async def test_closed_camera_has_no_process_and_stays_closed(twin: SimCamera) -> None:
    pid = twin._child.pid
    assert pid is not None
    await twin.close()
    assert not psutil.pid_exists(pid)
    with pytest.raises(DeviceUnavailable, match="已关闭"):
        await twin.snap()


async def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import asyncio\n"
        "from gateway.devices.camera import CameraChild\n"
        "async def main():\n"
        "    child = CameraChild('camera')\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(program), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    assert psutil.pid_exists(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not psutil.pid_exists(pid) or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_child_knows_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANE__CENTER__TOKEN", "s3cret")
    child = CameraChild("相机")
    await child.start()
    assert child.pid is not None
    environment = psutil.Process(child.pid).environ()
    await child.close()
    assert not any("TOKEN" in name for name in environment)


async def test_missing_opencv_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('no such package')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    child = CameraChild("相机")
    with pytest.raises(DeviceUnavailable, match="没有装 OpenCV"):
        await child.start()
    await child.close()


# ---- the driver, against a real MJPEG stream --------------------------------------------------


class Mjpeg:
    """A network camera: 25 pictures a second, each with its number as grey value."""

    def __init__(self) -> None:
        self.count = 0
        self.is_silent = False
        self.is_frozen = False
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def up(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_get("/video", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/video"

    async def down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def picture(self) -> bytes:
        if not self.is_frozen:
            self.count += 1
        image = np.full((240, 320, 3), self.count * 10 % 250, np.uint8)
        return cv2.imencode(".jpg", image)[1].tobytes()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"}
        )
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            if not self.is_silent:
                jpeg = self.picture()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                await response.write(head.encode() + jpeg + b"\r\n")
            await asyncio.sleep(0.04)
        return response


@pytest.fixture
async def server() -> AsyncIterator[Mjpeg]:
    server = Mjpeg()
    await server.up()
    yield server
    await server.down()


Driver = Callable[[str], Awaitable[ChildCamera]]


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    cameras: list[ChildCamera] = []

    async def make(url: str) -> ChildCamera:
        camera = ChildCamera("相机", url, CLOCK)
        cameras.append(camera)
        await camera.start()
        return camera

    yield make
    for camera in cameras:
        await camera.close()


async def test_stream_gives_pictures_that_are_new(server: Mjpeg, driver: Driver) -> None:
    camera = await driver(server.url)
    await first_picture(camera)
    for _ in range(5):
        before = server.count
        image = seen((await camera.snap()).jpeg)
        after = server.count
        assert image.shape == (240, 320, 3)
        grey = int(image[0, 0, 0])
        shown = {n for n in range(before - 1, after + 1) if abs(n * 10 % 250 - grey) < 4}
        assert shown, "the picture is older than the request for it"


async def test_stream_that_goes_silent_is_unavailable_in_time_and_comes_back(
    server: Mjpeg, driver: Driver
) -> None:
    camera = await driver(server.url)
    await first_picture(camera)
    server.is_silent = True
    begun_s = time.monotonic()
    with pytest.raises(DeviceUnavailable):
        await camera.snap()
    assert time.monotonic() - begun_s < 3.5
    server.is_silent = False
    assert await first_picture(camera)


async def test_killed_server_is_unavailable_and_reconnected(server: Mjpeg, driver: Driver) -> None:
    camera = await driver(server.url)
    await first_picture(camera)
    port = int(server.url.split(":")[2].split("/")[0])
    await server.down()
    with pytest.raises(DeviceUnavailable):
        await camera.snap()
    await server.up(port)
    assert await first_picture(camera)


async def test_stream_that_repeats_one_picture_is_told(server: Mjpeg, driver: Driver) -> None:
    camera = await driver(server.url)
    await first_picture(camera)
    server.is_frozen = True
    await asyncio.sleep(0.2)  # what was on its way may still be new
    with contextlib.suppress(DeviceUnavailable):
        await camera.snap()
    with pytest.raises(DeviceUnavailable, match="画面停住"):
        await camera.snap()


async def test_nobody_at_the_address_is_said_without_its_password(driver: Driver) -> None:
    camera = await driver("http://who:s3cret@127.0.0.1:9/video")
    with pytest.raises(DeviceUnavailable) as said:
        await camera.snap()
    assert "s3cret" not in said.value.detail
    assert "相机" in said.value.detail


async def test_dead_address_does_not_fill_the_log(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.devices.camera_child",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    asked = pack({"do": "snap", "url": "http://who:s3cret@127.0.0.1:9/video"})
    said, chatter = await asyncio.wait_for(child.communicate(asked), 30)
    assert "连不上" in said.decode("utf-8", "replace")
    assert chatter == b""


# ---- the stream's own thread, with a native library that misbehaves ---------------------------


class Capture:
    """A source under OpenCV's hood: each number is a frame, each float a wait, None a hang."""

    def __init__(self, *plan: int | float | None) -> None:
        self._plan = list(plan)
        self._number = 0
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def grab(self) -> bool:
        while self._plan:
            step = self._plan.pop(0)
            if step is None:
                threading.Event().wait()  # in a daemon thread
            elif isinstance(step, float):
                time.sleep(step)
            else:
                self._number = step
                return True
        return False

    def retrieve(self) -> tuple[bool, int]:
        return True, self._number

    def release(self) -> None:
        self.released = True


def test_frames_that_lay_in_a_buffer_are_not_new() -> None:
    buffered = [1, 2, 3, 4]  # come at once: what gathered while the source was opened
    capture = Capture(*buffered, 0.05, 5, 0.05, 6, 0.05, 7, 0.05, 8, None)
    asked = threading.Event()

    def open_late(_: str) -> Capture:
        asked.wait(10)
        return capture

    stream = camera_child.Stream("rtsp://camera", open_late)
    threading.Timer(0.2, asked.set).start()  # the picture is asked for before the first frame
    image, _ = stream.snap()
    assert image >= 5


def test_stream_that_ends_is_reopened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_child, "REOPEN_S", 0.05)
    opened: list[Capture] = []

    def reopen(_: str) -> Capture:
        opened.append(Capture(*[0.02, 1] * (2 if not opened else 500), *([None] if opened else [])))
        return opened[-1]

    stream = camera_child.Stream("rtsp://camera", reopen)
    deadline_s = time.monotonic() + 10
    image = None
    while image is None and time.monotonic() < deadline_s:
        image, _ = stream.snap() if len(opened) > 1 else (None, "")
    assert image == 1
    assert opened[0].released


def test_process_leaves_a_native_call_that_never_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(BaseException):
        pass

    def leave(code: int) -> None:
        assert code == camera_child.WEDGED_EXIT
        raise Left

    monkeypatch.setattr(camera_child, "WEDGED_S", 0.4)
    monkeypatch.setattr(camera_child, "SNAP_S", 0.1)
    monkeypatch.setattr(camera_child.os, "_exit", leave)
    stream = camera_child.Stream("/dev/video0", lambda _: Capture(0.02, 1, None))
    deadline_s = time.monotonic() + 10
    with pytest.raises(Left):
        _snap_until(stream, deadline_s)


def _snap_until(stream: camera_child.Stream, deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        stream.snap()

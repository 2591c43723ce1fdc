"""The lane camera: pictures from a child process with a deadline. OpenCV is never loaded here."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Any

from gateway.devices.camera_child import BODY_MAX, HEAD_MAX, LENGTHS, pack
from gateway.devices.ports import Frame
from gateway.errors import DeviceUnavailable
from gateway.units import Clock

log = logging.getLogger(__name__)

DEADLINE_S = 3.0
START_S = 20.0  # a cold disk and a busy box: importing OpenCV takes 0.3 s here, seconds there
END_S = 1.0
KEPT_ENVIRONMENT = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")

Answered = tuple[dict[str, Any], bytes]


class CameraChild:
    """The child process and the pipe to it. A hang costs it its life; the next one is started."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Of the running child."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Have the child up and OpenCV loaded. Raises: DeviceUnavailable."""
        await asyncio.shield(self._begin())

    async def ask(self, request: Mapping[str, Any]) -> Answered:
        """One request and its answer within 3 s; see `camera_child.Worker.answer`.

        Cancelling the caller does not cut the exchange: the pipe stays in step.
        Raises: DeviceUnavailable, if the child is starting, hung (it is killed and started
        anew), died, or says itself what is wrong.
        """
        exchange = asyncio.ensure_future(self._exchange(request))
        exchange.add_done_callback(_retrieve)
        head, body = await asyncio.shield(exchange)
        if "fault" in head:
            raise DeviceUnavailable(f"{self.name}：{head['fault']}")
        return head, body

    async def close(self) -> None:
        """End the child. Never raises."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, DeviceUnavailable):
                await self._starting
        await self._kill(self._process)

    async def _exchange(self, request: Mapping[str, Any]) -> Answered:
        process: Process | None = None
        try:
            async with asyncio.timeout(DEADLINE_S), self._turn:
                process = await asyncio.shield(self._begin())
                return await _talk(process, request)
        except TimeoutError as late:
            if process is None:
                raise DeviceUnavailable(f"{self.name}正在启动") from late
            raise self._replace(process, "没有应答") from late
        except (asyncio.IncompleteReadError, OSError, ValueError) as broken:
            assert process is not None, "a child that does not start is DeviceUnavailable"
            raise self._replace(process, "的进程退出了") from broken

    def _replace(self, bad: Process, why: str) -> DeviceUnavailable:
        """Whoever notices first replaces it, before anybody else can run; there is one child.

        Nobody waits for its end here: one that the kernel holds (D state) survives SIGKILL.
        """
        detail = f"{self.name}{why}，正在重新启动"
        if self._process is bad and not self._is_closed:
            log.warning("camera process replaced", extra={"camera": self.name, "reason": detail})
            self._process = None
            self._starting = asyncio.ensure_future(self._spawn(bad))
            self._starting.add_done_callback(_retrieve)
        return DeviceUnavailable(detail)

    def _begin(self) -> "asyncio.Task[Process]":
        if self._is_closed:
            raise DeviceUnavailable(f"{self.name}已关闭")
        if self._starting is None or (self._starting.done() and self.pid is None):
            self._starting = asyncio.ensure_future(self._spawn())
            self._starting.add_done_callback(_retrieve)
        return self._starting

    async def _spawn(self, before: Process | None = None) -> Process:
        """A child that has answered, once the one before it is gone. Raises: DeviceUnavailable."""
        await self._kill(before)
        process: Process | None = None
        try:
            async with asyncio.timeout(START_S):
                process = self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "gateway.devices.camera_child",
                    stdin=PIPE,
                    stdout=PIPE,
                    env={k: os.environ[k] for k in KEPT_ENVIRONMENT if k in os.environ},
                )
                head, _ = await _talk(process, {"do": "hello"})
        except (TimeoutError, asyncio.IncompleteReadError, OSError, ValueError) as broken:
            await self._kill(process)
            raise DeviceUnavailable(f"{self.name}的进程启动不了：{broken}") from broken
        except asyncio.CancelledError:
            await self._kill(process)
            raise
        if "fault" in head:
            await self._kill(process)
            raise DeviceUnavailable(f"{self.name}：{head['fault']}")
        return process

    async def _kill(self, process: Process | None) -> None:
        """By its own pid, and wait until it is gone, or a second when all ends: a next one is not
        begun beside one that may still hold the camera."""
        if process is None:
            return
        if self._process is process:
            self._process = None
        if process.stdin is not None:
            process.stdin.close()  # a healthy child ends by itself
        if self._is_closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_S)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_S if self._is_closed else None)


class StillWatch:
    """Notices a camera that repeats itself: no sensor gives the same picture twice."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = b""

    def check(self, jpeg: bytes) -> bytes:
        """The picture, if it is not the previous one again. Raises: DeviceUnavailable."""
        if jpeg == self._last:
            raise DeviceUnavailable(
                f"{self._name}画面停住了", "请改用手持拍照，或请维护人员重启相机"
            )
        self._last = jpeg
        return jpeg


class ChildCamera:
    """A video source that FFmpeg or V4L2 reads: rtsp://…, http://… (MJPEG), /dev/video0.

    First cut: it takes pictures and reads no plate. The address may carry a password; it is told
    to the child over the pipe and appears in no log.
    """

    def __init__(self, name: str, url: str, clock: Clock) -> None:
        self.name = name
        self._url, self._clock = url, clock
        self.is_sparing = False
        self._child = CameraChild(name)
        self._watch = StillWatch(name)

    async def start(self) -> None:
        """Start the child and let it open the source, so that the first picture is quick."""
        await self._child.start()
        await self._child.ask({"do": "open", "url": self._url})

    async def snap(self) -> Frame:
        """A picture taken now, within 3 s; no reading. Raises: DeviceUnavailable."""
        _, jpeg = await self._child.ask(
            {"do": "snap", "url": self._url, "is_sparing": self.is_sparing}
        )
        return Frame(self._watch.check(jpeg), self._clock.now_ms(), reading=None)

    async def close(self) -> None:
        await self._child.close()


async def _talk(process: Process, request: Mapping[str, Any]) -> Answered:
    """Raises: IncompleteReadError, OSError, ValueError: the child is gone or speaks nonsense."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pack(request))
    await process.stdin.drain()
    head, body = LENGTHS.unpack(await process.stdout.readexactly(LENGTHS.size))
    if head > HEAD_MAX or body > BODY_MAX:
        raise ValueError(f"frame of {head} + {body} bytes")
    return (
        json.loads(await process.stdout.readexactly(head)),
        await process.stdout.readexactly(body),
    )


def _retrieve(task: "asyncio.Future[Any]") -> None:
    """A caller that was cancelled reads no result; the fault is known and is no news."""
    if not task.cancelled():
        task.exception()

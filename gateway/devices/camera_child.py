"""The camera's own process, `python -m gateway.devices.camera_child`: everything native is here.

OpenCV's calls may block for ever or crash; the parent has a deadline and kills by pid. Requests
and answers are frames over stdin and stdout: head length (4, big-endian), body length (4), head
as JSON, body (a JPEG). The process knows no lane, no clock of ours and no rule; it ends with its
parent.
"""

import ctypes
import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import cv2

LENGTHS = struct.Struct(">II")
HEAD_MAX = 16 * 1024
BODY_MAX = 8 * 1024 * 1024
JPEG_QUALITY, SPARING_QUALITY = 80, 50

SNAP_S = 2.5  # below the parent's deadline of 3 s, so that it hears a reason
OPEN_MS, READ_MS = 3_000, 2_000  # without them FFmpeg waits 30 s (platform.md §2)
REOPEN_S, REOPEN_S_MAX = 1.0, 5.0
WEDGED_S = 8.0  # longer than any open, read or pause: the thread sits in a native call for good
BUFFERED_S = 0.005  # a frame that cost less waiting was lying in a buffer
BUFFER_S_MAX = 2.0  # how long after opening buffered frames are skipped
WEDGED_EXIT = 70
FFMPEG_QUIET = "-8"
PR_SET_PDEATHSIG = 1


def pack(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """One request or answer as it goes over the pipe."""
    text = json.dumps(head, ensure_ascii=False).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


class Stream:
    """Drains a video source in a thread of its own and keeps nothing: a picture is taken on demand.

    Draining is what keeps pictures new: FFmpeg and V4L2 buffer several frames.
    """

    def __init__(self, url: str, opener: "Callable[[str], cv2.VideoCapture] | None" = None) -> None:
        self._url, self._open = url, opener or _open
        self._changed = threading.Condition()
        self._is_asked = False
        self._image: Any = None
        self._fault = ""
        self._beat_s = time.monotonic()
        threading.Thread(target=self._run, name="camera-stream", daemon=True).start()

    def snap(self) -> tuple[Any, str]:
        """A picture whose reading began after this call, or None and why there is none."""
        if time.monotonic() - self._beat_s > WEDGED_S:
            os._exit(WEDGED_EXIT)  # a wedged native call cannot be cancelled, only left
        with self._changed:
            self._image, self._is_asked = None, True
            if self._fault:
                return None, self._fault
            self._changed.wait_for(lambda: self._image is not None or self._fault, SNAP_S)
            self._is_asked = False
            return self._image, self._fault or "相机没有送来画面"

    def _run(self) -> None:
        pause_s = REOPEN_S
        while True:
            self._beat_s = time.monotonic()
            capture = self._open(self._url)
            if capture.isOpened():
                self._tell("")
                self._drain(capture)
                self._tell("相机画面中断，正在重连")
                pause_s = REOPEN_S
            else:
                self._tell("相机连不上，正在重试")
                pause_s = min(2 * pause_s, REOPEN_S_MAX)
            capture.release()
            self._beat_s = time.monotonic()
            time.sleep(pause_s)

    def _drain(self, capture: "cv2.VideoCapture") -> None:
        opened_s = time.monotonic()
        is_live = False
        while True:
            self._beat_s = began_s = time.monotonic()
            is_asked = self._is_asked
            if not capture.grab():  # isOpened() stays true after the source died; only this tells
                return
            now_s = time.monotonic()
            is_live = is_live or now_s - began_s > BUFFERED_S or now_s - opened_s > BUFFER_S_MAX
            if is_asked and is_live:
                self._keep(*capture.retrieve())

    def _keep(self, is_whole: bool, image: Any) -> None:
        if is_whole:
            with self._changed:
                self._image = image
                self._changed.notify_all()

    def _tell(self, fault: str) -> None:
        with self._changed:
            self._fault = fault
            self._changed.notify_all()


def _open(url: str) -> "cv2.VideoCapture":
    """`/dev/video0` by V4L2; rtsp://, http:// and files by FFmpeg, with its time-outs."""
    import cv2

    if url.startswith("/dev/"):
        return cv2.VideoCapture(url, cv2.CAP_V4L2)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)


class Worker:
    """Answers requests one after the other."""

    def __init__(self) -> None:
        self._stream: Stream | None = None

    def answer(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """`do`: hello | open (url) | snap (url) | draw (the scene, see sim/scene.py).

        `is_sparing` with the last two: a picture of a fifth of the bytes.
        """
        duties: dict[str, Callable[[Mapping[str, Any]], tuple[dict[str, Any], bytes]]] = {
            "hello": self._hello,
            "open": self._open,
            "snap": self._snap,
            "draw": self._draw,
        }
        return duties[request["do"]](request)

    def _hello(self, _: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            import cv2
        except ImportError as missing:
            return {"fault": f"没有装 OpenCV：{missing}"}, b""
        return {"opencv": cv2.__version__}, b""

    def _open(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        if self._stream is None:
            self._stream = Stream(request["url"])
        return {}, b""

    def _snap(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._open(request)
        assert self._stream is not None
        image, fault = self._stream.snap()
        if image is None:
            return {"fault": fault}, b""
        return {}, _jpeg(image, is_sparing=request.get("is_sparing", False))

    def _draw(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        from gateway.devices.sim.scene import draw

        return {}, _jpeg(draw(request), is_sparing=request.get("is_sparing", False))


def _jpeg(image: Any, *, is_sparing: bool = False) -> bytes:
    import cv2

    quality = SPARING_QUALITY if is_sparing else JPEG_QUALITY
    if is_sparing:
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(data)


def _read(pipe: BinaryIO) -> dict[str, Any] | None:
    """The next request, or None when the parent is gone."""
    lengths = pipe.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    head, body = LENGTHS.unpack(lengths)
    request: dict[str, Any] = json.loads(pipe.read(head))
    pipe.read(body)
    return request


def main() -> None:
    """Serve until the parent closes our stdin or dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the parent's affair
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)  # we say ourselves what is wrong
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # native chatter must not break the frames
    worker = Worker()
    while (request := _read(sys.stdin.buffer)) is not None:
        answers.write(pack(*worker.answer(request)))
        answers.flush()
    os._exit(0)  # not through OpenCV's own clean-up: a wedged stream would hold us


if __name__ == "__main__":
    main()

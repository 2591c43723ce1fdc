"""Keeping services alive, telling who waits, and saying so to systemd and the journal.

Retries what is expected and dies loudly of what is not: systemd starts a clean process, and the
journal says where it was. Knows no lane, no device, no centre.
"""

import asyncio
import errno
import fcntl
import json
import logging
import os
import re
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from gateway.errors import ConfigInvalid, FolderHeld, GatewayError, StoreUnavailable
from gateway.units import Clock, beijing

log = logging.getLogger(__name__)

BACKOFF_S_MIN, BACKOFF_S_MAX = 1.0, 30.0
HEALTHY_MS = 60_000  # after so long without a fault the back-off starts over
LAG_EVERY_S, LAG_SAMPLES = 0.5, 120


class Service(Protocol):
    """Something that runs until it is cancelled."""

    name: str

    async def run(self) -> None: ...


class ServiceEnded(RuntimeError):
    """A service returned. None may: a thread that dies silently is how lanes go deaf."""


OnFault = Callable[[str, GatewayError], None]


async def supervise(service: Service, clock: Clock, on_fault: OnFault) -> None:
    """Restart a service after a retryable fault, 1 s to 30 s apart; anything else ends this.

    `on_fault(name, fault)` hears of every retried fault, for the lamps. Raises: what is not
    retryable, as it came; ServiceEnded.
    """
    delay_s = BACKOFF_S_MIN
    while True:
        begun_ms = clock.monotonic_ms()
        try:
            await service.run()
        except GatewayError as fault:
            if not fault.retryable:
                raise
            on_fault(service.name, fault)
            if clock.monotonic_ms() - begun_ms >= HEALTHY_MS:
                delay_s = BACKOFF_S_MIN
            facts = {"service": service.name, "code": fault.code, "delay_s": delay_s}
            log.warning("service restarts", extra=facts)
            await clock.sleep(delay_s)
            delay_s = min(delay_s * 2, BACKOFF_S_MAX)
        else:
            raise ServiceEnded(service.name)


class Topic:
    """Something that changes, and those who wait for it to. Carries no value: look it up."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def publish(self) -> None:
        """Wake everyone who waits. Call from the event loop's thread."""
        self.count += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, seen: int) -> int:
        """The count, as soon as it is above `seen`; several changes may have become one."""
        while self.count <= seen:
            await self._changed.wait()
        return self.count


class Notifier:
    """sd_notify(3): READY, STATUS, EXTEND_TIMEOUT_USEC, WATCHDOG. Silent where systemd does not
    listen."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        """systemd kills the process after so long without a beat. None: it does not watch."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """NOTIFY_SOCKET, and WATCHDOG_USEC if it is meant for this process."""
        usec = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(usec) / 1_000_000 if is_ours and usec.isdigit() and int(usec) else None
        return cls(environ.get("NOTIFY_SOCKET") or None, watchdog_s)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def starting(self, status: str, allowed_s: float) -> None:
        """A long start goes on: it is not ended within `allowed_s` from now, however long it has
        lasted (TimeoutStartSec). Whoever hangs does not say this any more."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(allowed_s * 1_000_000)}\nSTATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def beat(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
                out.sendto(message.encode(), name)
        except OSError as deaf:  # a full or vanished socket must not stop a lane
            log.warning("systemd does not listen", extra={"errno": deaf.errno})


class Watchdog:
    """Feeds systemd's watchdog only while every lane's own loop turns.

    `marks` are counters that those loops move at least once a second. A wedged lane is a dead
    lane: its mark stands still, no beat goes out, systemd restarts the process.
    """

    name = "watchdog"

    def __init__(
        self, notifier: Notifier, clock: Clock, marks: Sequence[Callable[[], int]]
    ) -> None:
        self._notifier, self._clock, self._marks = notifier, clock, marks

    async def run(self) -> None:
        every_s = max((self._notifier.watchdog_s or 60.0) / 3, 0.01)
        seen: list[int | None] = [None] * len(self._marks)
        while True:
            now = [mark() for mark in self._marks]
            stuck = [n for n, (was, is_) in enumerate(zip(seen, now, strict=True)) if was == is_]
            if stuck:
                log.error("no progress, the watchdog is not fed", extra={"lanes": stuck})
            else:
                self._notifier.beat()
            seen = list(now)
            await self._clock.sleep(every_s)


class LoopLag:
    """How late the event loop wakes up: something blocks it when this is more than a little."""

    name = "loop-lag"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late_ms: deque[int] = deque(maxlen=LAG_SAMPLES)

    @property
    def worst_ms(self) -> int:
        """The latest wake-up of the last minute, milliseconds."""
        return max(self._late_ms, default=0)

    async def run(self) -> None:
        while True:
            due_ms = self._clock.monotonic_ms() + round(LAG_EVERY_S * 1000)
            await self._clock.sleep(LAG_EVERY_S)
            self._late_ms.append(max(0, self._clock.monotonic_ms() - due_ms))


_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET = re.compile(r"token|password|secret|credential|cookie|authorization", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![0-9A-Za-z])(\d{4})\d{8,12}(\d{4})(?![0-9A-Za-z])")


def mask(text: str) -> str:
    """Card and tag numbers (16 to 20 digits standing alone) as 6201****3456."""
    return _NUMBER.sub(r"\1****\2", text)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, msg, in, and what came as `extra`.

    Values whose name says secret, and numbers of cards, never get out.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": beijing(round(record.created * 1000)).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "msg": mask(record.getMessage()),
            "in": record.name,
        }
        for name, value in vars(record).items():
            if name not in _PLAIN:
                line[name] = _shown(name, value)
        if record.exc_info:
            line["trace"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _shown(name: str, value: object) -> Any:
    if _SECRET.search(name):
        return "***"
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**15 else mask(str(value))
    if isinstance(value, Mapping):
        return {str(key): _shown(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(name, inner) for inner in value]
    return mask(str(value))


def log_to(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send all log lines of this process to `stream` (stderr, for journald) as JSON lines; the
    last one is the bug that it dies of."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], bug: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, Exception):  # somebody pressed Ctrl-C: no bug
        sys.__excepthook__(kind, bug, trace)
        return
    log.critical("the program ends of a bug", exc_info=(kind, bug, trace))


def hold(data: Path) -> int:
    """Make the data folder if need be, and hold it until the descriptor is closed.

    Raises: ConfigInvalid; FolderHeld, if another process has it; StoreUnavailable, if the disk
    is in trouble, which may pass.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as no:
        if no.errno in (errno.EIO, errno.ENOSPC, errno.EROFS):
            raise StoreUnavailable(f"数据文件夹 {data} 不能用：{no.strerror}") from no
        raise ConfigInvalid(
            f"数据文件夹 {data} 不能用：{no.strerror}", "请建立这个文件夹，并交给运行网关的用户"
        ) from no
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as held:
        os.close(fd)
        raise FolderHeld(
            f"数据文件夹 {data} 正被另一个网关进程使用", "请先停掉另一个进程"
        ) from held
    return fd

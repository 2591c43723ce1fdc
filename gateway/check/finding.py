"""What one check found, and a thread for checks that may block."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")


class Level(IntEnum):
    """How bad; the worst one is the exit code."""

    PASS = 0
    WARN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: PASS  磁盘：…；action says what to do, in Chinese."""

    level: Level
    name: str
    text: str
    action: str = ""

    def __str__(self) -> str:
        line = f"{self.level.name}  {self.name}：{self.text}"
        return f"{line} → {self.action}" if self.action else line


def ok(name: str, text: str) -> Finding:
    return Finding(Level.PASS, name, text)


def warn(name: str, text: str, action: str) -> Finding:
    return Finding(Level.WARN, name, text, action)


def fail(name: str, text: str, action: str) -> Finding:
    return Finding(Level.FAIL, name, text, action)


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a daemon thread: one that hangs in the kernel is left behind.

    The loop's own executor would be waited for at the end, and never end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(set_: Callable[[], None]) -> None:
        if not done.done():
            set_()

    def run() -> None:
        try:
            value = work()
        except BaseException as fault:  # noqa: BLE001 - whoever waits for it gets it
            caught = fault
            _call(loop, lambda: tell(lambda: done.set_exception(caught)))
        else:
            _call(loop, lambda: tell(lambda: done.set_result(value)))

    threading.Thread(target=run, name="check", daemon=True).start()
    return await done


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(what)

"""A child for each attempt, forked from a parent that has imported everything and runs no thread.

A child that dies, or takes too long, is a finding of its own and spoils no other attempt.
"""

import gc
import json
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Case = TypeVar("Case")
Told = dict[str, Any]


class _Child(NamedTuple):
    pid: int
    slot: int
    case: Any
    until: float
    heard: bytearray


def each(
    cases: Iterable[Case], attempt: Callable[[Case, int], Told], processes: int, limit_s: float
) -> Iterator[tuple[Case, Told]]:
    """(case, what its attempt told), as they end. `attempt` gets a slot that is its own then."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose a thread"
    gc.freeze()
    waiting, free = iter(cases), list(range(processes))
    running = selectors.DefaultSelector()
    try:
        while True:
            while free and (case := next(waiting, None)) is not None:
                _begin(running, case, free.pop(), attempt, limit_s)
            if not running.get_map():
                return
            for key, _ in running.select(timeout=1.0):
                child: _Child = key.data
                if piece := os.read(key.fd, 1 << 16):
                    child.heard.extend(piece)
                    continue
                free.append(child.slot)
                yield child.case, _ended(running, key.fd, child)
            for key in list(running.get_map().values()):
                if time.monotonic() > key.data.until:
                    os.kill(key.data.pid, signal.SIGKILL)
    finally:
        for key in list(running.get_map().values()):
            os.kill(key.data.pid, signal.SIGKILL)
            _ended(running, key.fd, key.data)
        running.close()


def alone(work: Callable[[], Told]) -> Told:
    """`work` in a child of its own. Raises: AssertionError, if it broke."""
    [(_, told)] = each([0], lambda case, slot: work(), 1, 600.0)
    assert "violations" not in told, told
    return told


def _begin(
    running: selectors.BaseSelector,
    case: Case,
    slot: int,
    attempt: Callable[[Case, int], Told],
    limit_s: float,
) -> None:
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(here)
        _child(there, case, slot, attempt)
    os.close(there)
    child = _Child(pid, slot, case, time.monotonic() + limit_s, bytearray())
    running.register(here, selectors.EVENT_READ, child)


def _child(there: int, case: Case, slot: int, attempt: Callable[[Case, int], Told]) -> None:
    try:
        told = attempt(case, slot)
    except BaseException:  # noqa: BLE001 - the parent must hear of it, whatever it is
        told = {"violations": [f"the attempt broke: {traceback.format_exc()[-2000:]}"]}
    try:
        with os.fdopen(there, "wb") as pipe:
            pipe.write(json.dumps(told, ensure_ascii=False).encode())
    finally:
        os._exit(0)


def _ended(running: selectors.BaseSelector, fd: int, child: _Child) -> Told:
    running.unregister(fd)
    os.close(fd)
    _, status = os.waitpid(child.pid, 0)
    if child.heard:
        told: Told = json.loads(child.heard)
        return told
    return {"violations": [f"the process ended with {os.waitstatus_to_exitcode(status)}"]}


def fresh(folder: Path, slot: int) -> Path:
    """This slot's own folder."""
    own = folder / f"slot{slot}"
    own.mkdir(exist_ok=True)
    return own

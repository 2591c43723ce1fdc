"""A child process that is given one order as JSON, answers in JSON and ends: for work that takes
minutes, and must not take the lane's loop or memory. Knows no order.
"""

import asyncio
import errno
import os
import sqlite3
import sys
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from gateway.errors import ParameterInvalid

REFUSED, FAILED = 1, 2
Order = TypeVar("Order", bound=BaseModel)


class OrderRefused(Exception):
    """What was ordered cannot be done; the child's words say why."""


async def ask(module: str, order: BaseModel, seconds_max: float) -> bytes:
    """What `python -m module` answers. Cancelled: the child is gone too.

    Raises: OrderRefused; TimeoutError, it took too long and was ended; OSError, it could not be
    started, read or write its files, or somebody ended it: that may go well another time.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds_max):
            said, _ = await child.communicate(order.model_dump_json().encode())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    told, code = said.decode(errors="replace").strip(), child.returncode
    if code is None or code < 0:
        raise OSError(errno.EINTR, "检查的进程被中断")
    if code == FAILED:
        raise OSError(errno.EIO, told)
    if code:
        raise OrderRefused(told or f"检查中断（{code}）")
    return said


def obey(kind: type[Order], work: Callable[[Order], str], what: str) -> int:
    """The child's whole life, at the lowest priority: the order from stdin, the answer or why not
    to stdout, an exit code. `what`: of whom it speaks."""
    os.nice(19)
    try:
        told, code = work(kind.model_validate_json(sys.stdin.buffer.read())), 0
    except ParameterInvalid as bad:
        told, code = bad.detail, REFUSED
    except ValidationError as bad:
        told, code = f"{what}的说明不对：{bad.errors()[0]['msg']}", REFUSED
    except (OSError, sqlite3.Error) as no:
        told, code = f"{what}读写失败：{no}", FAILED
    sys.stdout.write(told)
    return code

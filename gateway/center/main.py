"""The reference centre as a program: one ready line on stdout, ended by a signal or its parent."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.center.app import Serving, serve_center
from gateway.center.database import DatabaseAway
from gateway.runtime import log_to

if TYPE_CHECKING:
    from gateway.center.stream import Broker


def run(
    port: int,
    db: Path,
    parameters: Path | None = None,
    token: str = "",
    allow_faults: bool = False,
    *,
    ends_with_stdin: bool = False,
    dsn: str = "",
    nats: str = "",
) -> int:
    """Serve on loopback until SIGINT or SIGTERM, and log JSON lines; with `ends_with_stdin` also
    until stdin closes, which is how a centre started by the demo never outlives it. `dsn`: the
    book's PostgreSQL. `nats`: servers with commas, from whose stream records are taken too.
    Returns the exit code."""
    log_to()
    try:
        broker = _broker(nats, token)
        serving = serve_center(
            db, port, parameters, token, allow_faults=allow_faults, dsn=dsn, broker=broker
        )
        asyncio.run(_serve(serving, ends_with_stdin))
    except OSError as taken:
        return _refuse(f"端口 {port} 不能使用：{taken.strerror}")
    except sqlite3.Error as broken:
        return _refuse(f"数据库 {db} 打不开：{broken}")
    except DatabaseAway as away:
        return _refuse(f"PostgreSQL 没有应答：{away}")
    except ImportError as missing:
        return _refuse(f"需要的软件包没有安装：{missing.name}（extra：postgres、nats）")
    return 0


def _broker(nats: str, token: str) -> "Broker | None":
    if not nats:
        return None
    from gateway.center.stream import broker

    return broker(nats, token)


def _refuse(detail: str) -> int:
    _say({"ready": False, "detail": detail})
    return 1


async def _serve(center: AbstractAsyncContextManager[Serving], ends_with_stdin: bool) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with center as serving:
        if ends_with_stdin:
            loop.add_reader(sys.stdin.fileno(), _drop_stdin, over)
        _say(
            {
                "ready": True,
                "url": serving.url,
                "port": serving.port,
                "public_key": serving.public_key,
            }
        )
        await over.wait()


def _drop_stdin(over: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        over.set()


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()

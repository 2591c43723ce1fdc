"""The centre as a process: its ready line, its end, its port."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp


@asynccontextmanager
async def program(
    db: Path, *more: str, stderr: int | None = None
) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    args = (sys.executable, "-m", "gateway.center", "--db", str(db), *more)
    process = await asyncio.create_subprocess_exec(*args, stdin=PIPE, stdout=PIPE, stderr=stderr)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_it_says_where_it_listens_and_ends_with_its_parent(tmp_path: Path) -> None:
    async with program(tmp_path / "c.db", "--port", "0", "--ends-with-stdin") as (process, ready):
        assert ready["ready"] is True
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{ready['url']}/v1/lanes/X03") as answer,
        ):
            assert (await answer.json())["stored"] == 0
        assert process.stdin is not None
        process.stdin.close()  # what the kernel does when the parent is killed
        assert await process.wait() == 0


async def test_it_ends_on_a_signal_and_gets_its_port_back(tmp_path: Path) -> None:
    port = "0"
    for _ in range(2):
        async with program(tmp_path / "c.db", "--port", port) as (process, ready):
            assert port in ("0", str(ready["port"]))
            port = str(ready["port"])
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    async with program(tmp_path / "a.db", "--port", "0") as (_, ready):
        port = str(ready["port"])
        async with program(tmp_path / "b.db", "--port", port) as (process, refusal):
            assert refusal["ready"] is False
            assert port in refusal["detail"]
            assert await process.wait() == 1


async def test_its_log_is_one_json_object_a_line(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "torn.json").write_text("{")
    more = ("--port", "0", "--parameters", str(tables))
    async with program(tmp_path / "c.db", *more, stderr=PIPE) as (process, ready):
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{ready['url']}/v1/parameters") as answer,
        ):
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        told = [json.loads(line) for line in (await process.stderr.read()).splitlines()]
    assert "torn.json" in [line.get("file") for line in told]


async def test_a_book_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    db = tmp_path / "c.db"
    db.write_bytes(b"not a database " * 100)
    async with program(db, "--port", "0", stderr=PIPE) as (process, refusal):
        assert refusal["ready"] is False
        assert str(db) in refusal["detail"]
        assert await process.wait() == 1
        assert process.stderr is not None
        assert await process.stderr.read() == b""

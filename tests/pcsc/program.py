"""`lane-gateway run` as systemd runs it: its own process, a notify socket, log lines on stderr.

What it stands on is real: its own folder of parameters, a scale on a serial line, a centre in
another process, readers behind pcscd.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import aiohttp
from argon2 import PasswordHasher

from gateway import config
from gateway.devices.sim.scale import encode_a9

GATEWAY = Path(config.__file__).parent
TOKEN = "run-test-token"
COLLECTOR, MASTER = ("2001", "s3cret-2001"), ("8001", "s3cret-8001")
START_S, END_S = 40.0, 5.0
TOML = """
data = "data"
[listen]
port = {port}
[station]
hex = "62010B31"
id = "G0030620010020"
name = "兰州南"
[[lane]]
name = "X03"
title = "X03 出口"
lane_id = "G00306200100202010030"
lane_no = 3
card = {{ driver = "pcsc", reader = "card 00 00" }}
psam = {{ driver = "pcsc", reader = "psam 00 00" }}
obu = {{ driver = "pcsc", reader = "obu 00 00" }}
scale = {{ driver = "serial", url = "{scale}" }}
[center]
url = "{center}"
[parameters]
folder = "parameters"
"""


def install(
    folder: Path,
    *,
    scale: str = "socket://127.0.0.1:9",
    center: str = "http://127.0.0.1:9",
    port: int = 0,
    is_demo: bool = False,
) -> Path:
    """A box's files: the demo's tables, with operators of its own. The configuration file.

    Port 9 is discard: nobody answers there.
    """
    tables = folder / "parameters"
    tables.mkdir(parents=True)
    for file in (GATEWAY / "parameters" / "demo").glob("*.json"):
        document = json.loads(file.read_text("utf-8"))
        if document["name"] == "status_list":  # an old one is a warning
            document["effective_from"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        (tables / file.name).write_text(json.dumps(document), "utf-8")
    if not is_demo:
        document = json.loads((tables / "operators.json").read_text("utf-8"))
        hasher = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1)
        document["body"]["rows"] = [
            {"number": who[0], "name": name, "role": role, "password_hash": hasher.hash(who[1])}
            for who, name, role in (
                (COLLECTOR, "试验收费员", "collector"),
                (MASTER, "试验站长", "master"),
            )
        ]
        (tables / "operators.json").write_text(json.dumps(document), "utf-8")
    file = folder / "gateway.toml"
    file.write_text(TOML.format(port=port, scale=scale, center=center), "utf-8")
    return file


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.heard: list[tuple[float, str]] = []
        """(monotonic seconds, one assignment)."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self.path))
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            lines = self._socket.recv(4096).decode().splitlines()
            self.heard += [(time.monotonic(), line) for line in lines]

    def count(self, line: str) -> int:
        return sum(heard == line for _, heard in self.heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


class Program:
    """One life of the process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.lines.append(line.decode().rstrip("\n"))

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line of stderr is one JSON object, or this fails."""
        return [json.loads(line) for line in self.lines]

    async def url(self) -> str:
        """Where the booth's page is, as soon as it is served."""
        await soon(lambda: self._opened() is not None or self.process.returncode is not None)
        opened = self._opened()
        assert opened is not None, self.lines
        return str(opened["url"])

    def _opened(self) -> dict[str, Any] | None:
        return next((line for line in self.log if line["msg"] == "open"), None)

    async def ended(self, within_s: float) -> int:
        """Its exit code, with all it said read. Fails if it does not end in time."""
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
            await self._reading
        return code

    async def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(END_S)

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@asynccontextmanager
async def program(file: Path, **environ: str) -> AsyncIterator[Program]:
    """`lane-gateway run file`, killed at the end if it still lives."""
    env = {
        "PATH": "/usr/bin:/bin",
        "LANE__CENTER__TOKEN": TOKEN,
        "PCSCLITE_CSOCK_NAME": os.environ["PCSCLITE_CSOCK_NAME"],
        **environ,
    }
    args = (sys.executable, "-m", "gateway", "run", str(file))
    process = await asyncio.create_subprocess_exec(
        *args, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=env, cwd=GATEWAY.parent
    )
    running = Program(process)
    try:
        yield running
    finally:
        await running.kill()


@asynccontextmanager
async def center(db: Path, *more: str) -> AsyncIterator[str]:
    """A centre of its own; its address. `more`: arguments."""
    args = (sys.executable, "-m", "gateway.center", "--port", "0", "--db", str(db))
    process = await asyncio.create_subprocess_exec(
        *args,
        *more,
        "--ends-with-stdin",
        stdin=PIPE,
        stdout=PIPE,
        env={"PATH": "/usr/bin:/bin", "CENTER_TOKEN": TOKEN},
        cwd=GATEWAY.parent,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            yield json.loads(await process.stdout.readline())["url"]
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def indicator(weight_kg: int) -> AsyncIterator[str]:
    """A weighing indicator on a serial line, sending all the time; the line's name."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)

    async def send() -> None:
        while True:
            with suppress(BlockingIOError):  # nobody listens
                os.write(ours, encode_a9(weight_kg))
            await asyncio.sleep(0.05)

    sending = asyncio.ensure_future(send())
    try:
        yield os.ttyname(theirs)
    finally:
        sending.cancel()
        os.close(ours)
        os.close(theirs)


class Booth:
    """A browser at the booth."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.shot: dict[str, Any] = {}

    async def sign_in(self, who: tuple[str, str] = COLLECTOR) -> None:
        body = {"operator": who[0], "password": who[1]}
        async with self._http.post("/api/session", json=body) as answer:
            assert answer.status == 200, await answer.text()

    async def look(self) -> dict[str, Any]:
        async with self._http.get("/api/lanes/X03") as answer:
            assert answer.status == 200, await answer.text()
            self.shot = await answer.json()
        return self.shot

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._http.get(path) as answer:
            return answer.status, await answer.json()

    async def do(self, command: str, **body: Any) -> dict[str, Any]:
        """One command on the newest snapshot."""
        rev = (await self.look())["rev"]
        headers = {"Idempotency-Key": uuid.uuid4().hex, "If-Match": f'"{rev}"'}
        body = {"command": command, **body}
        async with self._http.post("/api/lanes/X03/commands", json=body, headers=headers) as answer:
            told = await answer.json()
            assert answer.status == 200, told
        self.shot = told
        return self.shot

    async def lamp(self, device: str) -> str:
        return str((await self.look())["devices"][device]["state"])

    async def until_lamp(self, device: str, state: str, within_s: float = 15.0) -> None:
        """Lamps are renewed once a second."""
        deadline = time.monotonic() + within_s
        while (seen := await self.lamp(device)) != state:
            assert time.monotonic() < deadline, f"{device} is {seen}, not {state}"
            await asyncio.sleep(0.1)

    async def until_stable(self, within_s: float = 15.0) -> None:
        """Until the scale's reading stands still: a collector waits for that, too."""
        deadline = time.monotonic() + within_s
        while not (await self.look())["devices"]["scale"]["is_stable"]:
            assert time.monotonic() < deadline, "the scale never stands still"
            await asyncio.sleep(0.1)

    def live(self) -> Any:
        return self._http.ws_connect("/api/live")


@asynccontextmanager
async def booth(url: str) -> AsyncIterator[Booth]:
    jar = aiohttp.CookieJar(unsafe=True)
    limit = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(url, cookie_jar=jar, timeout=limit) as http:
        yield Booth(http)


async def soon(is_so: Callable[[], bool], within_s: float = START_S) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)

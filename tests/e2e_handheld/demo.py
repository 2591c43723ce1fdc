"""The real demo process, its two doors, and the people and handhelds that stand before them."""

import asyncio
import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any
from uuid import uuid4

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

REPO = Path(__file__).parents[2]
START_S, STOP_S, WAIT_S = 30.0, 10.0, 10.0
DEMO = ("-m", "gateway", "demo")
NONCE = "bm9uY2Utb2YtYS1oYW5kaGVsZA"


# ---- the process ----


@dataclass
class Demo:
    """A gateway that runs: where it is, and its process."""

    process: "subprocess.Popen[str]"
    booth: str
    lan: str
    center: str


@contextmanager
def running(data: Path, program: tuple[str, ...] = DEMO) -> Iterator[Demo]:
    """The program of the README on free ports, until the block ends."""
    center = free_port()
    where = ["--port", "0", "--center-port", str(center), "--data", str(data)]
    process = subprocess.Popen(
        [sys.executable, *program, *where],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    lines: SimpleQueue[str] = SimpleQueue()
    stderr: list[str] = []
    readers = [_pump(process.stdout, lines.put), _pump(process.stderr, stderr.append)]
    try:
        told = _welcome(lines, stderr)
        booth, lan = (_address(told, f"{name}://127") for name in ("http", "https"))
        yield Demo(process, booth, lan, f"http://127.0.0.1:{center}")
    finally:
        code = stop(process)
        for reader in readers:
            reader.join(STOP_S)
    assert (code, "Traceback" in "".join(stderr)) == (0, False), "".join(stderr)


def stop(process: "subprocess.Popen[str]") -> int:
    """SIGTERM, then its exit code; one that does not end in time is killed, and that is a fault."""
    process.terminate()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def _welcome(lines: "SimpleQueue[str]", stderr: list[str]) -> str:
    """Everything it prints until it has said how to stop it."""
    told, until = "", time.monotonic() + START_S
    while "Ctrl+C" not in told:
        try:
            told += lines.get(timeout=max(0.01, until - time.monotonic()))
        except Empty:
            raise AssertionError(f"no welcome in {START_S} s: {told}\n{''.join(stderr)}") from None
    return told


def _pump(pipe: IO[str] | None, put: Callable[[str], None]) -> threading.Thread:
    """A thread that reads a pipe to its end, so that nobody blocks on a full one."""
    assert pipe is not None

    def read() -> None:
        with pipe:
            for line in pipe:
                put(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _address(told: str, start: str) -> str:
    found = re.search(rf"{start}[0-9.:]+", told)
    assert found, told
    return found[0]


# ---- a screen: the booth's, or a handheld's ----


@dataclass
class Screen:
    """One browser's worth of cookies at one of the two doors."""

    base: str
    http: aiohttp.ClientSession
    trust: ssl.SSLContext | None = None
    snap: dict[str, Any] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        if body is not None:
            more["json"] = body
        url = self.base + path
        async with self.http.request(method, url, ssl=self.trust or True, **more) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text

    async def get(self, path: str) -> Any:
        status, told = await self.ask("GET", path)
        assert status == 200, told
        return told

    async def sign_in(self, number: str) -> None:
        given = {"operator": number, "password": number}
        status, told = await self.ask("POST", "/api/session", given)
        assert status == 200, told

    async def look(self) -> dict[str, Any]:
        self.snap = await self.get("/api/lanes/X03")
        return self.snap

    async def press(self, command: str, **body: Any) -> tuple[int, Any]:
        """One command on the newest snapshot this screen has seen."""
        headers = {"Idempotency-Key": uuid4().hex, "If-Match": f'"{self.snap["rev"]}"'}
        asked = {"command": command, **body}
        status, told = await self.ask("POST", "/api/lanes/X03/commands", asked, headers=headers)
        if status == 200:
            self.snap = told
        return status, told

    async def go(self, command: str, to: str, **body: Any) -> None:
        status, told = await self.press(command, **body)
        assert (status, told.get("state")) == (200, to), (command, status, told)

    async def clear(self) -> None:
        """Whatever stands before the booth goes aside or away: the next test begins with idle."""
        await self.look()
        for command, body in (("suspend", {}), ("cancel", {"reason": "下一辆"})):
            if command in self.snap["allowed"] and self.snap["state"] not in ("idle", "saved"):
                status, _ = await self.press(command, **body)
                if status == 200:
                    return


# ---- pairing, as a thin client does it ----


@dataclass(frozen=True)
class Offered:
    """What the QR carries."""

    id: str
    secret: str
    ca: str
    url: str


async def offer(booth: Screen) -> Offered:
    status, told = await booth.ask("POST", "/api/pairings")
    assert status == 200, told
    address, _, fragment = told["url"].partition("#")
    given = dict(part.split("=") for part in fragment.split("&"))
    return Offered(told["id"], given["s"], given["ca"], address.removesuffix("/pair"))


async def trust_by_hash(offered: Offered) -> ssl.SSLContext:
    """The authority's certificate is fetched from anybody, and believed for its hash alone."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{offered.url}/ca.crt", ssl=False) as answer,
    ):
        certificate = x509.load_pem_x509_certificate(await answer.read())
    der = certificate.public_bytes(Encoding.DER)
    assert hashlib.sha256(der).hexdigest() == offered.ca, "not the authority of the QR"
    return ssl.create_default_context(cadata=der)


async def claim(hand: Screen, offered: Offered, name: str = "手持 1") -> tuple[int, Any]:
    body = {"secret": offered.secret, "nonce": NONCE, "name": name}
    return await hand.ask("POST", "/pair", body)


async def pair(booth: Screen, hand: Screen, name: str = "手持 1") -> str:
    """The whole way for a handheld that already trusts; the device's id."""
    offered = await offer(booth)
    _, waiting = await claim(hand, offered, name)
    status, told = await booth.ask("POST", f"/api/pairings/{offered.id}/confirm")
    assert status == 200, told
    status, told = await hand.ask("POST", "/pair", {"claim": waiting["claim"]})
    assert (status, told["state"]) == (200, "paired")
    return offered.id


# ---- waiting ----


async def until(is_so: Callable[[], Any], what: str) -> Any:
    """Ask an async question again and again until the answer is true, for at most ten seconds."""
    end = time.monotonic() + WAIT_S
    while not (answer := await is_so()):
        assert time.monotonic() < end, f"never so: {what}"
        await asyncio.sleep(0.05)
    return answer

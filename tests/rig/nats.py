"""Debian's nats-server: one node or a cluster on loopback, in a folder of its own, ended by pid."""

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

WAIT_S = 60.0
NODES = 3


def missing() -> str:
    """Why there is none here; empty if there is one."""
    if not _program():
        return "nats-server is not installed (sh .ci/setup dev)"
    try:
        import nats  # noqa: F401
    except ImportError:
        return "nats-py is not installed (sh .ci/setup dev)"
    return ""


def _program() -> str | None:
    return shutil.which("nats-server", path="/usr/sbin:/usr/bin:/usr/local/bin")


class Node:
    def __init__(self, program: list[str], port: int, monitor: int) -> None:
        self._program, self._port, self._monitor = program, port, monitor
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WAIT_S)
        self._process = None

    def empty(self) -> None:
        """While it is down: what it acknowledged is gone, as after a power cut before a sync."""
        shutil.rmtree(self._program[self._program.index("-sd") + 1])

    def is_ready(self) -> bool:
        """JetStream answers, and the cluster has a leader."""
        with suppress(OSError):
            url = f"http://127.0.0.1:{self._monitor}/healthz"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return json.load(answer).get("status") == "ok"
        return False

    def leads(self, stream: str) -> bool:
        """Is it the one of the cluster that orders this stream?"""
        with suppress(OSError):
            url = f"http://127.0.0.1:{self._monitor}/jsz?streams=true"
            with urllib.request.urlopen(url, timeout=2) as answer:
                told = json.load(answer)
            for account in told.get("account_details", []):
                for one in account.get("stream_detail", []):
                    if one["name"] == stream:
                        return bool(one.get("cluster", {}).get("leader") == self._name)
        return False

    @property
    def _name(self) -> str:
        return self._program[self._program.index("-n") + 1]


@contextmanager
def running(count: int = NODES, more: Sequence[str] = ()) -> Iterator[list[Node]]:
    """`more`: of the program's options."""
    folder = Path(tempfile.mkdtemp(prefix="lane-nats-", dir="/tmp"))
    nodes = _nodes(folder, count, more)
    try:
        for node in nodes:
            node.start()
        until_ready(nodes)
        yield nodes
    finally:
        for node in nodes:
            node.stop()
        shutil.rmtree(folder)


def until_ready(nodes: list[Node]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not all(node.is_ready() for node in nodes):
        assert time.monotonic() < deadline, "nats-server was not ready in time"
        time.sleep(0.05)


def _nodes(folder: Path, count: int, more: Sequence[str]) -> list[Node]:
    program = _program()
    assert program is not None
    ports = _free_ports(3 * count)
    clients, monitors, routes = ports[:count], ports[count : 2 * count], ports[2 * count :]
    found = list[Node]()
    for n in range(count):
        args = [program, "-a", "127.0.0.1", "-p", str(clients[n]), "-m", str(monitors[n]),
                "-js", "-sd", str(folder / f"n{n}"), "-n", f"n{n}", *more]  # fmt: skip
        if count > 1:
            others = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
            args += ["--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{routes[n]}",
                     "--routes", others, "--no_advertise=true"]  # fmt: skip
        found.append(Node(args, clients[n], monitors[n]))
    return found


def _free_ports(count: int) -> list[int]:
    """A moment ago; all at once, so that none is given twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()

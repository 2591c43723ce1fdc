"""A virtual PC/SC reader: pcscd and vpcd in namespaces of their own, chips that are our twins.

vpcd listens on every address, so it lives in a private network namespace; a thread that speaks
for a chip enters that namespace, opens its socket and stays. The socket of pcscd is a file, which
namespaces do not hide: PCSCLITE_CSOCK_NAME leads the client library to it. The library reads that
name once in a process, so it is set when this module is imported, before any test runs.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.devices.sim.link import Chip

APT = "apt-get install -y --no-install-recommends pcscd vsmartcard-vpcd"
DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
READERS = {"card": 0x8C7B, "psam": 0x8C8B, "obu": 0x8C9B}
CLONE_NEWNET = 0x40000000
WAIT_S = 10.0
POLL_S = 0.02
OUT_S = 0.6
"""pcscd polls every 0.4 s: a card that comes back sooner may stay unseen until pulled again."""
FOLDER = Path(f"/tmp/rig-{os.getpid()}")  # short: a socket's path is 107 bytes at most
os.environ["PCSCLITE_CSOCK_NAME"] = str(FOLDER / "run" / "pcscd.comm")


def missing() -> str | None:
    """What to install, if the rig cannot run here."""
    if not DRIVER.exists() or shutil.which("pcscd") is None:
        return f"needs pcscd and vpcd: {APT}"
    if os.geteuid() != 0:
        return "needs root, for a private network namespace"
    return None


class Slot:
    """One reader. A chip in it is a TCP connection to vpcd; pulling it is closing that."""

    def __init__(self, port: int, daemon: "Daemon") -> None:
        self._port, self._daemon = port, daemon
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._chip: Chip | None = None
        self._removed_at = 0.0
        self._countdown, self._fault = 0, ""
        self.sent = 0
        self.voice = threading.Event()

    @property
    def is_taken(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def insert(self, chip: Chip) -> None:
        """Lay a chip down, where there is none. pcscd sees it within half a second."""
        self.remove()
        time.sleep(max(0.0, self._removed_at + OUT_S - time.monotonic()))
        self._chip = chip
        chip.reset()
        connected = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(connected,), daemon=True)
        self._thread.start()
        assert connected.wait(WAIT_S), "vpcd does not take the chip"

    def swap(self, chip: Chip) -> None:
        """Another chip with the same ATR, behind pcscd's back and while nobody is connected."""
        chip.reset()
        self._chip = chip

    def remove(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(WAIT_S)
            assert not self._thread.is_alive(), "the chip's thread does not end"
        self._socket = self._thread = None

    def arm(self, fault: str, after: int) -> None:
        """Strike at the `after`-th APDU from now.

        pulled_before, pulled_after: as on `SimLink`. silent: its answer waits for `voice`.
        killed_after: the chip obeys, and pcscd is killed before it hears of it.
        """
        self._fault, self._countdown = fault, after

    # ---- in the chip's thread ----

    def _serve(self, connected: threading.Event) -> None:
        self._daemon.enter_network()
        with socket.socket() as line:
            _until(lambda: line.connect_ex(("127.0.0.1", self._port)) == 0, "vpcd listens")
            self._socket = line
            connected.set()
            with suppress(OSError, EOFError):
                while True:
                    self._one(line)
        assert self._chip is not None
        self._chip.reset()
        self._removed_at = time.monotonic()

    def _one(self, line: socket.socket) -> None:
        chip = self._chip
        assert chip is not None
        command = _receive(line, int.from_bytes(_receive(line, 2)))
        if len(command) == 1:
            if command == b"\x04":
                _send(line, chip.atr)
            else:
                chip.reset()  # power off, power on, reset
            return
        self.sent += 1
        self._countdown -= 1
        is_due = self._countdown == 0
        if is_due and self._fault == "pulled_before":
            raise EOFError
        if is_due and self._fault == "silent":
            self.voice.wait(WAIT_S)
        answer = chip.answer(command)
        if is_due and self._fault == "killed_after":
            self._daemon.stop(kill=True)
        if is_due and self._fault in ("pulled_after", "killed_after"):
            raise EOFError
        _send(line, answer)


class Daemon:
    """pcscd with three vpcd readers, in namespaces of its own, started and stopped by pid."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._network: int | None = None
        self._blocks: dict[str, str] = {}
        (folder / "run").mkdir()
        (folder / "readers").mkdir()
        for name, port in READERS.items():
            driver = folder / f"{name}.so"  # blocks that share a driver file share its slots
            shutil.copy(DRIVER, driver)
            self._blocks[name] = (
                f'FRIENDLYNAME "{name}"\nDEVICENAME /dev/null:{port:#X}\n'
                f"LIBPATH {driver}\nCHANNELID {port:#X}\n"
            )

    @property
    def socket(self) -> Path:
        return self._folder / "run" / "pcscd.comm"

    @property
    def _said(self) -> Path:
        return self._folder / "stderr"

    def start(self, unplugged: Collection[str] = ()) -> None:
        for name, block in self._blocks.items():
            file = self._folder / "readers" / name
            file.unlink(missing_ok=True) if name in unplugged else file.write_text(block)
        script = (
            f"ip link set lo up && mount --bind {self._folder}/run /run/pcscd"
            " && exec setpriv --pdeathsig KILL"  # it never outlives the tests
            f" pcscd --foreground --critical --config {self._folder}/readers"
        )
        Path("/run/pcscd").mkdir(exist_ok=True)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--net", "sh", "-c", script],
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        _until(self._listens, "pcscd listens")
        self._network = os.open(f"/proc/{self._process.pid}/ns/net", os.O_RDONLY)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"pcscd ended: {self._said.read_text()}"
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(WAIT_S)
        if self._network is not None:
            os.close(self._network)
        self._process = self._network = None
        self.socket.unlink(missing_ok=True)

    def enter_network(self) -> None:
        """The calling thread's new sockets are inside from now on."""
        assert self._network is not None
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self._network, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


class Rig:
    """pcscd and the three slots."""

    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder)
        self.slots = {name: Slot(port, self.daemon) for name, port in READERS.items()}

    def start(self, unplugged: Collection[str] = ()) -> None:
        """`unplugged`: readers that are not there. pcscd lets only USB ones go while it runs."""
        self.daemon.start(unplugged)

    def stop(self, *, kill: bool = False) -> None:
        for slot in self.slots.values():
            slot.remove()
        self.daemon.stop(kill=kill)


@contextmanager
def running() -> Iterator[Rig]:
    """A rig, one at a time in a process; its client library looks at it."""
    FOLDER.mkdir(mode=0o700)
    try:
        rig = Rig(FOLDER)
        try:
            rig.start()
            yield rig
        finally:
            rig.stop()
    finally:
        shutil.rmtree(FOLDER)


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(POLL_S)


def _receive(line: socket.socket, count: int) -> bytes:
    """vpcd sends length and body apart: without QUICKACK before each read, 44 ms an APDU."""
    got = b""
    while len(got) < count:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        piece = line.recv(count - len(got))
        if not piece:
            raise EOFError
        got += piece
    return got


def _send(line: socket.socket, body: bytes) -> None:
    line.sendall(len(body).to_bytes(2) + body)

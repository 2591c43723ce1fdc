"""A program whose gateways die by SIGKILL where they are told to: at one touch of the world.

It imports everything once and forks a process for each life, so that a start costs little. What
runs in a life is the demo's own composition; only the four doors to the world are counted: each
commit, each APDU, each photo file, each request to the centre. Orders come on stdin, one JSON
object a line; what became of each life goes to stdout the same way. Ends with its stdin.
"""

import asyncio
import functools
import inspect
import json
import os
import selectors
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from gateway import app as composition
from gateway import config
from gateway.app import gateway, serve, stop_on_signals
from gateway.devices import build
from gateway.devices.sim.link import SimLink
from gateway.evidence import Evidence
from gateway.flow import journal, messages
from gateway.runtime import log_to
from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.photos import PhotoPusher
from gateway.units import SystemClock
from gateway.web import bench as bench_routes

PHOTOS_EVERY_S = 0.2


class Doom(NamedTuple):
    """The n-th touch of that name: death before or after it; or the disk is full from there on."""

    name: str
    nth: int
    when: str


class Plug:
    """Counts touches by name, writes them down, and pulls itself at the chosen one."""

    def __init__(self, folder: Path, doom: Doom | None) -> None:
        self._log = os.open(folder / "touches", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._doom, self._seen = doom, Counter[str]()
        self.fill_disk: Callable[[], None] = lambda: None

    def before(self, name: str) -> Callable[[], None]:
        """To be called when the touch begins; what it returns, when the touch is over."""
        self._seen[name] += 1
        here = (name, self._seen[name])
        os.write(self._log, f"{json.dumps(here)}\n".encode())
        if self._doom == Doom(*here, "before"):
            self._die()
        if self._doom == Doom(*here, "full"):
            self.fill_disk()
        return self._die if self._doom == Doom(*here, "after") else lambda: None

    def _die(self) -> NoReturn:
        os.write(self._log, b"died\n")
        while True:
            os.kill(os.getpid(), signal.SIGKILL)


def count(plug: Plug, cls: type, method: str, name_of: Callable[..., str]) -> None:
    """Let every call of an async method pass through the plug."""
    act = getattr(cls, method)

    @functools.wraps(act)
    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        after = plug.before(name_of(self, *args))
        result = await act(self, *args, **kwargs)
        after()
        return result

    setattr(cls, method, counted)


def wire(plug: Plug) -> None:
    """All doors to the world. The chips themselves have no plug: they are the world."""
    for commit in ("log", "write"):
        count(plug, Store, commit, lambda _, work: f"commit {work_name(work)}")
    count(plug, SimLink, "send", lambda link, command: f"{link.name} {command[:2].hex()}")
    count(plug, CenterClient, "_send", lambda _, method, path: f"centre {method} {short(path)}")
    put = Evidence._put

    def counted_put(self: Evidence, sha256: str, jpeg: bytes) -> None:
        after = plug.before("photo file")
        put(self, sha256, jpeg)
        after()

    Evidence._put = counted_put  # type: ignore[method-assign]


def work_name(work: Any) -> str:
    """What a unit of work is, and of which event if it journals one."""
    inner = getattr(work, "func", work)
    known = inspect.getclosurevars(inner).nonlocals if inspect.isfunction(inner) else {}
    event = f" {type(known['event']).__name__}" if "event" in known else ""
    module = inner.__module__.removeprefix("gateway.")
    return f"{module} {inner.__qualname__.split('.<locals>')[0]}{event}"


def short(path: str) -> str:
    return "/".join(path.split("/")[:3])


# ---- one life ----------------------------------------------------------------------------------


async def live(order: dict[str, Any], center: str, plug: Plug, say: Callable[..., None]) -> None:
    """The demo, without its own centre and without a lane network, until a signal."""
    folder, lane = Path(order["data"]), order["lane"]
    read = config.demo(folder, 0, center, "")
    section = read.lane[0].model_copy(update={"name": lane, "lane_id": order["lane_id"]})
    settings = read.model_copy(update={"lane": (section,), "lan": None})
    clock, stop = SystemClock(), stop_on_signals()
    devices = functools.partial(build.devices, is_instant=True)
    async with gateway(settings, clock, devices) as box:
        plug.fill_disk = functools.partial(box.store.pretend_full, True)
        bench = build.bench(
            box.stations[lane].devices,
            box.shelf.current,
            settings.station.hex,
            folder / "bench",
            clock,
            disk=box.store.pretend_full,
        )
        await serve(
            box,
            stop,
            tables=[bench_routes.routes],
            equip=lambda app: app.__setitem__(bench_routes.BENCH, bench),
            ready=lambda url, _: say(ready=url),
        )


def begin(order: dict[str, Any], center: str) -> NoReturn:
    """In the child: never returns."""
    folder = Path(order["data"])
    folder.mkdir(parents=True, exist_ok=True)
    out = os.dup(1)
    silence(folder)
    log_to()
    composition.PhotoPusher = functools.partial(  # type: ignore[misc, assignment]
        PhotoPusher, poll_s=PHOTOS_EVERY_S
    )
    plug = Plug(folder, Doom(*order["doom"]) if order["doom"] else None)
    wire(plug)

    def say(**facts: Any) -> None:
        os.write(out, f"{json.dumps({'id': order['id'], **facts})}\n".encode())

    code = 1
    try:
        asyncio.run(live(order, center, plug, say))
        code = 0
    except BaseException:  # noqa: BLE001 - the traceback is all that is left of it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def silence(folder: Path) -> None:
    """Nothing of the mother's stdin and stdout is the child's to use; its log is its own."""
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(log, 2)


# ---- the mother --------------------------------------------------------------------------------


def warm() -> None:
    """What a gateway prepares at its first use, once for all children."""
    for kind in vars(messages).values():
        if inspect.isclass(kind) and issubclass(kind, messages.Event):
            journal.adapter(kind)
    with suppress(VerificationError):
        PasswordHasher().verify(PasswordHasher().hash("warm"), "cold")


def main(center: str) -> None:
    warm()
    ears = selectors.DefaultSelector()
    ears.register(0, selectors.EVENT_READ)
    children: dict[int, tuple[str, int]] = {}  # pidfd → the life's id, its pid
    left = b""
    while True:
        for key, _ in ears.select():
            if key.fd in children:
                bury(*children.pop(key.fd))
                ears.unregister(key.fd)
                os.close(key.fd)
                continue
            got = os.read(0, 65536)
            if not got:
                for life, pid in children.values():
                    os.kill(pid, signal.SIGKILL)
                    bury(life, pid)
                return
            *lines, left = (left + got).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    begin(order, center)
                pidfd = os.pidfd_open(pid)
                children[pidfd] = (order["id"], pid)
                ears.register(pidfd, selectors.EVENT_READ)
                tell({"id": order["id"], "pid": pid})


def bury(life: str, pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    tell({"id": life, "ended": os.waitstatus_to_exitcode(status)})


def tell(facts: dict[str, Any]) -> None:
    os.write(1, f"{json.dumps(facts)}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])

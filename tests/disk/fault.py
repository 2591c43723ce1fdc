"""The shim `fail.c`: built by the system's compiler, loaded before libc, told from here."""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("fail.c")
ROOT = SOURCE.parents[2]
KINDS = {"write": 1, "sync": 2, "open": 4, "rename": 8, "cut": 16, "name": 32, "read": 64}
MANNERS = {"nothing": 0, "all": 1, "part": 2, "late": 3}


class Fault(NamedTuple):
    """What the disk says, and how: `manner` is how much of the call is done all the same."""

    kind: str
    number: int
    manner: str
    for_ever: bool

    @property
    def name(self) -> str:
        how = "for ever" if self.for_ever else "once"
        said = "late" if self.manner == "late" else errno.errorcode.get(self.number, "?")
        return f"{self.kind} {said} {how}, {self.manner} done"


FAULTS = tuple(
    Fault(kind, number, manner, for_ever)
    for kind, number, manner in (
        ("write", errno.EIO, "nothing"),
        ("write", errno.EIO, "all"),
        ("write", errno.ENOSPC, "nothing"),
        ("write", errno.ENOSPC, "part"),
        ("write", errno.EROFS, "nothing"),
        ("write", 0, "late"),
        ("sync", errno.EIO, "nothing"),
        ("sync", errno.EIO, "all"),
        ("sync", errno.ENOSPC, "all"),
        ("sync", 0, "late"),
        ("open", errno.EIO, "nothing"),
        ("open", errno.ENOSPC, "nothing"),
        ("open", errno.EROFS, "nothing"),
        ("rename", errno.EIO, "nothing"),
        ("rename", errno.EIO, "all"),
        ("cut", errno.EIO, "nothing"),
        ("cut", errno.ENOSPC, "nothing"),
        ("name", errno.EIO, "nothing"),
        ("read", errno.EIO, "nothing"),
    )
    for for_ever in (False, True)
    if not (manner == "late" and for_ever)
)


def build(folder: Path) -> Path:
    """The compiled shim. Raises: FileNotFoundError without gcc, CalledProcessError."""
    shim = folder / "fail.so"
    program = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", shim, SOURCE, "-ldl"]
    subprocess.run([*program, "-lpthread"], check=True, timeout=60)
    return shim


def command(shim: Path, module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `subprocess` needs to run one of our modules with the shim in front of libc."""
    return {
        "args": [sys.executable, "-W", "ignore", "-m", f"tests.disk.{module}", *arguments],
        "cwd": ROOT,
        "env": {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(ROOT)},
    }


class Disk:
    """This process's own calls below one folder."""

    def __init__(self) -> None:
        """Raises: AttributeError, if the shim is not loaded."""
        self._shim = ctypes.CDLL(None)
        self._shim.fail_watch.argtypes = (ctypes.c_char_p,)

    def watch(self, folder: Path) -> None:
        """`folder` must be a real path."""
        self._shim.fail_watch(os.fsencode(folder))

    def arm(self, fault: Fault, which: int) -> None:
        """From the `which`-th call of that kind on, or that one only."""
        kind, manner = KINDS[fault.kind], MANNERS[fault.manner]
        self._shim.fail_arm(kind, which, fault.number, int(fault.for_ever), manner)

    def heal(self) -> None:
        self._shim.fail_disarm()

    @property
    def calls(self) -> int:
        return int(self._shim.fail_calls())

    @property
    def hits(self) -> int:
        """Calls that were refused since `arm`."""
        return int(self._shim.fail_hits())

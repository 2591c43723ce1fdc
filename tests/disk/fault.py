"""The shim `fail.c`, told from here what the disk says to which call."""

import ctypes
import errno
import os
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("fail.c")
KINDS = {"write": 1, "sync": 2, "open": 4, "rename": 8, "cut": 16, "unlink": 32, "read": 64,
         "mkdir": 128}  # fmt: skip
MANNERS = {"nothing": 0, "all": 1, "part": 2, "late": 3}
NEVER = 10**9


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


_REFUSED = tuple(
    (kind, number, "nothing")
    for kind in KINDS
    for number in (errno.EIO, errno.ENOSPC, errno.EROFS)
    if kind != "read" or number == errno.EIO
)
_HALF_DONE = (
    ("write", errno.EIO, "all"),
    ("write", errno.ENOSPC, "part"),
    ("write", 0, "late"),
    ("sync", errno.EIO, "all"),
    ("sync", 0, "late"),
    ("rename", errno.EIO, "all"),
)
FAULTS = tuple(
    Fault(kind, number, manner, for_ever)
    for kind, number, manner in _REFUSED + _HALF_DONE
    for for_ever in (False, True)
    if not (manner == "late" and for_ever)
)


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

    def count(self) -> None:
        """From now on, refusing nothing."""
        self._shim.fail_arm(sum(KINDS.values()), NEVER, 0, 0, 0)

    def heal(self) -> None:
        self._shim.fail_disarm()

    @property
    def calls(self) -> dict[str, int]:
        """Of each kind since `count`."""
        return {name: int(self._shim.fail_calls(kind)) for name, kind in KINDS.items()}

    @property
    def hits(self) -> int:
        """Calls that were refused since `arm`."""
        return int(self._shim.fail_hits())

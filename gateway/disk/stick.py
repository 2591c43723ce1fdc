"""A file to a stick that somebody plugged in: whole and read back, or not there at all.

`python -m gateway.disk.stick FILE FOLDER` is a program of its own: a stick that hangs in the kernel
must hold up nobody. It prints `{"done": bytes}` as it goes, then `{"sha256": …}` or `{"fault": …}`.
Everything goes by the folder's own descriptor: when the stick is gone, nothing lands on our disk.
"""

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

PIECE = 1024 * 1024
OURS, HALF = ".lane-export-", ".part"
MOUNTS = Path("/proc/self/mountinfo")
Fault: TypeAlias = Literal["full", "read_only", "too_big", "differs", "gone", "no_file"]
_FAULTS: dict[int | None, Fault] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read_only",
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
    errno.EFBIG: "too_big",
}


class StickFault(Exception):
    """Nothing was left on the stick, as far as it lets itself be written."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class Stick(NamedTuple):
    """What is mounted there. `device`: that it is still the same one."""

    folder: Path
    fd: int
    device: int


def mounted(media: Path, table: Path = MOUNTS) -> list[Path]:
    """Mount points below `media`, in the order of their names. No stick is touched."""
    rows = [row.split() for row in table.read_text("utf-8", "replace").splitlines()]
    points = {Path(_plain(row[4])) for row in rows if "autofs" not in row}
    return sorted(point for point in points if media in point.parents)


def copy(source: Path, folder: Path, tell: Callable[[int], None] = lambda _: None) -> str:
    """SHA-256 of what is on the stick now, under the source's name. `tell` hears bytes, twice as
    many as there are: written, then read back. Blocks. Raises: StickFault."""
    try:
        size = source.stat().st_size
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as no:
        raise StickFault("gone" if source.exists() else "no_file") from no
    stick = Stick(folder, fd, os.fstat(fd).st_dev)
    try:
        return _copy(source, stick, size, tell)
    except OSError as no:
        raise StickFault(_FAULTS.get(no.errno, "gone")) from no
    finally:
        os.close(fd)


def _copy(source: Path, stick: Stick, size: int, tell: Callable[[int], None]) -> str:
    half = f".{source.name}{HALF}"
    _check(stick)
    _sweep(stick)
    room = os.fstatvfs(stick.fd)
    if room.f_bavail * room.f_frsize < size:
        raise StickFault("full")
    try:
        written = _write(source, stick, half, tell)
        if _read_back(stick, half, lambda done: tell(size + done)) != written:
            raise StickFault("differs")
        os.replace(half, source.name, src_dir_fd=stick.fd, dst_dir_fd=stick.fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(half, dir_fd=stick.fd)
        raise
    _sync(stick.fd)
    _check(stick)
    return written


def _check(stick: Stick) -> None:
    """Raises: StickFault, if another disk, ours, is where the stick was."""
    here, around = stick.folder.stat().st_dev, stick.folder.parent.stat().st_dev
    if here != stick.device or here == around:
        raise StickFault("gone")


def _sweep(stick: Stick) -> None:
    """What a stick that was pulled, or a power cut, left half-written takes its room."""
    for name in os.listdir(stick.fd):  # noqa: PTH208 - by the name it may be our own disk by now
        if name.startswith(OURS) and name.endswith(HALF):
            with suppress(OSError):
                os.unlink(name, dir_fd=stick.fd)


def _write(source: Path, stick: Stick, name: str, tell: Callable[[int], None]) -> str:
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    seen, done = hashlib.sha256(), 0
    with source.open("rb") as old, os.fdopen(os.open(name, how, dir_fd=stick.fd), "wb") as new:
        while piece := old.read(PIECE):
            new.write(piece)
            seen.update(piece)
            done += len(piece)
            tell(done)
        new.flush()
        os.fsync(new.fileno())
    return seen.hexdigest()


def _read_back(stick: Stick, name: str, tell: Callable[[int], None]) -> str:
    """From the stick, not from what the kernel remembers of it."""
    seen, done = hashlib.sha256(), 0
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=stick.fd), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := file.read(PIECE):
            seen.update(piece)
            done += len(piece)
            tell(done)
    return seen.hexdigest()


def _sync(fd: int) -> None:
    """The name too. Some drivers of foreign file systems know no such thing of a folder."""
    try:
        os.fsync(fd)
    except OSError as no:
        if no.errno != errno.EINVAL:
            raise


def _plain(name: str) -> str:
    """Blanks stand there as \\040."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
        name = name.replace(code, char)
    return name


def main() -> int:
    with suppress(OSError):  # forbidden by some units; no reason to write nothing
        os.nice(19)
    try:
        told = {"sha256": copy(Path(sys.argv[1]), Path(sys.argv[2]), lambda n: say({"done": n}))}
    except StickFault as no:
        told = {"fault": no.fault}
    say(told)
    return 0


def say(told: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

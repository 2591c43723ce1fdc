"""The export that a master carries away, and its way to a stick. Made by programs of their own, so
that a lane that sells does not wait for them; what becomes of them is said in words of the screen.

An export can be made again: it is given up when space runs short (gateway/disk/shed.py).
"""

import asyncio
import errno
import json
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

from gateway.disk import stick
from gateway.errors import GatewayError, NotFound
from gateway.spool.health import errno_of, words
from gateway.units import Clock, beijing

SAID_MAX = 2000
PATIENCE_S = 1800.0
PYTHON = (sys.executable, "-m")
MEDIA = Path("/media")

TROUBLES = {
    "full": "E-305",
    "read_only": "E-307",
    "broken": "E-308",
    "given_up": "E-304",
    "late": "export.late",
    "refused": "export.refused",
}
"""Why there is no export → its number. Words: `export.*` of gateway/web/words.py."""
_DISK = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "read_only"}


class ExportRunning(GatewayError):
    """One is being made, or carried to a stick, already."""

    code = "export.running"
    http_status = 409
    default_action = "请等它写完"


class ExportNoRoom(GatewayError):
    """The disk's room is for money now. Nothing was begun."""

    code = "export.no_room"
    http_status = 503
    default_action = "流水都在本机，收费不受影响；请通知维护人员清理磁盘后再写"


class StickGone(NotFound):
    """No such stick is plugged in (any more)."""

    code = "stick.gone"
    default_action = "请插好 U 盘，看到名字后再按"


class Exports:
    """The one export that is being made or lies ready."""

    def __init__(
        self,
        data: Path,
        clock: Clock,
        no_room: Callable[[], str] = lambda: "",
        *,
        program: Sequence[str] = (*PYTHON, "gateway", "journal", "export"),
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`no_room`: why the disk has none for this, in Chinese; empty while it has."""
        self._data, self._clock, self._no_room = data, clock, no_room
        self._program, self._patience_s = program, patience_s
        self._folder = data / "outgoing"
        self._making: asyncio.Task[None] | None = None
        self.file: Path | None = None
        self.size = 0
        self.said = ""
        """The program's own words."""
        self.trouble = ""
        """One of TROUBLES, or nothing."""

    @property
    def is_running(self) -> bool:
        return self._making is not None and not self._making.done()

    def begin(self, span: str, with_photos: bool) -> None:
        """Raises: ExportRunning, ExportNoRoom."""
        if self.is_running:
            raise ExportRunning("正在写导出文件")
        if why := self._no_room():
            raise ExportNoRoom(f"磁盘空间不够，没有写导出文件：{why}")
        self._making = asyncio.create_task(self._make(self._days(span), with_photos))

    async def give_up(self) -> int:
        """All of it, for the space's sake; bytes."""
        if self.is_running or self.file:
            await self.close()
            self.file, self.said, self.trouble = None, "", "given_up"
        return await asyncio.to_thread(self._clear)

    async def close(self) -> None:
        if self._making:
            self._making.cancel()
            with suppress(asyncio.CancelledError):
                await self._making

    def _days(self, span: str) -> list[str]:
        today = beijing(self._clock.now_ms()).date()
        first = {"today": 0, "yesterday": 1, "week": 6}.get(span)
        if first is None:
            return []
        last = today - timedelta(days=1) if span == "yesterday" else today
        return ["--from", str(today - timedelta(days=first)), "--to", str(last)]

    async def _make(self, days: Sequence[str], with_photos: bool) -> None:
        self.file, self.said, self.trouble = None, "", ""
        try:
            file = await asyncio.to_thread(self._fresh)
            await self._write(file, [*days, *(["--photos"] if with_photos else [])])
        except TimeoutError:
            self.trouble = "late"
        except OSError as no:
            self.trouble = _DISK.get(errno_of(no), "broken")
        if self.trouble:  # a full disk needs its space back
            await asyncio.to_thread(self._clear)

    async def _write(self, file: Path, more: Sequence[str]) -> None:
        """Raises: OSError; TimeoutError."""
        async with asyncio.timeout(self._patience_s):
            asked = (*self._program, str(self._data), *more, "--out", str(file))
            async with _child(asked, STDOUT) as process:
                said, _ = await process.communicate()
        self.said = said.decode(errors="replace").replace(str(file), file.name)[:SAID_MAX]
        if process.returncode:
            self.trouble = _trouble(self.said)
        else:
            self.size = (await asyncio.to_thread(file.stat)).st_size
            self.file = file

    def _fresh(self) -> Path:
        """Where the next one goes; those before it are gone: they can be made again. Blocks."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._clear()
        stamp = beijing(self._clock.now_ms()).strftime("%Y%m%d-%H%M%S")
        return self._folder / f"lane-export-{stamp}.tar"

    def _clear(self) -> int:
        """Bytes; what a program that was ended left half-done goes too. Blocks."""
        freed = 0
        with suppress(OSError):
            for old in list(self._folder.iterdir()):
                freed += sum(one.stat().st_size for one in (old, *old.rglob("*")) if one.is_file())
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        return freed


class Sticks:
    """What is plugged in, and the one copy that is on its way."""

    def __init__(
        self,
        media: Path = MEDIA,
        *,
        program: Sequence[str] = (*PYTHON, "gateway.disk.stick"),
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`media`: whatever is mounted below is a stick."""
        self._media, self._program, self._patience_s = media.resolve(), program, patience_s
        self._copying: asyncio.Task[None] | None = None
        self.file, self.name, self.fault = "", "", ""
        """Which file went to which stick, last; and why it is not there: a `stick.Fault`, late."""
        self.sha256 = ""
        """Of what was read back."""
        self._size, self._done = 0, 0

    @property
    def is_running(self) -> bool:
        return self._copying is not None and not self._copying.done()

    @property
    def percent(self) -> int:
        return min(99, 50 * self._done // max(1, self._size))

    def found(self) -> list[str]:
        """Their names. Empty too where mounts cannot be told."""
        with suppress(OSError):
            return [str(one.relative_to(self._media)) for one in stick.mounted(self._media)]
        return []

    def begin(self, file: Path, size: int, name: str) -> None:
        """Raises: ExportRunning, StickGone."""
        if self.is_running:
            raise ExportRunning("正在写到 U 盘")
        if name not in self.found():
            raise StickGone("没有这个 U 盘")
        self.file, self.name, self.fault, self.sha256 = file.name, name, "", ""
        self._size, self._done = size, 0
        self._copying = asyncio.create_task(self._copy(file, self._media / name))

    async def close(self) -> None:
        if self._copying:
            self._copying.cancel()
            with suppress(asyncio.CancelledError):
                await self._copying

    async def _copy(self, file: Path, folder: Path) -> None:
        try:
            async with (
                asyncio.timeout(self._patience_s),
                _child((*self._program, str(file), str(folder)), DEVNULL) as process,
            ):
                await self._follow(process)
        except TimeoutError:
            self.fault = "late"
        except OSError:
            self.fault = "gone"
        self.fault = self.fault or ("" if self.sha256 else "gone")

    async def _follow(self, process: Process) -> None:
        assert process.stdout is not None
        async for row in process.stdout:
            told = json.loads(row)
            self._done = told.get("done", self._done)
            self.sha256, self.fault = told.get("sha256", ""), told.get("fault", "")


@asynccontextmanager
async def _child(asked: Sequence[str], stderr: int) -> AsyncIterator[Process]:
    """Ended with us. One that hangs in the kernel is not waited for."""
    process = await asyncio.create_subprocess_exec(
        *asked, stdin=DEVNULL, stdout=PIPE, stderr=stderr
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 1.0)


def _trouble(said: str) -> str:
    """Of a program that ended with words: the disk's, or its own."""
    for number, trouble in ((errno.ENOSPC, "full"), (errno.EROFS, "read_only"), (0, "broken")):
        if words(OSError(number, "")) in said:
            return trouble
    return "refused"

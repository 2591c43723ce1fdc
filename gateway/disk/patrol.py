"""Is what was written long ago still what it was? A slow walk of a process of its own, each day.

A start checks the newest files and a small database; the rest is looked at behind the selling.
What is found stands in the journal, on the lamp, and is mended by the next start.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.spool.copies import SUSPECT
from gateway.store import Draft, Store
from gateway.units import Clock

log = logging.getLogger(__name__)

FIRST_S = 60.0  # after the start: customers first
EVERY_S = 24 * 3600.0
AGAIN_S = 3600.0  # after a walk that came to no end
SHOWN = 20  # findings in one row of the journal
ACTION = "不影响收费。请在空闲时重启网关，自动修复；不要删除数据文件"


class Patrol:
    """Service. `found`: what the newest walk found, as sentences; None before the first end."""

    name = "patrol"

    def __init__(
        self, store: Store, data: Path, clock: Clock, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._data, self._clock = store, data, clock
        self._on_change = on_change
        self.found: tuple[str, ...] | None = None
        self.walked_ms = 0
        """When the newest walk came to its end; wall clock."""

    async def run(self) -> None:
        await self._clock.sleep(FIRST_S)
        while True:
            try:
                await self.walk()
            except OSError as no:
                log.error("the data cannot be walked", extra={"reason": str(no)})
            await self._clock.sleep(EVERY_S if self.found is not None else AGAIN_S)

    @property
    def text(self) -> str:
        """For a lamp, in Chinese; empty if all is well."""
        return f"核对发现 {len(self.found)} 处损坏，{ACTION}" if self.found else ""

    async def walk(self) -> None:
        """One walk. Raises: OSError, if no process can be had."""
        before, code, lines = self.found, *await self._verified()
        if code not in (0, 1):
            log.error("the walk came to no end", extra={"code": code})
            return
        self.found, self.walked_ms = tuple(lines), self._clock.now_ms()
        if self.found and not before:
            log.error("damage found", extra={"count": len(self.found)})
            await self._tell(self.found)
            self._on_change()

    async def _verified(self) -> tuple[int, list[str]]:
        """Exit code of `journal verify`, and a line for each finding."""
        verify = ("-m", "gateway", "journal", "verify", str(self._data))
        process = await asyncio.create_subprocess_exec(
            "nice", "-n", "19", sys.executable, *verify,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            told, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, told.decode(errors="replace").splitlines()[:-1]

    async def _tell(self, found: tuple[str, ...]) -> None:
        clock = self._clock
        moment = (clock.now_ms(), clock.monotonic_ms(), clock.boot_id, "")
        what = f"核对发现 {len(found)} 处损坏，下次启动时修复"
        body = json.dumps({"what": what, "found": found[:SHOWN]}, ensure_ascii=False)

        def entry(draft: Draft) -> None:
            draft.add("", "", moment, "incident", "", body)

        with suppress(OSError):
            (self._data / SUSPECT).touch()
        with suppress(StoreUnavailable):
            await self._store.log(entry)

"""Money in two copies, with one writer: the log is the truth, the database follows it.

`log`: a step. It is on disk when its row is in the log (spool/): one write, one sync. The tables
follow a moment later, many steps in one transaction that waits for no sync; what a power cut
takes from them is read back from the log at the next start. `write`: everything that is not
money, whole in one synced transaction of the database, behind all steps logged before.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import aiosqlite

from gateway.errors import StoreUnavailable
from gateway.spool.copies import SPOOL
from gateway.spool.database import is_damage
from gateway.spool.draft import Draft, Entry, Work
from gateway.spool.health import Health, words
from gateway.spool.log import BLOCK
from gateway.spool.progress import Progress
from gateway.spool.repair import Repair
from gateway.spool.reserve import Reserve
from gateway.spool.writer import HEAL, LOG, LOOK, SETTLE, WRITE, Writer
from gateway.units import Clock, SystemClock

__all__ = ["SPOOL", "Draft", "Entry", "Store", "Work"]
T = TypeVar("T")


class Store:
    """The box's money and its database. What `log` and `write` return from survives a cut."""

    name = "store"

    def __init__(self, path: Path, writer: Writer, reader: aiosqlite.Connection) -> None:
        self.path = path
        self._writer, self._reader = writer, reader
        self._generation = writer.copies.generation

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock | None = None,
        block: int = BLOCK,
        progress: Progress | None = None,
    ) -> Self:
        """Open or create; verify, salvage, set aside, rebuild what is damaged; then follow up.

        `block`: bytes that the log writes at least, 512 or 4096 (config.py, [spool]). `progress`
        hears, in the writer's thread, how far it has come.

        Raises: StoreUnavailable, if the disk cannot be used, the file is newer than this
        program, or a pragma did not take. A damaged file is no reason: see `repairs`.
        """
        writer = Writer(path, clock or SystemClock(), block, progress)
        await writer.start()
        try:
            return cls(path, writer, await _reader(path))
        except sqlite3.Error as broken:
            await writer.stop()
            raise StoreUnavailable(f"数据库打不开：{broken}") from broken

    async def run(self) -> None:
        """As long as anything can be written: ends only with the bug that stopped the writer."""
        await self._writer.run()

    async def log(self, entry: Entry[T], *, looks: bool = False) -> T:
        """Add the rows that `entry` drafts, all or none; its result once they are on disk.

        `entry` runs in another thread and touches nothing but the draft and its own values; what
        it raises leaves nothing behind. `looks`: it reads the tables (`draft.db`), and costs more.
        Cancelling the caller does not cancel the work.
        Raises: StoreUnavailable, if the disk does not take it.
        """
        done: T = await self._writer.submit(entry, LOOK if looks else LOG)
        return done

    async def write(self, work: Work[T]) -> T:
        """Run `work` inside one transaction; return its result once that is on disk.

        `work` gets the connection, may read and write all tables that do not follow from the
        log, must not commit, and touches nothing but the connection and its own values.
        Otherwise as `log`.
        """
        done: T = await self._writer.submit(work, WRITE)
        return done

    def later(self, work: Work[None]) -> None:
        """Run `work` when the tables follow next. A power cut may take it: for what can be lost."""
        self._writer.put_off(work)

    async def rows(self, sql: str, *params: Any) -> Sequence[aiosqlite.Row]:
        """All rows of one read, as of the last step. Keep them few: page long reads."""
        if self._writer.is_behind:
            await self.settle()
        try:
            return await self._read(sql, params)
        except sqlite3.Error as broken:
            if not is_damage(broken):
                raise StoreUnavailable(f"数据库读取失败：{words(broken)}") from broken
            why = str(broken)
        await self._writer.submit(why, HEAL)
        try:
            return await self._read(sql, params)
        except sqlite3.Error as broken:
            raise StoreUnavailable(f"数据库读取失败：{words(broken)}") from broken

    async def settle(self) -> None:
        """Return when the tables have followed all that is logged. Raises: StoreUnavailable."""
        await self._writer.submit(None, SETTLE)

    @property
    def repairs(self) -> Sequence[Repair]:
        """What was found damaged in this life, and mended."""
        return self._writer.copies.repairs

    @property
    def newest_seq(self) -> int:
        """Of the log's newest row; 0 for none."""
        return self._writer.copies.spool.seq

    @property
    def may_lack_rows(self) -> bool:
        """A repair, of this life or one that was cut off, may have cost rows that do not follow
        from the log: whoever can make his own anew does, and then `lacks_none` is said."""
        return self._writer.copies.may_lack_rows

    def lacks_none(self) -> None:
        """What could be made anew is. Raises: OSError."""
        self._writer.copies.lacks_none()

    @property
    def last_commit_ms(self) -> float:
        """How long the newest sync took, for /readyz."""
        return self._writer.last_commit_ms

    @property
    def waiting_ms(self) -> float:
        """How long the disk has been busy with what it is doing now; 0 if with nothing."""
        since = self._writer.busy_since
        return (time.perf_counter() - since) * 1000 if since else 0.0

    @property
    def health(self) -> Health:
        """What the disk last said."""
        return self._writer.copies.health

    @property
    def is_behind(self) -> bool:
        """The tables do not yet show all that is logged."""
        return self._writer.is_behind

    @property
    def block(self) -> int:
        """Bytes that the log writes at least."""
        return self._writer.copies.spool.block

    @property
    def reserve(self) -> Reserve:
        """Room kept for the tables."""
        return self._writer.copies.reserve

    @property
    def spare_bytes(self) -> int:
        """Room that the log has without asking the file system for more."""
        return self._writer.copies.spool.spare_bytes

    def pretend_full(self, is_full: bool) -> None:
        """For the bench and tests: no block left for the log, no page for the database."""
        self._writer.copies.may_grow = not is_full
        self._writer.copies.spool.is_full = is_full

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.stop()

    async def _read(self, sql: str, params: tuple[Any, ...]) -> Sequence[aiosqlite.Row]:
        while (newest := self._writer.copies.generation) != self._generation:
            fresh = await _reader(self.path)
            old, self._reader, self._generation = self._reader, fresh, newest
            await old.close()  # behind what it was asked; asked later, it would never answer
        return list(await self._reader.execute_fetchall(sql, params))


async def _reader(path: Path) -> aiosqlite.Connection:
    address = f"{path.absolute().as_uri()}?mode=ro"  # noqa: ASYNC240 - touches no disk
    reading = aiosqlite.connect(address, uri=True)
    # Not a daemon by default: a box that dies of a bug would wait for it for ever.
    reading._thread.daemon = True  # noqa: SLF001
    reader = await reading
    reader.row_factory = aiosqlite.Row
    return reader

"""The box under test: the real composition with twins that answer at once, and its weakened kin."""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from gateway import app, config, evidence
from gateway.app import Gateway, gateway
from gateway.devices import build
from gateway.errors import CenterUnavailable
from gateway.flow.books import Books
from gateway.flow.messages import AfterRestart, CommitDebit
from gateway.spool import copies, frame, log, segment, writer
from gateway.spool.copies import Copies
from gateway.spool.log import Spool
from gateway.store import Store
from gateway.sync import shelf
from gateway.units import Clock
from tests.powercut.world import LANE, Centre

NOBODY = "http://127.0.0.1:1"
CHECKPOINT_COMMITS = 7
LAG_S = 0.01


@asynccontextmanager
async def box_on(
    folder: Path, clock: Clock, centre: Centre, kind: type[Store] = Store, sizes: str = "small"
) -> AsyncIterator[Gateway]:
    """The gateway on that folder, recovered, nothing running yet. Raises: as `gateway.app`."""
    spool = config.SpoolSection(block_bytes=SIZES[sizes].block)  # type: ignore[arg-type]
    settings = _settings().model_copy(update={"data": folder, "spool": spool})
    devices = partial(build.devices, is_instant=True)
    with patch.object(app, "Store", kind):
        async with gateway(settings, clock, devices) as box:
            box.client.submit = centre.submit  # type: ignore[method-assign]
            box.client.fare = _no_fare  # type: ignore[method-assign]
            yield box


@cache
def _settings() -> config.Settings:
    """The demo's, for one lane, with nobody at the centre and no handhelds."""
    demo = config.demo(Path(), 0, NOBODY, "")
    lanes = tuple(lane for lane in demo.lane if lane.name == LANE)
    return demo.model_copy(update={"lan": None, "lane": lanes})


async def _no_fare(_: Any) -> Any:
    raise CenterUnavailable("没有网络")


class Sizes(NamedTuple):
    """How large the log's files are; the name is what the command line calls it."""

    segment_bytes: int
    reserve_bytes: int
    block: int


SIZES = {
    "small": Sizes(40 * 1024, 64 * 1024, 512),  # the log goes on in a new file every few vehicles
    "production": Sizes(log.SEGMENT_BYTES, log.RESERVE_BYTES, log.BLOCK),
    "pages": Sizes(40 * 1024, 64 * 1024, 4096),  # for disks that spoil a sector's neighbours
}


def press(sizes: str) -> None:
    """Let files end, tables follow and checkpoints fall inside passages, at ever other places."""
    log.SEGMENT_BYTES, log.RESERVE_BYTES, _ = SIZES[sizes]
    copies.CHECKPOINT_COMMITS = CHECKPOINT_COMMITS
    writer.LAG_S = LAG_S


def read_tables_once() -> None:
    """The installed parameter packages never change here: take them apart once, not per start."""
    shelf.read_package = cache(shelf.read_package)


# ---- what must be found out ------------------------------------------------------------------


def _lax_log() -> None:
    segment._open = lambda path: os.open(path, os.O_RDWR)


def _tables_first() -> None:
    """The log is written when its rows have gone into the tables, a handful at a time."""
    append = Spool.append

    def late(self: Spool, rows: Any, texts: Any = ()) -> Any:
        waiting.extend(rows)
        hashes = []
        for row in rows:
            self.hash = frame.chained(self.hash, frame.text_of(row))
            self.seq = row.seq
            hashes.append(self.hash)
        if len(waiting) >= LATE_ROWS:
            self.seq, self.hash = started_at
            self.followed = min(self.followed, self.seq)
            append(self, waiting)
            started_at[:] = self.seq, self.hash
            waiting.clear()
        return hashes

    waiting: list[Any] = []
    started_at: list[Any] = [0, frame.GENESIS]
    Spool.append = late


LATE_ROWS = 8


def _tables_never_synced() -> None:
    def sync(self: Copies, db: sqlite3.Connection, *, is_synced: bool) -> None:
        db.execute("PRAGMA synchronous=OFF")

    Copies.sync = sync


def _spare_without_a_name() -> None:
    segment.sync_folder = log.sync_folder = lambda folder: None


def _marked_too_early() -> None:
    """Each row says of itself that it is durable: a torn write looks like a damaged file."""
    packed = log.pack
    log.pack = lambda seq, durable, *rest: packed(seq, seq, *rest)


def _photo_not_synced() -> None:
    evidence.write_synced = lambda path, data: path.write_bytes(data)


def _photo_folder_not_synced() -> None:
    evidence.sync_folder = lambda folder: None


def _debit_not_proved() -> None:
    CommitDebit.after_restart = AfterRestart.DROP


def _key_not_kept() -> None:
    commit = Books.commit

    async def forgetful(
        self: Books, event: Any, step: Any, before: Any, moment: Any, _: Any
    ) -> Any:
        return await commit(self, event, step, before, moment, None)

    Books.commit = forgetful


WEAK: dict[str, Callable[[], None]] = {
    "lax log": _lax_log,
    "tables first": _tables_first,
    "tables never synced": _tables_never_synced,
    "spare without a name": _spare_without_a_name,
    "marked too early": _marked_too_early,
    "photo not synced": _photo_not_synced,
    "photo folder not synced": _photo_folder_not_synced,
    "debit not proved": _debit_not_proved,
    "key not kept": _key_not_kept,
}
"""Ways to take one safeguard away; the checks must notice each."""
RULES = frozenset({"debit not proved", "key not kept"})
"""Of these, those that are missed in the life after the cut, not before it."""

"""The box under test: the real composition with twins that answer at once, and its weakened kin."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gateway import app, config, evidence
from gateway.app import Gateway, gateway
from gateway.devices import build
from gateway.errors import CenterUnavailable
from gateway.flow.books import Books
from gateway.flow.messages import AfterRestart, CommitDebit
from gateway.spool import copies, database
from gateway.store import Store
from gateway.sync import shelf
from gateway.units import Clock
from tests.powercut.world import LANE, Centre

NOBODY = "http://127.0.0.1:1"
CHECKPOINT_COMMITS = 7  # so that checkpoints fall inside passages, at ever other places


@asynccontextmanager
async def box_on(
    folder: Path, clock: Clock, centre: Centre, kind: type[Store] = Store
) -> AsyncIterator[Gateway]:
    """The gateway on that folder, recovered, nothing running yet. Raises: as `gateway.app`."""
    settings = _settings().model_copy(update={"data": folder})
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


def press_checkpoints() -> None:
    """Let the store move its log into the database every few commits."""
    copies.CHECKPOINT_COMMITS = CHECKPOINT_COMMITS


def read_tables_once() -> None:
    """The installed parameter packages never change here: take them apart once, not per start."""
    shelf.read_package = cache(shelf.read_package)


# ---- what must be found out ------------------------------------------------------------------


def _lax_commits() -> None:
    database.PRAGMAS["synchronous"] = ("NORMAL", 1)


def _photo_not_synced() -> None:
    evidence._write_synced = lambda path, data: path.write_bytes(data)


def _photo_folder_not_synced() -> None:
    evidence._sync_folder = lambda folder: None


def _debit_not_proved() -> None:
    CommitDebit.after_restart = AfterRestart.DROP


def _key_not_kept() -> None:
    Books._keep_key = lambda self, db, key, at_ms, status, answer: None


WEAK: dict[str, Callable[[], None]] = {
    "lax commits": _lax_commits,
    "photo not synced": _photo_not_synced,
    "photo folder not synced": _photo_folder_not_synced,
    "debit not proved": _debit_not_proved,
    "key not kept": _key_not_kept,
}
"""Ways to take one safeguard away; the checks must notice each."""

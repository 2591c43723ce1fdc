"""No configuration owns what is owed: a legal change leaves the queue as it is, byte for byte."""

import copy
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gateway import config
from gateway.app import gateway
from gateway.devices import build
from gateway.store import Store
from gateway.units import SystemClock
from tests.sync.rig import SAVED_MS, record

FOLDER = Path(config.__file__).parent
QUEUE = {
    "record": "SELECT * FROM record ORDER BY lane, seq",
    "delivery": "SELECT * FROM delivery ORDER BY lane, seq",
    "batch": "SELECT * FROM batch ORDER BY batch",
    "consumer": "SELECT * FROM consumer ORDER BY name",
    "evidence": "SELECT * FROM evidence ORDER BY sha256",
}
NATS = {"transport": "nats", "nats": ["nats://127.0.0.1:9"]}
Change = Callable[[dict[str, Any]], None]


def _enable(told: dict[str, Any], on: int, off: int | None = None) -> None:
    told["lane"][on]["enabled"] = True
    if off is not None:
        told["lane"][off]["enabled"] = False


CHANGES: dict[str, Change] = {
    "nothing": lambda told: None,
    "another centre": lambda told: told["center"].update(url="http://127.0.0.1:9"),
    **(
        {"records over NATS": lambda told: told["center"].update(NATS)} if find_spec("nats") else {}
    ),
    "fare deadline": lambda told: told["center"].update(fare_timeout_s=0.2),
    "another key of the centre": lambda told: told["center"].update(parameter_key="ab" * 32),
    "a lane disabled": lambda told: _enable(told, 1, 0),
    "a lane enabled": lambda told: told["lane"][1].update(enabled=True),
    "a lane taken out": lambda told: (_enable(told, 1), told["lane"].pop(0)),  # type: ignore
    "lanes in another order": lambda told: told["lane"].reverse(),
    "a lane renamed": lambda told: told["lane"][0].update(name="X09"),
    "another lane number": lambda told: told["lane"][0].update(lane_no=7),
    "no scale": lambda told: told["lane"][0].update(scale={"driver": "none"}),
    "no camera": lambda told: told["lane"][0].update(camera={"driver": "none"}),
    "another station": lambda told: told["station"].update(name="兰州南新"),
    "another port": lambda told: told["listen"].update(port=18_099),
    "photos kept for one day": lambda told: told.setdefault("evidence", {}).update(keep_days=1),
    "blocks of 4096": lambda told: told.setdefault("spool", {}).update(block_bytes=4096),
    "no consumers": lambda told: told.pop("consumer", None),
    "another consumer": lambda told: told.update(
        consumer=[{"name": "other", "token": "a-token-of-enough-length-0123456789"}]
    ),
}


def settings(folder: Path, change: Change) -> config.Settings:
    told = tomllib.loads((FOLDER / "demo.toml").read_text("utf-8"))
    told = copy.deepcopy(told)
    told["data"] = str(folder / "data")
    told["parameters"]["folder"] = str(FOLDER / "parameters" / "demo")
    change(told)
    return config.Settings.model_validate(told)


def queue(folder: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(folder / "data" / config.DATABASE)) as db:
        return {name: db.execute(sql).fetchall() for name, sql in QUEUE.items()}


async def logged(store: Store, lane: str, seq: int) -> None:
    """One record as the flow leaves it: in the log, from which the tables follow."""
    one = record(seq, lane)
    at_ms, passage_id = SAVED_MS + seq, f"{lane}-{seq}"
    told = [at_ms, "1001", 1, "甘A12345", one.card_id, one.fee, "saved", "saved"]
    extra = {"passage": told, "record": [one.id, at_ms]}
    moment = at_ms, seq, "boot", "1001"
    line = one.model_dump_json(by_alias=True)
    await store.log(
        lambda draft: draft.add(lane, passage_id, moment, "saved", "saved", "{}", extra, line)
    )


async def filled(folder: Path) -> None:
    """Records of two lanes: some delivered, one refused, one owed again whole, one sealed."""
    async with gateway(settings(folder, CHANGES["nothing"]), SystemClock(), build.devices) as box:
        for seq in range(1, 7):
            await logged(box.store, "X03", seq)
        await logged(box.store, "X04", 1)

        def work(db: sqlite3.Connection) -> None:
            row = "INSERT INTO delivery VALUES ('X03', ?, ?, ?, 'push', 1, ?)"
            db.execute(row, (1, "accepted", "", 0))
            db.execute(row, (2, "refused", "卡号不对", 0))
            db.execute(row, (3, "refused", "卡号不对", 2))
            db.execute("INSERT INTO evidence VALUES (?, 9, 1, 'camera')", ("ab" * 32,))
            db.execute("INSERT INTO consumer VALUES ('demo', 0, 1)")

        await box.store.write(work)
        await box.batches.seal_due()


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_of_the_configuration_leaves_the_queue_as_it_is(
    name: str, tmp_path: Path
) -> None:
    await filled(tmp_path)
    before = queue(tmp_path)
    assert [len(rows) for rows in before.values()] == [7, 3, 2, 1, 1]
    changed = settings(tmp_path, CHANGES[name])
    async with gateway(changed, SystemClock(), build.devices) as box:
        assert box.outbox.state()["unsent"] == 4
        assert box.outbox.state()["parked"] == 2
        await box.batches.seal_due()
    assert queue(tmp_path) == before

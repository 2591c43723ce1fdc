"""A coming table is run over real journaled passages; the difference is counted, shown and told."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.center.rehearsals import Rehearsals as CentreRehearsals
from gateway.errors import CenterUnavailable
from gateway.faretable.compiled import FareTable
from gateway.flow import journal
from gateway.flow.passage import Passage
from gateway.params import Package, Ready, read_package
from gateway.rehearsal.child import Held, Order, rehearse
from gateway.rehearsal.compare import WORST_MAX, Difference
from gateway.rehearsal.service import Rehearsals
from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.shelf import ParameterShelf
from tests.faretable.test_compiled import compiled
from tests.flow.rig import ENTRY_HEX, Box, World, demo_parameters, drive_through
from tests.sync.rig import DEMO, TOKEN, HurriedClock, center

LATER = "2031-01-01T00:00:00+08:00"
COPIES = 30


def packages() -> dict[str, Package]:
    read = [read_package(path.read_bytes()) for path in sorted(DEMO.glob("*.json"))]
    return {package.name: package for package in read}


def dearer(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Package:
    """The demo's fares with every row changed, or left out, for later."""
    demo = json.loads((DEMO / "minimum_fares.json").read_text())
    rows = [new for row in demo["body"]["rows"] if (new := change(dict(row)))]
    return read_package(
        json.dumps(
            {
                **demo,
                "version": "next",
                "effective_from": LATER,
                "body": {**demo["body"], "rows": rows},
            }
        ).encode()
    )


def plus(fen: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {**row, "fee": row["fee"] + fen, "fee95": row["fee95"] + fen}


async def drive(folder: Path) -> None:
    box = await Box.power_on(World(), folder)
    await drive_through(box)
    await box.power_off()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of one car at the minimum fare, thirty times, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("lived")
    asyncio.run(drive(folder))
    with closing(sqlite3.connect(folder / "lane.db", isolation_level=None)) as db:
        for copy in range(COPIES):
            for table, key in (("journal", "passage_id"), ("passage", "id")):
                columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
                told = {key: f"'copy-{copy}'", "seq": f"seq + {1000 * (copy + 1)}"}
                values = ", ".join(told.get(column, column) for column in columns)
                where = f"{key} NOT LIKE 'copy-%'"
                db.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {where}")
        db.execute("UPDATE journal SET body = '{' WHERE passage_id = 'copy-7'")
        db.execute("UPDATE passage SET opened_ms = opened_ms - 1 WHERE id NOT LIKE 'copy-%'")
    return folder


def passage_of(folder: Path) -> Passage:
    with closing(sqlite3.connect(folder / "lane.db")) as db:
        db.row_factory = sqlite3.Row
        rows = db.execute("SELECT * FROM journal WHERE passage_id = 'copy-1' ORDER BY seq")
        return journal.replay(rows.fetchall()).passage


def run(folder: Path, coming: Package, count: int = 1000) -> dict[str, Any]:
    held = tuple(Held.of(one) for one in packages().values())
    order = Order(
        database=folder / "lane.db", passages_max=count, in_force=held, coming=Held.of(coming)
    )
    return rehearse(Order.model_validate_json(order.model_dump_json()))


def test_a_table_that_changes_nothing_changes_nothing(lived: Path) -> None:
    told = run(lived, dearer(lambda row: row))
    assert (told["passages"], told["same"], told["unreadable"]) == (COPIES, COPIES, 1)
    assert (told["difference_fen"], told["worst"]) == (0, [])
    assert told["before_fen"] > 0


def test_a_dearer_table_says_by_how_much_and_where(lived: Path) -> None:
    told = run(lived, dearer(plus(250)))
    assert (told["dearer"], told["cheaper"], told["same"]) == (COPIES, 0, 0)
    assert told["difference_fen"] == 250 * COPIES
    assert len(told["worst"]) == WORST_MAX
    worst = told["worst"][0]
    assert worst["after_fen"] - worst["before_fen"] == 250
    assert (worst["vehicle_type"], worst["kind"], worst["station_name"]) == (1, 6, "兰州东")


def test_a_row_that_is_gone_is_a_fare_that_is_lost(lived: Path) -> None:
    told = run(lived, dearer(lambda row: None if row["entry_hex"] == ENTRY_HEX else row))
    assert (told["lost"], told["same"], told["difference_fen"]) == (COPIES, 0, 0)
    assert "没有" in told["worst"][0]["why"]


def test_a_compiled_table_is_rehearsed_from_its_file(lived: Path, tmp_path: Path) -> None:
    rows = [json.loads(fare.model_dump_json()) for fare in dearer(plus(-30)).table().rows]
    table: FareTable = compiled(tmp_path, rows, "next")
    at = table.about.effective_from
    told = run(lived, Ready(name="minimum_fares", version="next", effective_from=at, ready=table))
    assert (told["cheaper"], told["difference_fen"]) == (COPIES, -30 * COPIES)


def test_only_the_last_ones_are_looked_at(lived: Path) -> None:
    assert run(lived, dearer(plus(1)), count=5)["passages"] <= 5


def test_what_a_service_priced_is_not_counted(lived: Path) -> None:
    passage, now = passage_of(lived), demo_parameters()
    assert passage.quote is not None
    difference = Difference()
    difference.add(replace(passage, quote=replace(passage.quote, kind=4)), now, now)
    assert (difference.online, difference.same) == (1, 0)
    difference.add(replace(passage, quote=replace(passage.quote, kind=1)), now, now)
    assert difference.unpriced == 1  # it has no tag whose sums could be used
    difference.add(replace(passage, entry_hex="62019999"), now, now)
    assert difference.unpriced == 2  # a station that no table has


@pytest.fixture
async def store(lived: Path) -> AsyncIterator[Store]:
    store = await Store.open(lived.parent / "own.db")
    yield store
    await store.close()


async def test_staged_rehearsed_shown_sent_once_and_there_after_a_restart(
    lived: Path, store: Store, tmp_path: Path
) -> None:
    clock = HurriedClock()
    shelf = ParameterShelf(store, clock, DEMO, None)
    await shelf.load()
    coming = dearer(plus(100))
    shelf._shelf["minimum_fares"]["next"] = coming

    def service(client: CenterClient) -> Rehearsals:
        return Rehearsals(store, lived / "lane.db", shelf, client, "X03", clock)

    async with CenterClient("http://127.0.0.1:9", TOKEN, clock) as nobody:
        with pytest.raises(CenterUnavailable):
            await service(nobody).step()
    (row,) = [row for row in shelf.ages() if row["name"] == "minimum_fares"]
    assert row["next"]["rehearsal"]["difference_fen"] == 100 * COPIES
    assert row["next"]["rehearsal"]["against"] == "20251118001"

    async with (
        center(tmp_path / "center.db") as truth,
        CenterClient(truth.url, TOKEN, clock) as client,
    ):
        await service(client).step()
        await service(client).step()
    (told,) = CentreRehearsals(tmp_path / "center-rehearsals").all()
    assert (told["lane"], told["version"], told["dearer"]) == ("X03", "next", COPIES)

    shelf._reports.clear()
    await service(client).recall()
    (row,) = [row for row in shelf.ages() if row["name"] == "minimum_fares"]
    assert row["next"]["rehearsal"]["difference_fen"] == 100 * COPIES
    marks = await store.rows("SELECT value FROM sync_mark WHERE name LIKE 'rehearsal %'")
    assert [json.loads(mark["value"])["is_sent"] for mark in marks] == [True]

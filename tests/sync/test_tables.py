"""Tables as a province sends them: large ones, deltas, switches between passages, rollbacks."""

import asyncio
import errno
import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.app import gateway
from gateway.devices import build
from gateway.faretable.compiled import FareTable
from gateway.params import MinimumFares, TableDamaged, digest_of
from gateway.store import Store
from gateway.sync import shelf as shelves
from gateway.sync import tables
from gateway.sync.center import CenterClient
from gateway.sync.download import Downloads, ParameterShelf, public_key
from gateway.sync.tables import FareTables
from gateway.units import SystemClock
from tests.faretable.test_compiled import EXIT, row
from tests.sync.rig import DEMO, HurriedClock, Truth
from tests.sync.test_configured import settings
from tests.sync.test_download import at, document, hours, publish, published, reasons, truth

__all__ = ["published", "truth"]  # fixtures

SINCE = "2025-12-01T00:00:00+08:00"
THEN = "2025-12-02T00:00:00+08:00"
DAY_MS = 86_400_000


class Box:
    """A shelf with a folder for large tables; `begin` is a start."""

    def __init__(self, folder: Path, store: Store, client: CenterClient, clock: Any, truth: Truth):
        self.folder, self.store, self.client, self.clock = folder, store, client, clock
        self.key = public_key(truth.public_key)

    async def begin(self, installed: Path = DEMO) -> None:
        self.shelf = ParameterShelf(
            self.store, self.clock, installed, self.key, exit_hex=EXIT,
            fares=FareTables(self.folder, EXIT),
        )  # fmt: skip
        await self.shelf.load()
        self.downloads = Downloads(self.shelf, self.client, self.clock)

    @property
    def version(self) -> str:
        return self.shelf.current().versions["minimum_fares"]

    def fee(self, number: int) -> int | None:
        found = self.shelf.current().minimum_fares.find(f"6201{number:04X}", 1)
        return found and found.fee


@pytest.fixture
async def box(
    tmp_path: Path, store: Store, client: CenterClient, clock: HurriedClock, truth: Truth
) -> Box:
    box = Box(tmp_path / "fares", store, client, clock, truth)
    await box.begin()
    return box


def fares(version: str, since: str, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    body = {"exit_hex": EXIT, "rows": rows, **more.pop("body", {})}
    facts = {"name": "minimum_fares", "version": version, "effective_from": since}
    return {**facts, **more, "body": body}


LARGE = [row(number, kind) for number in range(600) for kind in (1, 2, 11, 12)]


async def test_a_large_table_is_compiled_asked_and_there_after_a_restart(
    box: Box, published: Path, store: Store
) -> None:
    publish(published, fares("2", SINCE, LARGE))
    assert await box.downloads.fetch() is True
    assert isinstance(box.shelf.current().minimum_fares, FareTable)
    assert (box.version, box.fee(599), box.fee(600)) == ("2", 1000, None)
    assert await store.rows("SELECT 1 FROM parameter") == []  # its bytes are not in the database
    await box.begin()
    assert (box.version, box.fee(599)) == ("2", 1000)
    assert {path.suffix for path in box.folder.iterdir()} == {".db", ".json"}


async def test_a_delta_of_a_large_table(box: Box, published: Path) -> None:
    publish(published, fares("2", SINCE, LARGE))
    await box.downloads.fetch()
    changed = {"body": {"removed": [["62010005", 1]]}, "base": "2"}
    publish(published, fares("3", THEN, [row(7, fee=777)], **changed))
    assert await box.downloads.fetch() is True
    assert (box.version, box.fee(7), box.fee(5), box.fee(6)) == ("3", 777, None, 1000)
    await box.begin()
    assert (box.version, box.fee(7)) == ("3", 777)


async def test_the_loop_is_free_while_a_large_table_is_taken_in(box: Box, published: Path) -> None:
    """Processor time of one turn of the loop: what the machine does besides is not ours to fail
    on. The centre of this test runs in the same loop and reads its own files there."""
    rows = [row(number, kind) for number in range(1500) for kind in (1, 2, 11, 12)]
    publish(published, fares("2", SINCE, rows))
    await box.client.manifest()  # the centre has read its files
    turns = [time.thread_time()]
    taking = asyncio.ensure_future(box.downloads.fetch())
    while not taking.done():
        await asyncio.sleep(0.005)
        turns.append(time.thread_time())
    assert taking.result() is True
    assert max(b - a for a, b in itertools.pairwise(turns)) < 0.25


async def test_a_wrong_large_table_changes_nothing_and_is_reported(
    box: Box, published: Path
) -> None:
    bad = [*LARGE, {**row(700), "fee": -5}]
    publish(published, fares("2", SINCE, bad))
    assert await box.downloads.fetch() is False
    assert box.version == "20251118001"
    assert "rows.2400.fee" in reasons(box.shelf, "minimum_fares")[0]
    assert list(box.folder.iterdir()) == []


async def test_a_table_damaged_in_use_is_rolled_back_and_fetched_anew(
    box: Box, published: Path
) -> None:
    publish(published, fares("2", SINCE, LARGE))
    publish(published, fares("3", THEN, [row(7, fee=777)], base="2"))
    await box.downloads.fetch()
    newest = max(box.folder.glob("*.db"), key=lambda path: path.stat().st_mtime_ns)
    raw = bytearray(newest.read_bytes())
    for place in range(4096, len(raw)):
        raw[place] ^= 0x5A
    newest.write_bytes(raw)
    with pytest.raises(Exception, match="损坏"):
        box.fee(300)
    assert (box.version, box.fee(300)) == ("2", 1000)
    assert "已退回旧版本" in reasons(box.shelf, "minimum_fares")[0]
    assert await box.downloads.fetch() is True
    assert (box.version, box.fee(7)) == ("3", 777)


async def test_a_table_damaged_while_the_box_was_off_is_made_again_of_its_package(
    box: Box, published: Path
) -> None:
    publish(published, fares("2", SINCE, LARGE))
    await box.downloads.fetch()
    (path,) = box.folder.glob("*.db")
    path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    await box.begin()
    assert box.version == "20251118001"
    assert "不能打开" in str(box.shelf.notice())
    await box.shelf.prepare()
    assert (box.version, box.fee(7), box.shelf.notice()) == ("2", 1000, None)


async def test_an_installed_large_table_serves_without_the_centre(box: Box, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    shutil.copytree(DEMO, installed)
    publish(installed, fares("2", SINCE, LARGE))
    await box.begin(installed)
    await box.shelf.prepare()
    assert (box.version, box.fee(7)) == ("2", 1000)
    made = [(path.name, path.stat().st_mtime_ns) for path in box.folder.glob("*.db")]
    await box.begin(installed)
    assert (box.version, box.fee(7), box.shelf.notice()) == ("2", 1000, None)
    await box.shelf.prepare()
    assert [(path.name, path.stat().st_mtime_ns) for path in box.folder.glob("*.db")] == made


class Workshop:
    """The compiling child, held back until it may begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_begun, self.may_begin = asyncio.Event(), asyncio.Event()
        self._real = tables.ask
        monkeypatch.setattr(tables, "ask", self.ask)

    async def ask(self, *how: Any) -> bytes:
        self.has_begun.set()
        await self.may_begin.wait()
        return await self._real(*how)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Parameters as they come with the box, the fares too many to be held."""
    folder = tmp_path / "installed"
    shutil.copytree(DEMO, folder)
    publish(folder, fares("2", SINCE, LARGE))
    return folder


async def test_a_start_waits_for_no_table_and_the_one_it_has_serves_meanwhile(
    box: Box, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = Workshop(monkeypatch)
    await box.begin(installed)
    making = asyncio.create_task(box.shelf.prepare())
    await workshop.has_begun.wait()
    assert box.version == "20251118001"
    assert box.shelf.notice() == (
        "E-214", "新的最小费额表正在准备，现在先用已有的", "可以继续收费，备好后自动使用",
    )  # fmt: skip
    workshop.may_begin.set()
    await making
    assert (box.version, box.fee(7), box.shelf.notice()) == ("2", 1000, None)


async def test_an_installed_table_that_is_past_is_not_made_again_at_each_start(
    box: Box, installed: Path, published: Path
) -> None:
    await box.begin(installed)
    await box.shelf.prepare()
    (made,) = box.folder.glob("*.db")
    for number in (3, 4, 5):
        publish(published, fares(str(number), f"2025-12-0{number}T00:00:00+08:00", LARGE))
    assert await box.downloads.fetch() is True
    assert (box.version, made.exists()) == ("5", True)
    assert len(list(box.folder.glob("*.db"))) == 4  # the one in force and two before it


async def test_without_any_table_the_lane_opens_and_each_fare_says_why_there_is_none(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole box, while its only fare table is still to be compiled."""
    (installed / "minimum_fares.json").unlink()
    workshop = Workshop(monkeypatch)

    def from_there(told: dict[str, Any]) -> None:
        told["parameters"]["folder"] = str(installed)

    async with gateway(settings(tmp_path, from_there), SystemClock(), build.devices) as opened:
        lane, shelf = next(iter(opened.lanes.values())), opened.shelf
        making = asyncio.create_task(shelf.prepare())
        await workshop.has_begun.wait()
        (notice,) = lane.snapshot()["notices"]
        assert (notice["code"], notice["detail"]) == (
            "E-214", "最小费额表正在准备，现在不能按它算路径费",
        )  # fmt: skip
        assert shelf.current().versions["minimum_fares"] == "准备中"
        with pytest.raises(TableDamaged, match="正在准备"):
            shelf.current().minimum_fares.find("62010007", 1)
        workshop.may_begin.set()
        await making
        assert shelf.current().minimum_fares.find("62010007", 1).fee == 1000  # type: ignore
        assert lane.snapshot()["notices"] == []


async def test_a_disk_that_reads_and_writes_nothing_costs_a_table_not_the_start(
    box: Box, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(published, fares("2", SINCE, LARGE))
    await box.downloads.fetch()
    (path,) = box.folder.glob("*.db")
    path.write_bytes(bytes(5000))

    def dead(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "输入输出错误")

    with monkeypatch.context() as broken:
        broken.setattr(tables, "sha256_of", dead)
        broken.setattr(Path, "unlink", dead)
        await box.begin()
        await box.shelf.prepare()
        assert box.version == "20251118001"
        code, detail, _ = box.shelf.notice() or ("", "", "")
        assert code == "E-214"
        assert "不能打开" in detail
        assert "磁盘读写失败（输入输出错误），稍后再试" in detail
        assert any(name.endswith(".json") for name in box.shelf.rejected())  # the centre hears it
        real = Path.glob
        here = box.folder
        broken.setattr(Path, "glob", lambda p, what: dead() if p == here else real(p, what))
        await box.begin()
        assert box.version == "20251118001"
    await box.begin()
    await box.shelf.prepare()
    assert (box.version, box.fee(7), box.shelf.notice()) == ("2", 1000, None)


async def test_what_is_still_to_be_made_is_not_removed_with_the_old_tables(
    box: Box, published: Path
) -> None:
    publish(published, fares("2", SINCE, LARGE))
    await box.downloads.fetch()
    (path,) = box.folder.glob("*.db")
    path.write_bytes(bytes(5000))
    await box.begin()
    for old in published.glob("*minimum_fares*"):
        old.unlink()
    publish(published, fares("3", at(box.clock.now_ms() + DAY_MS), [*LARGE, row(700)]))
    assert await box.downloads.fetch() is True
    assert box.version == "20251118001"  # the next one's time has not come
    await box.shelf.prepare()
    assert (box.version, box.fee(7)) == ("2", 1000)


async def test_small_tables_come_as_deltas_too(box: Box, published: Path) -> None:
    demo = json.loads((DEMO / "stations.json").read_text())
    known, fresh = demo["body"]["rows"], {**demo["body"]["rows"][1], "hex": "62019999"}
    gone = known[2]["hex"]
    table = [one for one in known if one["hex"] != gone] + [fresh]
    stations = box.shelf.current().stations.model_validate({"rows": table})
    count, digest = digest_of(sorted(stations.rows, key=lambda one: one.hex))
    body = {"rows": [fresh], "removed": [[gone]], "becomes": {"rows": count, "digest": digest}}
    delta = {**demo, "version": "2", "base": demo["version"], "effective_from": SINCE, "body": body}
    publish(published, delta)
    publish(published, {**document("policy", "2", SINCE), "base": "20251118001",
                        "body": {"status_list_stale_hours": 5}})  # fmt: skip
    assert await box.downloads.fetch() is True
    now = box.shelf.current()
    assert now.stations.by_hex(gone) is None
    assert now.stations.by_hex("62019999") is not None
    assert (hours(box.shelf), now.policy.duplicate_minutes) == (5, 10)
    await box.begin()
    assert box.shelf.current().versions["stations"] == "2"
    assert box.shelf.current().stations.by_hex("62019999") is not None


@pytest.mark.parametrize(
    ("base", "body", "why"),
    [
        ("7", {"rows": []}, "基础版本 7 不在本机"),
        ("20251118001", {"rows": [], "becomes": {"rows": 1, "digest": ""}}, "与中心说的不同"),
        ("20251118001", {"rows": [{"hex": "62019999"}]}, "不能用"),
        ("20251118001", {"rows": 5}, "增量看不懂"),
        ("20251118001", {"removed": [[["x"]]]}, "增量看不懂"),
    ],
)
async def test_a_wrong_delta_changes_nothing_and_is_reported(
    box: Box, published: Path, base: str, body: dict[str, Any], why: str
) -> None:
    publish(published, {**document("stations", "2", SINCE), "base": base, "body": body})
    assert await box.downloads.fetch() is False
    assert box.shelf.current().versions["stations"] == "20251118001"
    assert why in reasons(box.shelf, "stations")[0]
    assert box.shelf.age_s("stations") > 0  # not confirmed as the newest


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("stations", {"rows": []}, "表是空的"),
        ("operators", {"rows": []}, "表是空的"),
        ("vehicle_types", {"rows": []}, "表是空的"),
    ],
)
async def test_a_table_nobody_can_work_with_is_rolled_back_at_its_switch(
    box: Box, published: Path, clock: HurriedClock, name: str, body: dict[str, Any], why: str
) -> None:
    soon = at(clock.now_ms() + DAY_MS)
    publish(published, {**document(name, "2", soon), "body": body})
    assert await box.downloads.fetch() is True  # well-formed, and not yet in force
    clock.ahead_ms += DAY_MS + 1000
    assert box.shelf.current().versions[name] == "20251118001"
    assert "已退回旧版本" in reasons(box.shelf, name)[0]
    assert why in reasons(box.shelf, name)[0]


async def test_a_passage_is_finished_with_the_tables_it_began_with(
    box: Box, published: Path
) -> None:
    began = dict(box.shelf.current().versions)
    before = box.shelf.current().minimum_fares
    publish(published, fares("2", SINCE, LARGE))
    publish(published, document("policy", "2", SINCE, status_list_stale_hours=5))
    await box.downloads.fetch()
    during = box.shelf.of(began)
    assert during.minimum_fares is before
    assert isinstance(during.minimum_fares, MinimumFares)
    assert (during.policy.status_list_stale_hours, hours(box.shelf)) == (72, 5)
    assert during.versions == began
    assert box.shelf.of(began) is during
    now = box.shelf.current()
    assert box.shelf.of(now.versions) is now
    assert box.shelf.of({}) is now


def test_the_threshold_is_above_the_demo() -> None:
    size = (DEMO / "minimum_fares.json").stat().st_size
    assert size < shelves.FARES_BYTES_MAX

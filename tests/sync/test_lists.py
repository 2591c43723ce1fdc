"""Big status lists from the centre to the passage, over real HTTP, bad lines and bad files."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.center.tables import Tables
from gateway.errors import CenterUnavailable
from gateway.params import StatusList
from gateway.statuslist.archive import Archive, Serving
from gateway.statuslist.form import BLOCK_BYTES
from gateway.statuslist.writer import write_list
from gateway.store import Store
from gateway.sync import fetch
from gateway.sync.center import CenterClient
from gateway.sync.download import Downloads, ParameterShelf
from gateway.sync.lists import StatusLists, plan
from tests.statuslist.test_archive import CARD, START, Centre, stamp
from tests.statuslist.test_files import AT_S, KEY, REASONS, some_rows
from tests.sync.rig import DEMO, TOKEN, HurriedClock
from tests.sync.test_center import server
from tests.sync.test_download import at, document, publish

LISTED_IN_DEMO = "62012045220000009001"


class Line:
    """A centre's parameters whose line can be cut, and which counts what it sent."""

    def __init__(self, folder: Path) -> None:
        self.tables, self.cut_after = Tables(folder, KEY), 0
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/parameters":
            body, etag = self.tables.manifest()
            return web.Response(body=body, headers={"ETag": etag})
        name, version = request.path.split("/")[-2:]
        found = self.tables.find(name, version, request.query.get("base", ""))
        assert found is not None
        self.asked.append(f"{request.headers.get('Range', '')} {found.name}".strip())
        if not self.cut_after:
            return web.FileResponse(found)
        some = found.read_bytes()
        first = int(request.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"Content-Length": str(len(some) - first)}
        told = web.StreamResponse(status=206 if first else 200, headers=headers)
        await told.prepare(request)
        await told.write(some[first : first + self.cut_after])
        assert request.transport is not None
        request.transport.close()
        return told


@pytest.fixture
def published(tmp_path: Path) -> Centre:
    return Centre(tmp_path / "published")


@pytest.fixture
def line(published: Centre) -> Line:
    return Line(published.folder)


@pytest.fixture
async def client(line: Line, clock: HurriedClock) -> AsyncIterator[CenterClient]:
    async with (
        server(line.answer) as url,
        CenterClient(url, TOKEN, clock, timeout_s=5) as client,
    ):
        yield client


class Box:
    """The part of a gateway that has to do with lists; `begin` is a start."""

    def __init__(self, folder: Path, store: Store, client: CenterClient, clock: Any) -> None:
        self.folder, self.parts = folder, (store, client, clock)

    async def begin(self) -> None:
        store, client, clock = self.parts
        self.archive = Archive(self.folder, KEY.public_key)
        self.shelf = ParameterShelf(store, clock, DEMO, KEY.public_key(), lists=self.archive)
        await self.shelf.load()
        self.lists = StatusLists(self.archive, self.shelf, client, clock)
        self.downloads = Downloads(self.shelf, client, clock, lists=self.lists)

    async def round(self) -> bool:
        """What both services do once a minute."""
        return bool(await self.downloads.fetch() & await self.lists.fetch())

    @property
    def version(self) -> str:
        return self.shelf.current().versions["status_list"]

    @property
    def row(self) -> dict[str, Any]:
        return next(row for row in self.shelf.ages() if row["name"] == "status_list")

    def reason(self, number: str) -> str:
        hit = self.shelf.current().status_list.find(number)
        return hit.reason if hit else ""


@pytest.fixture
async def box(tmp_path: Path, store: Store, client: CenterClient, clock: HurriedClock) -> Box:
    box = Box(tmp_path / "statuslist", store, client, clock)
    await box.begin()
    return box


async def test_a_full_list_then_deltas_come_into_force_and_into_the_record(
    box: Box, published: Centre, line: Line
) -> None:
    assert isinstance(box.shelf.current().status_list, StatusList)
    assert box.reason(LISTED_IN_DEMO)
    published.full(0, some_rows(600))
    assert await box.round() is True
    assert isinstance(box.shelf.current().status_list, Serving)
    assert (box.version, box.reason(CARD)) == (stamp(0), "")
    published.delta(5, {CARD: (4,)}, 0)
    published.delta(10, {"6" * 20: (1,)}, 5)
    assert await box.round() is True
    assert (box.version, box.reason(CARD)) == (stamp(10), "账户透支")
    assert len(line.asked) == 3
    assert await box.round() is True
    assert len(line.asked) == 3  # nothing is fetched twice

    await box.begin()  # a restart
    assert (box.version, box.reason(CARD)) == (stamp(10), "账户透支")


async def test_a_box_that_was_away_takes_the_way_there_is(
    box: Box, published: Centre, line: Line
) -> None:
    published.full(0, some_rows(600))
    await box.round()
    (published.folder / f"-{stamp(0)}.list").unlink()
    published.delta(10, {"6" * 20: (1,)}, 5)  # its base was never here, and is not published
    assert await box.round() is True
    assert box.version == stamp(0)
    published.full(1440)
    published.delta(1445, {CARD: (1,)}, 1440)
    assert await box.round() is True
    assert (box.version, box.reason(CARD)) == (stamp(1445), "卡挂失")


async def test_a_cut_line_is_taken_up_where_it_was_cut(
    box: Box, published: Centre, line: Line
) -> None:
    path = published.full(0, some_rows(6000))
    line.cut_after = 40_000
    rounds = 0
    while box.version != stamp(0):
        rounds += 1
        try:
            await box.round()
        except CenterUnavailable:
            assert rounds < 10
    assert rounds == -(-path.stat().st_size // 40_000)
    assert line.asked[2].startswith("bytes=80000-")
    assert not list(box.folder.glob("*.part"))


async def test_a_wrong_list_is_reported_and_changes_nothing(
    box: Box, published: Centre, store: Store
) -> None:
    published.full(0, some_rows(600))
    await box.round()
    path = published.delta(5, {CARD: (1,)}, 0)
    raw = bytearray(path.read_bytes())
    raw[BLOCK_BYTES + 77] ^= 1
    path.write_bytes(raw)
    assert await box.round() is False
    assert (box.version, box.reason(CARD)) == (stamp(0), "")
    assert "损坏" in box.row["rejected"][0]["reason"]
    rows = await store.rows("SELECT state, reason FROM parameter WHERE version = ?", stamp(5))
    assert [row["state"] for row in rows] == ["rejected"]

    published.delta(5, {CARD: (1,)}, 0)  # put right
    assert await box.round() is True
    assert (box.version, box.row["rejected"]) == (stamp(5), [])
    await box.begin()
    assert box.row["rejected"] == []


async def test_a_list_that_is_not_what_the_manifest_says_is_refused(
    box: Box, published: Centre, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody between us and the centre hands out yesterday's signed list as today's."""
    published.full(0, some_rows(600))
    true = line.tables.manifest

    def lying() -> tuple[bytes, str]:
        body = json.loads(true()[0])
        body["packages"][0] |= {"version": stamp(10), "effective_from": at(1_763_690_000_000)}
        return json.dumps(body).encode(), "x"

    monkeypatch.setattr(line.tables, "manifest", lying)
    find = line.tables.find
    monkeypatch.setattr(line.tables, "find", lambda name, *_: find(name, stamp(0)))
    assert await box.round() is False
    assert "与目录不符" in box.row["rejected"][0]["reason"]
    assert box.archive.serving is None


async def test_a_list_that_would_take_the_moneys_room_is_not_fetched(
    box: Box, published: Centre, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FREE_BYTES_MIN", 1 << 60)
    published.full(0, some_rows(60))
    assert await box.round() is False
    assert "磁盘剩余空间不够" in box.row["rejected"][0]["reason"]
    assert line.asked == []


async def test_a_damaged_list_is_fetched_anew(box: Box, published: Centre) -> None:
    published.full(0, some_rows(600))
    await box.round()
    (path,) = box.folder.glob("*.list")
    raw = bytearray(path.read_bytes())
    raw[BLOCK_BYTES + 500] ^= 1
    path.write_bytes(raw)
    assert sum(box.archive.scrub()) > 0
    assert await box.round() is True
    assert box.archive.is_damaged is False
    assert all(box.reason(number) for number in published.truth)


async def test_a_list_for_later_is_shown_and_serves_on_time(
    box: Box, published: Centre, clock: HurriedClock
) -> None:
    published.full(0, some_rows(60))
    await box.round()
    soon = START + timedelta(milliseconds=clock.now_ms() - START.timestamp() * 1000 + 3_600_000)
    path = published.folder / "later.list"
    write_list(path, [(CARD, (1,), AT_S)], "later", soon, REASONS, KEY.sign)
    assert await box.round() is True
    assert (box.version, box.row["next"]["version"]) == (stamp(0), "later")
    clock.ahead_ms += 3_700_000
    await box.round()
    assert (box.version, box.row["next"], box.reason(CARD)) == ("later", None, "卡挂失")


async def test_small_lists_of_the_old_kind_still_come(box: Box, published: Centre) -> None:
    rows = [{"number": CARD, "type": 1, "reason": "挂失", "listed_at": "2025-01-01"}]
    publish(published.folder, document("status_list", "9", "2025-11-20T00:00:00+08:00", rows=rows))
    await box.round()
    assert (box.version, box.reason(CARD)) == ("9", "挂失")
    published.full(0, some_rows(60))
    await box.round()
    assert (box.version, box.reason(CARD)) == (stamp(0), "")
    publish(published.folder, document("status_list", "10", "2025-11-23T00:00:00+08:00", rows=rows))
    await box.round()
    assert (box.version, box.reason(CARD)) == ("10", "挂失")


async def test_many_deltas_ask_for_a_new_full_list(box: Box, published: Centre) -> None:
    published.full(0, some_rows(600))
    await box.round()
    chance = random.Random(1)
    published.delta(5, {f"{chance.randrange(10**20):020d}": (1,) for _ in range(300)}, 0)
    await box.round()
    published.full(5)
    await box.round()
    serving = box.archive.serving
    assert serving is not None
    assert (serving.head.version, serving.deltas) == (stamp(5), ())


async def test_confirmed_is_only_the_list_that_was_confirmed(
    box: Box, published: Centre, clock: HurriedClock
) -> None:
    published.full(0, some_rows(60))
    await box.round()
    assert box.shelf.age_s("status_list") == 0
    for path in box.folder.glob("*.list"):
        path.unlink()
    await box.begin()
    assert box.shelf.age_s("status_list") > 3600  # the installed one is as old as it is


async def test_the_service_follows_by_itself(box: Box, published: Centre) -> None:
    published.full(0, some_rows(60))
    running = asyncio.ensure_future(box.lists.run())
    await box.downloads.fetch()
    async with asyncio.timeout(20):
        while box.version != stamp(0):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_nothing_offered_is_nothing_to_fetch(tmp_path: Path) -> None:
    archive = Archive(tmp_path, lambda: None)
    archive.load(0)
    assert plan([], archive) == []

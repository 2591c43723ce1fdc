"""A row without money goes all the way, and where it stops is told."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.app import gateway
from gateway.devices import build
from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.flow import journal
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict
from gateway.sync.heartbeat import Heartbeats
from gateway.sync.outbox import Outbox
from gateway.sync.proof import LATE_MS, Mark, Proofs, Proven, Trail
from tests.still_clock import StillClock
from tests.sync.rig import TOKEN, HurriedClock, Truth
from tests.sync.test_configured import settings

MARK, OTHER = Mark(seq=7, hash="AB" * 32), Mark(seq=8, hash="CD" * 32)
DERIVED = ("passage", "record", "command", "shift", "batch", "delivery")


@pytest.fixture
def proofs(store: Store, clock: HurriedClock) -> Proofs:
    return Proofs(store, Trail(clock), clock)


@pytest.fixture
def heartbeats(
    client: CenterClient, outbox: Outbox, clock: HurriedClock, proofs: Proofs
) -> Heartbeats:
    return Heartbeats(client, outbox, ["X03"], clock, trail=proofs.trail)


async def test_a_row_without_money_goes_to_the_centre_and_back(
    store: Store, proofs: Proofs, heartbeats: Heartbeats, truth: Truth
) -> None:
    assert proofs.trail.told() == Proven()
    await proofs.prove()
    (row,) = await store.rows("SELECT * FROM journal")
    assert (row["event"], row["lane"], row["state"]) == ("proof", "", "")
    assert proofs.trail.told().age_s is None  # it is on the box yet
    await heartbeats.beat("X03")
    told = proofs.trail.told()
    assert (told.age_s, told.stopped_at, told.is_echoed) == (0, "", True)
    beat = (await truth.lane())["last_heartbeat"]
    assert beat["proof"] == {"seq": 1, "hash": row["hash"].hex().upper()}


async def test_it_is_no_record_no_passage_and_no_money(
    store: Store, proofs: Proofs, heartbeats: Heartbeats, truth: Truth
) -> None:
    for _ in range(3):
        await proofs.prove()
        await heartbeats.beat("X03")
    for table in DERIVED:
        assert not await store.rows(f"SELECT * FROM {table}"), table
    lane = await truth.lane()
    assert (lane["stored"], lane["high_water"], lane["holes"]) == (0, 0, [])
    assert await truth.seqs() == []
    assert not journal.verify(store.path.parent)
    assert len(journal.story(store.path.parent, "proof")) == 3


async def test_it_comes_again_and_again_and_not_at_the_start(
    proofs: Proofs, clock: HurriedClock, store: Store
) -> None:
    """By the monotonic clock, whatever the lane does."""
    sleeps = iter([None, None, None])

    async def sleep(seconds: float) -> None:
        clock.slept.append(seconds)
        if next(sleeps, 0) == 0:
            raise TimeoutError

    clock.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        await proofs.run()
    assert clock.slept == [300.0] * 4
    assert len(await store.rows("SELECT 1 FROM journal")) == 3


async def test_a_dead_line_and_a_sick_centre_are_told_apart(
    proofs: Proofs, heartbeats: Heartbeats, truth: Truth
) -> None:
    await proofs.prove()
    await truth.fault("down")
    with pytest.raises(CenterUnavailable):
        await heartbeats.beat("X03")
    assert proofs.trail.told().stopped_at == "line"
    await truth.fault("html")
    with pytest.raises(CenterUnavailable):
        await heartbeats.beat("X03")
    assert proofs.trail.told().stopped_at == "center"
    await truth.fault("none")
    await heartbeats.beat("X03")
    assert proofs.trail.told() == Proven(0, "", "", True)


async def test_an_older_centre_that_echoes_nothing_is_proof_enough(
    store: Store, clock: HurriedClock, proofs: Proofs, aiohttp_server: Any
) -> None:
    async def beat(_: web.Request) -> web.Response:
        return web.json_response({"lane": "X03", "high_water": 0})

    app = web.Application()
    app.router.add_post("/v1/heartbeat", beat)
    server = await aiohttp_server(app)
    async with CenterClient(str(server.make_url("/")), "", clock) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        await proofs.prove()
        await Heartbeats(client, outbox, ["X03"], clock, trail=proofs.trail).beat("X03")
        assert client.is_online
    assert proofs.trail.told() == Proven(0, "", "", is_echoed=False)


async def test_a_disk_that_refuses_and_tables_that_forget_are_told(
    store: Store, clock: HurriedClock
) -> None:
    class Sick:
        """A store that takes no row, or knows nothing of it afterwards."""

        def __init__(self, takes: bool) -> None:
            self._takes = takes

        async def log(self, entry: Any) -> int:
            if not self._takes:
                raise StoreUnavailable("磁盘不能写")
            return await store.log(entry)

        async def rows(self, *_: Any) -> list[Any]:
            return []

    for takes, station, words in ((False, "log", "磁盘不能写"), (True, "tables", "读回来")):
        sick: Any = Sick(takes)
        proofs = Proofs(sick, Trail(clock), clock)
        await proofs.prove()
        told = proofs.trail.told()
        assert (told.stopped_at, told.age_s) == (station, None)
        assert words in told.detail


async def test_while_space_is_short_none_is_made_and_nothing_is_called_broken(
    store: Store, clock: HurriedClock
) -> None:
    why = "磁盘空间不够"
    proofs = Proofs(store, Trail(clock), clock, refusal=lambda: why)
    await proofs.prove()
    assert proofs.trail.told() == Proven(detail="磁盘空间不够")
    assert not await store.rows("SELECT 1 FROM journal")
    why = ""
    await proofs.prove()
    assert proofs.trail.told().detail == ""


async def test_the_whole_box_makes_them_and_says_how_far_they_came(
    tmp_path: Path, truth: Truth
) -> None:
    def change(told: dict[str, Any]) -> None:
        told["center"].update(url=truth.url, token=TOKEN)
        told["health"] = {"proof_every_s": 30}

    clock = HurriedClock()
    async with gateway(settings(tmp_path, change), clock, build.devices) as box:
        assert box.proofs in box.services()
        assert box.progress().proof == Proven()
        before = box.progress().journal_seq
        running = [asyncio.ensure_future(s.run()) for s in (box.proofs, box.heartbeats)]
        async with asyncio.timeout(10):
            while box.progress().proof.age_s is None:
                await asyncio.sleep(0.05)
        assert 30.0 in clock.slept
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert box.progress().journal_seq > before


# ---- the trail alone ---------------------------------------------------------------------------


@pytest.fixture
def still() -> StillClock:
    return StillClock()


@pytest.fixture
def trail(still: StillClock) -> Trail:
    return Trail(still)


def read_back(trail: Trail, mark: Mark) -> None:
    trail.begin()
    trail.logged()
    trail.read_back(mark)


def test_who_never_comes_back_has_stopped_where_he_is(trail: Trail, still: StillClock) -> None:
    trail.begin()
    still.ms += LATE_MS - 1
    assert trail.told().stopped_at == ""
    still.ms += 1
    assert trail.told().stopped_at == "log"
    trail.logged()
    assert trail.told().stopped_at == "tables"
    trail.read_back(MARK)
    assert trail.told().stopped_at == "line"
    trail.answered(MARK, MARK.model_dump())
    assert trail.told() == Proven(0, "", "", True)


def test_an_echo_of_something_else_is_no_proof(trail: Trail) -> None:
    for echo in (OTHER.model_dump(), "yes", [], {"seq": 7}, True):
        read_back(trail, MARK)
        trail.answered(MARK, echo)
        assert (trail.told().age_s, trail.told().stopped_at) == (None, "center"), echo


def test_an_answer_to_the_one_before_proves_nothing_of_this_one(trail: Trail) -> None:
    read_back(trail, MARK)
    read_back(trail, OTHER)
    trail.answered(MARK, MARK.model_dump())
    trail.answered(None, None)
    assert trail.told().age_s is None
    trail.answered(OTHER, OTHER.model_dump())
    assert trail.told().age_s == 0


def test_a_disk_that_hangs_is_told_though_the_line_is_dead(trail: Trail, still: StillClock) -> None:
    read_back(trail, MARK)
    trail.unanswered(CenterUnavailable("连不上中心"))
    still.ms += LATE_MS
    assert trail.told().detail == "连不上中心"
    trail.begin()
    assert trail.told().stopped_at == "line"
    still.ms += LATE_MS
    assert trail.told().stopped_at == "log"


def test_a_line_that_hangs_is_told_though_another_one_is_ready_meanwhile(trail: Trail) -> None:
    """What left with the one before comes by the same line."""
    read_back(trail, MARK)
    read_back(trail, OTHER)
    trail.unanswered(CenterUnavailable("中心没有按时回答"))
    assert trail.told().stopped_at == "line"


def test_a_stop_is_told_until_one_comes_further(trail: Trail, still: StillClock) -> None:
    """Not forgotten while the next one is on its way there."""
    read_back(trail, MARK)
    trail.answered(MARK, MARK.model_dump())
    still.ms += 300_000
    trail.begin()
    trail.logged()
    trail.stop("读不回来")
    still.ms += 300_000
    trail.begin()
    trail.logged()
    assert trail.told() == Proven(600, "tables", "读不回来", True)
    trail.read_back(OTHER)
    assert trail.told() == Proven(600, "", "", True)
    trail.unanswered(CenterUnavailable("中心忙", 2.0))
    assert trail.told() == Proven(600, "center", "中心忙", True)
    trail.unanswered(NotAVerdict("中心回答 502"))
    assert trail.told() == replace(Proven(600, "center", "", True), detail="中心回答 502")

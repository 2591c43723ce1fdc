"""What is saved now does not wait behind a backlog, and the backlog is never starved."""

import asyncio
import json
import sqlite3
from typing import Any

from aiohttp import web

from gateway.store import Store
from gateway.sync.center import CenterClient, Line, Verdict, Verdicts
from gateway.sync.ledger import Ledger
from gateway.sync.outbox import Outbox
from tests.sync.rig import HurriedClock, Truth, save, until
from tests.sync.test_outbox import _odd_center, running, verdicts


class Obedient:
    """A centre that takes everything; what was sent, batch by batch."""

    def __init__(self) -> None:
        self.is_online = True
        self.sent: list[list[int]] = []
        self.meanwhile: Any = None

    def is_taken(self, _: str) -> bool:
        return self.is_online

    async def submit(self, lane: str, lines: list[Line]) -> Verdicts:
        self.sent.append([line.seq for line in lines])
        if self.meanwhile is not None:
            await self.meanwhile()
        said = tuple(Verdict(line.seq, line.id, "accepted") for line in lines)
        return Verdicts(said, None)


async def test_a_live_record_goes_before_the_backlog_and_the_backlog_has_every_second_turn(
    store: Store, clock: HurriedClock
) -> None:
    center = Obedient()
    outbox = Outbox(store, center, ["X03"], clock)  # type: ignore[arg-type]
    outbox._routes["X03"].pace.lines_max = 2
    outbox._routes["X03"].pace.took = lambda *_: None  # type: ignore[method-assign]
    for seq in range(1, 9):
        await save(store, seq)
    newest = 8

    async def a_vehicle() -> None:
        nonlocal newest
        if len(center.sent) <= 3:
            newest += 1
            await save(store, newest)

    center.meanwhile = a_vehicle
    await outbox.drain()
    assert center.sent[:6] == [[1, 2], [9], [3, 4], [10, 11], [5, 6], [7, 8]]
    assert sorted(seq for batch in center.sent for seq in batch) == list(range(1, newest + 1))


async def test_without_a_backlog_records_go_in_order(store: Store, clock: HurriedClock) -> None:
    center = Obedient()
    outbox = Outbox(store, center, ["X03"], clock)  # type: ignore[arg-type]
    for seq in range(1, 4):
        await save(store, seq)
        await outbox.drain()
    assert center.sent == [[1], [2], [3]]


async def test_a_dead_line_is_probed_with_one_record_however_often_a_vehicle_comes(
    store: Store, outbox: Outbox, client: CenterClient, truth: Truth, monkeypatch: Any
) -> None:
    sent: list[int] = []
    real = client.submit

    async def watched(lane: str, lines: Any) -> Any:
        sent.append(len(lines))
        return await real(lane, lines)

    monkeypatch.setattr(client, "submit", watched)
    for seq in range(1, 31):
        await save(store, seq)
    await truth.fault("down")
    async with running(outbox):
        for seq in range(31, 41):
            await save(store, seq)
            outbox.noticed("X03", seq)
            await asyncio.sleep(0.01)
        assert set(sent) == {1}
        await truth.fault("none")
        await until(lambda: _is_empty(outbox))
    assert (await truth.lane())["high_water"] == 40
    assert max(sent) > 1


async def _is_empty(outbox: Outbox) -> bool:
    await outbox.refresh()
    return outbox.state()["unsent"] == 0


async def test_a_record_that_is_put_off_for_ever_does_not_keep_the_photos_back(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await save(store, 2)
    await outbox.refresh()
    assert outbox.has_money_to_send
    await truth.fault("retry", seqs=[1])
    await outbox.drain()
    assert outbox.state()["unsent"] == 1
    assert not outbox.has_money_to_send
    outbox.noticed("X03", 0)
    assert outbox.has_money_to_send


async def test_a_centre_that_stumbles_over_one_of_many_gets_the_others_without_a_pause(
    store: Store, clock: HurriedClock
) -> None:
    held: set[int] = set()

    async def stumble(request: web.Request) -> web.Response:
        lines = [json.loads(line) for line in (await request.read()).splitlines()]
        if any(line["seq"] == 77 for line in lines):
            return web.json_response({"code": "bad"}, status=400)
        held.update(line["seq"] for line in lines)
        said = [{"id": x["id"], "seq": x["seq"], "verdict": "accepted"} for x in lines]
        return web.json_response({"verdicts": said, "high_water": 2})

    for seq in range(1, 121):
        await save(store, seq)
    async with _odd_center(stumble) as url, CenterClient(url, "", clock) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        assert await outbox.drain()
    assert held == set(range(1, 121)) - {77}
    assert clock.slept == []


async def test_a_lane_that_left_the_configuration_still_pays_its_debts(
    store: Store, client: CenterClient, clock: HurriedClock, truth: Truth
) -> None:
    await save(store, 1, lane="X03")
    await save(store, 1, lane="X04")
    outbox = Outbox(store, client, ["X04"], clock)
    outbox.adopt(await Ledger(store).lanes())
    await outbox.refresh()
    assert outbox.state()["unsent"] == 2
    await outbox.drain()
    assert await truth.seqs("X03") == [1]


async def test_the_lanes_of_an_empty_store_are_none(store: Store) -> None:
    assert await Ledger(store).lanes() == []
    assert await Ledger(store).newest("X03") == 0


async def test_what_a_consumer_settles_during_an_exchange_is_no_loss(
    store: Store, clock: HurriedClock
) -> None:
    """The high water in that answer is older than the consumer's verdict."""
    center = Obedient()
    outbox = Outbox(store, center, ["X03"], clock)  # type: ignore[arg-type]
    for seq in (1, 2):
        await save(store, seq)

    async def elsewhere() -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR IGNORE INTO delivery VALUES ('X03', 2, 'accepted', '', 'push', 0, 0)"
            )

        await store.write(work)
        outbox.settled_elsewhere()

    center.meanwhile = elsewhere
    real = center.submit

    async def says_one(lane: str, lines: list[Line]) -> Verdicts:
        return Verdicts((await real(lane, lines)).verdicts, 1)

    center.submit = says_one  # type: ignore[method-assign]
    await outbox.drain()
    assert (await verdicts(store)).keys() == {1, 2}


async def test_a_saving_during_the_count_is_counted(store: Store, outbox: Outbox) -> None:
    await save(store, 1)
    real = outbox._ledger.debt

    async def slow(lane: str, floor: int) -> Any:
        told = await real(lane, floor)
        if lane == "X03" and told.unsent == 1:
            await save(store, 2)
            outbox.noticed("X03", 0)
        return told

    outbox._ledger.debt = slow  # type: ignore[method-assign]
    await outbox.refresh()
    assert outbox.state()["unsent"] == 2


async def test_a_loss_that_is_heard_of_while_a_pass_begins_is_not_forgotten(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    """The floor is a cache: raised behind the back of whoever lowered it, it hid the loss."""
    for seq in (1, 2, 3):
        await save(store, seq)
    await outbox.drain()
    real, has_heard = outbox._ledger.floor, False

    async def slow(lane: str, after: int = 0) -> int:
        nonlocal has_heard
        found = await real(lane, after)
        if lane == "X03" and not has_heard:
            has_heard = True
            await outbox.heard("X03", 1, outbox.marks("X03"))
        return found

    outbox._ledger.floor = slow  # type: ignore[method-assign]
    await outbox.drain()
    assert await verdicts(store) == {1: "accepted", 2: "duplicate", 3: "duplicate"}


async def test_a_stub_that_is_refused_stays_owed(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    """Its slot is still empty, and nothing must count as settled above it."""
    for seq in (1, 2, 3):
        await save(store, seq)
    await truth.fault("refuse", seqs=[1])
    assert await outbox.drain()
    await truth.fault("none")
    await outbox.drain()
    assert (await truth.lane())["high_water"] == 3

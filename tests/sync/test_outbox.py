import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.errors import CenterUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.outbox import Outbox
from gateway.sync.pace import BYTES_MAX, LINES_MAX
from tests.sync.rig import SAVED_MS, TOKEN, HurriedClock, Truth, center, save, until


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def verdicts(store: Store, lane: str = "X03") -> dict[int, str]:
    rows = await store.rows("SELECT seq, verdict FROM delivery WHERE lane = ?", lane)
    return {row["seq"]: row["verdict"] for row in rows}


async def test_records_arrive_once_in_order_byte_for_byte(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    for seq in range(1, 11):
        await save(store, seq)
    await outbox.drain()

    rows = await truth.rows()
    assert [row["seq"] for row in rows] == list(range(1, 11))
    lines = await store.rows("SELECT line FROM record ORDER BY seq")
    assert [row["record"] for row in rows] == [json.loads(line["line"]) for line in lines]
    assert (await truth.lane())["high_water"] == 10
    assert await verdicts(store) == dict.fromkeys(range(1, 11), "accepted")


async def test_lanes_do_not_mix(store: Store, outbox: Outbox, truth: Truth) -> None:
    for seq in (1, 2, 3):
        await save(store, seq)
    await save(store, 1, lane="X04")
    await outbox.drain()
    assert await truth.seqs("X03") == [1, 2, 3]
    assert await truth.seqs("X04") == [1]
    assert outbox.state("X04")["unsent"] == 0


async def test_a_batch_is_bounded_by_count_and_by_bytes(
    store: Store, outbox: Outbox, client: CenterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    real = client.submit

    async def watched(lane: str, lines: Any) -> Any:
        sent.append((len(lines), sum(len(line.raw) + 1 for line in lines)))
        return await real(lane, lines)

    monkeypatch.setattr(client, "submit", watched)
    for seq in range(1, 206):
        await save(store, seq, description="长" * 400)
    await outbox.drain()
    assert sum(count for count, _ in sent) == 205
    assert all(count <= LINES_MAX and size <= BYTES_MAX for count, size in sent)
    assert len(sent) > 2  # the bytes cut earlier than the count


@pytest.mark.parametrize("fault", ["down", "html", "redirect", "garbage", "denied", "busy"])
async def test_whatever_answers_instead_of_the_centre_loses_nothing(
    store: Store, outbox: Outbox, truth: Truth, fault: str
) -> None:
    await save(store, 1)
    await save(store, 2)
    await truth.fault(fault, seconds=1)
    with pytest.raises(CenterUnavailable):
        await outbox.drain()
    assert await verdicts(store) == {}
    await outbox.refresh()
    assert outbox.state() == {
        "online": False,
        "unsent": 2,
        "oldest_unsent_ms": SAVED_MS + 1000,
        "eta_s": None,
        "parked": 0,
        "newest_refused": 0,
    }

    await truth.fault("none")
    await outbox.drain()
    await outbox.drain()  # one that failed alone may have been left for the next pass
    assert await truth.seqs() == [1, 2]
    assert outbox.state()["online"] is True


async def test_the_pause_the_centre_asks_for_is_kept(
    store: Store, outbox: Outbox, client: CenterClient, truth: Truth, clock: HurriedClock
) -> None:
    await save(store, 1)
    client.is_online = True  # or there would be one try only
    await truth.fault("busy", seconds=7, count=2)
    await outbox.drain()
    assert [pause for pause in clock.slept if pause >= 7] == clock.slept
    assert len(clock.slept) == 2
    assert await truth.seqs() == [1]


async def test_the_longest_pause_is_never_added_to(
    store: Store, client: CenterClient, truth: Truth, clock: HurriedClock
) -> None:
    """interfaces.md §7.7: 30 s, also when the centre asks for all of them again and again."""
    await save(store, 1)
    await truth.fault("busy", seconds=30)
    outbox = Outbox(store, client, ["X03"], clock, poll_s=4)

    async def has_paused() -> bool:
        return clock.slept.count(30) >= 4

    async with running(outbox):
        await until(has_paused)
    assert set(clock.slept) == {30, 4}  # the other is of who looks at the debt


async def test_an_answer_lost_after_the_commit_is_a_duplicate_not_a_second_record(
    store: Store, outbox: Outbox, client: CenterClient, truth: Truth
) -> None:
    await save(store, 1)
    client.is_online = True
    await truth.fault("lost_answer", count=1)
    await outbox.drain()
    assert await truth.seqs() == [1]
    assert await verdicts(store) == {1: "duplicate"}


async def test_a_slow_centre_is_given_up_and_asked_again(
    store: Store, truth: Truth, clock: HurriedClock
) -> None:
    await save(store, 1)
    async with CenterClient(truth.url, TOKEN, clock, timeout_s=0.2) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        client.is_online = True
        await truth.fault("slow", seconds=1, count=1)
        await outbox.drain()
    assert await truth.seqs() == [1]


async def test_a_refused_record_is_parked_and_its_stub_lets_high_water_pass(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await save(store, 2, card_id="not-a-card")
    await save(store, 3)
    await outbox.drain()

    assert await verdicts(store) == {1: "accepted", 2: "refused", 3: "accepted"}
    lane = await truth.lane()
    assert (lane["stored"], lane["stubs"], lane["high_water"]) == (2, 1, 3)
    stub = next(row for row in await truth.rows() if row["seq"] == 2)
    assert stub["stub"] is True
    assert stub["record"]["refused"] == "卡号应为 20 位数字"
    (parked,) = await outbox.parked()
    assert (parked["seq"], parked["reason"]) == (2, "卡号应为 20 位数字")
    assert outbox.state()["parked"] == 1
    assert outbox.state()["unsent"] == 0
    assert await outbox.backlog() == {"count": 0, "oldest_age_s": None, "drain_s": 0}


async def test_retry_marks_nothing_and_holds_nobody_up(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    for seq in (1, 2, 3):
        await save(store, seq)
    await truth.fault("retry", seqs=[2])
    assert await outbox.drain() is True
    assert await truth.seqs() == [1, 3]
    assert await verdicts(store) == {1: "accepted", 3: "accepted"}

    await truth.fault("none")
    assert await outbox.drain() is False
    assert sorted(await truth.seqs()) == [1, 2, 3]


async def test_only_what_was_put_off_is_sent_once_more(
    store: Store,
    outbox: Outbox,
    client: CenterClient,
    truth: Truth,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    real = client.submit

    async def watched(lane: str, lines: Any) -> Any:
        sent.extend(line.seq for line in lines)
        return await real(lane, lines)

    for seq in (1, 2, 3):
        await save(store, seq)
    client.is_online = True  # else the first is sent alone
    monkeypatch.setattr(client, "submit", watched)
    await truth.fault("retry", seqs=[1])
    await outbox.drain()
    await truth.fault("none")
    await outbox.drain()
    assert sent == [1, 2, 3, 1]


async def test_a_centre_restored_from_an_old_copy_gets_back_what_it_lost(
    store: Store, clock: HurriedClock, tmp_path: Path
) -> None:
    db, copy = tmp_path / "c.db", tmp_path / "copy.db"
    async with center(db) as truth, CenterClient(truth.url, TOKEN, clock) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        await save(store, 1)
        await save(store, 2, card_id="not-a-card")
        await outbox.drain()
        with sqlite3.connect(db) as live, sqlite3.connect(copy) as old:
            live.backup(old)
        live.close()
        old.close()
        await save(store, 3)
        await save(store, 4, card_id="not-a-card-either")
        await outbox.drain()
        assert (await truth.lane())["high_water"] == 4
        port = int(truth.url.rsplit(":", 1)[1])
    for leftover in tmp_path.glob("c.db-*"):
        leftover.unlink()
    shutil.copy(copy, db)

    async with center(db, port) as truth, CenterClient(truth.url, TOKEN, clock) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        await save(store, 5)
        await outbox.drain()  # its answer says high water 2
        assert (await truth.lane())["holes"] == [3, 4]
        await outbox.drain()
        lane = await truth.lane()
        assert (lane["high_water"], lane["holes"], lane["stored"], lane["stubs"]) == (5, [], 3, 2)


async def test_an_idle_lane_learns_of_the_loss_from_a_heartbeat_answer(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await outbox.drain()
    marks = outbox.marks("X03")
    await outbox.heard("X03", 0, marks)
    await outbox.refresh()
    assert outbox.state()["unsent"] == 1
    await outbox.drain()
    assert await verdicts(store) == {1: "duplicate"}


async def test_an_answer_older_than_the_newest_verdict_says_nothing(
    store: Store, outbox: Outbox
) -> None:
    await save(store, 1)
    before = outbox.marks("X03")
    await outbox.drain()
    await outbox.heard("X03", 0, before)
    assert await verdicts(store) == {1: "accepted"}


async def test_a_centre_that_acknowledges_and_drops_is_found_out(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await truth.fault("ack_and_drop", count=1)
    await outbox.drain()
    assert await truth.seqs() == []
    await outbox.drain()
    assert await truth.seqs() == [1]


async def test_a_centre_that_never_moves_is_believed_ever_more_rarely(
    store: Store, outbox: Outbox, truth: Truth, clock: HurriedClock
) -> None:
    await save(store, 1)
    await outbox.drain()
    believed = 0
    for _ in range(30):
        await outbox.heard("X03", 0, outbox.marks("X03"))
        believed += not await verdicts(store)
        await store.write(
            lambda db: (
                db.execute(
                    "INSERT OR IGNORE INTO delivery (lane, seq, verdict, via, at_ms)"
                    " VALUES ('X03', 1, 'accepted', 'push', 0)"
                ).rowcount
            )
        )
        clock.ahead_ms += 10_000
    assert 2 <= believed <= 7


async def test_the_service_sends_without_any_hint_and_tells_the_screen(
    store: Store, client: CenterClient, clock: HurriedClock, truth: Truth
) -> None:
    changes: list[int] = []
    outbox = Outbox(store, client, ["X03"], clock, lambda: changes.append(1))
    async with running(outbox):
        await save(store, 1)  # nobody pokes
        await until(lambda: _has(truth, [1]))
    assert changes


async def test_the_service_survives_an_outage_and_catches_up(
    store: Store, client: CenterClient, clock: HurriedClock, truth: Truth
) -> None:
    outbox = Outbox(store, client, ["X03"], clock)
    await truth.fault("down")
    async with running(outbox):
        for seq in range(1, 6):
            await save(store, seq)
            outbox.poke()
        await until(lambda: _unsent(outbox, 5))
        assert outbox.state()["online"] is False
        await truth.fault("none")
        await until(lambda: _has(truth, [1, 2, 3, 4, 5]))
        await until(lambda: _unsent(outbox, 0))
    assert outbox.state()["eta_s"] == 0


async def test_one_record_that_makes_the_centre_stumble_does_not_stop_the_others(
    store: Store, clock: HurriedClock
) -> None:
    """A whole-request 4xx because of one line: the batch is halved until that line is alone."""
    held: list[int] = []

    async def stumble(request: web.Request) -> web.Response:
        lines = [json.loads(line) for line in (await request.read()).splitlines()]
        if any(line["seq"] == 3 for line in lines):
            return web.json_response({"code": "bad"}, status=400)
        held.extend(line["seq"] for line in lines if line["seq"] not in held)
        said = [{"id": x["id"], "seq": x["seq"], "verdict": "accepted"} for x in lines]
        return web.json_response({"verdicts": said, "high_water": 2})

    for seq in range(1, 9):
        await save(store, seq)
    async with _odd_center(stumble) as url, CenterClient(url, "", clock) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        async with running(outbox):
            await until(lambda: _unsent(outbox, 1))
    assert held == [1, 2, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "sayings",
    [
        [],
        [{"seq": 1, "verdict": "accepted"}],
        [{"id": "someone-else", "seq": 1, "verdict": "accepted"}],
        [{"id": "ID", "seq": 2, "verdict": "accepted"}],
        [{"id": "ID", "seq": 1, "verdict": "perhaps"}],
        ["accepted"],
    ],
)
async def test_a_verdict_that_is_missing_foreign_or_unknown_counts_as_retry(
    store: Store, clock: HurriedClock, sayings: list[Any]
) -> None:
    one = await save(store, 1)
    text = json.dumps(sayings).replace('"ID"', json.dumps(one.id))

    async def odd(request: web.Request) -> web.Response:
        return web.Response(text=f'{{"verdicts": {text}, "new_field": 1}}')

    async with _odd_center(odd) as url, CenterClient(url, "", clock) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        assert await outbox.drain() is True
    assert await verdicts(store) == {}


async def test_a_whole_day_of_backlog_drains_in_seconds(
    store: Store, outbox: Outbox, truth: Truth
) -> None:
    """2 000 cars: bounded memory, bounded bodies, one file sync a batch."""

    def many(db: sqlite3.Connection) -> None:
        one = db.execute("SELECT * FROM record WHERE seq = 1").fetchone()
        for seq in range(2, 2001):
            line = json.loads(one[10])
            line.update(seq=seq, id=f"{seq:037d}")
            row = ("X03", seq, line["id"], f"p{seq}", *one[4:10], json.dumps(line), *one[11:])
            db.execute(f"INSERT INTO record VALUES ({','.join('?' * 14)})", row)

    await save(store, 1)
    await store.write(many)
    async with asyncio.timeout(20):
        await outbox.drain()
    lane = await truth.lane()
    assert (lane["stored"], lane["high_water"], lane["holes"]) == (2000, 2000, [])


async def _has(truth: Truth, seqs: list[int]) -> bool:
    return await truth.seqs() == seqs


async def _unsent(outbox: Outbox, count: int) -> bool:
    return bool(outbox.state()["unsent"] == count)


@asynccontextmanager
async def _odd_center(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/records", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_what_a_broker_was_given_is_no_part_of_the_backlog_once_somebody_else_settled_it(
    store: Store, outbox: Outbox, client: CenterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seq in (1, 2, 3):
        await save(store, seq)
    given = {("X03", 1), ("X03", 2)}
    monkeypatch.setattr(client, "delivered", lambda lane: {o for o in given if o[0] == lane})
    assert await outbox.count_delivered() == 2
    settled = "INSERT INTO delivery VALUES ('X03', 1, 'accepted', NULL, 'pull', 1, 0)"
    await store.write(lambda db: db.execute(settled).rowcount)
    assert await outbox.count_delivered() == 1
    assert (await outbox.backlog())["count"] == 2

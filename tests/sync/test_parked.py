"""The desk of refused records."""

import json
from typing import Any

import pytest

from gateway.errors import MasterRefused, NotFound, StoreUnavailable, UnexpectedEvent
from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.outbox import Outbox
from gateway.sync.parked import ParkedDesk
from tests.sync.rig import HurriedClock, Truth, save
from tests.sync.test_outbox import verdicts


class Master:
    number = "9001"


@pytest.fixture
def desk(store: Store, outbox: Outbox, clock: HurriedClock) -> ParkedDesk:
    async def approve(number: str, password: str) -> Master:
        if password != "m-word":
            raise MasterRefused("密码不对")
        return Master()

    return ParkedDesk(store, outbox, approve, clock)


async def test_a_refused_record_is_sent_once_more_and_taken(
    store: Store, outbox: Outbox, client: CenterClient, desk: ParkedDesk, truth: Truth
) -> None:
    for seq in (1, 2, 3):
        await save(store, seq)
    client.is_online = True  # all three in one body
    await truth.fault("refuse", seqs=[2], count=1)
    await outbox.drain()
    (parked,) = await desk.parked()
    assert (parked["seq"], parked["state"], parked["passage_id"]) == (2, "parked", "X03-2")

    told = await desk.resend(parked["id"], "9001", "m-word", "中心已改正", "1001")
    assert told["state"] == "resending"
    assert (await desk.parked())[0]["state"] == "resending"
    await outbox.drain()
    assert await verdicts(store) == {1: "accepted", 2: "accepted", 3: "accepted"}
    lane = await truth.lane()
    assert (lane["stored"], lane["stubs"], lane["high_water"]) == (3, 0, 3)
    (row,) = await store.rows("SELECT body FROM journal WHERE event = 'record_resent'")
    assert json.loads(row["body"])["by"] == "9001"


async def test_refused_again_it_is_parked_again_with_the_newest_words(
    store: Store, outbox: Outbox, desk: ParkedDesk, truth: Truth
) -> None:
    one = await save(store, 1, card_id="not-a-card")
    await outbox.drain()
    for _ in range(2):  # asking twice is asking once
        await desk.resend(one.id, "9001", "m-word", "再试", "1001")
    await outbox.drain()
    (parked,) = await desk.parked()
    assert (parked["state"], parked["reason"]) == ("parked", "卡号应为 20 位数字")
    assert (await truth.lane())["high_water"] == 1
    assert outbox.state()["unsent"] == 0


async def test_a_stub_that_is_under_way_does_not_swallow_the_wish(
    store: Store, outbox: Outbox, client: CenterClient, desk: ParkedDesk, truth: Truth
) -> None:
    one = await save(store, 1)
    await truth.fault("refuse", count=1)
    real = client.submit

    async def slow(lane: str, lines: Any) -> Any:
        said = await real(lane, lines)
        if b'"stub"' in lines[0].raw:
            await desk.resend(one.id, "9001", "m-word", "再试", "1001")
        return said

    client.submit = slow  # type: ignore[method-assign]
    await outbox.drain()
    await outbox.drain()
    assert await verdicts(store) == {1: "accepted"}
    assert (await truth.lane())["stubs"] == 0


async def test_a_correction_that_the_centre_has_takes_the_record_off_the_desk(
    store: Store, outbox: Outbox, desk: ParkedDesk, truth: Truth
) -> None:
    one = await save(store, 1, card_id="not-a-card")
    await outbox.drain()
    assert outbox.state()["parked"] == 1
    await save(store, 2, corrects=one.id)
    row = ("UPDATE record SET corrects = ?, adjust_fen = 0 WHERE seq = 2", (one.id,))
    await store.write(lambda db: db.execute(*row).rowcount)
    await outbox.drain()
    (parked,) = await desk.parked()
    assert parked["state"] == "corrected"
    assert outbox.state()["parked"] == 0


async def test_nothing_is_sent_again_without_a_masters_word_or_without_need(
    store: Store, outbox: Outbox, desk: ParkedDesk
) -> None:
    one = await save(store, 1)
    await outbox.drain()
    with pytest.raises(UnexpectedEvent):
        await desk.resend(one.id, "9001", "m-word", "再试", "1001")
    with pytest.raises(MasterRefused):
        await desk.resend(one.id, "9001", "wrong", "再试", "1001")
    with pytest.raises(NotFound):
        await desk.resend("nobody", "9001", "m-word", "再试", "1001")
    assert not await store.rows("SELECT 1 FROM journal WHERE event = 'record_resent'")


async def test_a_cut_before_its_row_leaves_a_record_as_it_was_and_one_behind_it_asks_again(
    store: Store, outbox: Outbox, desk: ParkedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never sent without a row that says by whose word."""

    async def cut(*_: Any) -> None:
        raise StoreUnavailable("断电")

    one = await save(store, 1, card_id="not-a-card")
    await outbox.drain()
    rows = "SELECT 1 FROM journal WHERE event = 'record_resent'"
    for owner, name, written in ((store, "log", 0), (outbox, "resend", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, cut)
            with pytest.raises(StoreUnavailable):
                await desk.resend(one.id, "9001", "m-word", "再试", "1001")
        assert len(await store.rows(rows)) == written
        assert (await desk.parked())[0]["state"] == "parked"
    told = await desk.resend(one.id, "9001", "m-word", "再试", "1001")
    assert told["state"] == "resending"

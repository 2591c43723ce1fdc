import json
from typing import Any

import pytest

from gateway.errors import CenterUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict
from gateway.sync.heartbeat import EXAMPLE, Box, Heartbeat, Heartbeats
from gateway.sync.outbox import Outbox
from tests.sync.rig import HurriedClock, Truth, save


def box(_: str) -> Box:
    return Box(versions={"lane_gateway": "0.1.0"}, devices={"reader": "ok"}, disk_free_bytes=1)


@pytest.fixture
def heartbeats(client: CenterClient, outbox: Outbox, clock: HurriedClock) -> Heartbeats:
    return Heartbeats(client, outbox, ["X03"], clock, box)


def test_the_example_is_a_heartbeat() -> None:
    assert Heartbeat.model_validate(EXAMPLE).model_dump(mode="json") == EXAMPLE


async def test_the_centre_knows_how_the_lane_is(
    store: Store, heartbeats: Heartbeats, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await outbox.refresh()
    await heartbeats.beat("X03")
    beat = (await truth.lane())["last_heartbeat"]
    assert beat["backlog"]["count"] == 1
    assert beat["devices"] == {"reader": "ok"}
    assert set(EXAMPLE) <= set(beat)


async def test_a_heartbeat_makes_an_idle_lane_online_and_offline(
    heartbeats: Heartbeats, outbox: Outbox, truth: Truth
) -> None:
    assert outbox.state()["online"] is False
    await heartbeats.beat("X03")
    assert outbox.state()["online"] is True
    await truth.fault("down")
    with pytest.raises(CenterUnavailable):
        await heartbeats.beat("X03")
    assert outbox.state()["online"] is False


async def test_a_restored_centre_is_noticed_without_a_single_vehicle(
    store: Store, heartbeats: Heartbeats, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await truth.fault("ack_and_drop", count=1)
    await outbox.drain()
    await store.write(  # as if that answer had been lost long ago and believed since
        lambda db: (
            db.execute(
                "INSERT OR REPLACE INTO delivery (lane, seq, verdict, via, at_ms)"
                " VALUES ('X03', 1, 'accepted', 'push', 0)"
            ).rowcount
        )
    )
    outbox._routes["X03"].doubt_until_ms = 0
    await heartbeats.beat("X03")
    await outbox.drain()
    assert await truth.seqs() == [1]


async def test_the_clock_offset_is_measured_from_the_answer(
    heartbeats: Heartbeats, clock: HurriedClock
) -> None:
    clock.ahead_ms = 90_000
    await heartbeats.beat("X03")
    assert heartbeats.clock_offset_ms is not None
    assert -91_000 < heartbeats.clock_offset_ms < -89_000


async def test_a_box_whose_data_is_old_goes_on_behind_what_the_centre_holds(
    store: Store, heartbeats: Heartbeats, outbox: Outbox, truth: Truth
) -> None:
    """Both copies were replaced by old ones: only the centre knows better."""
    for seq in (1, 2, 3):
        await save(store, seq)
    await outbox.drain()
    await store.write(lambda db: db.execute("DELETE FROM record WHERE seq > 1") and None)
    await store.write(lambda db: db.execute("DELETE FROM delivery WHERE seq > 1") and None)
    await outbox.refresh()
    outbox._routes["X03"].floor = outbox._routes["X03"].cursor = 1
    await heartbeats.beat("X03")
    await heartbeats.beat("X03")
    rows = await store.rows("SELECT body, extra FROM journal WHERE event = 'lane_raised'")
    assert [row["extra"] for row in rows] == ['{"raised":3}']
    assert "本机数据是旧的" in rows[0]["body"]
    assert (await store.log(lambda draft: draft.lanes["X03"])).seq == 3


async def test_an_answer_for_another_lane_is_no_answer(
    store: Store, heartbeats: Heartbeats, client: CenterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its high water would be taken for ours, and the lane's numbers raised for good."""
    real = client._send

    async def mixed_up(*asked: Any, **more: Any) -> Any:
        status, raw, headers = await real(*asked, **more)
        return status, json.dumps({**json.loads(raw), "lane": "X04", "high_water": 9}), headers

    await save(store, 1)
    monkeypatch.setattr(client, "_send", mixed_up)
    with pytest.raises(NotAVerdict):
        await heartbeats.beat("X03")
    assert not client.is_taken("X03")
    assert not await store.rows("SELECT 1 FROM journal WHERE event = 'lane_raised'")

import pytest

from gateway.errors import CenterUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient
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

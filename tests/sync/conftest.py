from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.outbox import Outbox
from tests.sync.rig import TOKEN, HurriedClock, Truth, center


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


@pytest.fixture
async def truth(tmp_path: Path) -> AsyncIterator[Truth]:
    async with center(tmp_path / "center.db") as truth:
        yield truth


@pytest.fixture
async def client(truth: Truth, clock: HurriedClock) -> AsyncIterator[CenterClient]:
    async with CenterClient(truth.url, TOKEN, clock, timeout_s=5) as client:
        yield client


@pytest.fixture
def outbox(store: Store, client: CenterClient, clock: HurriedClock) -> Outbox:
    return Outbox(store, client, ["X03", "X04"], clock)

"""Two lanes with one record id, as a renamed lane once made them: nothing of it is lost."""

from pathlib import Path

import pytest

from gateway.flow import journal
from gateway.store import Store
from tests.spool.used import incidents, passage
from tests.still_clock import StillClock

BOTH = [("X03", 1, "R0001"), ("X3A", 1, "R0001"), ("X3A", 2, "R0003")]


async def held(store: Store) -> list[tuple[str, int, str]]:
    return [
        tuple(row) for row in await store.rows("SELECT lane, seq, id FROM record ORDER BY 1, 2")
    ]


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A log with such rows; the tables have followed it."""
    store = await Store.open(tmp_path / "lane.db", StillClock())
    await store.log(passage(1))
    await store.log(passage(2, lane="X3A", record_id="R0001"))
    await store.log(passage(3, lane="X3A"))
    assert await held(store) == BOTH
    await store.close()
    return tmp_path


async def test_both_records_stand_and_people_are_told(data: Path) -> None:
    for _ in range(2):  # once, not at each start
        store = await Store.open(data / "lane.db", StillClock())
        assert await held(store) == BOTH
        await store.close()
        (said,) = incidents(data)
        assert "流水号 R0001 用了两次：X03 第 1 条和 X3A 的一条" in said
    assert journal.verify(data) == []


async def test_a_rebuild_takes_both_and_tells_it_again(data: Path) -> None:
    before = len(incidents(data))
    for file in data.glob("lane.db*"):
        file.unlink()
    store = await Store.open(data / "lane.db", StillClock())
    assert await held(store) == BOTH
    assert await store.log(passage(4, lane="X3A")) == 3
    await store.close()
    assert any("用了两次" in said for said in incidents(data)[before:])
    assert journal.verify(data) == []

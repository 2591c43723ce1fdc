"""The clock jumps in the middle of a passage: order, ids, shifts and keys stay as they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.flow.books import Books
from gateway.timekeeping.keeper import Timekeeper
from gateway.units import beijing
from tests.flow import rig
from tests.flow.rig import NOW_MS, Box, PluggedStore, World, damage, drive_through, entry
from tests.timekeeping.clocks import HOUR_MS, YEARS_10_MS, Machine

JUMPS = {
    "an hour on": HOUR_MS,
    "an hour back": -HOUR_MS,
    "ten years on": YEARS_10_MS,
    "ten years back": -YEARS_10_MS,
    "1970": -NOW_MS,
}
STEPS = ("idle", "checked", "evidenced", "classified", "unpriced", "agreed", "saved")


class Ticking(Machine):
    """Never the same millisecond twice."""

    def now_ms(self) -> int:
        self.pass_ms(1)
        return self.wall_ms


class Kept:
    """A box whose clock is kept as the composition keeps it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine, self.folder = Ticking(NOW_MS), folder
        self.world = World()
        self.keeper: Timekeeper
        opened = PluggedStore.open

        async def open_store(path: Path) -> Any:
            store = await opened(path)
            await self.keeper.begin(store)
            return store

        monkeypatch.setattr(rig.PluggedStore, "open", open_store)
        made = Books.__init__

        def with_state(books: Any, *parts: Any) -> None:
            made(books, *parts, self.keeper.state)

        monkeypatch.setattr(Books, "__init__", with_state)

    async def power_on(self) -> Box:
        self.keeper = Timekeeper(self.machine, lambda: self.machine.quality)
        self.world.clock = self.keeper  # type: ignore[assignment]
        return await Box.power_on(self.world, self.folder)

    def next_car(self) -> None:
        self.machine.pass_ms(1_800_000)
        now_s = self.keeper.now_ms() // 1000
        self.world.card.balance = 1_000_000
        self.world.card.write_entry(entry(at_s=now_s - 3600, gantry_at_s=now_s - 600))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(tmp_path / "box", monkeypatch)


async def drive_to(box: Box, state: str) -> None:
    if state == "saved":
        await drive_through(box)
        return
    for _ in range(12):
        if box.lane.passage.state.value == state:
            return
        match box.lane.passage.state.value:
            case "idle":
                await box.do("read")
            case "checked":
                await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
            case "evidenced":
                await box.do("classify", vehicle_type=1, vehicle_class=0)
            case "classified":
                await box.do("quote")
            case "unpriced":
                await box.do("minimum_fare", operator="9001", password="9001")


async def in_order(box: Box, kept: Kept, passages: int) -> list[dict[str, Any]]:
    """What must hold of the journal and the records whatever the clock did."""
    await box.store.settle()
    records = await box.records()
    assert [r["seq"] for r in records] == list(range(1, passages + 1))
    ids = [r["id"] for r in records]
    assert ids == sorted(set(ids))
    assert [r["exTime"] for r in records] == sorted(r["exTime"] for r in records)
    rows = await box.store.rows("SELECT at_ms FROM journal WHERE event <> 'incident' ORDER BY seq")
    times = [row["at_ms"] for row in rows]
    assert times == sorted(times)
    shifts = await box.store.rows("SELECT count(*) AS n FROM shift")
    assert shifts[0]["n"] == 1
    for record in records:
        assert record["exTime"].endswith("+08:00")
        assert beijing(record["clock"]["assumedMs"]).isoformat()[:16] == record["exTime"][:16]
    return records


@pytest.mark.parametrize("state", STEPS)
@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_in_the_middle_of_a_passage_breaks_nothing(
    kept: Kept, jump: str, state: str
) -> None:
    box = await kept.power_on()
    kept.next_car()
    await drive_through(box)
    kept.next_car()
    if state not in ("idle", "saved"):
        await box.do("read")
    await drive_to(box, state) if state not in ("idle", "saved") else None
    kept.machine.jump(JUMPS[jump])
    if box.lane.passage.state.value == "saved":
        await box.do("read")
    await drive_through(box)
    wall_ms = kept.machine.wall_ms
    records = await in_order(box, kept, 2)
    reading = records[-1]["clock"]
    assert abs(reading["wallMs"] - wall_ms) < 5_000  # what it said, beside what was assumed
    assert reading["source"] == "rtc"
    assert reading["isSynchronised"] is False
    kept.keeper.look()
    await kept.keeper.tell()
    noted = await box.store.rows("SELECT body FROM journal WHERE event = 'clock_changed'")
    assert abs(json.loads(noted[0]["body"])["wall_ms"] - wall_ms) < 60_000

    # Another boot, the clock still where it jumped to; then right again.
    await box.power_off()
    kept.machine.reboot("boot-2", kept.machine.wall_ms)
    box = await kept.power_on()
    kept.next_car()
    if box.lane.passage.state.value == "saved":
        await box.do("read")
    await drive_through(box)
    await in_order(box, kept, 3)
    await box.power_off()
    assert damage(kept.folder) == []


async def test_a_box_whose_clock_died_sells_for_days_in_order(kept: Kept) -> None:
    box = await kept.power_on()
    kept.next_car()
    await drive_through(box)
    for day in range(3):
        await box.power_off()
        kept.machine.reboot(f"boot-{day}", 1_000)
        box = await kept.power_on()
        assert not kept.keeper.is_trusted
        kept.next_car()
        await box.do("read")
        await drive_through(box)
    records = await in_order(box, kept, 4)
    assert {r["clock"]["source"] for r in records[1:]} <= {"rtc", "unset"}
    assert all(r["clock"]["wallMs"] < 86_400_000 for r in records[1:])
    assert all(r["exTime"] >= records[0]["exTime"] for r in records)
    await box.power_off()

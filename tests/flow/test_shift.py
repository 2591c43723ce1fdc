import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest

from gateway.errors import NotFound, ShiftOpen, UnexpectedEvent
from gateway.flow.shift import Kind, Shifts, Statement, shift_at
from gateway.store import Store
from tests.flow.rig import Box, World
from tests.flow.test_lane import to_agreed

HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_700_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS - 8 * HOUR_MS  # in Beijing


class Clock:
    boot_id = "boot"
    at_ms = MIDNIGHT_MS + 9 * HOUR_MS

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shifts(store: Store, clock: Clock) -> Shifts:
    return Shifts(store, clock)


async def record(store: Store, seq: int, shift_id: int, kind: str, means: str, fee: int) -> None:
    row = ("X03", seq, f"R{seq}", f"P{seq}", shift_id, kind, means, fee, "", 0, "{}", "")
    values = ",".join("?" * len(row))
    await store.write(
        lambda db: db.execute(f"INSERT INTO record VALUES ({values}, NULL, NULL)", row)
    )


async def passage(store: Store, passage_id: str, shift_id: int, ended: str | None) -> None:
    row = (passage_id, "X03", "checked", 0, 0, "1001", shift_id, "", "", None, ended, None)
    await store.write(
        lambda db: db.execute(f"INSERT INTO passage VALUES ({','.join('?' * len(row))})", row)
    )


@pytest.mark.parametrize(
    ("hour", "shift"), [(0, 3), (5, 3), (6, 1), (13, 1), (14, 2), (21, 2), (22, 3), (23, 3)]
)
def test_the_beijing_hour_names_the_shift(hour: int, shift: int) -> None:
    assert shift_at(MIDNIGHT_MS + hour * HOUR_MS) == shift


async def test_a_second_shift_on_a_lane_is_refused_and_another_lane_is_free(
    shifts: Shifts,
) -> None:
    first = await shifts.open("X03", "1001")
    with pytest.raises(ShiftOpen, match="1001"):
        await shifts.open("X03", "1002")
    assert (await shifts.open("X04", "1002", 3)).shift == 3
    assert await shifts.current("X03") == first


async def test_ensure_open_begins_one_and_then_keeps_it(shifts: Shifts) -> None:
    assert await shifts.current("X03") is None
    first = await shifts.ensure_open("X03", "1001")
    standing = await shifts.current("X03")
    assert standing is not None
    assert (standing.id, standing.operator, standing.shift) == (first, "1001", 1)
    assert await shifts.ensure_open("X03", "1002") == first


async def test_ensure_open_keeps_the_one_that_a_restart_left(
    shifts: Shifts, store: Store, clock: Clock
) -> None:
    first = await shifts.ensure_open("X03", "1001")
    assert await Shifts(store, clock).ensure_open("X03", "1002") == first


async def test_what_is_shown_is_counted_on_and_the_same_after_a_restart(
    shifts: Shifts, store: Store, clock: Clock
) -> None:
    assert shifts.shown("X03") is None
    shift = await shifts.open("X03", "1001", 2)
    for seq, fee in ((1, 4280), (2, 0)):
        await record(store, seq, shift.id, "paid", "etc_card", fee)
        shifts.count("X03", fee)
    shown = shifts.shown("X03")
    assert shown == {
        "id": shift.id,
        "operator": "1001",
        "shift": 2,
        "opened_at_ms": clock.at_ms,
        "count": 2,
        "sum_fen": 4280,
    }
    again = Shifts(store, clock)
    await again.load("X03")
    assert again.shown("X03") == shown
    await again.close(shift.id)
    assert again.shown("X03") is None


async def test_totals_tell_collected_money_from_the_rest(shifts: Shifts, store: Store) -> None:
    shift = await shifts.open("X03", "1001")
    await record(store, 1, shift.id, "paid", "etc_card", 4280)
    await record(store, 2, shift.id, "paid", "etc_card", 1000)
    await record(store, 3, shift.id, "by_hand", "cash", 500)
    await record(store, 4, shift.id, "doubtful", "etc_card", 7000)
    await record(store, 5, shift.id + 1, "paid", "etc_card", 99)
    await store.write(
        lambda db: db.execute(
            "INSERT INTO delivery VALUES ('X03', 1, 'accepted', '', 'push', 0, 0)"
        )
    )
    totals = (await shifts.statement(shift.id)).totals
    assert (totals.count, totals.sum_fen) == (4, 5780)
    assert Kind("doubtful", "etc_card", 1, 7000) in totals.kinds
    assert (totals.unsent_count, totals.unsent_sum_fen) == (3, 8500)


async def test_what_was_signed_off_stays_though_records_are_sent_later(
    shifts: Shifts, store: Store, clock: Clock
) -> None:
    shift = await shifts.open("X03", "1001")
    await record(store, 1, shift.id, "paid", "etc_card", 4280)
    closed = await shifts.close(shift.id)
    assert closed.shift.closed_at_ms == clock.at_ms
    await store.write(
        lambda db: db.execute(
            "INSERT INTO delivery VALUES ('X03', 1, 'accepted', '', 'push', 0, 0)"
        )
    )
    clock.at_ms += 60_000
    later = await shifts.close(shift.id)
    assert later.shift == closed.shift
    assert later.totals.unsent_count == 0
    assert later.signed_off is not None
    assert later.signed_off["unsent_count"] == 1
    assert await shifts.current("X03") is None
    await shifts.open("X03", "1002")


async def test_a_vehicle_that_is_not_settled_keeps_its_shift_open(
    shifts: Shifts, store: Store
) -> None:
    shift = await shifts.open("X03", "1001")
    await passage(store, "A", shift.id, "saved")
    await passage(store, "B", shift.id, None)
    with pytest.raises(UnexpectedEvent, match="1 辆车"):
        await shifts.close(shift.id)
    assert await shifts.current("X03") == shift
    assert await shifts.ensure_open("X03", "1001") == shift.id
    shown = shifts.shown("X03")
    assert shown is not None
    assert shown["id"] == shift.id


async def test_a_vehicle_read_while_a_shift_closes_belongs_to_the_next_one(
    shifts: Shifts,
) -> None:
    shift = await shifts.open("X03", "1001")
    closed, read = await asyncio.gather(shifts.close(shift.id), shifts.ensure_open("X03", "1001"))
    assert closed.shift.closed_at_ms is not None
    assert read != shift.id


async def test_signing_off_while_a_record_is_written_leaves_it_its_shift(tmp_path: Path) -> None:
    box = await Box.power_on(World(), tmp_path)
    await to_agreed(box)
    shifts, shift_id = box.lane._shifts, box.lane.passage.shift_id
    before = shifts.shown("X03")

    async def sign_off() -> Statement:
        while box.lane.passage.state != "debiting":
            await asyncio.sleep(0)
        return await shifts.close(shift_id)

    _, signed = await asyncio.gather(box.do("save"), sign_off())
    (record,) = await box.records()
    assert before
    assert record["shift"] == before["shift"] == signed.shift.shift
    assert signed.signed_off == {**asdict(signed.totals), "kinds": [asdict(signed.totals.kinds[0])]}
    assert (signed.totals.count, signed.totals.sum_fen) == (1, record["fee"])
    assert shifts.shown("X03") is None
    await box.power_off()


async def test_a_vehicle_read_while_signing_off_is_refused_keeps_what_was_counted(
    shifts: Shifts, store: Store
) -> None:
    opened = await shifts.open("X03", "1001", 1)
    await passage(store, "P1", opened.id, None)
    shifts.count("X03", 500)
    closing = asyncio.create_task(shifts.close(opened.id))
    await asyncio.sleep(0)
    assert await shifts.ensure_open("X03", "1001") == opened.id
    with pytest.raises(UnexpectedEvent):
        await closing
    shown = shifts.shown("X03")
    assert shown
    assert (shown["id"], shown["count"], shown["sum_fen"]) == (opened.id, 1, 500)
    assert shifts.number_of(opened.id) == 1


async def test_a_shift_nobody_opened_is_not_found(shifts: Shifts) -> None:
    with pytest.raises(NotFound):
        await shifts.close(7)
    with pytest.raises(NotFound):
        await shifts.statement(7)

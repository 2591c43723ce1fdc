"""A passage that was begun and sent away leaves its stub; what was never identified leaves none."""

import json
from pathlib import Path

import pytest

from gateway.flow.messages import Cancelled
from gateway.flow.passage import Passage, State
from gateway.flow.recording import ID_COUNT_MAX, next_record_id
from gateway.flow.rules import BEFORE_THE_MONEY, advance
from gateway.records import ExitRecord
from tests.flow.rig import PLACE, Box, World, damage, drive_through

HOUR_MS = 1_763_694_000_000  # 2025-11-21 11:00 in Beijing
LANE_ID = PLACE.lane_id


async def cancelled_at(box: Box, state: str) -> str:
    """Bring a car there, as `drive_through` does, then send it away. Its passage id."""
    steps = {
        "checked": (),
        "refused": (),
        "evidenced": (("submit_plate", {"plate": "甘A12345", "colour": 0, "source": "lpr"}),),
    }
    await box.do("read")
    for command, body in steps[state]:
        await box.do(command, **body)
    assert box.lane.passage.state == state
    passage_id = box.lane.passage.id
    await box.do("cancel", reason="倒车离开")
    return passage_id


@pytest.mark.parametrize("state", [State.REFUSED, State.HELD, *BEFORE_THE_MONEY])
def test_wherever_a_passage_may_be_cancelled_it_owes_a_stub(state: State) -> None:
    step = advance(Passage(state=state), Cancelled("走错车道", 7))
    assert step.owed is not None
    assert (step.owed.outcome, step.owed.reason, step.owed.at_ms) == ("cancelled", "走错车道", 7)
    assert step.passage == Passage()


@pytest.mark.parametrize("state", ["checked", "evidenced"])
async def test_a_cancelled_passage_leaves_a_frozen_stub_in_the_chain(
    tmp_path: Path, state: str
) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    first = await cancelled_at(box, state)
    await drive_through(box)
    stub, record = await box.lines()
    assert (stub["seq"], record["seq"]) == (1, 2)
    assert (stub["passageId"], stub["isStub"], stub["outcome"]) == (first, True, "cancelled")
    assert (stub["fee"], stub["transFee"], stub["payFee"], stub["tac"]) == (0, 0, 0, None)
    assert stub["splitProvince"] == []
    assert (stub["reason"], stub["operator"]) == ("倒车离开", "1001")
    assert stub["cardId"] == record["cardId"]
    assert (record["isStub"], stub["id"] < record["id"]) == (False, True)
    chains = await box.store.rows("SELECT chain FROM record ORDER BY seq")
    assert record["prevChain"] == chains[0]["chain"]
    ExitRecord.model_validate(stub)
    await box.power_off()
    assert damage(tmp_path) == []


async def test_a_stub_is_rebuilt_from_the_log_like_any_record(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    passage = await cancelled_at(box, "checked")
    before = await box.lines()
    await box.power_off(is_cut=True)  # the tables had not followed
    (tmp_path / "lane.db").unlink(missing_ok=True)
    box = await Box.power_on(world, tmp_path)
    assert await box.lines() == before
    (row,) = await box.store.rows("SELECT * FROM passage WHERE id = ?", passage)
    assert (row["ended"], row["record_id"]) == ("cancelled", before[0]["id"])
    await box.power_off()


async def test_a_card_that_could_not_be_read_leaves_no_stub(tmp_path: Path) -> None:
    """Nothing was identified: there is no vehicle, no card and no place in the sequence."""
    world = World()
    box = await Box.power_on(world, tmp_path)
    world.reader.remove()
    await box.do("read")
    assert box.lane.passage.state == "idle"
    world.reader.insert(world.card)
    await drive_through(box)
    assert [line["seq"] for line in await box.lines()] == [1]
    await box.power_off()


async def test_a_stub_is_no_vehicle_served(tmp_path: Path) -> None:
    """The shift counts one, the screen's last vehicle is the one that paid, both are owed."""
    world = World()
    box = await Box.power_on(world, tmp_path)
    saved: list[int] = []
    box.lane._on_saved = lambda lane, at_ms: saved.append(at_ms)
    await drive_through(box)
    last = box.lane.snapshot()["last"]
    await cancelled_at(box, "refused")  # the same card again
    shot = box.lane.snapshot()
    assert (shot["shift"]["count"], shot["last"]) == (1, last)
    totals = (await box.lane._shifts.statement(shot["shift"]["id"])).totals
    assert (totals.count, totals.sum_fen) == (1, last["amount_fen"])
    assert [kind.kind for kind in totals.kinds] == ["paid"]
    assert len(saved) == 2
    await box.power_off()
    box = await Box.power_on(world, tmp_path)
    shot = box.lane.snapshot()
    assert (shot["shift"]["count"], shot["last"]) == (1, last)
    await box.power_off()


async def test_a_repeated_cancel_leaves_one_stub(tmp_path: Path) -> None:
    from tests.flow.test_lane import ask

    box = await Box.power_on(World(), tmp_path)
    await box.do("read")
    rev = box.lane.rev
    first = await ask(box, "k", rev, command="cancel", reason="走错")
    assert await ask(box, "k", rev, command="cancel", reason="走错") == first
    assert len(await box.lines()) == 1
    await box.power_off()


async def test_a_journal_from_before_the_stubs_is_still_replayed(tmp_path: Path) -> None:
    """Its Cancelled has no time; nothing is owed for it any more."""
    from gateway.flow.journal import adapter

    event = adapter(Cancelled).validate_json(json.dumps({"reason": "旧"}))
    assert event == Cancelled("旧", 0)


async def test_a_doubtful_passage_keeps_its_place(tmp_path: Path) -> None:
    """A stub before it, a record behind it: the doubtful one is a record of its own between."""
    world = World()
    box = await Box.power_on(world, tmp_path)
    await cancelled_at(box, "checked")
    await agreed(box)
    world.reader.arm("pulled_after", 5)
    await box.do("save")
    assert box.lane.passage.state == "doubtful"
    await box.do("hand_over", reason="卡拿走了")
    await box.do(
        "settle_by_hand", means="cash", amount_fen=500, reason="补收", operator="9001",
        password="9001",
    )  # fmt: skip
    lines = await box.lines()
    assert [(line["seq"], line["outcome"]) for line in lines] == [(1, "cancelled"), (2, "doubtful")]
    await box.power_off()


async def agreed(box: Box) -> None:
    from tests.flow.rig import ENTRY_HEX

    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
    await box.do("classify", vehicle_type=1, vehicle_class=0)
    await box.do("quote")
    if box.lane.passage.state == "unpriced":
        await box.do("minimum_fare", operator="9001", password="9001")
    else:
        await box.do("confirm_entry", station_hex=ENTRY_HEX)
    assert box.lane.passage.state == "agreed"


# ---- ids (domain.md §4) ----------------------------------------------------------------------


def test_an_id_is_lane_hour_and_six_digits() -> None:
    first = next_record_id("", LANE_ID, HOUR_MS)
    assert first == f"{LANE_ID}2025112111000001"
    assert len(first) == 37
    assert next_record_id(first, LANE_ID, HOUR_MS + 1) == f"{LANE_ID}2025112111000002"
    assert next_record_id(first, LANE_ID, HOUR_MS + 3_600_000) == f"{LANE_ID}2025112112000001"


def test_an_hour_that_is_full_goes_on_in_the_next_and_stays_ahead_of_the_clock() -> None:
    full = f"{LANE_ID}2025112123{ID_COUNT_MAX:06d}"
    after = next_record_id(full, LANE_ID, HOUR_MS)
    assert after == f"{LANE_ID}2025112200000001"  # the day turns with the hour
    assert next_record_id(after, LANE_ID, HOUR_MS) == f"{LANE_ID}2025112200000002"
    assert full < after


def test_a_clock_set_back_makes_no_id_twice() -> None:
    ids, last = set(), ""
    for at_ms in (HOUR_MS, HOUR_MS + 7_200_000, HOUR_MS - 10 * 365 * 86_400_000, 0, HOUR_MS):
        last = next_record_id(last, LANE_ID, at_ms)
        assert last not in ids
        assert all(known < last for known in ids)
        ids.add(last)


def test_another_lane_id_begins_anew() -> None:
    """The lane was renumbered: its records go on, its ids are the new lane's."""
    other = "G00306200100202010040"
    assert (
        next_record_id(f"{LANE_ID}2025112111000009", other, HOUR_MS) == f"{other}2025112111000001"
    )

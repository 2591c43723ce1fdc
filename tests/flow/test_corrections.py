"""Corrections: the saved record stands as it was, the new one says what counts, and who answers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import (
    KeyReused,
    MasterRefused,
    NotFound,
    PlateInvalid,
    RequestInvalid,
    UnexpectedEvent,
)
from gateway.flow.corrections import OWN, Correct, Corrections, chain_of
from gateway.records import ExitRecord
from gateway.spool.tables import record_chain
from tests.flow.rig import COLLECTOR, PLACE, Box, World, approve, damage, drive_through

MASTER = {"operator": "9001", "password": SecretStr("9001"), "reason": "车牌认错"}
SAYS_OF_ITSELF = {ExitRecord.model_fields[name].alias for name in OWN}


def desk(box: Box, saved: list[int] | None = None) -> Corrections:
    told: list[int] = [] if saved is None else saved
    return Corrections(
        box.store,
        {"X03": PLACE.lane_id},
        approve,
        lambda: box.world.parameters,
        box.lane._shifts,
        lambda lane, at_ms: told.append(at_ms),
        box.world.clock,
    )


async def by_hand(box: Box, means: str = "cash", amount_fen: int = 500) -> str:
    """A vehicle handed over and settled by people; its passage id."""
    await box.do("read")
    await box.do("hand_over", reason="读写器故障")
    await box.do(
        "settle_by_hand",
        means=means,
        amount_fen=amount_fen,
        reason="人工",
        operator="9001",
        password="9001",
    )
    return box.lane.passage.id


@pytest.fixture
async def box(tmp_path: Path) -> Any:
    box = await Box.power_on(World(), tmp_path)
    yield box
    await box.power_off()
    assert damage(tmp_path) == []


@pytest.fixture
async def paid(box: Box) -> str:
    await drive_through(box)
    return box.lane.passage.id


def changed(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    return {name for name in new if old[name] != new[name]} - SAYS_OF_ITSELF


async def test_only_what_was_corrected_differs_and_the_old_record_stands(
    box: Box, paid: str
) -> None:
    (before,) = await box.lines()
    answer = await desk(box).correct(paid, Correct(**MASTER, plate="甘a54321"), COLLECTOR, "k1")
    first, second = await box.lines()
    assert first == before
    assert changed(first, second) == {"vehicleId"}
    assert (second["vehicleId"], second["passageId"]) == ("甘A54321_0", paid)
    assert (second["seq"], second["corrects"], second["adjustFee"]) == (2, first["id"], 0)
    assert second["id"] == answer["record_id"] != first["id"]
    assert second["reason"] == "车牌认错"
    assert (second["approval"]["operator"], second["approval"]["name"]) == ("9001", "演示站长")
    assert (second["transFee"], second["tac"]) == (first["transFee"], first["tac"])
    assert answer["changed"] == {"vehicleId": ["甘A12345_0", "甘A54321_0"]}
    rows = await chain_of(box.store, paid)
    assert second["prevChain"] == rows[0]["chain"]
    assert rows[1]["chain"] == record_chain(rows[0]["chain"], rows[1]["line"]) == answer["chain"]


async def test_a_correction_of_a_correction_links_to_the_newest(box: Box, paid: str) -> None:
    corrections = desk(box)
    await corrections.correct(paid, Correct(**MASTER, plate="甘A54321"), COLLECTOR, "k1")
    await drive_another(box)
    await corrections.correct(paid, Correct(**MASTER, vehicle_class=8), COLLECTOR, "k2")
    lines = {line["seq"]: line for line in await box.lines()}
    assert (lines[2]["corrects"], lines[4]["corrects"]) == (lines[1]["id"], lines[2]["id"])
    assert (lines[4]["vehicleId"], lines[4]["vehicleClass"]) == ("甘A54321_0", 8)
    assert lines[3]["corrects"] is None
    assert [row["seq"] for row in await chain_of(box.store, paid)] == [1, 2, 4]


async def drive_another(box: Box) -> None:
    from gateway.devices.sim.card import SimUserCard
    from tests.flow.rig import entry

    box.world.reader.insert(SimUserCard.issue(entry=entry(), card_number="2203230000000002"))
    await box.do("read")
    await drive_through(box)


@pytest.mark.parametrize(
    ("asked", "wire"),
    [
        ({"colour": 4, "plate": "甘AD12345"}, {"vehicleId": "甘AD12345_4"}),
        ({"vehicle_type": 2}, {"vehicleType": 2}),
        (
            {"weight_kg": 20_000, "axle_count": 3, "limit_kg": 16_000},
            {"exWeight": 20_000, "axleCount": 3, "limitWeight": 16_000, "overweightRate": 25.0},
        ),
    ],
)
async def test_what_may_be_corrected(
    box: Box, paid: str, asked: dict[str, Any], wire: dict[str, Any]
) -> None:
    await desk(box).correct(paid, Correct(**MASTER, **asked), COLLECTOR, "k")
    first, second = await box.lines()
    assert {name: second[name] for name in wire} == wire
    assert changed(first, second) == set(wire)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({}, RequestInvalid),
        ({"plate": "甘A12345"}, RequestInvalid),  # as it is
        ({"plate": "A"}, PlateInvalid),
        ({"colour": 77}, PlateInvalid),
        ({"vehicle_type": 99}, RequestInvalid),
        ({"vehicle_class": 999}, RequestInvalid),
        ({"amount_fen": 100}, RequestInvalid),  # the card's own debit
        ({"means": "cash", "amount_fen": 100}, RequestInvalid),
    ],
)
async def test_what_may_not_be_corrected_is_refused_and_nothing_is_written(
    box: Box, paid: str, asked: dict[str, Any], fault: type[Exception]
) -> None:
    before = await box.lines()
    with pytest.raises(fault):
        await desk(box).correct(paid, Correct(**MASTER, **asked), COLLECTOR, "k")
    assert await box.lines() == before


async def test_money_taken_by_hand_is_corrected_with_its_difference(box: Box) -> None:
    passage = await by_hand(box)
    told: list[int] = []
    corrections = desk(box, told)
    shift = box.lane.snapshot()["shift"]
    assert shift["sum_fen"] == 500
    answer = await corrections.correct(passage, Correct(**MASTER, amount_fen=800), COLLECTOR, "a")
    assert answer["adjust_fen"] == 300
    answer = await corrections.correct(
        passage, Correct(**MASTER, means="mobile", amount_fen=700), COLLECTOR, "b"
    )
    assert answer["adjust_fen"] == -100
    lines = await box.lines()
    assert [line["fee"] for line in lines] == [500, 800, 700]
    assert [line["adjustFee"] for line in lines] == [0, 300, -100]
    assert (lines[2]["means"], lines[2]["transPayType"]) == ("mobile", 13)
    totals = (await box.lane._shifts.statement(shift["id"])).totals
    assert (totals.count, totals.sum_fen, totals.unsent_count) == (1, 700, 3)
    assert [(kind.means, kind.sum_fen) for kind in totals.kinds] == [("mobile", 700)]
    assert totals.unsent_sum_fen == 700
    assert box.lane.snapshot()["shift"]["sum_fen"] == 700
    assert box.lane.snapshot()["shift"]["count"] == 1
    assert len(told) == 2


async def test_who_was_let_go_unpaid_and_paid_after_all_is_by_hand_then(box: Box) -> None:
    passage = await by_hand(box, "unpaid", 0)
    corrections = desk(box)
    for wrong in ({"means": "cash"}, {"amount_fen": 5}, {"means": "none", "amount_fen": 5}):
        with pytest.raises(RequestInvalid):
            await corrections.correct(passage, Correct(**MASTER, **wrong), COLLECTOR, "x")
    await corrections.correct(
        passage, Correct(**MASTER, means="cash", amount_fen=900), COLLECTOR, "y"
    )
    await corrections.correct(
        passage, Correct(**MASTER, means="none", amount_fen=0), COLLECTOR, "z"
    )
    lines = await box.lines()
    assert [line["outcome"] for line in lines] == ["unpaid", "by_hand", "unpaid"]
    assert box.lane.snapshot()["shift"]["sum_fen"] == 0


async def test_a_signed_off_shift_stays_as_it_was_signed(box: Box) -> None:
    passage = await by_hand(box)
    shift_id = box.lane.snapshot()["shift"]["id"]
    await box.lane._shifts.close(shift_id)
    await desk(box).correct(passage, Correct(**MASTER, amount_fen=900), COLLECTOR, "a")
    statement = await box.lane._shifts.statement(shift_id)
    assert statement.signed_off is not None
    assert (statement.signed_off["sum_fen"], statement.totals.sum_fen) == (500, 900)


async def test_the_same_key_is_one_correction_also_after_a_restart(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    await drive_through(box)
    passage, asked = box.lane.passage.id, Correct(**MASTER, plate="甘A54321")
    both = await asyncio.gather(
        *(desk_of.correct(passage, asked, COLLECTOR, "k") for desk_of in [desk(box)] * 2)
    )
    assert both[0] == both[1]
    await box.power_off(is_cut=True)
    box = await Box.power_on(world, tmp_path)
    assert await desk(box).correct(passage, asked, COLLECTOR, "k") == both[0]
    assert len(await box.lines()) == 2
    with pytest.raises(KeyReused):
        await desk(box).correct(passage, Correct(**MASTER, plate="甘A11111"), COLLECTOR, "k")
    await box.power_off()


async def test_a_key_of_a_command_is_not_the_key_of_a_correction(box: Box) -> None:
    """The same uuid in both places breaks neither."""
    from tests.flow.test_lane import ask

    await drive_through(box)
    passage = box.lane.passage.id
    await desk(box).correct(passage, Correct(**MASTER, plate="甘A54321"), COLLECTOR, "same")
    await ask(box, "same", box.lane.rev, command="read")
    assert len(await box.lines()) == 2


async def test_a_wrong_password_is_written_down_and_corrects_nothing(box: Box, paid: str) -> None:
    wrong = Correct(**{**MASTER, "password": SecretStr("nope")}, plate="甘A54321")
    for _ in range(2):
        with pytest.raises(MasterRefused):
            await desk(box).correct(paid, wrong, COLLECTOR, "k")
    assert len(await box.lines()) == 1
    rows = await box.store.rows("SELECT body FROM journal WHERE event = 'refused_correction'")
    assert len(rows) == 1  # the repeat was not judged again
    assert "nope" not in rows[0]["body"]


async def test_only_a_saved_passage_of_ours_can_be_corrected(box: Box) -> None:
    corrections, asked = desk(box), Correct(**MASTER, plate="甘A54321")
    with pytest.raises(NotFound):
        await corrections.correct("X03-none", asked, COLLECTOR, "1")
    await box.do("read")
    passage = box.lane.passage.id
    with pytest.raises(UnexpectedEvent, match="还没有保存"):
        await corrections.correct(passage, asked, COLLECTOR, "2")
    await box.do("cancel", reason="走错")
    with pytest.raises(UnexpectedEvent, match="取消"):
        await corrections.correct(passage, asked, COLLECTOR, "3")


async def test_the_lane_goes_on_behind_a_correction(box: Box, paid: str) -> None:
    """Numbers, ids and chain run through; the passage replays; what was last saved stays last."""
    last = box.lane.snapshot()["last"]
    await desk(box).correct(paid, Correct(**MASTER, plate="甘A54321"), COLLECTOR, "k")
    assert box.lane.snapshot()["last"] == last
    assert (await box.lane._books.last_saved()) == last
    step = await box.lane._books.replay(paid)
    assert step.passage.state == "saved"
    assert (await box.lane._books.record_of(paid)) == box.lane._record
    await drive_another(box)
    lines = await box.lines()
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert sorted(line["id"] for line in lines) == [line["id"] for line in lines]


async def test_corrections_and_sales_at_the_same_moment_share_one_sequence(box: Box) -> None:
    """Both draw their numbers in the writer's thread, whoever comes first."""
    passages = []
    for _ in range(3):
        passages.append(await by_hand(box))
    corrections = desk(box)

    async def correct(passage: str, n: int) -> None:
        asked = Correct(**MASTER, amount_fen=600 + n)
        await corrections.correct(passage, asked, COLLECTOR, f"{n}")

    sale = asyncio.create_task(by_hand(box))
    await asyncio.gather(*(correct(p, n) for n, p in enumerate(passages)))
    await sale
    lines = await box.lines()
    assert [line["seq"] for line in lines] == list(range(1, 8))
    assert len({line["id"] for line in lines}) == 7

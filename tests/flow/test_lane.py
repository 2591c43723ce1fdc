"""The lane on twins: the whole flow, its branches, and what it refuses."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.access import Who
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.obu import SimObu
from gateway.errors import (
    CardRefused,
    DeviceUnavailable,
    EntryMismatch,
    KeyReused,
    MasterRefused,
    NotOwner,
    StaleRevision,
    StoreUnavailable,
    UnexpectedEvent,
    WeightMissing,
)
from gateway.flow.books import key_of
from gateway.flow.commands import COMMAND
from gateway.flow.lane import Asked
from gateway.params import MinimumFare, MinimumFares, Operator, Operators
from gateway.records import FareAnswer, FareRequest
from tests.flow.rig import (
    COLLECTOR,
    ENTRY_HEX,
    Box,
    World,
    damage,
    drive_through,
    entry,
    journal_events,
)

MASTER = {"operator": "9001", "password": "9001"}


@pytest.fixture
async def box(tmp_path: Path):
    box = await Box.power_on(World(), tmp_path)
    yield box
    await box.power_off()


async def to_agreed(box: Box) -> dict[str, Any]:
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
    await box.do("classify", vehicle_type=1, vehicle_class=0)
    await box.do("quote")
    return await box.do("minimum_fare", **MASTER)


async def ask(box: Box, key: str, rev: int, who: Who = COLLECTOR, **command: Any) -> dict[str, Any]:
    """One command with a key and a rev of the test's own choosing."""
    parsed = COMMAND.validate_python(command)
    answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    digest = key_of(key, parsed.model_dump(mode="json"), who.operator)
    return await box.lane._ask(Asked(parsed, who, digest, rev, answered))


async def test_a_car_pays_once_and_leaves_one_record(box: Box, tmp_path: Path) -> None:
    before = box.world.card.balance

    await drive_through(box)

    (record,) = await box.records()
    (debit,) = box.world.card.ledger
    assert before - box.world.card.balance == record["fee"] == debit.amount_fen > 0
    assert record["tac"] == debit.tac
    assert record["terminalTransNo"] == f"{debit.terminal_seq:08X}"
    assert record["cardTransNo"] == f"{debit.card_seq:04X}"
    assert (record["mac2"], record["tacSource"]) == ("verified", "answered")
    assert damage(tmp_path) == []


async def test_the_exit_is_written_into_the_card_with_the_debit(box: Box) -> None:
    from gateway.devices.etc_files import decode_toll

    await drive_through(box)
    toll = decode_toll(box.world.card.toll)
    assert (toll.station_hex, toll.lane_no, toll.status) == ("62010B31", 3, 4)


async def test_province_then_ministry_then_the_master(box: Box) -> None:
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0)
    await box.do("classify", vehicle_type=1)
    shot = await box.do("quote")
    assert [request.kind for request in box.world.fares.asked] == [4, 5]
    assert (shot["state"], shot["problem"]["code"]) == ("unpriced", "E-211")
    box.world.fares.answers[5] = FareAnswer(amount_fen=4500, kind=5)
    shot = await box.do("quote")
    assert (shot["state"], shot["passage"]["quote"]["kind"]) == ("priced", 5)
    box.world.fares.answers[4] = FareAnswer(amount_fen=4400, kind=4)
    shot = await box.do("quote")
    assert shot["passage"]["quote"]["amount_fen"] == 4400


async def test_silent_services_cost_one_deadline_and_not_two(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """interfaces.md §3.1: 1 s by default, then the local answer."""
    fares, ended = box.world.fares, asyncio.Event()

    async def silent(request: FareRequest) -> FareAnswer:
        try:
            await asyncio.sleep(20)
        finally:
            ended.set()
        raise AssertionError("nobody waits so long")

    monkeypatch.setattr(fares, "fare", silent)
    fares.deadline_s = 0.05
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0)
    await box.do("classify", vehicle_type=1)
    shot = await box.do("quote")
    assert (shot["state"], shot["problem"]["code"]) == ("unpriced", "E-211")
    assert ended.is_set()


async def test_a_wrong_hex_names_both_stations_and_changes_nothing(box: Box) -> None:
    box.world.fares.answers[4] = FareAnswer(amount_fen=4500)
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0)
    await box.do("classify", vehicle_type=1)
    rev = (await box.do("quote"))["rev"]
    with pytest.raises(EntryMismatch, match=r"定西.*兰州东"):
        await box.do("confirm_entry", station_hex="62010C07")
    assert box.lane.rev == rev
    assert "62010A12" not in str(box.lane.snapshot()["passage"])
    assert (await box.do("confirm_entry", station_hex=ENTRY_HEX.lower()))["state"] == "agreed"


async def test_a_wrong_master_is_noted_and_changes_nothing(box: Box) -> None:
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0)
    await box.do("classify", vehicle_type=1)
    rev = (await box.do("quote"))["rev"]
    with pytest.raises(MasterRefused):
        await box.do("minimum_fare", operator="9001", password="wrong")
    assert box.lane.rev == rev
    rows = await box.store.rows("SELECT event, body FROM journal WHERE event LIKE 'refused%'")
    assert [row["event"] for row in rows] == ["refused_minimum_fare"]
    assert "wrong" not in rows[0]["body"]


async def test_the_same_key_gives_the_same_answer_also_after_a_restart(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    await to_agreed(box)
    rev = box.lane.rev
    first = await ask(box, "key-1", rev, command="save")
    assert await ask(box, "key-1", rev, command="save") == first
    await box.power_off()
    again = await Box.power_on(world, tmp_path)
    assert await ask(again, "key-1", rev, command="save") == first
    assert len(world.card.ledger) == len(await again.records()) == 1
    with pytest.raises(KeyReused):
        await ask(again, "key-1", rev, command="read")
    await again.power_off()


async def test_a_stale_page_is_refused_and_changes_nothing(box: Box) -> None:
    rev = (await to_agreed(box))["rev"]
    with pytest.raises(StaleRevision):
        await ask(box, "k", rev - 1, command="save")
    assert box.lane.snapshot()["state"] == "agreed"


async def test_saving_twice_by_two_keys_pays_once(box: Box) -> None:
    rev = (await to_agreed(box))["rev"]
    saved = await ask(box, "a", rev, command="save")
    with pytest.raises(StaleRevision):
        await ask(box, "b", rev, command="save")
    with pytest.raises(UnexpectedEvent):
        await ask(box, "c", saved["rev"], command="save")
    assert len(box.world.card.ledger) == 1


async def test_a_truck_is_weighed_before_it_is_priced(box: Box) -> None:
    box.world.scale.weight_kg = 21_460
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=1)
    shot = await box.do("classify", vehicle_type=13)
    assert shot["passage"]["needs_weight"]
    assert "quote" not in shot["allowed"]
    with pytest.raises(UnexpectedEvent, match="计重"):
        await box.do("quote")
    shot = await box.do("weigh", axle_count=3, weight_kg=21_460)
    assert shot["passage"]["vehicle"]["limit_kg"] == 25_000
    assert "quote" in shot["allowed"]


async def test_a_suspended_car_waits_while_another_pays_and_then_goes_on(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    first = (await to_agreed(box))["passage"]["id"]
    await box.do("suspend")
    other = SimUserCard.issue(
        card_number="2045220000654321", entry=entry(plate="甘A54321"), plate="甘A54321"
    )
    world.reader.insert(other)
    await drive_through(box)
    await box.power_off()

    again = await Box.power_on(world, tmp_path)
    aside = again.lane.snapshot()["suspended"][0]
    assert (aside["passage"], aside["plate"], aside["colour"]) == (first, "甘A12345", 0)
    world.reader.insert(world.card)
    shot = await again.do("resume", passage=first)
    assert (shot["state"], shot["passage"]["id"]) == ("agreed", first)
    await again.do("save")
    assert [r["seq"] for r in await again.records()] == [1, 2]
    assert len(world.card.ledger) == len(other.ledger) == 1
    await again.power_off()


async def test_one_screen_owns_a_passage_and_the_booth_may_take_it_back(box: Box) -> None:
    handheld = Who("1001", "演示收费员", "collector", "handheld:1")
    await ask(box, "1", box.lane.rev, handheld, command="read")
    with pytest.raises(NotOwner):
        await ask(box, "2", box.lane.rev, command="cancel", reason="操作错了")
    shot = await ask(box, "3", box.lane.rev, command="suspend")
    passage = shot["suspended"][0]["passage"]
    shot = await ask(box, "4", shot["rev"], command="resume", passage=passage)
    assert shot["passage"]["owner"] == "booth"


async def test_a_camera_that_fails_asks_for_a_reason_and_nothing_is_lost(box: Box) -> None:
    await box.do("read")
    box.world.camera.fault = DeviceUnavailable("相机没有应答")
    shot = await box.do("submit_plate", plate="甘A12345", colour=0)
    assert (shot["state"], shot["problem"]["code"]) == ("checked", "E-203")
    assert shot["passage"]["plate"] == "甘A12345"
    shot = await box.do("submit_plate", plate="甘A12345", colour=0, no_photo_reason="相机坏了")
    assert shot["state"] == "evidenced"


async def test_correcting_the_plate_takes_the_fare_back(box: Box) -> None:
    await to_agreed(box)
    shot = await box.do("submit_plate", plate="甘A12346", colour=0)
    assert (shot["state"], shot["passage"]["quote"]) == ("evidenced", None)
    assert [f["code"] for f in shot["passage"]["findings"]] == [123, 52]


async def test_a_doubtful_debit_whose_card_is_gone_becomes_one_doubtful_record(box: Box) -> None:
    await to_agreed(box)
    box.world.reader.arm("pulled_after", 5)
    shot = await box.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("doubtful", "E-301")
    assert shot["allowed"] == ["prove", "hand_over"]
    shot = await box.do("hand_over", reason="司机已离开")
    assert "cancel" not in shot["allowed"]
    await box.do("settle_by_hand", means="unpaid", reason="监控确认放行", **MASTER)
    (record,) = await box.records()
    assert (record["outcome"], record["means"], record["tac"]) == ("doubtful", "none", None)
    assert record["transFee"] == box.world.card.ledger[0].amount_fen
    assert record["cardTransNo"] == "0000"


async def test_a_card_without_money_is_not_charged_and_may_pay_by_hand(tmp_path: Path) -> None:
    world = World(card=SimUserCard.issue(entry=entry(), balance_fen=100))
    box = await Box.power_on(world, tmp_path)
    await to_agreed(box)
    shot = await box.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-215")
    await box.do("hand_over", reason="余额不足")
    await box.do("settle_by_hand", means="cash", amount_fen=3800, reason="现金", **MASTER)
    (record,) = await box.records()
    assert (record["outcome"], record["means"], record["fee"]) == ("by_hand", "cash", 3800)
    assert world.card.ledger == []
    await box.power_off()


async def test_a_tag_whose_sums_contradict_each_other_leaves_the_other_ways_to_a_fare(
    tmp_path: Path,
) -> None:
    obu = SimObu.issue(
        entry=entry(), due_fen=3660, paid_fen=3710, success_count=5, mileage_m=95_000
    )
    box = await Box.power_on(World(obu=obu), tmp_path)
    await drive_through(box)
    (record,) = await box.records()
    assert (record["exitFeeType"], record["fee"], record["payFee"]) == (6, 3610, 3800)
    assert record["obuTotalDiscountAmount"] == 3710
    await box.power_off()


async def test_swapped_columns_are_told_before_the_master_gives_his_word(tmp_path: Path) -> None:
    box = await Box.power_on(World(obu=SimObu.issue(entry=entry())), tmp_path)
    table = box.world.parameters.minimum_fares
    assert isinstance(table, MinimumFares)
    rows = [MinimumFare.model_construct(**{**dict(r), "fee": 1}) for r in table.rows]
    wrong = MinimumFares.model_construct(exit_hex=table.exit_hex, rows=tuple(rows))
    box.world.parameters = box.world.parameters.model_copy(update={"minimum_fares": wrong})
    with pytest.raises(UnexpectedEvent, match="前后矛盾") as no:
        await to_agreed(box)
    assert "请转特情" in no.value.action
    assert (await box.do("hand_over", reason="费额表有误"))["state"] == "held"
    await box.power_off()


async def test_no_money_moves_for_a_passage_of_which_no_record_could_be_made(
    box: Box, tmp_path: Path
) -> None:
    """Such a table is refused; should one get in, it must not be found out after the debit."""
    whole = box.world.parameters
    half = Operator.model_construct(number="1001", name="\ud800", role="collector")
    operators = Operators.model_construct(rows=(half,))
    await to_agreed(box)
    box.world.parameters = whole.model_copy(update={"operators": operators})

    shot = await box.do("save")

    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-302")
    assert "流水做不出来" in shot["problem"]["detail"]
    assert "没有扣款" in shot["problem"]["detail"]
    assert "转特情" in shot["problem"]["action"]
    assert (box.world.card.ledger, box.world.card.balance) == ([], 10_000)
    assert "DebitPrepared" not in [name for name, _ in journal_events(tmp_path)]
    box.world.parameters = whole
    await box.do("save")
    assert [line["outcome"] for line in await box.records()] == ["paid"]


async def test_a_card_that_leaves_before_reading_ends_is_told_and_forgotten(box: Box) -> None:
    box.world.reader.remove()
    shot = await box.do("read")
    assert (shot["state"], shot["problem"]["code"]) == ("idle", "E-101")
    box.world.reader.insert(box.world.card)
    assert (await box.do("read"))["state"] == "checked"


async def test_a_disk_that_refuses_moves_no_money_and_the_lane_recovers(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commit of a save refused in turn: said, nothing lost, and at most one debit."""
    await to_agreed(box)
    real = type(box.store).log
    for refused in (1, 2, 3):
        count = 0

        async def log(store: Any, entry: Any, refused: int = refused, **how: Any) -> Any:
            nonlocal count
            count += 1
            if count == refused:
                raise StoreUnavailable("磁盘不能写")
            return await real(store, entry, **how)

        monkeypatch.setattr(type(box.store), "log", log)
        with pytest.raises(StoreUnavailable):
            await box.do("save")
        monkeypatch.setattr(type(box.store), "log", real)
        await box.lane._find_footing()
        if box.lane._unwritten:
            assert box.lane.snapshot()["problem"]["code"] == "E-303"
            await box.lane._write_again()
        if box.lane.passage.state == "saved":
            break
        assert box.world.card.ledger == []
    assert box.lane.passage.state == "saved"
    assert len(box.world.card.ledger) == len(await box.records()) == 1


@pytest.mark.parametrize("read", range(1, 12))
async def test_a_disk_that_fails_again_while_a_refused_row_is_read_back_hides_no_passage(
    box: Box, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    """The row is on disk though it was refused; until all of it is read back, nothing is so."""
    before = await to_agreed(box)
    real_log, real_rows, count = type(box.store).log, type(box.store).rows, 0

    async def kept_but_refused(store: Any, entry: Any, **how: Any) -> Any:
        await real_log(store, entry, **how)
        raise StoreUnavailable("磁盘不能写")

    async def rows(store: Any, *asked: Any) -> Any:
        nonlocal count
        count += 1
        if count == read:
            raise StoreUnavailable("数据库读取失败")
        return await real_rows(store, *asked)

    monkeypatch.setattr(type(box.store), "log", kept_but_refused)
    with pytest.raises(StoreUnavailable):
        await box.do("save")
    monkeypatch.setattr(type(box.store), "log", real_log)
    monkeypatch.setattr(type(box.store), "rows", rows)
    await box.lane._find_footing()
    if box.lane._is_adrift:
        assert box.lane.snapshot()["state"] == before["state"]
        await box.lane._find_footing()
    assert box.lane.snapshot()["state"] == "saved"
    assert len(box.world.card.ledger) == len(await box.records()) == 1


async def test_an_answer_refused_while_a_refused_step_is_taken_up_is_not_written_twice(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is refused and done all the same, until the disk is mended."""
    await box.do("read")
    await box.do("cancel", reason="操作错了")
    real = type(box.store).log

    async def kept_but_refused(store: Any, entry: Any, **how: Any) -> Any:
        await real(store, entry, **how)
        raise StoreUnavailable("磁盘不能写")

    monkeypatch.setattr(type(box.store), "log", kept_but_refused)
    with pytest.raises(StoreUnavailable):
        await box.do("read")
    for _ in range(3):
        await box.lane._catch_up()
    monkeypatch.setattr(type(box.store), "log", real)
    await box.lane._catch_up()
    assert box.lane.snapshot()["state"] == "checked"
    rows = await box.store.rows("SELECT event FROM journal WHERE state <> '' ORDER BY seq")
    assert [row["event"] for row in rows][-3:] == ["Cancelled", "ReadRequested", "ChecksPassed"]
    assert (await box.lane._books.replay(box.lane.passage.id)).passage == box.lane.passage


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
@pytest.mark.parametrize(
    "command", ["cancel", "hand_over", "override", "settle_by_hand", "pause_lane", "close_lane"]
)
def test_a_reason_of_blanks_is_none(command: str, blank: str) -> None:
    body = {"command": command} | ({"means": "unpaid"} if command == "settle_by_hand" else {})
    with pytest.raises(ValidationError):
        COMMAND.validate_python({**body, "reason": blank})
    assert COMMAND.validate_python({**body, "reason": f"{blank}换道"})


async def test_what_is_refused_says_so_in_chinese() -> None:
    assert "拒绝" in str(CardRefused(0x6985, "扣款"))
    assert WeightMissing("货车须先计重").action


async def test_a_master_elsewhere_gives_his_word_for_one_command_as_it_stands(box: Box) -> None:
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0)
    await box.do("classify", vehicle_type=1)
    await box.do("quote")
    command = COMMAND.validate_python({"command": "minimum_fare"})
    master = Who("9001", "演示站长", "master", "handheld:7")

    asked = box.lane.ask_master(command, COLLECTOR)
    assert asked.shown["amount_fen"] == 3800  # no tag: no discount
    with pytest.raises(MasterRefused):  # not yet given
        await box.do("minimum_fare", approval=asked.id)
    with pytest.raises(MasterRefused):
        await box.approvals.decide(asked.id, master, "wrong", True)
    await box.approvals.decide(asked.id, master, "9001", True)
    shot = await box.do("minimum_fare", approval=asked.id)
    assert shot["state"] == "agreed"
    assert shot["passage"]["approval"]["how"] == "handheld"
    await box.do("quote")
    with pytest.raises(MasterRefused):  # used
        await box.do("minimum_fare", approval=asked.id)


async def test_an_approval_is_void_once_the_passage_or_the_clock_has_moved_on(box: Box) -> None:
    await to_agreed(box)
    await box.do("hand_over", reason="特情")
    command = COMMAND.validate_python(
        {"command": "settle_by_hand", "means": "cash", "amount_fen": 3800, "reason": "现金"}
    )
    master = Who("9001", "演示站长", "master", "handheld:7")
    cheap = {"means": "cash", "amount_fen": 100, "reason": "现金"}

    asked = box.lane.ask_master(command, COLLECTOR)
    await box.approvals.decide(asked.id, master, "9001", True)
    with pytest.raises(MasterRefused, match="作废"):  # another amount than he agreed to
        await box.do("settle_by_hand", approval=asked.id, **cheap)
    late = box.lane.ask_master(command, COLLECTOR)
    await box.approvals.decide(late.id, master, "9001", True)
    box.world.clock.ms += 121_000
    with pytest.raises(MasterRefused):
        await box.do("settle_by_hand", approval=late.id, **cheap | {"amount_fen": 3800})
    refused = box.lane.ask_master(command, COLLECTOR)
    await box.approvals.decide(refused.id, master, "9001", False)
    with pytest.raises(MasterRefused):
        await box.do("settle_by_hand", approval=refused.id, **cheap | {"amount_fen": 3800})
    assert await box.records() == []

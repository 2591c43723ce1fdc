"""Pull the plug wherever the lane touches the world, then start again. Money moves once.

Every commit and every APDU, before and after it; once more with the plug pulled again during the
recovery; and with the card gone at each APDU while the box lives on.
"""

from pathlib import Path

import pytest

from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.crypto import AlgorithmName
from tests.flow.rig import Box, Plug, PlugPulled, World, damage, drive_through, entry

LIVES_MAX = 4


async def live(world: World, folder: Path) -> Box:
    """Power on, drive on, and again after each pulled plug, until the car is through."""
    for _ in range(LIVES_MAX):
        box = None
        try:
            box = await Box.power_on(world, folder)
            await drive_through(box)
            return box
        except PlugPulled:
            if box:
                await box.power_off(is_cut=True)
    raise AssertionError("the plug was pulled more often than planned")


def world_of(algorithm: AlgorithmName, plug: Plug | None = None) -> World:
    card = SimUserCard.issue(algorithm=algorithm, entry=entry())
    return World(card=card, plug=plug or Plug())


async def whole_passage_touches(folder: Path) -> int:
    world = World()
    box = await live(world, folder)
    await box.power_off()
    return world.plug.touched


async def assert_paid_once(box: Box, world: World, folder: Path) -> None:
    paid = [debit for debit in world.card.ledger if debit.amount_fen]
    (record,) = await box.records()
    assert len(paid) == 1
    assert 10_000 - world.card.balance == paid[0].amount_fen == record["transFee"] == record["fee"]
    assert record["tac"] == paid[0].tac
    assert record["cardTransNo"] == f"{paid[0].card_seq:04X}"
    assert record["terminalTransNo"] == f"{paid[0].terminal_seq:08X}"
    assert box.lane.passage.state == "saved"
    await box.power_off()
    assert damage(folder) == []


@pytest.mark.parametrize(
    ("after", "algorithm"),
    [(False, "3des"), (True, "3des"), (True, "sm4")],
    ids=["before", "after", "after-sm4"],
)
async def test_money_moves_once_wherever_the_plug_is_pulled(
    tmp_path: Path, after: bool, algorithm: AlgorithmName
) -> None:
    touches = await whole_passage_touches(tmp_path / "whole")
    assert touches > 25
    pulled = 0
    for at in range(1, touches + 1):
        folder = tmp_path / f"{at}"
        world = world_of(algorithm, Plug(at, after))
        box = await live(world, folder)
        pulled += world.plug.touched >= at
        await assert_paid_once(box, world, folder)
    assert pulled == touches


@pytest.mark.parametrize(
    ("after", "algorithm"),
    [(False, "3des"), (True, "3des"), (False, "sm4")],
    ids=["before", "after", "before-sm4"],
)
async def test_money_moves_once_if_the_plug_is_pulled_again_while_recovering(
    tmp_path: Path, after: bool, algorithm: AlgorithmName
) -> None:
    """The first cut falls right after DEBIT; the second at every touch of the recovery."""
    touches = await whole_passage_touches(tmp_path / "whole")
    first = Plug()
    scout = World(plug=first)
    box = await live(scout, tmp_path / "scout")
    await box.power_off()
    at_debit = first.log.index("读卡器 8054") + 1
    for second in range(1, touches):
        world = world_of(algorithm, Plug(at_debit, after=True))
        folder = tmp_path / f"{second}"
        with pytest.raises(PlugPulled):
            await once(world, folder)
        world.plug.at, world.plug.after = at_debit + second, after
        box = await live(world, folder)
        was_cut = world.plug.touched >= at_debit + second
        await assert_paid_once(box, world, folder)
        if not was_cut:
            break


@pytest.mark.parametrize("after", [False, True], ids=["not sent", "sent"])
async def test_after_a_cut_at_a_debit_the_card_is_asked_and_nobody_is_told_it_failed(
    tmp_path: Path, after: bool
) -> None:
    scout = World(plug=Plug())
    await (await live(scout, tmp_path / "scout")).power_off()
    at_debit = scout.plug.log.index("读卡器 8054") + 1
    world = world_of("3des", Plug(at_debit, after))
    box = await live(world, tmp_path / "box")
    rows = await box.store.rows("SELECT event FROM journal ORDER BY seq")
    told = [row["event"] for row in rows]
    assert "DebitRefused" not in told  # it says 没有扣款
    assert told[told.index("DebitPrepared") + 1] == "DebitUnanswered"
    assert told.count("DebitNeverHappened") == (not after)
    await assert_paid_once(box, world, tmp_path / "box")


async def once(world: World, folder: Path) -> None:
    box = await Box.power_on(world, folder)
    try:
        await drive_through(box)
    finally:
        await box.power_off()


@pytest.mark.parametrize(
    ("fault", "algorithm"),
    [
        ("pulled_before", "3des"),
        ("pulled_after", "3des"),
        ("mute", "3des"),
        ("pulled_after", "sm4"),
    ],
)
async def test_money_moves_once_wherever_the_card_leaves(
    tmp_path: Path, fault: str, algorithm: AlgorithmName
) -> None:
    """The collector puts the same card back and goes on where the screen says."""
    scout = World()
    box = await live(scout, tmp_path / "scout")
    await box.power_off()
    for at in range(1, scout.reader.sent + 1):
        world, folder = world_of(algorithm), tmp_path / f"{at}"
        world.reader.arm(fault, at)
        box = await Box.power_on(world, folder)
        for _ in range(6):
            if world.reader.chip is None:
                world.reader.insert(world.card)
            await drive_until_trouble(box, world)
            if box.lane.passage.state == "saved":
                break
        await assert_paid_once(box, world, folder)


async def drive_until_trouble(box: Box, world: World) -> None:
    """A collector's steps; stops when the card is gone, to have it put back."""
    try:
        await drive_through_while_present(box, world)
    except CardAway:
        return


class CardAway(Exception):
    pass


async def drive_through_while_present(box: Box, world: World) -> None:
    real = box.do

    async def do(command: str, **body):
        if world.reader.chip is None:
            raise CardAway
        return await real(command, **body)

    box.do = do
    try:
        await drive_through(box)
    finally:
        box.do = real


async def test_another_card_is_no_answer_and_is_not_touched(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    other = SimUserCard.issue(entry=entry(), card_number="2045220000999999")
    await drive_to_agreed(box)
    world.reader.arm("pulled_after", debit_of(world))
    await box.do("save")
    assert box.lane.passage.state == "doubtful"

    world.reader.insert(other)
    shot = await box.do("prove")

    assert (shot["state"], shot["problem"]["code"]) == ("doubtful", "E-301")
    assert other.ledger == []
    assert (other.balance, other.card_seq) == (10_000, 0)
    world.reader.insert(world.card)
    await box.do("prove")
    await assert_paid_once(box, world, tmp_path)


async def drive_to_agreed(box: Box) -> None:
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
    await box.do("classify", vehicle_type=1, vehicle_class=0)
    shot = await box.do("quote")
    if shot["state"] == "unpriced":
        await box.do("minimum_fare", operator="9001", password="9001")
    else:
        await box.do("confirm_entry", station_hex="62010A12")
    assert box.lane.passage.state == "agreed"


def debit_of(world: World) -> int:
    """Which APDU of a save is the DEBIT: select, 0015, INITIALIZE, UPDATE, DEBIT."""
    return 5

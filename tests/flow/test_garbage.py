"""Chips that answer nonsense: the lane says so, takes nothing, and serves the next card."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.devices.ports import Answer
from gateway.devices.sim.link import SimLink
from gateway.errors import UnexpectedEvent
from tests.flow.rig import Box, Plug, PluggedLink, World, drive_through

STATUS_WORDS = (0x6A82, 0x6A83, 0x6985, 0x6982, 0x6581, 0x6283, 0x9303, 0x6F00, 0x0000, 0x9000)


class MadLink(PluggedLink):
    """The n-th answer is not the chip's."""

    mad_at = 0
    mad = Answer(b"", 0x6F00)
    count = 0

    async def send(self, command: bytes) -> Answer:
        answer = await SimLink.send(self, command)
        self.count += 1
        return self.mad if self.count == self.mad_at else answer


async def live(folder: Path, at: int, mad: Answer) -> tuple[World, Box, MadLink]:
    reader = MadLink("读卡器")
    world = World(reader=reader)
    reader.plug, reader.mad_at, reader.mad = Plug(), at, mad
    return world, await Box.power_on(world, folder), reader


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    at=st.integers(1, 14),
    data=st.one_of(st.just(b""), st.binary(max_size=60), st.binary(min_size=43, max_size=43)),
    sw=st.sampled_from(STATUS_WORDS),
)
async def test_one_mad_answer_never_costs_a_second_debit(
    tmp_path_factory: pytest.TempPathFactory, at: int, data: bytes, sw: int
) -> None:
    world, box, _ = await live(tmp_path_factory.mktemp("mad"), at, Answer(data, sw))
    try:
        for _ in range(4):
            state = await drive(box, world)
            if state == "saved":
                break
        record = (await box.records())[-1]
        paid = [d for d in world.card.ledger if d.amount_fen]
        assert len(paid) == 1
        assert record["transFee"] == paid[0].amount_fen == 10_000 - world.card.balance
        assert len(await box.records()) == 1
    finally:
        await box.power_off()


async def drive(box: Box, world: World) -> str:
    """As far as it goes; a passage that is refused, or read wrong, is cancelled and begun anew."""
    try:
        await drive_through(box)
    except (AssertionError, UnexpectedEvent):
        lane = box.lane
        if lane.passage.state in ("doubtful", "disputed"):
            await box.do("prove")
        elif "cancel" in lane.snapshot()["allowed"]:
            await box.do("cancel", reason="读错了")
    return box.lane.passage.state.value


@pytest.mark.parametrize(
    ("at", "mad"),
    [
        (1, Answer(b"", 0x6A82)),  # no ETC application
        (2, Answer(b"\xff" * 43, 0x9000)),
        (2, Answer(b"\x01" * 20, 0x9000)),  # cut short
        (2, Answer(b"", 0x6983)),
        (4, Answer(b"\x01", 0x9000)),  # a balance of one byte
    ],
)
async def test_a_card_that_is_no_etc_card_is_told_in_words(
    tmp_path: Path, at: int, mad: Answer
) -> None:
    world, box, _ = await live(tmp_path, at, mad)
    shot = await box.do("read")
    assert (shot["state"], shot["problem"]["code"]) == ("idle", "E-104")
    assert shot["problem"]["action"]
    assert (await box.do("read"))["state"] == "checked"
    assert world.card.ledger == []
    await box.power_off()


async def test_a_blank_card_is_refused_as_no_kind_we_know(tmp_path: Path) -> None:
    _, box, _ = await live(tmp_path, 2, Answer(bytes(43), 0x9000))
    shot = await box.do("read")
    assert shot["state"] == "refused"
    assert 25 in {f["code"] for f in shot["passage"]["findings"]}
    await box.power_off()


async def test_a_debit_that_was_done_but_answered_with_no_is_found_out(tmp_path: Path) -> None:
    """A lying status word: the card's own counter tells before a second debit could be sent."""
    world, box, reader = await live(tmp_path, 10**6, Answer(b"", 0x6985))
    for _ in range(4):
        if box.lane.passage.state == "agreed" and not world.card.ledger:
            reader.mad_at = reader.count + 5  # select, 0015, INITIALIZE, UPDATE, DEBIT
        if await drive_step(box) == "saved":
            break
    assert len(world.card.ledger) == 1
    (record,) = await box.records()
    assert (record["tac"], record["tacSource"]) == (world.card.ledger[0].tac, "proved")
    await box.power_off()


async def drive_step(box: Box) -> str:
    """On to the next point where the money is asked for, or to the end."""
    if box.lane.passage.state == "agreed":
        return str((await box.do("save"))["state"])
    await box.do("read")
    await box.do("submit_plate", plate="甘A12345", colour=0)
    await box.do("classify", vehicle_type=1)
    await box.do("quote")
    return str((await box.do("minimum_fare", operator="9001", password="9001"))["state"])


async def test_garbage_in_the_toll_file_is_a_card_without_an_entry(tmp_path: Path) -> None:
    _, box, _ = await live(tmp_path, 3, Answer(b"\xaa\x29\x00" + b"\xfe" * 40, 0x9000))
    shot = await box.do("read")
    assert shot["state"] == "checked"
    assert {f["code"] for f in shot["passage"]["findings"]} & {26, 54, 55}
    await box.power_off()

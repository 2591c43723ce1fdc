"""One vehicle through pcscd: the same as in process, and paid once wherever a chip leaves."""

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.devices.sim.link import SimLink
from tests.flow.rig import Box, PluggedLink, World, drive_through, journal_events
from tests.pcsc.rig import (
    PAID_FEN,
    Heard,
    PcscWorld,
    another_card,
    assert_paid_once,
    drive,
    drive_to_agreed,
    new_tag,
    soon,
)
from tests.rig.vpcd import Rig

pytestmark = pytest.mark.pcsc

READ_APDUS = ("select", "its FCI", "0015", "0019", "balance")
PREPARE_APDUS = ("select", "its FCI", "0015", "initialize", "its answer", "update")
DEBIT_APDUS = ("debit", "its answer")
CARD_APDUS = (*READ_APDUS, *PREPARE_APDUS, *DEBIT_APDUS)


@pytest.fixture
async def world(rig: Rig) -> AsyncIterator[PcscWorld]:
    world = PcscWorld(obu=new_tag(), rig=rig)
    await world.lay_out()
    yield world
    await world.close()


class Story:
    """What a passage leaves behind, on every side."""

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self.journal: list[tuple[str, str]] = []
        self.asked: dict[str, list[str]] = {}
        self.chips: tuple[Any, ...] = ()


async def story(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Drive one vehicle through, all randoms counted upwards so that two runs can be equal."""
    count = 0

    def counted(length: int | None = None) -> bytes:
        nonlocal count
        count += 1
        return count.to_bytes(length or 32)

    monkeypatch.setattr(secrets, "token_bytes", counted)
    world.card.randoms = lambda length: bytes(range(length))
    heard = {"card": Heard(world.card), "psam": Heard(world.psam), "obu": Heard(world.obu)}
    if isinstance(world, PcscWorld):
        for name, slot in world.slots.items():
            slot.swap(heard[name])
    else:
        for link, chip in zip(
            (world.reader, world.slot, world.antenna), heard.values(), strict=True
        ):
            link.insert(chip)
    told = Story()
    box = await Box.power_on(world, folder)
    await drive_through(box)
    told.record = await assert_paid_once(box, world, folder)
    told.journal = journal_events(folder)
    told.asked = {name: chip.commands for name, chip in heard.items()}
    told.chips = (
        world.card.balance,
        world.card.card_seq,
        world.card.toll,
        world.card.ledger,
        world.psam.terminal_seq,
    )
    return told


async def test_a_whole_passage_equals_the_one_in_process(
    world: PcscWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SimLink.__init__

    def in_t0(self: SimLink, name: str) -> None:
        real(self, name, is_t0=True)

    with monkeypatch.context() as patched:
        patched.setattr(PluggedLink, "__init__", in_t0)
        twins = World(obu=new_tag())
    here = await story(twins, tmp_path / "twins", monkeypatch)
    there = await story(world, tmp_path / "pcsc", monkeypatch)

    assert there.asked == here.asked  # byte for byte, T=0 steps included
    assert len(there.asked["card"]) == len(CARD_APDUS)
    assert there.record == here.record
    assert there.journal == here.journal
    assert there.chips == here.chips
    assert there.record["exitFeeType"] == 1
    assert there.record["mac2"] == "verified"


@pytest.mark.parametrize("fault", ["pulled_before", "pulled_after"])
@pytest.mark.parametrize("number", range(1, len(CARD_APDUS) + 1))
async def test_money_moves_once_wherever_the_card_is_pulled(
    world: PcscWorld, tmp_path: Path, fault: str, number: int
) -> None:
    """The card comes back and the collector goes on where the screen says."""
    world.slots["card"].arm(fault, number)
    box = await Box.power_on(world, tmp_path)
    problems = await drive(box, world)
    in_debit = number > len(READ_APDUS + PREPARE_APDUS)
    if not in_debit:
        assert problems == ["E-102"]
    else:  # asked once at once, with nobody there; then found out with the card back
        assert problems[0] == "E-301"
        never_heard = (fault, CARD_APDUS[number - 1]) == ("pulled_before", "debit")
        assert problems[1:] == (["E-302"] if never_heard else [])
    record = await assert_paid_once(box, world, tmp_path)
    was_proved = in_debit and len(problems) == 1
    assert record["tacSource"] == ("proved" if was_proved else "answered")


async def test_another_card_put_back_is_refused_by_its_number_and_not_touched(
    world: PcscWorld, tmp_path: Path
) -> None:
    box = await Box.power_on(world, tmp_path)
    await drive_to_agreed(box)
    world.slots["card"].arm("pulled_after", len(PREPARE_APDUS) + 1)
    assert (await box.do("save"))["state"] == "doubtful"

    other = another_card()
    heard = Heard(other)
    await world.put_back("card", heard)
    shot = await box.do("prove")

    assert (shot["state"], shot["problem"]["code"]) == ("doubtful", "E-301")
    assert "不是本笔的卡" in shot["problem"]["detail"]
    assert (other.balance, other.card_seq, other.ledger) == (10_000, 0, [])
    assert all(command[:4] in ("00A4", "00C0", "00B0") for command in heard.commands)
    await world.take_away("card")
    await world.put_back("card")
    assert (await box.do("prove"))["state"] == "saved"
    assert (await assert_paid_once(box, world, tmp_path))["tacSource"] == "proved"


async def test_another_card_at_saving_is_refused_before_any_money(
    world: PcscWorld, tmp_path: Path
) -> None:
    box = await Box.power_on(world, tmp_path)
    await drive_to_agreed(box)
    other = another_card()
    await world.take_away("card")
    await world.put_back("card", other)
    shot = await box.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-102")
    assert "不是本笔的卡" in shot["problem"]["detail"]
    await world.take_away("card")
    assert (await box.do("save"))["problem"]["code"] == "E-102"
    await world.put_back("card")
    assert (await box.do("save"))["state"] == "saved"
    assert (other.balance, other.card_seq) == (10_000, 0)
    await assert_paid_once(box, world, tmp_path)


@pytest.mark.parametrize("number", [1, 5, 7])
async def test_a_tag_gone_while_it_is_read_leaves_the_card_alone(
    world: PcscWorld, tmp_path: Path, number: int
) -> None:
    world.slots["obu"].arm("pulled_after", number)
    box = await Box.power_on(world, tmp_path)
    shot = await box.do("read")
    assert shot["passage"]["card"] is not None
    assert shot["passage"]["tag"] is None
    assert shot["passage"]["tag_fault"]
    assert shot["state"] == "checked"
    await world.put_back("obu")
    await box.do("cancel", reason="再读标签")
    shot = await box.do("read")
    assert shot["passage"]["tag"]["plate"] == "甘A12345"
    await drive_through(box)
    await assert_paid_once(box, world, tmp_path)


async def test_a_passage_without_any_tag_is_priced_and_paid(
    world: PcscWorld, tmp_path: Path
) -> None:
    await world.take_away("obu")
    box = await Box.power_on(world, tmp_path)
    shot = await box.do("read")
    assert "没有读到标签" in shot["passage"]["tag_fault"]
    await drive_through(box)
    assert world.card.ledger[0].amount_fen > 0
    await assert_paid_once(box, world, tmp_path, world.card.ledger[0].amount_fen)


async def test_a_silent_psam_costs_two_seconds_and_no_money(
    world: PcscWorld, tmp_path: Path
) -> None:
    box = await Box.power_on(world, tmp_path)
    await drive_to_agreed(box)
    psam = world.slots["psam"]
    psam.arm("silent", 1)
    began = time.monotonic()
    shot = await box.do("save")
    assert 1.9 < time.monotonic() - began < 5
    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-113")
    assert world.card.ledger == []
    psam.voice.set()
    await soon(lambda: is_free(world))
    assert (await box.do("save"))["state"] == "saved"
    await assert_paid_once(box, world, tmp_path)


async def is_free(world: PcscWorld) -> bool:
    """Whether the driver has let go of the thread that waited for the PSAM."""
    return world.links["psam"].wedged == 0


async def test_a_psam_pulled_and_put_back_between_two_steps_is_connected_anew(
    world: PcscWorld, tmp_path: Path
) -> None:
    box = await Box.power_on(world, tmp_path)
    await drive_to_agreed(box)
    await world.take_away("psam")
    shot = await box.do("save")
    assert (shot["state"], shot["problem"]["code"]) == ("agreed", "E-113")
    assert world.card.ledger == []
    await world.put_back("psam")
    assert (await box.do("save"))["state"] == "saved"
    await assert_paid_once(box, world, tmp_path)


async def start_again(world: PcscWorld) -> None:
    """A new pcscd; the chips lie where they lay."""
    assert world.rig is not None
    world.rig.start()
    for name in world.slots:
        await world.put_back(name)


@pytest.mark.parametrize("number", [1, len(PREPARE_APDUS), len(PREPARE_APDUS) + 1])
async def test_pcscd_killed_while_saving_takes_money_once(
    world: PcscWorld, tmp_path: Path, number: int
) -> None:
    """At the first APDU, at the last before the money, and at the debit itself."""
    assert world.rig is not None
    box = await Box.power_on(world, tmp_path)
    await drive_to_agreed(box)
    world.slots["card"].arm("killed_after", number)
    shot = await box.do("save")
    is_unknown = number > len(PREPARE_APDUS)
    assert shot["state"] == ("doubtful" if is_unknown else "agreed")
    assert shot["problem"]["code"] in (("E-301",) if is_unknown else ("E-102", "E-112"))
    world.rig.stop(kill=True)
    away = await box.do("prove" if is_unknown else "save")
    assert away["state"] == shot["state"]
    assert "没有运行" in away["problem"]["detail"]
    await start_again(world)
    assert (await box.do("prove" if is_unknown else "save"))["state"] == "saved"
    await assert_paid_once(box, world, tmp_path)
    assert world.card.balance == 10_000 - PAID_FEN


async def test_pcscd_started_anew_between_two_steps_is_not_even_noticed(
    world: PcscWorld, tmp_path: Path
) -> None:
    assert world.rig is not None
    box = await Box.power_on(world, tmp_path)
    await drive_to_agreed(box)
    world.rig.stop(kill=True)
    await start_again(world)
    shot = await box.do("save")
    assert (shot["state"], shot["problem"]) == ("saved", None)
    await assert_paid_once(box, world, tmp_path)

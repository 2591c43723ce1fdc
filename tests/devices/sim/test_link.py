"""The simulated reader: what the bench can do to it, and what the gateway may rely on."""

import pytest

from gateway.devices.apdu import read_binary
from gateway.devices.ports import Answer
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.psam import SimPsam
from gateway.errors import CardAbsent, DeviceGarbled, DeviceUnavailable, NoAnswer

READ = read_binary(0x16, 6)


@pytest.fixture
def chip() -> SimPsam:
    return SimPsam.issue()


@pytest.fixture
def link(chip: SimPsam) -> SimLink:
    link = SimLink("PSAM")
    link.insert(chip)
    return link


async def test_an_answer_comes_only_after_connecting(link: SimLink, chip: SimPsam) -> None:
    with pytest.raises(DeviceUnavailable, match="没有发出"):
        await link.send(READ)
    assert await link.connect() == chip.atr
    assert await link.send(READ) == Answer(bytes.fromhex("0162000012AB"), 0x9000)


async def test_presence_follows_the_bench(link: SimLink, chip: SimPsam) -> None:
    assert await link.is_present()
    link.remove()
    assert not await link.is_present()
    with pytest.raises(CardAbsent):
        await link.connect()


async def test_an_old_connection_never_reaches_a_chip_that_came_later(
    link: SimLink, chip: SimPsam
) -> None:
    await link.connect()
    link.insert(SimPsam.issue(terminal_no="0162000099FF"))
    with pytest.raises(DeviceUnavailable):
        await link.send(READ)


async def test_a_fault_strikes_the_nth_apdu_and_only_that(link: SimLink, chip: SimPsam) -> None:
    await link.connect()
    link.arm("refuse:6A82", after=3)
    words = [(await link.send(READ)).sw for _ in range(4)]
    assert words == [0x9000, 0x9000, 0x6A82, 0x9000]


@pytest.mark.parametrize("fault", ["pulled_before", "pulled_after"])
async def test_a_pulled_card_is_gone_until_it_is_laid_down_again(
    link: SimLink, chip: SimPsam, fault: str
) -> None:
    await link.connect()
    link.arm(fault)
    with pytest.raises(NoAnswer):
        await link.send(READ)
    assert link.chip is None
    with pytest.raises(CardAbsent):
        await link.connect()
    link.insert(chip)
    await link.connect()
    assert (await link.send(READ)).sw == 0x9000


@pytest.mark.parametrize(("fault", "happened"), [("pulled_before", 0), ("pulled_after", 1)])
async def test_before_loses_the_command_and_after_loses_the_answer(
    link: SimLink, chip: SimPsam, fault: str, happened: int
) -> None:
    seen: list[bytes] = []
    link.insert(Recorder(seen))
    await link.connect()
    link.arm(fault)
    with pytest.raises(NoAnswer):
        await link.send(READ)
    assert len(seen) == happened


async def test_a_mute_chip_must_be_connected_anew(link: SimLink) -> None:
    await link.connect()
    link.arm("mute")
    with pytest.raises(NoAnswer):
        await link.send(READ)
    with pytest.raises(DeviceUnavailable, match="没有发出"):
        await link.send(READ)
    await link.connect()
    assert (await link.send(READ)).sw == 0x9000


async def test_a_reader_that_is_gone_stays_gone_until_disarmed(link: SimLink) -> None:
    await link.connect()
    link.arm("gone")
    with pytest.raises(DeviceUnavailable) as fault:
        await link.send(READ)
    assert not isinstance(fault.value, NoAnswer)
    with pytest.raises(DeviceUnavailable):
        await link.connect()
    with pytest.raises(DeviceUnavailable):
        await link.is_present()
    link.disarm()
    await link.connect()


async def test_zero_means_at_once(link: SimLink) -> None:
    link.arm("gone", after=0)
    with pytest.raises(DeviceUnavailable):
        await link.connect()
    link.disarm()
    link.arm("pulled_before", after=0)
    with pytest.raises(CardAbsent):
        await link.connect()


@pytest.mark.parametrize("fault", ["", "smoke", "refuse:XYZ", "refuse:10000"])
def test_a_fault_nobody_knows_is_not_armed(link: SimLink, fault: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        link.arm(fault)


class Recorder:
    """A chip that writes down what reached it and answers the same each time."""

    atr = b"\x3b\x00"

    def __init__(self, seen: list[bytes], *answers: str) -> None:
        self.seen, self.answers = seen, list(answers) or ["9000"]

    def reset(self) -> None: ...

    def answer(self, command: bytes) -> bytes:
        self.seen.append(command)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return bytes.fromhex(answer)


async def t0_exchange(command: str, *answers: str) -> tuple[Answer, list[str]]:
    seen: list[bytes] = []
    link = SimLink("读卡器", is_t0=True)
    link.insert(Recorder(seen, *answers))
    await link.connect()
    answer = await link.send(bytes.fromhex(command))
    return answer, [command.hex().upper() for command in seen]


async def test_61xx_is_fetched_piece_by_piece() -> None:
    answer, seen = await t0_exchange("805A000902004D08", "6104", "010203046104", "050607089000")
    assert answer == Answer(bytes(range(1, 9)), 0x9000)
    assert seen == ["805A000902004D", "00C0000004", "00C0000004"]


async def test_6cxx_is_repeated_with_the_right_length() -> None:
    answer, seen = await t0_exchange("00B0950032", "6C02", "01029000")
    assert (answer.data, seen) == (b"\x01\x02", ["00B0950032", "00B0950002"])


async def test_a_chip_that_offers_more_for_ever_is_garbled() -> None:
    with pytest.raises(DeviceGarbled, match="没有结束"):
        await t0_exchange("805A000902004D08", "6104")


async def test_an_answer_without_a_status_word_is_garbled() -> None:
    with pytest.raises(DeviceGarbled, match="没有状态字"):
        await t0_exchange("805C000204", "90")


async def test_a_card_pulled_before_get_response_may_have_obeyed(chip: SimPsam) -> None:
    link = SimLink("读卡器", is_t0=True)
    seen: list[bytes] = []
    link.insert(Recorder(seen, "6108", "9000"))
    await link.connect()
    link.arm("pulled_before", after=2)
    with pytest.raises(NoAnswer):
        await link.send(bytes.fromhex("805A000902004D08"))
    assert len(seen) == 1

"""The PSAM in words, against its twin: who it is, MAC1, MAC2, reconnecting, locking."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.devices.psam import Psam, Purchase
from gateway.devices.sim import crypto
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.memory import ChipMemory
from gateway.devices.sim.psam import SimPsam
from gateway.errors import CardRefused, DeviceUnavailable, PsamUnavailable

PURCHASE = Purchase(
    random=bytes.fromhex("A1B2C3D4"),
    card_seq=0x4C,
    amount_fen=3610,
    at="20201111103000",
    key_version=1,
    algorithm=0,
    card_number="2045230000123456",
    issuer="B8CACBE062010001",
)
MAC2 = bytes.fromhex("87D05C35")


@pytest.fixture
def chip() -> SimPsam:
    return SimPsam.issue(terminal_seq=0x183712)


@pytest.fixture(params=[False, True], ids=["t1", "t0"])
def link(chip: SimPsam, request: pytest.FixtureRequest) -> SimLink:
    link = SimLink("PSAM", is_t0=request.param)
    link.insert(chip)
    return link


async def test_it_says_who_it_is(link: SimLink) -> None:
    facts = await Psam(link).open()
    assert facts.serial == "62010000000000000001"
    assert facts.terminal_no.hex().upper() == "0162000012AB"
    assert facts.region == "B8CACBE0"


async def test_it_is_asked_who_it_is_only_once(link: SimLink) -> None:
    psam = Psam(link)
    await psam.open()
    sent = link.sent
    await psam.open()
    assert link.sent == sent


async def test_the_vectors_mac1_and_mac2(link: SimLink) -> None:
    psam = Psam(link)
    terminal_seq, mac1 = await psam.mac1(PURCHASE)
    assert (terminal_seq, mac1.hex().upper()) == (0x183713, "832BD9E9")
    assert await psam.check_mac2(MAC2)


async def test_its_number_advances_whether_or_not_anything_comes_of_it(link: SimLink) -> None:
    psam = Psam(link)
    seqs = [(await psam.mac1(PURCHASE))[0] for _ in range(3)]
    assert seqs == [0x183713, 0x183714, 0x183715]


async def test_a_wrong_mac2_is_said_and_the_third_in_a_row_locks(
    link: SimLink, chip: SimPsam
) -> None:
    psam = Psam(link)
    for _ in range(3):
        await psam.mac1(PURCHASE)
        assert not await psam.check_mac2(bytes(4))
    assert chip.is_locked
    assert psam.trouble == "PSAM 不认卡的 MAC2（连续 3 笔）"
    with pytest.raises(PsamUnavailable, match="PSAM 已锁定") as fault:
        await psam.mac1(PURCHASE)
    assert fault.value.reason == "locked"


async def test_a_right_mac2_forgives_the_wrong_ones_before(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    for _ in range(2):
        await psam.mac1(PURCHASE)
        await psam.check_mac2(bytes(4))
    terminal_seq, _ = await psam.mac1(PURCHASE)
    key = crypto.TRIPLE_DES.card_key(
        crypto.DEMO_KEYS.purchase, bytes.fromhex("B8CACBE0"), bytes.fromhex("2045230000123456")
    )
    session = crypto.TRIPLE_DES.session_key(key, PURCHASE.random, PURCHASE.card_seq, terminal_seq)
    assert await psam.check_mac2(crypto.TRIPLE_DES.mac2(session, PURCHASE.amount_fen))
    assert chip.wrong_mac2 == 0


async def test_a_mac2_without_a_purchase_is_neither_right_nor_wrong(link: SimLink) -> None:
    psam = Psam(link)
    await psam.open()
    with pytest.raises(CardRefused, match="没有进行中的交易"):
        await psam.check_mac2(MAC2)


async def test_it_is_connected_anew_after_a_fault(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    await psam.open()
    link.arm("pulled_before")
    with pytest.raises(DeviceUnavailable):
        await psam.mac1(PURCHASE)
    with pytest.raises(PsamUnavailable, match="卡座里没有 PSAM") as fault:
        await psam.open()
    assert fault.value.reason == "absent"
    link.insert(chip)
    assert (await psam.mac1(PURCHASE))[0] == 0x183713


async def test_a_connection_that_died_since_the_last_car_is_made_anew(
    link: SimLink, chip: SimPsam
) -> None:
    psam = Psam(link)
    await psam.open()
    link.arm("mute")
    assert (await psam.mac1(PURCHASE))[0] == 0x183713
    link.insert(chip)
    assert (await psam.mac1(PURCHASE))[0] == 0x183714


async def test_another_psam_in_the_slot_is_not_used_for_a_purchase_of_the_first(
    link: SimLink,
) -> None:
    psam = Psam(link)
    await psam.open()
    link.insert(SimPsam.issue(terminal_no="0162000099FF"))
    with pytest.raises(DeviceUnavailable, match="没有发出"):
        await psam.mac1(PURCHASE)
    assert (await psam.open()).terminal_no.hex().upper() == "0162000099FF"


async def test_mac2_is_not_checked_on_another_connection(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    await psam.mac1(PURCHASE)
    link.insert(chip)
    with pytest.raises(DeviceUnavailable):
        await psam.check_mac2(MAC2)
    with pytest.raises(DeviceUnavailable, match="没有可核对的交易"):
        await psam.check_mac2(MAC2)
    assert chip.wrong_mac2 == 0


async def test_another_algorithm_than_its_keys_is_refused() -> None:
    link = SimLink("PSAM")
    link.insert(SimPsam.issue(algorithms=("3des",)))
    with pytest.raises(PsamUnavailable, match="没有这张卡的密钥") as fault:
        await Psam(link).mac1(replace(PURCHASE, algorithm=4))
    assert fault.value.reason == "foreign"


async def test_the_house_vectors_of_sm4(link: SimLink) -> None:
    psam = Psam(link)
    terminal_seq, mac1 = await psam.mac1(replace(PURCHASE, algorithm=4))
    assert (terminal_seq, mac1.hex().upper()) == (0x183713, "D20C3D12")
    assert await psam.check_mac2(bytes.fromhex("7D4C30B0"))


# ---- its states, by name ----------------------------------------------------------------------


def lock(chip: SimPsam) -> None:
    chip.wrong_mac2 = 3


def withdraw(chip: SimPsam) -> None:
    chip.is_authorised = False


def use_up(chip: SimPsam) -> None:
    chip.seq_max = chip.terminal_seq


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (lock, "locked", "PSAM 已锁定（SW=6983）"),
        (withdraw, "unauthorised", "PSAM 没有授权（SW=6982）"),
        (use_up, "exhausted", "PSAM 交易序号已用完（SW=9402）"),
    ],
)
async def test_a_psam_that_would_not_sign_says_so_before_it_is_needed(
    link: SimLink, chip: SimPsam, spoil: Callable[[SimPsam], None], reason: str, words: str
) -> None:
    spoil(chip)
    psam = Psam(link)
    assert (await psam.open()).serial == "62010000000000000001"
    with pytest.raises(PsamUnavailable) as fault:
        await psam.check()
    assert (fault.value.reason, fault.value.detail, psam.trouble) == (reason, words, words)
    assert "本车道不能扣款" in fault.value.action


@pytest.mark.parametrize(
    ("sw", "reason"),
    [
        ("6982", "unauthorised"),
        ("6985", "unauthorised"),
        ("6A81", "unauthorised"),
        ("6983", "locked"),
        ("9303", "locked"),
        ("9402", "exhausted"),
        ("6A88", "foreign"),
        ("9403", "foreign"),
        ("6F00", "foreign"),
    ],
)
async def test_each_make_may_refuse_in_its_own_words(link: SimLink, sw: str, reason: str) -> None:
    psam = Psam(link)
    await psam.open()
    link.arm(f"refuse:{sw}")
    with pytest.raises(PsamUnavailable, match=sw) as fault:
        await psam.mac1(PURCHASE)
    assert fault.value.reason == reason
    assert (await psam.mac1(PURCHASE))[0] == 0x183713
    assert psam.trouble == ""


async def test_an_empty_slot_is_seen_even_if_it_worked_a_moment_ago(link: SimLink) -> None:
    psam = Psam(link)
    await psam.mac1(PURCHASE)
    link.remove()
    with pytest.raises(PsamUnavailable, match="卡座里没有 PSAM") as fault:
        await psam.check()
    assert fault.value.reason == "absent"
    assert psam.trouble == ""  # the lamp sees the slot for itself


async def test_silence_is_mute_until_it_speaks_again(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    link.arm("mute")
    with pytest.raises(PsamUnavailable, match="PSAM 没有应答") as fault:
        await psam.check()
    assert fault.value.reason == "mute"
    assert psam.trouble.startswith("PSAM 没有应答")
    await psam.check()
    assert psam.trouble == ""


async def test_a_user_card_in_the_slot_is_no_psam(link: SimLink) -> None:
    link.insert(SimUserCard.issue())
    psam = Psam(link)
    with pytest.raises(PsamUnavailable, match="不是可用的 PSAM") as fault:
        await psam.check()
    assert fault.value.reason == "foreign"


async def test_a_good_check_costs_one_number_a_connection(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    for _ in range(3):
        await psam.check()
    assert chip.terminal_seq == 0x183713
    await psam.mac1(PURCHASE)
    await psam.check_mac2(bytes(4))  # doubt: asked anew, before somebody relies on it
    await psam.check()
    await psam.check()
    assert chip.terminal_seq == 0x183715


async def test_lacking_the_trials_key_is_no_trouble(chip: SimPsam) -> None:
    link = SimLink("PSAM")
    link.insert(SimPsam.issue(algorithms=("sm4",)))
    psam = Psam(link)
    await psam.check()
    assert psam.trouble == ""
    await psam.mac1(replace(PURCHASE, algorithm=4))


async def test_a_lock_is_noticed_at_the_next_check(link: SimLink, chip: SimPsam) -> None:
    psam = Psam(link)
    for _ in range(3):
        await psam.mac1(PURCHASE)
        await psam.check_mac2(bytes(4))
    with pytest.raises(PsamUnavailable, match="已锁定"):
        await psam.check()


async def test_a_new_psam_starts_with_a_clean_record(link: SimLink) -> None:
    psam = Psam(link)
    await psam.mac1(PURCHASE)
    await psam.check_mac2(bytes(4))
    assert "不认卡的 MAC2" in psam.trouble
    link.insert(SimPsam.issue(serial="62010000000000000002", terminal_no="0162000099FF"))
    with pytest.raises(PsamUnavailable):
        await psam.mac1(PURCHASE)  # the old connection is dead, and another terminal answers
    await psam.check()
    assert psam.trouble == ""


async def test_an_unauthorised_psam_still_reads_tags(link: SimLink, chip: SimPsam) -> None:
    chip.is_authorised = False
    serial, issuer = "6201012145230123", "B8CACBE062010001"
    key = crypto.TRIPLE_DES.card_key(
        crypto.DEMO_KEYS.vehicle, bytes.fromhex(issuer), bytes.fromhex(serial)
    )
    cipher = crypto.TRIPLE_DES.encipher(key, b"sixteen bytes ok")
    assert await Psam(link).decrypt(serial, issuer, cipher) == b"sixteen bytes ok"


def test_what_happened_to_a_psam_outlives_a_kill(tmp_path: Path) -> None:
    memory = ChipMemory(tmp_path / "psam.json")
    chip = SimPsam.issue(memory, terminal_seq=7, algorithms=("sm4",))
    chip.is_authorised, chip.seq_max = False, 7
    chip.save()
    again = SimPsam.resume(memory)
    assert again is not None
    assert (again.is_authorised, again.seq_max, again.algorithms) == (False, 7, ("sm4",))

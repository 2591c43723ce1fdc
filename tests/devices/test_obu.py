"""The OBU in words, against the twins of its ESAM and of the PSAM."""

from dataclasses import replace

import pytest

from gateway.devices.sim import crypto
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.errors import (
    CardAbsent,
    CardRefused,
    DeviceGarbled,
    DeviceUnavailable,
    PsamUnavailable,
)
from tests.rig.booth import ENTRY, Booth


@pytest.fixture(params=[False, True], ids=["t1", "t0"])
def booth(request: pytest.FixtureRequest) -> Booth:
    return Booth(is_t0=request.param)


async def test_a_tag_is_read_whole(booth: Booth) -> None:
    booth.obu_link.insert(
        SimObu.issue(entry=ENTRY, due_fen=9274, paid_fen=8810, mileage_m=95_000, no_card_count=1)
    )
    tag = await booth.obu_reader.read()
    assert (tag.system.contract_serial, tag.system.is_installed) == ("6201012145230123", True)
    assert (tag.vehicle.plate, tag.vehicle.axle_count) == ("甘A12345", 2)
    assert tag.totals is not None
    assert tag.totals.entry == replace(ENTRY, accumulated_fen=0)
    assert (tag.totals.due_fen, tag.totals.paid_fen) == (9274, 8810)
    assert (tag.totals.mileage_m, tag.totals.no_card_count) == (95_000, 1)
    assert tag.totals.card_network + tag.totals.card_number == booth.card_id


async def test_a_truck_has_no_axles_in_its_tag(booth: Booth) -> None:
    booth.obu_link.insert(SimObu.issue(vehicle_type=0x0D, axle_count=None, plate="甘B54321"))
    tag = await booth.obu_reader.read()
    assert (tag.vehicle.vehicle_type, tag.vehicle.axle_count) == (13, None)


async def test_a_removed_and_an_expired_tag_are_said_as_they_are(booth: Booth) -> None:
    booth.obu_link.insert(SimObu.issue(is_installed=False, valid_to="20200101"))
    system = (await booth.obu_reader.read()).system
    assert (system.is_installed, system.valid_to) == (False, "20200101")


async def test_a_tag_of_another_province_has_its_own_key(booth: Booth) -> None:
    booth.obu_link.insert(
        SimObu.issue(
            issuer="C9BDB6AB37010001", contract_serial="3701012145230999", plate="鲁A12345"
        )
    )
    assert (await booth.obu_reader.read()).vehicle.plate == "鲁A12345"


async def test_no_tag_is_absent(booth: Booth) -> None:
    booth.obu_link.remove()
    with pytest.raises(CardAbsent, match="OBU上没有卡"):
        await booth.obu_reader.read()


async def test_blank_totals_are_no_totals(booth: Booth) -> None:
    booth.obu_link.insert(SimObu.issue(entry=None))
    assert (await booth.obu_reader.read()).totals is None


async def test_an_answer_without_our_own_random_is_not_ours(booth: Booth) -> None:
    issuer, serial = booth.obu.system[:8], booth.obu.system[10:18]
    key = crypto.TRIPLE_DES.card_key(crypto.DEMO_KEYS.vehicle, issuer, serial)
    body = bytes([67]) + bytes(8) + booth.obu.vehicle[:59]
    replayed = crypto.TRIPLE_DES.encipher(key, crypto.TRIPLE_DES.pad(body))
    booth.obu._handlers[0x00, 0xB4] = lambda _: replayed
    with pytest.raises(DeviceGarbled, match="没有本次的随机数"):
        await booth.obu_reader.read()


@pytest.mark.parametrize("length", [0, 1, 7, 71, 249, 256])
async def test_a_cipher_that_is_no_whole_blocks_or_too_long_is_garbled_before_the_psam_sees_it(
    length: int,
) -> None:
    booth = Booth()
    booth.obu._handlers[0x00, 0xB4] = lambda _: bytes(length)
    with pytest.raises(DeviceGarbled, match="应为 8 的倍数"):
        await booth.obu_reader.read()
    assert booth.psam_link.sent == 0


async def test_a_truncated_system_file_is_garbled(booth: Booth) -> None:
    booth.obu._handlers[0x00, 0xB0] = lambda _: bytes(26)
    with pytest.raises(DeviceGarbled, match="26 字节"):
        await booth.obu_reader.read()


async def test_a_damaged_plate_in_the_tag_is_garbled(booth: Booth) -> None:
    booth.obu.vehicle = b"\xff\x31" * 6 + booth.obu.vehicle[12:]
    with pytest.raises(DeviceGarbled, match="标签内车牌"):
        await booth.obu_reader.read()


@pytest.mark.parametrize("number", range(1, 8))
async def test_a_tag_lost_at_any_apdu_is_a_fault_and_reads_well_afterwards(number: int) -> None:
    booth = Booth()
    booth.obu_link.arm("pulled_before", after=number)
    if number <= 6:
        with pytest.raises(DeviceUnavailable):
            await booth.obu_reader.read()
    booth.obu_link.disarm()
    booth.obu_link.insert(booth.obu)
    assert (await booth.obu_reader.read()).vehicle.plate == "甘A12345"


async def test_a_psam_without_the_key_is_a_refusal(booth: Booth) -> None:
    await booth.psam_words.open()
    booth.psam_link.arm("refuse:6A88")
    with pytest.raises(CardRefused, match="派生标签密钥被拒绝：没有这把密钥"):
        await booth.obu_reader.read()


@pytest.mark.parametrize("is_t0", [False, True], ids=["t1", "t0"])
async def test_an_sm4_tag_is_read_with_the_other_key(is_t0: bool) -> None:
    booth = Booth(obu=SimObu.issue(entry=ENTRY, algorithm="sm4"), is_t0=is_t0)
    tag = await booth.obu_reader.read()
    assert (tag.vehicle.plate, tag.system.contract_version) == ("甘A12345", 0x50)
    assert tag.totals is not None


async def test_a_psam_without_the_sm4_key_refuses_an_sm4_tag() -> None:
    booth = Booth(obu=SimObu.issue(algorithm="sm4"), psam=SimPsam.issue(algorithms=("3des",)))
    with pytest.raises(CardRefused, match="派生标签密钥被拒绝"):
        await booth.obu_reader.read()


async def test_a_psam_that_is_missing_is_not_mistaken_for_a_missing_tag() -> None:
    booth = Booth()
    booth.psam_link.remove()
    with pytest.raises(PsamUnavailable) as lost:
        await booth.obu_reader.read()
    assert lost.value.reason == "absent"


async def test_a_psam_that_falls_silent_over_a_tag_says_so() -> None:
    booth = Booth()
    booth.psam_link.arm("mute", after=5)  # DELIVERY KEY
    with pytest.raises(PsamUnavailable) as lost:
        await booth.obu_reader.read()
    assert lost.value.reason == "mute"

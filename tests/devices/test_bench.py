"""The bench: what lies on the lane after a preset, what the chips remember, what breaks on demand.

The lane's own code reads everything here: real codecs, real checks, real fare rules.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.devices.etc_card import EtcCard
from gateway.devices.etc_files import encode_toll, exit_record
from gateway.devices.obu import ObuReader
from gateway.devices.psam import Psam
from gateway.devices.sim.bench import Bench, DemoClock
from gateway.devices.sim.camera import SimCamera
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.scale import SimScale
from gateway.devices.sim.vehicle import PRESETS
from gateway.errors import (
    CardAbsent,
    CardRefused,
    DeviceUnavailable,
    FareUnknown,
    NoAnswer,
    OutcomeUnknown,
    PsamUnavailable,
    RequestInvalid,
)
from gateway.flow import checks, fare
from gateway.flow.debit import Purse
from gateway.flow.messages import Finding, Level, Media
from gateway.flow.passage import Passage
from gateway.params import Package, Parameters, look_up, read_package
from gateway.plate import check_plate
from gateway.units import compact
from tests.still_clock import StillClock

EXIT_HEX = "62010B31"
NOW_MS = 1_763_600_000_000  # 2025-11-20, two days into the demo's parameter set
DEMO = Path("gateway/parameters/demo")


def demo_parameters() -> Parameters:
    packages: dict[str, Package] = {}
    for file in DEMO.glob("*.json"):
        package = read_package(file.read_bytes())
        packages[package.name] = package
    return Parameters.of(packages)


PARAMETERS = demo_parameters()


@dataclass
class Lane:
    """Twins, the bench over them, and the words the flow uses."""

    folder: Path | None = None
    clock: DemoClock = field(default_factory=lambda: DemoClock(_clock()))
    told: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.card_link, self.psam_link, self.obu_link = map(SimLink, ("读卡器", "PSAM", "OBU"))
        self.camera = SimCamera("相机", "X03", self.clock, is_drawn=False)
        self.scale = SimScale("地磅", self.clock)
        self.bench = Bench(
            self.card_link,
            self.psam_link,
            self.obu_link,
            self.camera,
            self.scale,
            lambda: PARAMETERS,
            EXIT_HEX,
            self.folder,
            self.clock,
            center=self._tell_center,
            disk=self.told.append,
        )
        self.card = EtcCard(self.card_link)
        self.psam = Psam(self.psam_link)
        self.obu = ObuReader(self.obu_link, self.psam)
        self.purse = Purse(self.card, self.psam)

    async def _tell_center(self, fault: Mapping[str, Any]) -> None:
        self.told.append(dict(fault))

    async def media(self) -> Media:
        card = await self.card.read()
        try:
            return Media(card, await self.obu.read(), "", self.clock.now_ms())
        except CardAbsent:
            return Media(card, None, "没有标签", self.clock.now_ms())

    async def findings(self) -> dict[int, Level]:
        found = _checked(await self.media())
        return {f.code: f.level for f in found}

    async def passage(self, put: dict[str, Any]) -> Passage:
        media = await self.media()
        return Passage(
            media=media,
            findings=_checked(media),
            vehicle_type=put["vehicle_type"],
            vehicle_class=put["vehicle_class"],
        )

    async def pay(self, amount_fen: int) -> None:
        media = await self.card.read()
        assert media.toll is not None
        at_s = self.clock.now_ms() // 1000
        toll = encode_toll(exit_record(media.toll, EXIT_HEX, 3, at_s, 4)).hex()
        at = compact(self.clock.now_ms())
        ticket = await self.purse.prepare(media.issue.card_id, amount_fen, toll, at)
        await self.purse.commit(ticket)


def _checked(media: Media) -> tuple[Finding, ...]:
    serial = media.tag.system.contract_serial if media.tag else None
    hits = look_up(PARAMETERS.status_list, media.card.issue.card_id, serial)
    return checks.check_media(media, PARAMETERS, None, 0, hits)


def _clock() -> StillClock:
    clock = StillClock()
    clock.ms = NOW_MS
    return clock


@pytest.fixture
def lane() -> Lane:
    return Lane()


# ---- presets, seen with the flow's own eyes ---------------------------------------------------


async def test_car_is_clean_and_priced_by_its_accumulated_sum(lane: Lane) -> None:
    put = lane.bench.put({"preset": "car"})
    assert await lane.findings() == {}
    p = await lane.passage(put)
    entry = fare.entry_of(p, PARAMETERS)
    quote = fare.accumulated(p, entry, PARAMETERS)
    assert quote.kind == 1
    assert quote.fee_fen == put["paid_fen"] < quote.pay_fee_fen == put["accumulated_fen"]
    assert (put["entry_hex"], put["entry_station"]) == ("62010A12", "兰州东")
    assert put["obu"] is True
    assert 40 <= (NOW_MS - put["entry_at_ms"]) / 60_000 <= 70


async def test_truck_stands_on_the_scale_within_its_limit(lane: Lane) -> None:
    put = lane.bench.put({"preset": "truck"})
    assert (put["vehicle_type"], put["colour"], put["axle_count"]) == (13, 1, 3)
    load = await lane.scale.load()
    assert (load.weight_kg, load.is_stable) == (put["weight_kg"], True)
    kind = PARAMETERS.vehicle_types.find(13)
    assert kind is not None
    limit = PARAMETERS.axle_limits.limit_kg(3)
    policy = PARAMETERS.policy
    assert checks.check_weight(kind, 3, load.weight_kg, limit, policy) == []
    assert await lane.findings() == {}
    p = await lane.passage(put)
    assert fare.accumulated(p, fare.entry_of(p, PARAMETERS), PARAMETERS).kind == 1


async def test_new_energy_plate_has_eight_places(lane: Lane) -> None:
    put = lane.bench.put({"preset": "new_energy"})
    assert len(put["plate"]) == 8
    assert put["colour"] == 4
    assert await lane.findings() == {}
    frame = await lane.camera.snap()
    assert frame.reading is not None
    assert (frame.reading.plate, frame.reading.colour) == (put["plate"], 4)


async def test_minimum_fare_vehicle_has_no_sum_and_a_minimum(lane: Lane) -> None:
    put = lane.bench.put({"preset": "minimum_fare"})
    p = await lane.passage(put)
    entry = fare.entry_of(p, PARAMETERS)
    assert entry.station.name == "白银东"
    with pytest.raises(FareUnknown) as no:
        fare.accumulated(p, entry, PARAMETERS)
    assert no.value.reason == "gantry_gaps"
    assert fare.minimum(p, entry, PARAMETERS).fee_fen > 0
    assert fare.gets_discount(p, entry, PARAMETERS)


async def test_zero_fare_vehicle_is_of_a_free_class(lane: Lane) -> None:
    put = lane.bench.put({"preset": "zero_fare"})
    p = await lane.passage(put)
    assert fare.is_free(p, PARAMETERS)
    assert await lane.findings() == {}


@pytest.mark.parametrize(
    ("preset", "findings"),
    [
        ("no_entry", {26: Level.WARNS}),
        ("listed", {24: Level.MASTER}),
        ("mismatch", {41: Level.STOPS}),
        ("expired", {21: Level.STOPS}),
        ("removed_obu", {2: Level.MASTER}),
        ("low_balance", {}),
    ],
)
async def test_preset_shows_what_it_is_named_for_and_nothing_else(
    lane: Lane, preset: str, findings: dict[int, Level]
) -> None:
    lane.bench.put({"preset": preset})
    assert await lane.findings() == findings


async def test_low_balance_is_too_low_to_pay(lane: Lane) -> None:
    put = lane.bench.put({"preset": "low_balance"})
    assert (put["balance_fen"], put["card_kind"]) == (100, "stored")
    with pytest.raises(CardRefused):
        await lane.pay(put["paid_fen"])


@pytest.mark.parametrize("preset", PRESETS)
async def test_every_preset_can_be_put_twice_as_another_vehicle(lane: Lane, preset: str) -> None:
    one, two = lane.bench.put({"preset": preset}), lane.bench.put({"preset": preset})
    assert one["plate"] != two["plate"]
    for put in (one, two):
        assert check_plate(put["plate"], put["colour"])
    if preset != "listed":
        assert one["card_id"] != two["card_id"]
        assert one["obu_id"] != two["obu_id"]


async def test_invented_plates_never_repeat_and_skip_nothing_given(lane: Lane) -> None:
    plates = [lane.bench.put({})["plate"] for _ in range(300)]
    assert len(set(plates)) == 300


# ---- fields ------------------------------------------------------------------------------------


async def test_fields_override_the_preset(lane: Lane) -> None:
    put = lane.bench.put(
        {
            "preset": "truck",
            "plate": "甘A10001",
            "colour": 0,
            "vehicle_type": 14,
            "axles": 4,
            "weight_kg": 30_000,
            "entry_hex": "62010d20",
            "balance_fen": 777,
            "entry_at_ms": NOW_MS - 3_600_000,
            "obu": False,
        }
    )
    media = await lane.media()
    issue, toll = media.card.issue, media.card.toll
    assert (issue.plate, issue.plate_colour, issue.vehicle_type) == ("甘A10001", 0, 14)
    assert toll is not None
    assert (toll.station_hex, toll.axle_count, toll.weight_kg) == ("62010D20", 4, 30_000)
    assert toll.at_s * 1000 == NOW_MS - 3_600_000
    assert media.card.balance == put["balance_fen"] == 777
    assert media.tag is None
    assert put["obu"] is False
    assert put["entry_station"] == "天水"


async def test_credit_card_has_a_virtual_purse_that_pays(lane: Lane) -> None:
    put = lane.bench.put({"preset": "car", "card_kind": "credit"})
    assert put["card_kind"] == "credit"
    assert put["balance_fen"] > 2**31
    await lane.pay(3_610)
    assert lane.bench.truth()["card"]["balance_fen"] == put["balance_fen"] - 3_610


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "tank"}, "preset.*只能是"),
        ({"plate": "A12345"}, "车牌"),
        ({"plate": "甘A1O345"}, "不能是 I 或 O"),
        ({"colour": 77}, "颜色"),
        ({"vehicle_type": 5}, "车型"),
        ({"vehicle_class": 99}, "车种"),
        ({"card_kind": "gold"}, "card_kind.*只能是"),
        ({"balance_fen": -1}, "balance_fen.*不能小于 0"),
        ({"balance_fen": "100"}, "balance_fen.*整数"),
        ({"entry_hex": "62O10A12"}, "entry_hex.*应符合"),
        ({"wings": 2}, "wings.*没有这个字段"),
        ({"obu": 1}, "obu.*true"),
        ({"weight_kg": 1.5}, "weight_kg"),
        ({"valid_to": "2030"}, "valid_to"),
        ({"tag_plate": "???"}, "车牌"),
    ],
)
async def test_wrong_field_is_refused_in_chinese_and_changes_nothing(
    lane: Lane, fields: dict[str, Any], words: str
) -> None:
    lane.bench.put({"preset": "car", "plate": "甘A10001"})
    before = lane.bench.truth()
    with pytest.raises(RequestInvalid, match=words):
        lane.bench.put(fields)
    assert lane.bench.truth() == before


# ---- cards remember ------------------------------------------------------------------------------


async def test_same_plate_is_the_same_card_with_a_new_entry(lane: Lane) -> None:
    first = lane.bench.put({"preset": "truck", "plate": "甘A10001"})
    await lane.pay(4_000)
    assert lane.bench.truth()["card"]["station_hex"] == EXIT_HEX
    lane.bench.put({"preset": "car"})
    again = lane.bench.put({"plate": "甘A10001"})
    assert again["card_id"] == first["card_id"]
    assert again["obu_id"] == first["obu_id"]
    assert (again["vehicle_type"], again["colour"]) == (13, 1), "the card says what it is"
    assert again["balance_fen"] == first["balance_fen"] - 4_000
    assert again["card_seq"] == first["card_seq"] + 1
    truth = lane.bench.truth()["card"]
    assert (truth["station_hex"], truth["status"]) == ("62010A12", 3)
    assert len(truth["debits"]) == 1


async def test_balance_is_changed_only_when_given(lane: Lane) -> None:
    lane.bench.put({"plate": "甘A10001", "balance_fen": 5_000})
    assert lane.bench.put({"plate": "甘A10001"})["balance_fen"] == 5_000
    assert lane.bench.put({"plate": "甘A10001", "balance_fen": 6_000})["balance_fen"] == 6_000


async def test_card_does_not_change_its_kind(lane: Lane) -> None:
    lane.bench.put({"plate": "甘A10001"})
    with pytest.raises(RequestInvalid, match="储值卡"):
        lane.bench.put({"plate": "甘A10001", "card_kind": "credit"})


async def test_truth_and_ledger_tell_what_the_chips_did(lane: Lane) -> None:
    assert lane.bench.truth()["present"] is False
    assert lane.bench.ledger() == []
    put = lane.bench.put({"preset": "car", "plate": "甘A10001", "balance_fen": 10_000})
    await lane.pay(3_000)
    lane.bench.put({"preset": "car"})
    await lane.pay(0)

    truth = lane.bench.truth()
    assert truth["present"] is True
    assert truth["psam"] == {
        "terminal_no": "0162000012AB",
        "terminal_seq": 2,
        "locked": False,
        "authorised": True,
        "exhausted": False,
        "in_slot": True,
    }
    one, two = lane.bench.ledger()
    assert one["card_id"] == put["card_id"]
    assert (one["plate"], one["amount_fen"], one["card_seq"]) == ("甘A10001", 3_000, 0)
    assert (one["terminal_no"], one["terminal_seq"]) == ("0162000012AB", 1)
    assert one["at"] == compact(NOW_MS)
    assert len(one["tac"]) == 8
    assert (two["amount_fen"], two["terminal_seq"]) == (0, 2)


async def test_taken_away_leaves_an_empty_lane(lane: Lane) -> None:
    lane.bench.put({"preset": "truck"})
    assert lane.bench.take_away() == {"present": False}
    with pytest.raises(CardAbsent):
        await lane.card.read()
    with pytest.raises(CardAbsent):
        await lane.obu.read()
    assert (await lane.camera.snap()).reading is None
    assert (await lane.scale.load()).weight_kg == 0
    assert lane.bench.truth()["card"] is None


# ---- a restart -----------------------------------------------------------------------------------


async def test_restart_finds_the_same_card_tag_load_and_picture(tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    put = lane.bench.put({"preset": "truck"})
    await lane.pay(4_000)
    before, media = lane.bench.truth(), await lane.media()

    again = Lane(tmp_path)
    assert again.bench.truth() == before
    assert (await again.media()).tag == media.tag
    assert (await again.scale.load()).weight_kg == put["weight_kg"]
    frame = await again.camera.snap()
    assert frame.reading is not None
    assert frame.reading.plate == put["plate"]
    assert again.bench.ledger() == lane.bench.ledger()
    assert again.bench.put({"preset": "car"})["plate"] != put["plate"]


async def test_restart_of_an_emptied_lane_is_empty(tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    lane.bench.put({"preset": "car"})
    lane.bench.take_away()
    assert Lane(tmp_path).bench.truth()["present"] is False


async def test_kill_in_the_middle_of_debits_loses_none_that_was_answered(tmp_path: Path) -> None:
    """The chips are durable before they answer; a killed process proves at least the order."""
    program = tmp_path / "pays.py"
    program.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.devices.test_bench import Lane\n"
        "async def main():\n"
        "    lane = Lane(Path(sys.argv[1]))\n"
        "    lane.bench.put({'preset': 'car', 'plate': '甘A10001', 'balance_fen': 900_000})\n"
        "    while True:\n"
        "        await lane.pay(100)\n"
        "        print(lane.bench.truth()['card']['balance_fen'], flush=True)\n"
        "        lane.bench.put({'plate': '甘A10001'})\n"
        "asyncio.run(main())\n"
    )
    folder = tmp_path / "chips"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        str(folder),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert process.stdout is not None
    answered = 900_000
    for _ in range(20):
        answered = int(await asyncio.wait_for(process.stdout.readline(), 30))
    process.send_signal(signal.SIGKILL)
    answered = min([answered, *map(int, (await process.stdout.read()).split())])
    await process.wait()

    bench = Lane(folder).bench
    balance = bench.truth()["card"]["balance_fen"]
    assert answered - 100 <= balance <= answered
    assert sum(debit["amount_fen"] for debit in bench.ledger()) == 900_000 - balance


# ---- faults --------------------------------------------------------------------------------------


async def test_pulled_card_comes_back_as_it_was_by_its_plate(lane: Lane) -> None:
    lane.bench.put({"preset": "car", "plate": "甘A10001"})
    armed = await lane.bench.arm("card", "pulled_after", 3)
    assert armed == {"device": "card", "fault": "pulled_after", "after": 3}
    with pytest.raises(NoAnswer):
        await lane.card.read()
    before = lane.bench.truth()["card"]
    assert before["on_reader"] is False

    lane.bench.put({"plate": "甘A10001"})
    after = lane.bench.truth()["card"]
    assert after == {**before, "on_reader": True}
    assert await lane.card.read()


async def test_card_pulled_in_the_debit_keeps_what_it_did(lane: Lane) -> None:
    lane.bench.put({"preset": "car", "plate": "甘A10001", "balance_fen": 10_000})
    media = await lane.card.read()
    at = compact(NOW_MS)
    toll = media.toll_hex
    ticket = await lane.purse.prepare(media.issue.card_id, 3_000, toll, at)
    await lane.bench.arm("card", "pulled_after")
    with pytest.raises(OutcomeUnknown):
        await lane.purse.commit(ticket)
    assert lane.bench.truth()["card"]["balance_fen"] == 7_000
    lane.bench.put({"plate": "甘A10001"})
    proved = await lane.purse.prove(ticket)
    assert proved.happened
    assert proved.tac == lane.bench.ledger()[0]["tac"]


async def test_disarm_mends_everything(lane: Lane) -> None:
    lane.bench.put({"preset": "truck"})
    await lane.camera.snap()
    for device, fault in (
        ("reader", "gone"),
        ("psam", "locked"),
        ("obu", "pulled"),
        ("camera", "mute"),
        ("scale", "silent"),
        ("clock", "jump"),
        ("disk", "full"),
        ("center", "down"),
    ):
        await lane.bench.arm(device, fault)
    with pytest.raises(DeviceUnavailable):
        await lane.card.read()
    with pytest.raises(CardAbsent):
        await lane.obu_link.connect()
    with pytest.raises(DeviceUnavailable):
        await lane.camera.snap()
    with pytest.raises(DeviceUnavailable):
        await lane.scale.load()
    assert lane.bench.truth()["psam"]["locked"] is True
    assert lane.clock.now_ms() == NOW_MS + 3_600_000
    assert lane.told == [True, {"fault": "down"}]

    await lane.bench.disarm()
    assert await lane.findings() == {}
    assert (await lane.scale.load()).is_stable
    assert (await lane.camera.snap()).reading is not None
    await lane.pay(100)
    assert lane.clock.now_ms() == NOW_MS
    assert lane.told[2:] == [False, {"fault": "none"}]


@pytest.mark.parametrize("fault", ["locked", "unauthorised", "exhausted"])
async def test_a_psam_in_trouble_signs_nothing_until_it_is_mended(
    tmp_path: Path, fault: str
) -> None:
    lane = Lane(tmp_path)
    lane.bench.put({"preset": "car"})
    await lane.pay(100)
    await lane.bench.arm("psam", fault)
    for standing in (lane, Lane(tmp_path)):  # also after a restart of the bench
        with pytest.raises(PsamUnavailable) as no:
            await standing.pay(100)
        assert no.value.reason == fault
        assert len(standing.bench.ledger()) == 1
    truth = standing.bench.truth()["psam"]
    assert [truth["locked"], not truth["authorised"], truth["exhausted"]] == [
        name == fault for name in ("locked", "unauthorised", "exhausted")
    ]
    await standing.bench.disarm()
    await standing.pay(100)
    assert len(standing.bench.ledger()) == 2


async def test_a_card_that_lies_in_its_mac2_pays_and_is_caught(lane: Lane) -> None:
    lane.bench.put({"preset": "car", "balance_fen": 10_000})
    await lane.bench.arm("card", "wrong_mac2")
    await lane.pay(3_000)
    assert lane.bench.truth()["card"]["balance_fen"] == 7_000
    assert "不认卡的 MAC2" in lane.psam.trouble
    await lane.bench.disarm()
    await lane.pay(0)
    assert lane.psam.trouble == ""


async def test_without_a_card_nothing_can_lie(lane: Lane) -> None:
    with pytest.raises(RequestInvalid, match="没有卡"):
        await lane.bench.arm("card", "wrong_mac2")


async def test_a_vehicle_may_carry_sm4_chips(lane: Lane) -> None:
    put = lane.bench.put({"preset": "car", "plate": "甘A10001", "algorithm": "sm4"})
    assert put["algorithm"] == "sm4"
    assert await lane.findings() == {}
    await lane.pay(100)
    assert lane.bench.truth()["card"]["algorithm"] == "sm4"
    assert lane.bench.put({"plate": "甘A10001"})["algorithm"] == "sm4"
    with pytest.raises(RequestInvalid, match="不能改算法"):
        lane.bench.put({"plate": "甘A10001", "algorithm": "3des"})


async def test_status_word_of_choice_is_answered(lane: Lane) -> None:
    lane.bench.put({"preset": "car"})
    await lane.bench.arm("card", "refuse:6985")
    with pytest.raises(CardRefused) as said:
        await lane.card.read()
    assert said.value.sw == 0x6985
    assert await lane.card.read()


async def test_frozen_and_misreading_camera(lane: Lane) -> None:
    put = lane.bench.put({"preset": "car"})
    await lane.bench.arm("camera", "misread")
    frame = await lane.camera.snap()
    assert frame.reading is not None
    assert frame.reading.plate != put["plate"]
    await lane.bench.arm("camera", "frozen")
    with pytest.raises(DeviceUnavailable, match="画面停住"):
        await lane.camera.snap()


async def test_clock_jumps_both_ways_and_only_on_the_wall(lane: Lane) -> None:
    steady_ms = lane.clock.monotonic_ms()
    await lane.bench.arm("clock", "jump", seconds=-7_200)
    assert lane.clock.now_ms() == NOW_MS - 7_200_000
    await lane.bench.arm("clock", "jump", seconds=86_400)
    assert lane.clock.now_ms() == NOW_MS - 7_200_000 + 86_400_000
    assert lane.clock.monotonic_ms() == steady_ms


async def test_slow_centre_is_told_how_slow(lane: Lane) -> None:
    await lane.bench.arm("center", "slow", seconds=3)
    assert lane.told == [{"fault": "slow", "seconds": 3}]


@pytest.mark.parametrize(
    ("device", "fault", "after"),
    [
        ("toaster", "down", None),
        ("card", "frozen", None),
        ("card", "refuse:12", None),
        ("card", "refuse:xyzt", None),
        ("camera", "refuse:6985", None),
        ("center", "none", None),
        ("card", "mute", -1),
        ("card", "mute", 100_000),
    ],
)
async def test_unknown_fault_is_refused(
    lane: Lane, device: str, fault: str, after: int | None
) -> None:
    with pytest.raises(RequestInvalid):
        await lane.bench.arm(device, fault, after)


async def test_fault_of_what_is_not_there_is_refused() -> None:
    links = [SimLink(name) for name in ("读卡器", "PSAM")]
    bench = Bench(
        links[0], links[1], None, None, None, lambda: PARAMETERS, EXIT_HEX, None, _clock()
    )
    assert bench.put({"preset": "car"})["plate"]
    for device, fault in (
        ("obu", "mute"),
        ("camera", "mute"),
        ("scale", "silent"),
        ("disk", "full"),
        ("center", "down"),
        ("clock", "jump"),
    ):
        with pytest.raises(RequestInvalid, match="这里没有"):
            await bench.arm(device, fault)
    await bench.disarm()

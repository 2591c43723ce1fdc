"""`lane-gateway run` and `check`: the real program, as it starts, lives and ends."""

import asyncio
import json
import os
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.devices.pcsc import PcscLink
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.errors import StoreUnavailable
from gateway.flow.commands import COMMAND
from gateway.flow.journal import verify
from gateway.spool.reserve import SIZE
from gateway.units import SystemClock
from tests.flow.rig import COLLECTOR as WHO
from tests.flow.rig import ENTRY_HEX, Box, World, entry
from tests.pcsc.program import (
    GATEWAY,
    START_S,
    TOKEN,
    Booth,
    Program,
    Systemd,
    booth,
    center,
    indicator,
    install,
    program,
    soon,
)
from tests.rig.vpcd import WAIT_S, Rig, missing, running

TRUCK, WEIGHT_KG, DUE_FEN, PAID_FEN = 12, 9_350, 8_500, 8_075
REFUSED = 78


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running() as rig:
        yield rig


class Truck:
    """A truck's card and tag with the lane's PSAM, in pcscd's readers."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        now_s = round(time.time())
        came = entry(vehicle_type=TRUCK, at_s=now_s - 3_600, gantry_at_s=now_s - 600)
        self.card = SimUserCard.issue(vehicle_type=TRUCK, entry=came, balance_fen=50_000)
        self.obu = SimObu.issue(
            vehicle_type=TRUCK,
            axle_count=None,
            entry=came,
            due_fen=DUE_FEN,
            paid_fen=PAID_FEN,
            success_count=3,
            mileage_m=95_000,
        )
        self.psam = SimPsam.issue()

    async def lay_out(self, except_for: str = "") -> None:
        for name, chip in (("card", self.card), ("psam", self.psam), ("obu", self.obu)):
            if name == except_for:
                continue
            slot = self.rig.slots[name]
            slot.arm("", 0)
            slot.swap(chip) if slot.is_taken else slot.insert(chip)
            link = PcscLink(name, f"{name} 00 00", SystemClock())
            deadline = time.monotonic() + WAIT_S
            while not await link.is_present():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            await link.close()


@pytest.fixture
async def truck(rig: Rig) -> AsyncIterator[Truck]:
    truck = Truck(rig)
    await truck.lay_out()
    yield truck
    for slot in rig.slots.values():
        slot.voice.set()
        slot.voice.clear()


async def drive_to_agreed(at: Booth, weight_source: str = "scale") -> None:
    await at.do("read")
    plate = {"plate": "甘A12345", "colour": 0, "no_photo_reason": "没有相机"}
    await at.do("submit_plate", **plate)
    await at.do("classify", vehicle_type=TRUCK, vehicle_class=0)
    if weight_source == "scale":
        await at.until_stable()
    weighed = {"axle_count": 2, "weight_kg": WEIGHT_KG, "source": weight_source}
    await at.do("weigh", **weighed, reason="" if weight_source == "scale" else "没有地磅")
    await at.do("quote")
    await at.do("confirm_entry", station_hex=ENTRY_HEX)
    assert at.shot["state"] == "agreed"


def record_in(folder: Path) -> dict[str, Any]:
    """The only record, read beside the program."""
    db = sqlite3.connect(f"file:{folder}/data/lane.db?mode=ro", uri=True)
    try:
        ((line,),) = db.execute("SELECT line FROM record").fetchall()
    finally:
        db.close()
    told: dict[str, Any] = json.loads(line)
    return told


# ---- one vehicle ------------------------------------------------------------------------------


@pytest.mark.pcsc
async def test_a_truck_is_sold_by_the_real_program_and_reaches_the_centre(
    truck: Truck, tmp_path: Path
) -> None:
    with Systemd(tmp_path) as systemd:
        record = await one_truck(systemd, tmp_path)
        assert systemd.count("STOPPING=1") == 1

    (paid,) = truck.card.ledger
    assert record["fee"] == paid.amount_fen == PAID_FEN == 50_000 - truck.card.balance
    assert (record["tac"], record["mac2"]) == (paid.tac, "verified")
    assert record["cardTransNo"] == f"{paid.card_seq:04X}"
    assert record["terminalTransNo"] == f"{truck.psam.terminal_seq:08X}"
    assert record["exWeight"] == WEIGHT_KG
    assert verify(tmp_path / "box" / "data") == []


async def one_truck(systemd: Systemd, folder: Path) -> dict[str, Any]:
    """A life of the program with one vehicle in it; the record that the centre got."""
    watched = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "9000000"}
    async with center(folder / "c.db") as center_url, indicator(WEIGHT_KG) as line:
        file = install(folder / "box", scale=line, center=center_url)
        async with program(file, **watched) as gateway:
            async with booth(await gateway.url()) as at:
                await at.sign_in()
                for device in ("reader", "psam", "obu", "scale"):
                    await at.until_lamp(device, "ok")
                assert systemd.count("READY=1") == 1
                await drive_to_agreed(at)
                assert at.shot["passage"]["quote"]["kind"] == 1
                assert (await at.do("save"))["state"] == "saved"
                record = await at_centre(center_url)
                await soon(lambda: systemd.count("WATCHDOG=1") >= 2)
            assert await gateway.terminate() == 0
            loud = [line for line in gateway.log if line["level"] not in ("info", "warning")]
            assert loud == []
    return record


async def at_centre(url: str) -> dict[str, Any]:
    """The only record of the centre, as soon as it is there."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    deadline = time.monotonic() + 10
    async with aiohttp.ClientSession(url, headers=headers) as http:
        while True:
            async with http.get("/v1/records", params={"after": 0, "limit": 10}) as answer:
                assert answer.status == 200, await answer.text()
                records = (await answer.json())["records"]
            if records:
                (row,) = records
                return dict(row["record"])
            assert time.monotonic() < deadline, "no record at the centre"
            await asyncio.sleep(0.05)


# ---- refusals at start ------------------------------------------------------------------------


async def refusal(file: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the one line it said, while it refused to start."""
    async with program(file) as gateway:
        code = await gateway.ended(START_S)
        (line,) = [line for line in gateway.log if line["level"] != "info"]
    return code, line


async def test_run_refuses_the_demo_operators(tmp_path: Path) -> None:
    code, line = await refusal(install(tmp_path, is_demo=True))
    assert (code, line["code"]) == (REFUSED, "config.invalid")
    assert "演示账号 1001、9001" in line["detail"]
    assert "操作员参数表" in line["action"]


async def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    file = install(tmp_path)
    async with program(file) as first:
        await first.url()
        code, line = await refusal(file)
        assert (code, line["code"]) == (REFUSED, "config.invalid")
        assert "正被另一个网关进程使用" in line["detail"]
        assert first.process.returncode is None
        assert await first.terminate() == 0
    async with program(file) as again:  # the lock went with its holder
        await again.url()


async def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = await refusal(install(tmp_path, port=port))
    assert (code, line["code"]) == (1, "port.taken")
    assert f"端口 {port} 不能使用" in line["detail"]


async def test_a_data_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    file = install(tmp_path)
    (tmp_path / "data").write_text("a file stands here")
    code, line = await refusal(file)
    assert (code, line["code"]) == (REFUSED, "config.invalid")
    assert "数据文件夹" in line["detail"]


async def test_a_damaged_store_is_set_aside_and_the_box_starts(tmp_path: Path) -> None:
    file = install(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lane.db").write_bytes(b"garbage " * 1_024)
    async with program(file) as gateway:
        await gateway.url()
    aside = tmp_path / "data" / "quarantine" / "0001-lane.db"
    assert aside.read_bytes() == b"garbage " * 1_024


async def test_missing_tables_are_said_in_words(tmp_path: Path) -> None:
    file = install(tmp_path)
    (tmp_path / "parameters" / "stations.json").write_text("{")
    async with program(file) as gateway:
        assert await gateway.ended(START_S) == 1
        left_out, *_, refused = [line for line in gateway.log if line["level"] != "info"]
    assert left_out["file"] == "stations.json"
    assert (refused["code"], refused["detail"]) == ("parameter.invalid", "缺少参数：stations")


async def test_a_scale_address_nobody_can_open_is_refused_with_its_line(tmp_path: Path) -> None:
    code, line = await refusal(install(tmp_path, scale="modbus://192.168.3.9"))
    assert code == REFUSED
    assert "lane[0].scale.url：应为/dev/ttyS0 或 socket://主机:端口" in line["detail"]


async def test_a_box_without_tables_gets_its_first_from_the_centre(tmp_path: Path) -> None:
    file = install(tmp_path / "box")
    tables = (tmp_path / "box" / "parameters").rename(tmp_path / "tables")
    async with program(file) as gateway:
        assert await gateway.ended(START_S) == 1
        assert gateway.log[-1]["detail"].startswith("缺少参数：")
    async with center(tmp_path / "c.db", "--parameters", str(tables)) as url:
        file.write_text(file.read_text("utf-8").replace("http://127.0.0.1:9", url), "utf-8")
        async with program(file) as gateway, booth(await gateway.url()) as at:
            await at.sign_in()
            assert (await at.look())["parameters"]["stations"]["version"]
            assert await gateway.terminate() == 0


FAILING = """
import sys
from gateway import __main__, app
from gateway.errors import {fault}

class Broken:
    name = "broken"
    async def run(self):
        raise {fault}("{detail}")

services = app.Gateway.services
app.Gateway.services = lambda box: [*services(box), Broken(), Broken()]
sys.exit(__main__.main(["run", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("fault", "code"),
    [("JournalMismatch", "journal.mismatch"), ("ConfigInvalid", "config.invalid")],
)
async def test_a_fault_that_ends_a_service_ends_the_program_in_one_line(
    tmp_path: Path, fault: str, code: str
) -> None:
    script = FAILING.format(fault=fault, detail="流水对不上")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", script, str(install(tmp_path))),
        stderr=asyncio.subprocess.PIPE,
        cwd=GATEWAY.parent,
    )
    gateway = Program(process)
    assert await gateway.ended(START_S) == (REFUSED if code == "config.invalid" else 1)
    assert (gateway.log[-1]["code"], gateway.log[-1]["detail"]) == (code, "流水对不上")


async def test_a_bug_in_a_service_keeps_its_trace(tmp_path: Path) -> None:
    script = FAILING.format(fault="GatewayError", detail="").replace(
        'GatewayError("")', "ZeroDivisionError"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", script, str(install(tmp_path))),
        stderr=asyncio.subprocess.PIPE,
        cwd=GATEWAY.parent,
    )
    gateway = Program(process)
    assert await gateway.ended(START_S) == 1
    assert "ZeroDivisionError" in "".join(gateway.lines)
    assert any(line.startswith("Traceback") or "Traceback" in line for line in gateway.lines)


# ---- the end ----------------------------------------------------------------------------------


async def test_an_open_screen_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with program(install(tmp_path)) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        async with at.live() as screen:
            assert (await screen.receive_json(timeout=5))["type"] == "snapshot"
            assert await gateway.terminate() == 0


@pytest.mark.pcsc
async def test_a_debit_under_way_is_finished_before_the_end(truck: Truck, tmp_path: Path) -> None:
    """The card is slow, systemd says stop: the record is written all the same."""
    file = install(tmp_path)
    async with program(file) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await drive_to_agreed(at, "typed")
        slot = truck.rig.slots["card"]
        slot.arm("silent", DEBIT_AT)
        saving = asyncio.ensure_future(at.do("save"))
        sent = slot.sent
        await soon(lambda: slot.sent >= sent + DEBIT_AT)
        gateway.process.terminate()
        await asyncio.sleep(0.3)
        slot.voice.set()
        assert await gateway.ended(5) == 0
        assert (await saving)["state"] == "saved"
    (paid,) = truck.card.ledger
    record = record_in(tmp_path)
    assert (record["tac"], record["tacSource"]) == (paid.tac, "answered")
    assert verify(tmp_path / "data") == []


async def test_a_command_that_the_end_cuts_off_is_told_so(tmp_path: Path) -> None:
    world = World()
    box = await Box.power_on(world, tmp_path)
    world.camera.snap = asyncio.Event().wait
    running = asyncio.ensure_future(box.lane.run())
    read = COMMAND.validate_python({"command": "read"})
    asking = asyncio.ensure_future(box.lane.command(read, WHO, "key", box.lane.rev))
    await soon(lambda: box.lane.snapshot()["busy"] == "read")
    assert box.lane.is_working
    running.cancel()
    with pytest.raises(StoreUnavailable, match="网关正在停止"):
        await asking
    await box.power_off()


@pytest.mark.pcsc
async def test_a_card_that_never_answers_does_not_hold_up_the_end(
    truck: Truck, tmp_path: Path
) -> None:
    file = install(tmp_path)
    async with program(file) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await drive_to_agreed(at, "typed")
        slot = truck.rig.slots["card"]
        slot.arm("silent", DEBIT_AT)
        saving = asyncio.ensure_future(at.do("save"))
        sent = slot.sent
        await soon(lambda: slot.sent >= sent + DEBIT_AT)
        assert await gateway.terminate() == 0
        shot = await saving
        assert (shot["state"], shot["problem"]["code"]) == ("doubtful", "E-301")
    slot.voice.set()


@pytest.mark.pcsc
async def test_a_debit_that_no_answer_ends_is_proved_after_the_restart(
    truck: Truck, tmp_path: Path
) -> None:
    file = install(tmp_path)
    slot = truck.rig.slots["card"]
    async with program(file) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await drive_to_agreed(at, "typed")
        slot.arm("silent", DEBIT_AT)
        saving = asyncio.ensure_future(at.do("save"))
        sent = slot.sent
        await soon(lambda: slot.sent >= sent + DEBIT_AT)
        await gateway.kill()
        with pytest.raises(aiohttp.ClientError):
            await saving
    slot.voice.set()
    async with program(file) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await until_not_busy(at)  # the start asks the card by itself
        if at.shot["state"] == "doubtful":
            await at.do("prove")
        if at.shot["state"] == "agreed":  # the reader was cut off before the chip heard of it
            await at.do("save")
        assert at.shot["state"] == "saved"
        assert await gateway.terminate() == 0
    (paid,) = truck.card.ledger
    assert record_in(tmp_path)["tac"] == paid.tac
    assert verify(tmp_path / "data") == []


async def until_not_busy(at: Booth) -> None:
    deadline = time.monotonic() + WAIT_S
    while (await at.look())["busy"] or at.shot["state"] == "debiting":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


DEBIT_AT = 7
"""Of the APDUs of a save: select, FCI, 0015, initialize, its answer, update, debit."""


# ---- readers that go and come -----------------------------------------------------------------


@pytest.mark.pcsc
async def test_an_unplugged_reader_goes_dark_and_comes_back_and_the_lane_lives_on(
    truck: Truck, tmp_path: Path
) -> None:
    async with program(install(tmp_path)) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await at.until_lamp("reader", "ok")
        truck.rig.stop(kill=True)
        await at.until_lamp("psam", "missing")
        truck.rig.start(unplugged=["card"])
        await truck.lay_out(except_for="card")
        await at.until_lamp("psam", "ok")
        await at.until_lamp("reader", "missing")
        assert "没有找到读卡器" in at.shot["devices"]["reader"]["text"]
        shot = await at.do("read")
        assert (shot["state"], shot["problem"]["code"]) == ("idle", "E-112")

        truck.rig.stop(kill=True)
        truck.rig.start()
        await truck.lay_out()
        await at.until_lamp("reader", "ok")
        await drive_to_agreed(at, "typed")
        assert (await at.do("save"))["state"] == "saved"
        assert await gateway.terminate() == 0
    assert len(truck.card.ledger) == 1


@pytest.mark.pcsc
async def test_a_psam_that_is_pulled_shows_on_its_lamp(truck: Truck, tmp_path: Path) -> None:
    async with program(install(tmp_path)) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await at.until_lamp("psam", "ok")
        truck.rig.slots["psam"].remove()
        await at.until_lamp("psam", "degraded")
        assert "不能扣款" in at.shot["devices"]["psam"]["text"]
        truck.rig.slots["psam"].insert(truck.psam)
        await at.until_lamp("psam", "ok")


@pytest.mark.pcsc
async def test_the_program_starts_before_pcscd_does(truck: Truck, tmp_path: Path) -> None:
    truck.rig.stop(kill=True)
    async with program(install(tmp_path)) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await soon_dark(at)
        truck.rig.start()
        await truck.lay_out()
        await at.until_lamp("reader", "ok")
        await drive_to_agreed(at, "typed")


async def soon_dark(at: Booth) -> None:
    await at.until_lamp("reader", "missing")
    while "没有运行" not in (await at.look())["devices"]["reader"]["text"]:
        await asyncio.sleep(0.1)


# ---- check ------------------------------------------------------------------------------------


async def checked(file: Path) -> tuple[int, list[str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", "check", str(file)),
        stdout=asyncio.subprocess.PIPE,
        env={
            "PATH": "/usr/bin:/bin",
            "LANE__CENTER__TOKEN": TOKEN,
            "PCSCLITE_CSOCK_NAME": os.environ["PCSCLITE_CSOCK_NAME"],
        },
        cwd=GATEWAY.parent,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, told.decode().splitlines()


async def reserve_is_whole(box: Path) -> None:
    """It is made behind the selling, in the first moments of the first life."""
    deadline = time.monotonic() + 20
    while not any(file.stat().st_size >= SIZE for file in box.glob("*/reserve")):
        assert time.monotonic() < deadline, "the tables' reserve is not whole"
        await asyncio.sleep(0.05)


@pytest.mark.pcsc
async def test_check_passes_a_whole_box_while_it_is_at_rest(truck: Truck, tmp_path: Path) -> None:
    async with center(tmp_path / "c.db") as url, indicator(WEIGHT_KG) as line:
        file = install(tmp_path / "box", scale=line, center=url)
        async with program(file) as gateway:
            await gateway.url()
            await reserve_is_whole(tmp_path / "box")
            assert await gateway.terminate() == 0
        code, lines = await checked(file)
    not_well = [line for line in lines if not line.startswith("PASS")]
    assert [line for line in not_well if "对时" not in line] == []  # this machine's own affair
    assert code == (1 if not_well else 0)
    assert "PASS  X03 读卡器：正常，有卡" in lines
    assert f"PASS  X03 PSAM：正常，终端机编号 {truck.psam.terminal_no}" in lines
    assert "PASS  X03 OBU天线：正常，有卡" in lines
    assert f"PASS  X03 地磅：{WEIGHT_KG} kg" in "\n".join(lines)


@pytest.mark.pcsc
async def test_check_beside_a_running_gateway_takes_nothing_from_it(
    truck: Truck, tmp_path: Path
) -> None:
    file = install(tmp_path)
    async with program(file) as gateway, booth(await gateway.url()) as at:
        await at.sign_in()
        await drive_to_agreed(at, "typed")
        code, lines = await checked(file)
        assert "PASS  X03 读卡器：正常，有卡" in lines
        assert [line for line in lines if line.startswith("WARN  X03 PSAM：PSAM不可用：读卡器被")]
        assert not any(line.startswith("FAIL") for line in lines), lines
        assert code == 1  # the centre and the scale are not there
        assert (await at.do("save"))["state"] == "saved"


@pytest.mark.pcsc
async def test_check_names_a_reader_that_is_not_there(rig: Rig, tmp_path: Path) -> None:
    file = install(tmp_path)
    file.write_text(file.read_text("utf-8").replace("card 00 00", "Contactless"), "utf-8")
    code, lines = await checked(file)
    assert code == 2
    (said,) = [line for line in lines if "X03 读卡器" in line]
    assert said.startswith("FAIL  X03 读卡器：")
    assert "Contactless" in said
    assert "psam 00 00" in said

"""离线搬运: what becomes of an export and of its way to a stick is said, whatever it is."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.disk.stick import Fault
from gateway.web import carry, receipts
from gateway.web.exports import Exports, Sticks
from gateway.web.words import is_known
from tests.still_clock import StillClock
from tests.web.rig import listening
from tests.web.test_places import _no_receipts, look

SIZE = 5000
MAKES = f"""
import sys
open(sys.argv[-1], "wb").write(bytes({SIZE}))
print("流水第 1 到 12 条")
"""
FILLS = "import sys; print(sys.argv[-1] + ' 写不了：磁盘满了'); sys.exit(1)"
HANGS = """
import os, sys, time
half = os.path.join(os.path.dirname(sys.argv[-1]), ".half")
os.mkdir(half)
open(os.path.join(half, "part"), "wb").write(bytes(700))
print("begun", flush=True)
time.sleep(60)
"""
COPIES = """
import sys, time, pathlib
source, folder = map(pathlib.Path, sys.argv[1:])
print('{"done": 5000}', flush=True)
while not (folder / "go").exists():
    time.sleep(0.02)
print((folder / "go").read_text(), flush=True)
"""


class Carried:
    """A master's browser, and the two that do the work."""

    def __init__(self, folder: Path) -> None:
        self.no_room = ""
        program = (sys.executable, "-c")
        self.exports = Exports(
            folder, StillClock(), lambda: self.no_room, program=(*program, MAKES)
        )
        self.sticks = Sticks(folder / "media", program=(*program, COPIES))
        self.browser: Any = None

    async def post(self, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
        answer = await self.browser.post(path, json=body)
        assert answer.status == status, await answer.text()
        told: dict[str, Any] = await answer.json()
        return told

    async def place(self) -> dict[str, Any]:
        return await look(self.browser, "carry")

    async def made(self) -> dict[str, Any]:
        await self.post("/api/exports")
        return await self.settled()

    async def settled(self) -> dict[str, Any]:
        await until(lambda: not (self.exports.is_running or self.sticks.is_running))
        return await self.place()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


def alert(told: dict[str, Any]) -> dict[str, Any]:
    (found,) = [block for block in told["blocks"] if "alert" in block]
    return found


def tiles(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [tile for block in told["blocks"] for tile in block.get("options", ())]


@pytest.fixture
async def carried(tmp_path: Path) -> AsyncIterator[Carried]:
    async with listening(tmp_path, tables=[carry.routes, receipts.routes]) as listener:
        carried = Carried(tmp_path)
        listener.app._frozen = False
        listener.app[carry.EXPORTS] = carried.exports
        listener.app[carry.STICKS] = carried.sticks
        listener.app[receipts.RECEIPTS] = receipts.Tray(_no_receipts(), tmp_path)
        carried.browser = await listener.signed_in("9001")
        yield carried
        await carried.exports.close()
        await carried.sticks.close()


def runs(of: Exports | Sticks, program: str) -> None:
    of._program = (sys.executable, "-c", program)


async def test_an_export_lies_ready_with_its_size(carried: Carried) -> None:
    told = await carried.made()
    (link,) = [block for block in told["blocks"] if "link" in block]
    assert "（0.0 MB）" in link["label"]
    assert carried.exports.size == SIZE
    assert "流水第 1 到 12 条" in str(told)
    assert told["again_ms"], "a stick may be plugged in"


async def test_a_disk_that_does_not_take_it_is_said(
    carried: Carried, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {errno.ENOSPC: "E-305", errno.EROFS: "E-307", errno.EIO: "E-308"}
    for number, code in numbers.items():

        def mkdir(*_: Any, number: int = number, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "mkdir", mkdir)
        found = alert(await carried.made())
        assert found["code"] == code
        assert "导出没有写成" in found["alert"]
        assert "流水" in found["action"]


async def test_a_program_that_found_the_disk_full_is_said_in_the_same_words(
    carried: Carried,
) -> None:
    runs(carried.exports, FILLS)
    assert alert(await carried.made())["code"] == "E-305"
    runs(carried.exports, "import sys; print('发现 2 处损坏'); sys.exit(1)")
    told = await carried.made()
    assert alert(told)["code"] == "export.refused"
    assert "发现 2 处损坏" in str(told)


async def test_an_export_that_never_ends_is_ended_and_said(
    carried: Carried, tmp_path: Path
) -> None:
    runs(carried.exports, HANGS)
    carried.exports._patience_s = 0.5
    found = alert(await carried.made())
    assert found["code"] == "export.late"
    assert list((tmp_path / "outgoing").iterdir()) == [], "its half is gone too"
    runs(carried.exports, MAKES)
    carried.exports._patience_s = 20
    assert not [block for block in (await carried.made())["blocks"] if "alert" in block]


async def test_the_loop_waits_for_no_disk(
    carried: Carried, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    real = Exports._fresh

    def fresh(exports: Exports) -> Path:
        threads.append(threading.current_thread())
        return real(exports)

    monkeypatch.setattr(Exports, "_fresh", fresh)
    await carried.made()
    assert threads
    assert threading.main_thread() not in threads


async def test_nothing_is_begun_where_the_room_is_moneys(carried: Carried) -> None:
    carried.no_room = "同一辆车只存第一张照片"
    told = await carried.post("/api/exports", 503)
    assert (told["code"], told["number"]) == ("export.no_room", "E-304")
    assert "同一辆车只存第一张照片" in told["detail"]
    assert not carried.exports.is_running


async def test_a_running_export_is_stopped_for_the_spaces_sake_and_said(
    carried: Carried, tmp_path: Path
) -> None:
    runs(carried.exports, HANGS)
    await carried.post("/api/exports")
    part = tmp_path / "outgoing" / ".half" / "part"
    await until(lambda: part.exists() and part.stat().st_size == 700)
    assert await carried.exports.give_up() == 700
    assert not carried.exports.is_running
    assert alert(await carried.place())["code"] == "E-304"
    assert await carried.exports.give_up() == 0


async def test_a_finished_export_is_given_up_too(carried: Carried) -> None:
    await carried.made()
    assert await carried.exports.give_up() == SIZE
    told = await carried.place()
    assert alert(told)["code"] == "E-304"
    assert not [block for block in told["blocks"] if "link" in block]


async def test_the_shedding_calls_it(tmp_path: Path) -> None:
    """In the declared step, and the first look at a short disk is enough."""
    from gateway.app import gateway
    from gateway.config import demo
    from gateway.disk import shed
    from gateway.units import SystemClock

    async with gateway(demo(tmp_path, 0, "http://127.0.0.1:9", "t"), SystemClock()) as box:
        runs(box.exports, MAKES)
        box.exports.begin("all", with_photos=False)
        await until(lambda: not box.exports.is_running)
        assert box.exports.file
        few = box.disk._seen.data._replace(free_bytes=1)
        box.disk._seen = box.disk._seen._replace(data=few)
        await box.disk._shed()
        assert (box.exports.file, box.exports.trouble) == (None, "given_up")
        assert box.disk.shed.is_given_up(shed.SUPPORT)
        assert "导出文件" in box.exports._no_room()


async def test_a_receipt_that_the_disk_does_not_take_is_no_lost_answer(
    carried: Carried, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(receipts, "_sweep", full)
    answer = await carried.browser.post("/api/receipts", data=b"x")
    told = await answer.json()
    assert (answer.status, told["number"]) == (503, "E-303")
    assert told["detail"] == "回执没有导入：磁盘满了"
    assert "流水不受影响" in told["action"]


# ---- to a stick ----


@pytest.fixture
def plugged(carried: Carried, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One stick, as far as the table of mounts is concerned."""
    folder = tmp_path / "media" / "USB-sdb1"
    folder.mkdir(parents=True)
    monkeypatch.setattr("gateway.disk.stick.mounted", lambda media: [folder])
    return folder


async def test_without_a_stick_the_screen_says_so_and_looks_again(carried: Carried) -> None:
    told = await carried.made()
    assert "没有插 U 盘" in str(told)
    name = carried.exports.file and carried.exports.file.name
    await carried.post(f"/api/exports/{name}/copies", 404, stick="USB-sdb1")
    await carried.post("/api/exports/other.tar/copies", 404, stick="USB-sdb1")


async def test_a_stick_is_offered_and_its_progress_and_end_are_told(
    carried: Carried, plugged: Path
) -> None:
    told = await carried.made()
    (tile,) = tiles(told)
    assert tile["label"] == "写到 U 盘 USB-sdb1"
    await carried.post(tile["path"], **tile["body"])
    await until(lambda: carried.sticks.percent == 50)
    told = await carried.place()
    assert "正在写到 USB-sdb1：50%" in str(told)
    assert (told["primary"]["off"], tiles(told)) == (True, [])
    await carried.post(tile["path"], 409, **tile["body"])
    await carried.post("/api/exports", 409)
    (plugged / "go").write_text('{"sha256": "7f3a99"}')
    told = await carried.settled()
    assert "读回核对一致（7F3A99），可以拔出" in str(told)


async def test_each_fault_of_a_stick_has_its_words_and_the_way_on(
    carried: Carried, plugged: Path
) -> None:
    (tile,) = tiles(await carried.made())
    for fault in (*get_args(Fault), ""):
        (plugged / "go").write_text(f'{{"fault": "{fault}"}}' if fault else "{}")
        await carried.post(tile["path"], **tile["body"])
        told = await carried.settled()
        found, key = alert(told), f"stick.{fault or 'gone'}"
        assert found["code"] == key
        words = found["alert"] + found["action"]
        assert is_known(key)
        assert is_known(f"{key}.do")
        assert "USB-sdb1" in words or fault == "no_file"
        assert tiles(told), "it may be tried again"


async def test_a_stick_that_hangs_is_given_up(carried: Carried, plugged: Path) -> None:
    (tile,) = tiles(await carried.made())
    carried.sticks._patience_s = 0.3
    await carried.post(tile["path"], **tile["body"])
    assert alert(await carried.settled())["code"] == "stick.late"


async def test_the_program_itself_writes_to_a_mounted_stick(
    carried: Carried, tmp_path: Path
) -> None:
    folder = tmp_path / "media" / "USB-sdb1"
    folder.mkdir(parents=True)
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as no:
        if "CI" in os.environ:
            raise
        pytest.skip(f"NOT TRIED: nothing can be mounted here ({no})")
    try:
        carried.sticks._program = Sticks()._program
        (tile,) = tiles(await carried.made())
        await carried.post(tile["path"], **tile["body"])
        assert "可以拔出" in str(await carried.settled())
        (written,) = folder.iterdir()
        assert written.read_bytes() == bytes(SIZE)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)

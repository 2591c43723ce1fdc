"""Each state of the disk, produced by a disk that is so, as people and machines are told of it.

A real demo process; the screen's snapshot, /readyz, /metrics and what the centre hears agree.
"""

import asyncio
import errno
import json
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.disktrouble.conftest import SmallDisk, run
from tests.e2e.booth import Booth, is_chinese, next_tap, until

pytestmark = pytest.mark.timeout(180)
MakeDisk = Callable[[int], SmallDisk]


class Trouble:
    """What the shim does to the process's files from now on."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def now(self, part: str, number: int = 0, ms: int = 0) -> None:
        half = self.file.with_suffix(".half")
        half.write_text(f"{part} {number} {ms}")
        half.rename(self.file)

    def over(self) -> None:
        self.file.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "trouble.so"
    source = Path(__file__).with_name("trouble.c")
    run("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(made), str(source), "-ldl")
    return made


@pytest.fixture
def trouble(shim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """Processes started from now on obey it."""
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("DISK_TROUBLE", str(tmp_path / "trouble"))
    return Trouble(tmp_path / "trouble")


@asynccontextmanager
async def lane(data: Path) -> AsyncIterator[Booth]:
    async with Booth(data) as booth:
        yield booth


async def becomes(booth: Booth, state: str, code: str, lamp: str, ready: int) -> dict[str, Any]:
    """Everyone is told that the disk is so, in the same words; the last look."""

    async def is_so() -> bool:
        return f'disk_state{{state="{state}"}} 1' in await metrics(booth)

    async def is_told() -> bool:
        answer = await booth.call("GET", "/readyz")
        return (answer.body["progress"]["disk"], answer.status) == (state, ready)

    await until(is_so, f"the disk is {state}", 20)
    await until(is_told, f"/readyz says {ready} and {state}", 10)
    shot, answer = await booth.look(), await booth.call("GET", "/readyz")
    shown = shot["devices"]["disk"]
    assert (shown["name"], shown["state"]) == ("磁盘", lamp)
    said = [*shot["notices"], *filter(None, [shot["problem"]])]
    if code:
        told = next(one for one in said if one["code"] == code)
        assert is_chinese(told["detail"])
        assert is_chinese(told["action"])
        assert is_chinese(shown["text"])
        assert answer.body["progress"]["disk_detail"][:6] == told["detail"][:6]  # 2011, 2012 ms
    else:
        assert said == []
    return shot


async def metrics(booth: Booth) -> str:
    return (await booth.call("GET", "/metrics")).raw.decode()


async def centre_hears(booth: Booth, lamp: str) -> None:
    async def is_so() -> bool:
        beat = (await booth.center.lane())["last_heartbeat"]
        return bool(beat) and beat["devices"].get("disk") == lamp

    await until(is_so, f"the centre hears {lamp}", 60)


async def notes(booth: Booth, name: str) -> list[Any]:
    """The bodies of all journal rows of that name, as soon as there is one."""

    async def ask() -> list[Any]:
        with closing(sqlite3.connect(f"file:{booth.data}/lane.db?mode=ro", uri=True)) as db:
            found = db.execute("SELECT body FROM journal WHERE event = ? ORDER BY seq", (name,))
            return [json.loads(body) for (body,) in found]

    return await until(lambda: _some(ask), f"a note {name}", 10)


async def _some(ask: Callable[[], Awaitable[list[Any]]]) -> list[Any] | None:
    return await ask() or None


async def photo_size(booth: Booth) -> int:
    sha256 = (await booth.look())["passage"]["photo"]
    return len((await booth.call("GET", f"/api/photos/{sha256}")).raw)


async def sell(booth: Booth, *, is_at_the_centre: bool = True) -> None:
    await booth.put("car")
    await booth.drive()
    if is_at_the_centre:
        await booth.saved()
    assert (await booth.look())["state"] == "saved"


async def is_well(booth: Booth, state: str = "ok") -> None:
    code, lamp = ("", "ok") if state == "ok" else ("E-311", "degraded")
    await becomes(booth, state, code, lamp, 200)
    await sell(booth)


def log_on(disk: SmallDisk, data: Path) -> Path:
    """The log has a partition of its own."""
    (disk.path / "log").mkdir()
    data.mkdir()
    (data / "spool").symlink_to(disk.path / "log")
    return data


async def test_a_healthy_disk_says_nothing(tmp_path: Path) -> None:
    async with lane(tmp_path / "data") as booth:
        await is_well(booth)
        assert (await booth.look())["devices"]["disk"]["text"] == ""
        text = await metrics(booth)
        assert "lane_gateway_disk_vehicles_left " in text
        assert "lane_gateway_disk_faults 0\n" in text


async def test_low_space_is_told_in_vehicles_and_sells_with_smaller_photos(
    small_disk: MakeDisk,
) -> None:
    disk = small_disk(400)
    async with lane(disk.path / "data") as booth:
        await sell(booth)
        plain = await photo_size(booth)
        told = os.statvfs(disk.path)
        soft = told.f_blocks * told.f_frsize // 10
        disk.fill(leave_bytes=soft * 7 // 10)
        await becomes(booth, "low", "E-304", "degraded", 200)

        async def is_smaller() -> bool:
            return "照片改小" in (await booth.look())["devices"]["disk"]["text"]

        await until(is_smaller, "photos are made smaller", 10)  # a look falls while it is filled
        await sell(booth)
        assert await photo_size(booth) < plain / 2
        told = await notes(booth, "space_shed")
        assert [body["step"] for body in told] == ["second_photos", "small_photos"]
        (disk.path / "ballast").unlink()
        await is_well(booth)
        assert await photo_size(booth) > plain / 2


async def test_a_full_partition_of_the_log_is_told_and_sells_on_its_reserve(
    small_disk: MakeDisk, tmp_path: Path
) -> None:
    disk = small_disk(64)
    async with lane(log_on(disk, tmp_path / "data")) as booth:
        await sell(booth)
        disk.fill()
        shot = await becomes(booth, "full", "E-305", "degraded", 200)
        assert "辆" in shot["notices"][0]["detail"]
        await sell(booth)
        await centre_hears(booth, "degraded")
        (disk.path / "ballast").unlink()
        await is_well(booth)


async def test_a_disk_that_turns_read_only_closes_the_lane_and_a_repaired_one_opens_it(
    small_disk: MakeDisk, tmp_path: Path
) -> None:
    disk = small_disk(64)
    data = log_on(disk, tmp_path / "data")
    async with lane(data) as booth:
        await sell(booth)
        await booth.put("car")
        disk.make_read_only()
        answer = await booth.tap("read")
        assert (answer.status, answer.body["code"]) == (503, "store.unavailable")
        shot = await becomes(booth, "read_only", "E-307", "missing", 503)
        assert "read" not in shot["allowed"]
        again = await booth.tap("read")
        assert (again.status, again.body["detail"]) == (503, "磁盘变成只读，流水写不进去")
        await booth.stop()
        run("umount", str(disk.path))
        subprocess.run(["e2fsck", "-f", "-y", str(disk.image)], check=False, capture_output=True)
        run("mount", "-o", "loop", str(disk.image), str(disk.path))
        await booth.start()
        await booth.sign_in()
        await becomes(booth, "ok", "", "ok", 200)
        await sell(booth)


async def test_a_slow_disk_is_told_while_it_is_slow(tmp_path: Path, trouble: Trouble) -> None:
    async with lane(tmp_path / "data") as booth:
        await booth.put("car")
        await booth.look()
        trouble.now("/spool/", ms=9_000)
        reading = asyncio.ensure_future(booth.tap("read"))
        await becomes(booth, "slow", "E-309", "degraded", 200)
        trouble.over()
        assert (await reading).status == 200
        await booth.look()
        await booth.drive_on()
        await booth.saved()
        await is_well(booth)


async def test_a_breaking_disk_closes_the_lane_until_it_takes_writes_again(
    tmp_path: Path, trouble: Trouble
) -> None:
    async with lane(tmp_path / "data") as booth:
        await sell(booth)
        await booth.put("car")
        trouble.now("/spool/", errno.EIO)
        answer = await booth.tap("read")
        assert (answer.status, answer.body["code"]) == (503, "store.unavailable")
        shot = await becomes(booth, "broken", "E-308", "missing", 503)
        assert "read" not in shot["allowed"]
        trouble.over()
        await becomes(booth, "repaired", "E-311", "degraded", 200)
        await booth.look()
        await booth.drive()
        await booth.saved()


async def test_tables_that_cannot_follow_do_not_stop_the_selling(
    tmp_path: Path, trouble: Trouble
) -> None:
    async with lane(tmp_path / "data") as booth:
        await sell(booth)
        trouble.now("/lane.db", errno.EIO)
        await booth.put("car")
        await booth.look()
        await booth.do("read")
        while booth.shot["state"] != "saved":
            command, body = next_tap(booth.shot, booth.car)
            if command == "submit_plate" and booth.shot["problem"]:
                body["no_photo_reason"] = "磁盘出错，拍不了照"
            await booth.do(command, **body)
        await becomes(booth, "behind", "E-310", "degraded", 200)
        trouble.over()
        await becomes(booth, "repaired", "E-311", "degraded", 200)
        await booth.saved()
        await sell(booth)


async def test_a_start_that_mended_something_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with lane(data) as booth:
        await sell(booth)
    raw = bytearray((data / "lane.db").read_bytes())
    raw[100:4096] = bytes(3996)
    (data / "lane.db").write_bytes(raw)
    async with lane(data) as booth:
        await is_well(booth, "repaired")
        assert len(await notes(booth, "incident")) == 1
        assert list((data / "quarantine").iterdir())

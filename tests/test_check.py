"""gateway/check: each thing that can be wrong with a box is named, with what to do, in time."""

import asyncio
import http.server
import io
import json
import os
import pty
import re
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from gateway import access, check, config, tls
from gateway.check import box, devices, disk, outside
from gateway.check.finding import Finding, Level, in_thread
from gateway.config import (
    Absent,
    OpencvCamera,
    PcscChip,
    SerialScale,
    Settings,
    Simulated,
    SpoolSection,
)
from gateway.disk import place
from gateway.params import Operator, Operators
from gateway.store import Store
from gateway.units import Quality, SystemClock
from tests.still_clock import StillClock

GATEWAY = Path(config.__file__).parent
DEMO = (GATEWAY / "demo.toml").read_text("utf-8")
NOW_MS = round(datetime.now(UTC).timestamp() * 1000)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The demo's lane with its data, parameters and centre of this test."""
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "tables").mkdir()
    for file in (GATEWAY / "parameters" / "demo").glob("*.json"):
        (tmp_path / "tables" / file.name).write_bytes(file.read_bytes())
    text = DEMO.replace("demo-data", "data").replace("parameters/demo", "tables")
    (tmp_path / "gateway.toml").write_text(text, "utf-8")
    return config.load(tmp_path / "gateway.toml", {}).model_copy(
        update={"lan": None, "spool": SpoolSection()}
    )


def with_lan(settings: Settings) -> Settings:
    return settings.model_copy(update={"lan": config.Lan(host="127.0.0.1", port=0)})


def with_center(settings: Settings, url: str, token: str | None = "t") -> Settings:
    secret = None if token is None else config.SecretStr(token)
    center = settings.center.model_copy(update={"url": url, "token": secret})
    return settings.model_copy(update={"center": center})


def only(findings: list[Finding] | Any) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]  # type: ignore[no-any-return]


async def make_store(settings: Settings) -> None:
    store = await Store.open(settings.database)
    await store.close()


def well_lines(text: str) -> list[str]:
    """Every line is PASS, WARN or FAIL, a name and what was found, in Chinese."""
    lines = text.splitlines()
    for line in lines:
        assert re.match(r"^(PASS|WARN|FAIL)  \S[^：]*：.*[一-鿿]", line), line
        assert line.startswith("PASS") or " → " in line, line
    return lines


def test_every_finding_is_one_line_and_the_worst_is_the_exit_code(
    settings: Settings, tmp_path: Path
) -> None:
    out = io.StringIO()
    assert check.run(tmp_path / "gateway.toml", out, {}) == 2  # the demo's passwords
    lines = well_lines(out.getvalue())
    names = [line[6:].partition("：")[0] for line in lines]
    for name in ("配置", "权限", "磁盘", "流水库", "断电保护", "时钟", "证书", "参数", "中心"):
        assert name in names
    for device in ("读卡器", "PSAM", "OBU天线", "摄像机", "地磅"):
        assert f"X03 {device}" in names
        assert f"X04 {device}" not in names  # not enabled


def test_warnings_alone_exit_with_one(settings: Settings, tmp_path: Path) -> None:
    operators = tmp_path / "tables" / "operators.json"
    package = json.loads(operators.read_text())
    rows = package["body"]["rows"]
    package["body"]["rows"] = [row for row in rows if row["number"] not in access.DEMO_NUMBERS]
    operators.write_text(json.dumps(package))
    out = io.StringIO()
    assert check.run(tmp_path / "gateway.toml", out, {}) == 1
    assert "WARN  中心：连不上" in out.getvalue()
    assert "FAIL" not in out.getvalue()


def test_a_wrong_configuration_is_the_only_finding_and_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(DEMO.replace("port = 8080", 'prot = 8080\nhots = "x"'), "utf-8")
    out = io.StringIO()
    assert check.run(file, out, {}) == 2
    lines = well_lines(out.getvalue())
    assert len(lines) == 2
    assert all(line.startswith("FAIL  配置：第 ") for line in lines)


async def test_a_check_that_hangs_does_not_hold_up_the_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    async def hang(_: Settings) -> list[Finding]:
        return await in_thread(lambda: release.wait(60) and [])

    monkeypatch.setattr(check, "CHECK_S_MAX", 0.5)
    monkeypatch.setattr(box, "disk", hang)
    begun = time.monotonic()
    findings = await check.examine(settings, SystemClock())
    assert time.monotonic() - begun < 5
    release.set()
    late = [f for f in findings if f.name == "磁盘"]
    assert (late[0].level, "没有结果" in late[0].text) == (Level.WARN, True)
    assert any(f.name == "时钟" for f in findings)


async def test_a_fault_in_a_thread_reaches_the_one_who_waits() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await in_thread(broken)


# ---- the box ----


async def test_a_folder_others_can_read_is_a_warning(settings: Settings) -> None:
    assert only(await box.permissions(settings)).level is Level.PASS
    settings.data.chmod(0o755)
    found = only(await box.permissions(settings))
    assert (found.level, "chmod" in found.action) == (Level.WARN, True)


async def test_a_folder_that_is_a_file_is_a_failure(settings: Settings) -> None:
    settings.data.rmdir()
    settings.data.write_text("")
    assert only(await box.permissions(settings)).level is Level.FAIL


@pytest.mark.parametrize(
    ("free_mb", "level"), [(300, Level.FAIL), (3_000, Level.WARN), (9_000, Level.PASS)]
)
async def test_a_full_disk_is_told_in_passages(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free_mb: int, level: Level
) -> None:
    monkeypatch.setattr(
        box.shutil, "disk_usage", lambda _: type("U", (), {"free": free_mb * 1_000_000})()
    )
    found = only(await box.disk(settings))
    assert (found.level, "笔" in found.text) == (level, True)


async def test_a_whole_store_passes_and_is_left_as_it_was(settings: Settings) -> None:
    first = await box.store(settings)
    assert [f.level for f in first] == [Level.PASS, Level.PASS]
    assert "首次启动" in first[0].text
    await make_store(settings)
    before = {file.name: file.read_bytes() for file in settings.data.iterdir() if file.is_file()}
    found = await box.store(settings)
    assert [(f.name, f.level) for f in found] == [("流水库", 0), ("断电保护", 0)]
    assert {
        file.name: file.read_bytes() for file in settings.data.iterdir() if file.is_file()
    } == before


async def test_a_store_in_use_is_read_beside_the_gateway(settings: Settings) -> None:
    store = await Store.open(settings.database)
    try:
        await store.log(row_at(5))
        await store.settle()
        assert (await box.store(settings))[0].level is Level.PASS
        assert only(await box.clock(settings, StillClock())).level is Level.FAIL  # 2023
    finally:
        await store.close()


def row_at(at_ms: int) -> Any:
    return lambda draft: draft.add("X03", "P", (at_ms, 0, "b", "1001"), "seen")


async def test_a_damaged_store_is_a_failure_and_nothing_is_deleted(settings: Settings) -> None:
    await make_store(settings)
    raw = bytearray(settings.database.read_bytes())
    raw[4096 * 2 : 4096 * 3] = os.urandom(4096)
    settings.database.write_bytes(raw)
    found = (await box.store(settings))[0]
    assert (found.level, "不要删除" in found.action) == (Level.FAIL, True)
    assert settings.database.read_bytes() == raw


async def test_a_file_that_is_no_database_is_a_failure(settings: Settings) -> None:
    settings.database.write_bytes(b"not a database" * 1000)
    assert (await box.store(settings))[0].level is Level.FAIL


async def test_a_store_of_a_newer_program_is_a_failure(settings: Settings) -> None:
    await make_store(settings)
    with sqlite3.connect(settings.database) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    found = (await box.store(settings))[0]
    assert (found.level, "降级" in found.action) == (Level.FAIL, True)


async def test_a_disk_on_which_the_pragmas_do_not_take_is_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box, "PRAGMAS", {"journal_mode": ("MEMORY", "wal")})
    found = (await box.store(settings))[1]
    assert (found.name, found.level) == ("断电保护", Level.FAIL)
    assert list(settings.data.iterdir()) == []


async def test_a_clock_behind_the_journal_is_a_failure(settings: Settings) -> None:
    clock = StillClock()
    clock.ms = NOW_MS
    assert only(await box.clock(settings, clock)).level is Level.PASS
    store = await Store.open(settings.database)
    await store.log(row_at(NOW_MS))
    await store.close()
    assert only(await box.clock(settings, clock)).level is Level.PASS
    clock.ms -= 3_600_000
    found = only(await box.clock(settings, clock))
    assert (found.level, "还早" in found.text) == (Level.FAIL, True)
    clock.ms = 0
    assert only(await box.clock(settings, clock)).level is Level.FAIL


@pytest.mark.parametrize(
    ("age_days", "level", "word"),
    [(0, Level.PASS, "还有"), (380, Level.WARN, "还有 1"), (3_400, Level.WARN, "CA 还有 2")],
)
async def test_certificates_warn_before_they_expire(
    settings: Settings, age_days: int, level: Level, word: str
) -> None:
    made = datetime.now(UTC)
    tls.prepare(settings.data / "tls", ["127.0.0.1"], made)
    clock = StillClock()
    clock.ms = round((made + timedelta(days=age_days)).timestamp() * 1000)
    found = only(await box.certificates(with_lan(settings), clock))
    assert (found.level, word in found.text) == (level, True)


async def test_absent_and_broken_certificates_are_told_apart(settings: Settings) -> None:
    clock = SystemClock()
    assert "不需要" in only(await box.certificates(settings, clock)).text
    assert "首次启动" in only(await box.certificates(with_lan(settings), clock)).text
    tls.prepare(settings.data / "tls", ["127.0.0.1"], datetime.now(UTC))
    (settings.data / "tls" / tls.LEAF_FILE).write_text("garbage")
    assert only(await box.certificates(with_lan(settings), clock)).level is Level.WARN


# ---- the centre and the tables ----


@contextmanager
def centre(status: int, date: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """A centre that gives one answer; the address, and the tokens it was shown."""
    shown: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response_only(status)
            self.send_header("Date", date or self.date_time_string())
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "date", "token", "level", "word"),
    [
        (200, None, "t", Level.PASS, "令牌有效"),
        (200, None, None, Level.WARN, "没有配置令牌"),
        (401, None, "t", Level.WARN, "不被接受"),
        (502, None, "t", Level.WARN, "应答异常"),
        (200, "Mon, 01 Jan 2024 00:00:00 GMT", "t", Level.WARN, "时钟"),
        (200, "yesterday", "t", Level.PASS, "令牌有效"),
    ],
)
async def test_the_centres_answer_is_understood(
    settings: Settings, status: int, date: str | None, token: str | None, level: Level, word: str
) -> None:
    with centre(status, date) as (url, shown):
        found = only(await outside.center(with_center(settings, url, token), SystemClock()))
    assert (found.level, word in found.text) == (level, True), found
    assert shown == [f"/v1/parameters {'Bearer t' if token else None}"]


async def test_a_centre_that_never_answers_is_a_warning_within_its_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "CENTER_S_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = only(await outside.center(with_center(settings, url), SystemClock()))
    assert (found.level, "没有应答" in found.text) == (Level.WARN, True)
    found = only(await outside.center(with_center(settings, url), SystemClock()))
    assert (found.level, "没有开" in found.text) == (Level.WARN, True)


async def test_an_untrusted_centre_is_a_warning(settings: Settings, tmp_path: Path) -> None:
    identity = tls.prepare(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def shake() -> None:
            raw, _ = listener.accept()
            try:
                identity.context().wrap_socket(raw, server_side=True).close()
            except (ssl.SSLError, OSError):
                raw.close()

        thread = threading.Thread(target=shake)
        thread.start()
        url = f"https://127.0.0.1:{port}"
        found = only(await outside.center(with_center(settings, url), SystemClock()))
        thread.join(5)
    assert (found.level, "证书" in found.text) == (Level.WARN, True)


Change = Callable[[Path], None]


def rewrite(name: str, change: Callable[[dict[str, Any]], None]) -> Change:
    def apply(folder: Path) -> None:
        file = folder / f"{name}.json"
        package = json.loads(file.read_text())
        change(package)
        file.write_text(json.dumps(package))

    return apply


@pytest.mark.parametrize(
    ("change", "level", "word"),
    [
        (lambda folder: (folder / "stations.json").unlink(), Level.FAIL, "stations"),
        (lambda folder: (folder / "policy.json").write_text("{"), Level.WARN, "policy.json"),
        (rewrite("minimum_fares", lambda p: p["body"].update(exit_hex="62010A12")), 2, "最小费额"),
        (rewrite("stations", lambda p: p["body"]["rows"].clear()), Level.FAIL, "站点表"),
        (rewrite("status_list", lambda p: p.update(effective_from="2025-11-18")), 1, "status_list"),
    ],
)
async def test_tables_that_do_not_serve_are_named(
    settings: Settings, tmp_path: Path, change: Change, level: int, word: str
) -> None:
    change(tmp_path / "tables")
    findings = await outside.parameters(settings, SystemClock())
    assert any(f.level == level and word in f.text for f in findings), findings


async def test_a_newer_table_from_the_centre_counts(settings: Settings, tmp_path: Path) -> None:
    async def hours() -> str:
        findings = await outside.parameters(settings, SystemClock())
        return next(f.text for f in findings if "状态名单 " in f.text)

    assert "状态名单 fresh" not in await hours()
    package = json.loads((tmp_path / "tables" / "status_list.json").read_text())
    package["version"] = "fresh"
    package["effective_from"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    row = ("status_list", "fresh", "", NOW_MS, NOW_MS, "staged", None, json.dumps(package).encode())
    store = await Store.open(settings.database)
    insert = "INSERT INTO parameter VALUES (?,?,?,?,?,?,?,?)"
    await store.write(lambda db: db.execute(insert, row) and None)
    await store.close()
    assert "状态名单 fresh，1 小时前生效" in await hours()
    assert re.search(r"stations \S+（\d+ 天）", await hours())


def test_the_demos_passwords_are_found_out_and_others_are_not() -> None:
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    people = {"1001": "1001", "9001": "h0rse", "7001": "garbage hash", "1234": "1234"}
    rows = tuple(
        Operator(
            number=number,
            name="x",
            role="collector",
            password_hash=password if " " in password else hasher.hash(password),
        )
        for number, password in people.items()
    )
    assert access.demo_operators(Operators(rows=rows)) == ["1001"]


# ---- devices ----


async def test_simulated_devices_are_warnings_and_absent_ones_are_not() -> None:
    sim, none = Simulated(driver="sim"), Absent(driver="none")
    clock = SystemClock()
    for look in (devices.reader, devices.psam, devices.antenna, devices.camera, devices.scale):
        found = only(await look("X03 x", sim, clock))  # type: ignore[operator]
        assert (found.level, "模拟" in found.text) == (Level.WARN, True)
    for look in (devices.antenna, devices.camera, devices.scale):
        assert only(await look("X03 x", none, clock)).level is Level.PASS  # type: ignore[operator]


async def test_a_missing_reader_is_a_failure_and_a_missing_antenna_is_not() -> None:
    pytest.importorskip("smartcard")
    chip, clock = PcscChip(driver="pcsc", reader="No Such Reader"), SystemClock()
    reader, psam, antenna = await asyncio.gather(
        devices.reader("X03 读卡器", chip, clock),
        devices.psam("X03 PSAM", chip, clock),
        devices.antenna("X03 OBU天线", chip, clock),
    )
    assert [only(f).level for f in (reader, psam, antenna)] == [2, 2, 1]


async def test_a_camera_that_is_not_there_is_a_warning() -> None:
    section = OpencvCamera(driver="opencv", url="http://127.0.0.1:9/none.mjpg")
    found = only(await devices.camera("X03 摄像机", section, SystemClock()))
    assert found.level is Level.WARN


async def test_a_scale_is_weighed_through_its_line_and_a_silent_one_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    section = SerialScale(driver="serial", url=os.ttyname(slave))
    monkeypatch.setattr(devices, "SCALE_S_MAX", 0.5)
    try:
        silent = only(await devices.scale("X03 地磅", section, SystemClock()))
        assert (silent.level, "没有数据" in silent.text) == (Level.WARN, True)
        monkeypatch.setattr(devices, "SCALE_S_MAX", 4.0)
        looking = asyncio.ensure_future(devices.scale("X03 地磅", section, SystemClock()))
        while not looking.done():
            os.write(
                master, b"\x02+018350014\x03"
            )  # XK3190-A9: +018350, 0 decimals (domain.md §10.1)
            await asyncio.sleep(0.05)
        found = only(await looking)
        assert (found.level, "18350 kg" in found.text) == (Level.PASS, True), found
    finally:
        os.close(master)
        os.close(slave)


# ---- the disk that money is written to ----


async def test_the_logs_place_is_told_with_the_disks_own_block(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless = settings.model_copy(update={"spool": SpoolSection(block_bytes=512)})
    for size, given, level, told in (
        (4096, settings, Level.PASS, "一次写 4096 字节"),
        (4096, careless, Level.WARN, "可能伤到"),
        (512, careless, Level.PASS, "不会伤到"),
        (512, settings, Level.PASS, "一次写 512 字节"),
        (None, settings, Level.PASS, "没有说"),
    ):
        for module in (disk, place):
            monkeypatch.setattr(module, "physical_block", lambda _, size=size: size)
        found = only(await disk.place(given))
        assert (found.level, told in found.text) == (level, True), found


def test_the_kernel_knows_the_block_of_a_real_disk() -> None:
    told = disk.physical_block(Path("/"))
    assert told is None or told in (512, 4096, 8192, 16384, 32768, 65536)


async def test_a_log_that_is_elsewhere_or_not_mounted_is_a_failure(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    (settings.data / "spool").symlink_to(tmp_path / "log")
    assert only(await disk.place(settings)).level is Level.PASS
    other = settings.spool.model_copy(update={"folder": tmp_path / "other"})
    found = only(await disk.place(settings.model_copy(update={"spool": other})))
    assert (found.level, "不要只改配置" in found.action) == (Level.FAIL, True)
    (tmp_path / "log").rmdir()
    found = only(await disk.place(settings))
    assert (found.level, "挂上" in found.action) == (Level.FAIL, True)


async def test_a_reserve_that_is_not_whole_is_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"spool": SpoolSection(block_bytes=512)})
    assert "首次启动" in only(await disk.reserves(settings)).text
    await make_store(settings)
    assert only(await disk.reserves(settings)).level is Level.WARN  # the tables' is not there
    monkeypatch.setattr(disk.reserve, "SIZE", 4096)
    (settings.data / "reserve").write_bytes(bytes(4096))
    assert only(await disk.reserves(settings)).level is Level.PASS
    for spare in (settings.data / "spool").glob("*.seg"):
        spare.unlink()
    assert only(await disk.reserves(settings)).level is Level.WARN


async def test_damaged_files_that_were_set_aside_are_a_warning(settings: Settings) -> None:
    assert only(await disk.quarantine(settings)).level is Level.PASS
    (settings.data / "quarantine").mkdir()
    (settings.data / "quarantine" / "0001-lane.db").write_bytes(b"x")
    found = only(await disk.quarantine(settings))
    assert (found.level, "1 个" in found.text) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("ms", "level"), [(0.4, Level.PASS), (60.0, Level.WARN), (600.0, Level.FAIL)]
)
async def test_a_slow_disk_is_measured_and_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ms: float, level: Level
) -> None:
    assert "首次启动" in only(await disk.speed(settings)).text
    await make_store(settings)
    monkeypatch.setattr(disk, "measure", lambda *_: (True, [ms] * 20))
    assert only(await disk.speed(settings)).level is level


@pytest.mark.parametrize("block", [512, 4096])
def test_the_measurement_writes_for_real_and_leaves_nothing(tmp_path: Path, block: int) -> None:
    _, took_ms = disk.measure(tmp_path, block)
    assert len(took_ms) == 20
    assert all(ms > 0 for ms in took_ms)
    assert list(tmp_path.iterdir()) == []


async def test_who_keeps_the_clock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for quality, level in (
        (Quality("ntp", is_synchronised=True, error_ms=12), Level.PASS),
        (Quality("rtc", is_synchronised=False), Level.WARN),
    ):
        monkeypatch.setattr(box.kernel, "quality", lambda _, q=quality: q)
        found = only(await box.kept(StillClock()))
        assert found.level is level

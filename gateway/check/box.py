"""Checks of this machine: rights, disk, store, clock, certificates. Nothing is changed."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from gateway import tls
from gateway.check.finding import Finding, fail, in_thread, ok, warn
from gateway.config import Settings
from gateway.errors import TlsUnavailable
from gateway.spool.database import PRAGMAS
from gateway.timekeeping import kernel
from gateway.units import Clock, Quality, beijing, iso

MB = 1_000_000
PASSAGE_MB = 0.4  # a photo and its rows, generously
PASSAGES_MIN, PASSAGES_LOW = 1_000, 10_000
INODES_LOW = 10_000
QUICK_CHECK_S = 3.0
CA_DAYS_LOW, LEAF_DAYS_LOW = 365, 30
AHEAD_MS_MAX = 60_000


async def permissions(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _permissions(settings.data))]


async def disk(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _disk(settings.data))]


async def store(settings: Settings) -> Sequence[Finding]:
    return await in_thread(lambda: _store(settings))


async def clock(settings: Settings, now: Clock) -> Sequence[Finding]:
    return [await in_thread(lambda: _clock(settings.database, now.now_ms()))]


async def kept(now: Clock) -> Sequence[Finding]:
    return [await in_thread(lambda: _kept(kernel.quality(now)))]


async def certificates(settings: Settings, now: Clock) -> Sequence[Finding]:
    return [await in_thread(lambda: _certificates(settings, now))]


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """The store, read only. Without a WAL nothing beside it is created either, so that a check
    by root leaves no file behind that the service may not write."""
    has_wal = Path(f"{database}-wal").exists()
    how = "mode=ro" if has_wal else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?{how}", uri=True)) as db:
        yield db


def _permissions(data: Path) -> Finding:
    name = "权限"
    if not data.exists():
        if os.access(_existing(data), os.W_OK | os.X_OK):
            return ok(name, f"{data} 会在首次启动时建立")
        return fail(name, f"{data} 不存在，也不能建立", f"请建立文件夹并交给网关的用户：{data}")
    if not data.is_dir() or not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return fail(name, f"{data} 不能读写", "请把数据文件夹交给运行网关的用户")
    secret = [data, *data.glob("lane.db*"), *data.glob("tls/*.pem")]
    if exposed := [path.name for path in secret if path.stat().st_mode & 0o077]:
        return warn(name, f"其他用户能读 {'、'.join(exposed)}", f"请执行 chmod -R go= {data}")
    return ok(name, f"{data} 可读写，其他用户不能读")


def _disk(data: Path) -> Finding:
    name, where = "磁盘", _existing(data)
    free_mb, files = shutil.disk_usage(where).free / MB, os.statvfs(where)
    passages = int(free_mb / PASSAGE_MB)
    told = f"剩余 {free_mb / 1000:.1f} GB，约够 {passages} 笔"
    if passages < PASSAGES_MIN:
        return fail(name, told, f"少于 {PASSAGES_MIN} 笔的余量，请清理磁盘后再开车道")
    if passages < PASSAGES_LOW:
        return warn(name, told, "请尽快清理磁盘")
    if files.f_files and files.f_favail < INODES_LOW:
        return warn(name, f"{told}；只剩 {files.f_favail} 个文件名额", "请清理磁盘上的小文件")
    return ok(name, told)


def _store(settings: Settings) -> list[Finding]:
    name, database = "流水库", settings.database
    try:
        durable = [_durable(settings.data)] if settings.data.is_dir() else []
        if not database.exists():
            return [ok(name, "会在首次启动时建立"), *durable]
        with reading(database) as db:
            return [_whole(db), *durable]
    except (sqlite3.Error, OSError) as broken:
        return [fail(name, f"打不开或已损坏：{broken}", _KEEP)]


_KEEP = "不要删除任何文件；请停用车道并通知维护人员"


def _whole(db: sqlite3.Connection) -> Finding:
    """Version, mode, and SQLite's own quick check, as far as it comes in three seconds."""
    name = "流水库"
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    newest = max(int(f.name[:4]) for f in _schemas())
    if version > newest:
        return fail(name, f"库版本 {version} 比程序新（{newest}）", "请安装新版程序，不要降级")
    deadline = time.monotonic() + QUICK_CHECK_S
    db.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    try:
        told = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as stopped:
        if "interrupted" not in str(stopped):
            raise
        return warn(name, "太大，3 秒内没有查完", "请在停用车道时执行 journal verify")
    if told != "ok":
        return fail(name, f"完整性检查不通过：{told}", _KEEP)
    return ok(name, f"完好，版本 {version}")


def _schemas() -> Iterator[Path]:
    for file in resources.files("gateway").joinpath("schema").iterdir():
        if file.name.endswith(".sql"):
            yield Path(file.name)


def _durable(data: Path) -> Finding:
    """Do the pragmas that make a commit survive a power cut take on this file system?"""
    name, scratch = "断电保护", data / f".check-{os.getpid()}.db"
    try:
        with closing(sqlite3.connect(scratch, isolation_level=None)) as db:
            for pragma, (value, wanted) in PRAGMAS.items():
                db.execute(f"PRAGMA {pragma}={value}")
                got = db.execute(f"PRAGMA {pragma}").fetchone()[0]
                if got != wanted:
                    told = f"{pragma} 没有生效：{got}"
                    return fail(name, told, "请把数据文件夹放在本机磁盘上，不要用网络盘")
            db.execute("CREATE TABLE probe (x)")
        return ok(name, "WAL 和 FULL 同步有效")
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{scratch}{end}").unlink(missing_ok=True)


def _clock(database: Path, now_ms: int) -> Finding:
    name, now = "时钟", iso(now_ms)
    if beijing(now_ms) < tls.CLOCK_FLOOR:
        told = f"现在显示 {now}，明显不对；流水会按最后一笔的时间接着记"
        return fail(name, told, "请校准时钟后再开车道")
    last_ms = 0
    if database.exists():
        try:
            with reading(database) as db:
                last_ms = db.execute("SELECT max(at_ms) FROM journal").fetchone()[0] or 0
        except sqlite3.Error:
            return warn(name, f"{now}，流水库读不出，无法核对", "请先处理流水库")
    if last_ms > now_ms + AHEAD_MS_MAX:
        told = f"现在 {now}，比最后一笔流水 {iso(last_ms)} 还早；流水会按最后一笔的时间接着记"
        return fail(name, told, "请校准时钟后再开车道")
    return ok(name, f"现在 {now}")


KEEPERS = {"ntp": "有对时", "rtc": "只靠硬件时钟", "manual": "没有对时", "unset": "从未设过"}


def _kept(quality: Quality) -> Finding:
    """Who keeps the clock. An offline box is a usual one: no reason not to sell."""
    name, told = "对时", KEEPERS[quality.source]
    if quality.is_synchronised:
        error = "" if quality.error_ms is None else f"，误差不超过 {quality.error_ms} 毫秒"
        return ok(name, f"{told}{error}")
    return warn(name, told, "可以收费，流水会注明；请接上对时（NTP、GPS 或上级）")


def _certificates(settings: Settings, now: Clock) -> Finding:
    name = "证书"
    if settings.lan is None:
        return ok(name, "没有开放手持终端，不需要")
    try:
        found = tls.inspect(settings.data / "tls")
    except TlsUnavailable as broken:
        return warn(name, broken.detail, "启动时会移开坏文件并重新生成；手持终端要重新安装证书")
    if found is None:
        return ok(name, "会在首次启动时生成")
    today = beijing(now.now_ms())
    ca_days, leaf_days = (found.ca_expires - today).days, (found.leaf_expires - today).days
    told = f"CA 还有 {ca_days} 天，终端证书还有 {leaf_days} 天"
    if ca_days < CA_DAYS_LOW:
        return warn(name, told, "请安排更换 CA：移走 tls 目录后重启，并重新配对手持终端")
    if leaf_days < LEAF_DAYS_LOW:
        return warn(name, told, "启动时会自动更新；不更新请检查时钟")
    return ok(name, told)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())

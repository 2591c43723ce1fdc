"""Checks of the disk that money is written to: place, reserves, quarantine, speed."""

import mmap
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.check.finding import Finding, fail, in_thread, ok, warn
from gateway.config import Settings
from gateway.disk import identity
from gateway.disk.place import block_of, physical_block
from gateway.errors import ConfigInvalid
from gateway.spool import log, reserve, segment
from gateway.spool.repair import QUARANTINE
from gateway.store import SPOOL

MB = 1024 * 1024
WRITES = 20
SLOW_MS, VERY_SLOW_MS = 50.0, 500.0
"""Medians: above the first a lane feels it, above the second it is told as a slow disk."""


async def place(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _place(settings))]


async def reserves(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _reserves(settings))]


async def quarantine(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _quarantine(settings.data))]


async def speed(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _speed(settings))]


def _folder(settings: Settings) -> Path:
    """Where the log is, or will be."""
    standing = settings.data / SPOOL
    return standing if standing.exists() else settings.spool.folder or standing


def _place(settings: Settings) -> Finding:
    name, folder, block = "流水日志", _folder(settings), _block(settings)
    standing, wanted = settings.data / SPOOL, settings.spool.folder
    if standing.is_symlink() and not standing.exists():
        return fail(name, f"{standing} 指向的文件夹不在", "请先挂上它所在的分区，不要删除文件")
    if wanted and standing.exists() and standing.resolve() != wanted.resolve():
        told = f"流水日志在 {standing.resolve()}，配置写的是 {wanted}"
        return fail(name, told, "请停机后把整个文件夹移过去；不要只改配置")
    try:
        identity.prove(settings.data)
    except ConfigInvalid as no:
        return fail(name, no.detail, no.action)
    here, there = _existing(settings.data), _existing(folder)
    is_own = here.stat().st_dev != there.stat().st_dev
    where = "单独的分区" if is_own else "和账本、照片同一个分区"
    told = f"{where}；一次写 {block} 字节"
    physical = physical_block(there)
    if physical is None:
        return ok(name, f"{told}，磁盘没有说它的扇区大小")
    if block < physical:
        told += f"，磁盘扇区 {physical} 字节：断电可能伤到同一扇区里前面几条流水"
        return warn(name, told, "请去掉 [spool] block_bytes，或确认磁盘有掉电保护")
    return ok(name, f"{told}，磁盘扇区 {physical} 字节，断电不会伤到前面的流水")


def _block(settings: Settings) -> int:
    return block_of(_existing(_folder(settings)), settings.spool.block_bytes)


def _reserves(settings: Settings) -> Finding:
    name, folder = "预留空间", _folder(settings)
    if not settings.database.exists():
        return ok(name, "会在首次启动时建立")
    spare, held = sum(_spares(folder)), 0
    with suppress(OSError):
        held = (settings.data / reserve.RESERVE).stat().st_size
    told = f"流水日志 {spare / MB:.0f} MB，账本 {held / MB:.0f} MB"
    wanted_bytes = log.reserve_bytes(_block(settings))
    if spare < wanted_bytes or held < reserve.SIZE:
        wanted = f"{wanted_bytes / MB:.0f} + {reserve.SIZE / MB:.0f} MB"
        return warn(name, f"{told}，不完整（应为 {wanted}）", "请清理磁盘；有空间后自动补齐")
    return ok(name, f"{told}，磁盘满后还能办 1000 辆以上")


def _spares(folder: Path) -> Iterator[int]:
    with suppress(OSError):
        for number in segment.numbers(folder):
            path = segment.path_of(folder, number)
            with path.open("rb") as file:
                if segment.is_blank(file.read(segment.HEAD_SIZE)):
                    yield path.stat().st_size


def _quarantine(data: Path) -> Finding:
    name = "隔离区"
    kept = [
        file
        for folder in (data / QUARANTINE, data / SPOOL / QUARANTINE)
        if folder.is_dir()
        for file in folder.iterdir()
    ]
    if not kept:
        return ok(name, "没有坏文件")
    size_mb = sum(file.stat().st_size for file in kept) / MB
    told = f"有 {len(kept)} 个坏文件（{size_mb:.0f} MB），已经另行重建"
    return warn(name, told, "请查看流水里的 incident，交给维护人员留存后再移走；请检查磁盘")


def _speed(settings: Settings) -> Finding:
    name, folder = "写盘", _folder(settings)
    if not folder.exists():
        return ok(name, "首次启动后再测")
    try:
        is_direct, took_ms = measure(folder, _block(settings))
    except OSError as no:
        return fail(name, f"{folder} 不能写：{no.strerror}", "请检查磁盘和文件夹的权限")
    median_ms, worst_ms = statistics.median(took_ms), max(took_ms)
    how = "直接写盘有效" if is_direct else "不支持直接写盘，经过缓存再同步"
    told = f"{WRITES} 次，中位 {median_ms:.1f} 毫秒，最慢 {worst_ms:.1f} 毫秒；{how}"
    if median_ms > VERY_SLOW_MS:
        return fail(name, told, "磁盘太慢，请更换后再开车道")
    if median_ms > SLOW_MS:
        return warn(name, told, "每一步都会慢，请检查磁盘")
    return ok(name, told)


def measure(folder: Path, block: int) -> tuple[bool, list[float]]:
    """Whether writing past the cache works, and how long each small synced write took, in ms.

    As the log writes: into blocks that are there, one write a commit. Raises: OSError.
    """
    scratch = folder / f".check-{os.getpid()}"
    try:
        scratch.write_bytes(bytes(WRITES * block))
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        fd, is_direct = _open(scratch, block)
        try:
            return is_direct, [_write(fd, number * block, block) for number in range(WRITES)]
        finally:
            os.close(fd)
    finally:
        scratch.unlink(missing_ok=True)


def _open(path: Path, block: int) -> tuple[int, bool]:
    plain = os.O_RDWR | os.O_DSYNC
    with suppress(OSError):
        fd = os.open(path, plain | os.O_DIRECT)
        try:
            _write(fd, 0, block)
        except OSError:
            os.close(fd)
            raise
        return fd, True
    return os.open(path, plain), False


def _write(fd: int, at: int, size: int) -> float:
    with mmap.mmap(-1, size) as piece:  # page-aligned, as writing past the cache demands
        begun = time.perf_counter()
        os.pwrite(fd, piece, at)
        return (time.perf_counter() - begun) * 1000


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())

"""lane-gateway check: named checks side by side, one line each, and what to do about it.

Looks and changes nothing; a running gateway may go on. Ends within ten seconds, whatever hangs.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from gateway.check import box, devices, disk, outside, signing
from gateway.check.finding import Finding, Level, warn
from gateway.config import LaneSection, Settings, load
from gateway.errors import ConfigInvalid
from gateway.units import Clock, SystemClock

CHECK_S_MAX = 8.0

Check = tuple[str, Callable[[], Awaitable[Sequence[Finding]]]]


def run(path: Path, out: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Check what this file describes; print the findings. Returns 0 all pass, 1 warnings,
    2 failures (interfaces.md §7.16)."""
    try:
        settings = load(path, environ)
    except ConfigInvalid as fault:
        findings = [Finding(Level.FAIL, "配置", line, fault.action) for line in _lines(fault)]
    else:
        known = Finding(Level.PASS, "配置", f"{path.name} 正确")
        findings = [known, *asyncio.run(examine(settings, SystemClock()))]
    for finding in findings:
        print(finding, file=out or sys.stdout)
    return max(finding.level for finding in findings)


async def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """Every check at once, in the order of `_checks`."""
    results = await asyncio.gather(*(_bounded(*check) for check in _checks(settings, clock)))
    return [finding for found in results for finding in found]


def _checks(settings: Settings, clock: Clock) -> list[Check]:
    checks: list[Check] = [
        ("权限", lambda: box.permissions(settings)),
        ("磁盘", lambda: box.disk(settings)),
        ("流水日志", lambda: disk.place(settings)),
        ("预留空间", lambda: disk.reserves(settings)),
        ("隔离区", lambda: disk.quarantine(settings)),
        ("写盘", lambda: disk.speed(settings)),
        ("流水库", lambda: box.store(settings)),
        ("时钟", lambda: box.clock(settings, clock)),
        ("对时", lambda: box.kept(clock)),
        ("证书", lambda: box.certificates(settings, clock)),
        ("签名密钥", lambda: signing.key(settings)),
        ("参数", lambda: outside.parameters(settings, clock)),
        ("中心", lambda: outside.center(settings, clock)),
    ]
    for lane in settings.lane:
        if lane.enabled:
            checks += _devices(lane, clock)
    return checks


def _devices(lane: LaneSection, clock: Clock) -> list[Check]:
    return [
        (f"{lane.name} 读卡器", lambda: devices.reader(f"{lane.name} 读卡器", lane.card, clock)),
        (f"{lane.name} PSAM", lambda: devices.psam(f"{lane.name} PSAM", lane.psam, clock)),
        (f"{lane.name} OBU天线", lambda: devices.antenna(f"{lane.name} OBU天线", lane.obu, clock)),
        (f"{lane.name} 摄像机", lambda: devices.camera(f"{lane.name} 摄像机", lane.camera, clock)),
        (f"{lane.name} 地磅", lambda: devices.scale(f"{lane.name} 地磅", lane.scale, clock)),
    ]


async def _bounded(
    name: str, check: Callable[[], Awaitable[Sequence[Finding]]]
) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            return await check()
    except TimeoutError:
        return [warn(name, f"{CHECK_S_MAX:.0f} 秒内没有结果", "请单独检查这一项")]


def _lines(fault: ConfigInvalid) -> list[str]:
    return fault.detail.splitlines() or [fault.detail]

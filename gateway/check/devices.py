"""Checks of one lane's devices. Drivers are imported on demand; each device is let go again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from gateway.check.finding import Finding, fail, in_thread, ok, warn
from gateway.config import Absent, OpencvCamera, PcscChip, SerialScale, Simulated
from gateway.devices.ports import CardLink
from gateway.devices.psam import Psam
from gateway.errors import DeviceBusy, DeviceUnavailable, GatewayError
from gateway.units import Clock

SCALE_S_MAX = 4.0
SCALE_EVERY_S = 0.1
Look = Callable[[CardLink], Awaitable[str]]
Blame = Callable[[str, str, str], Finding]


async def reader(name: str, chip: PcscChip | Simulated, clock: Clock) -> Sequence[Finding]:
    """The card reader: without it nothing can be sold."""
    if isinstance(chip, Simulated):
        return [_simulated(name)]
    return [await _chip(name, chip, clock, _presence, fail)]


async def psam(name: str, chip: PcscChip | Simulated, clock: Clock) -> Sequence[Finding]:
    """The PSAM answers with its terminal number."""
    if isinstance(chip, Simulated):
        return [_simulated(name)]
    return [await _chip(name, chip, clock, _terminal, fail)]


async def antenna(
    name: str, chip: PcscChip | Simulated | Absent, clock: Clock
) -> Sequence[Finding]:
    """Without it the lane still sells, with a reason recorded."""
    if isinstance(chip, Simulated):
        return [_simulated(name)]
    if isinstance(chip, Absent):
        return [ok(name, "没有配置")]
    return [await _chip(name, chip, clock, _presence, warn)]


async def camera(
    name: str, section: OpencvCamera | Simulated | Absent, clock: Clock
) -> Sequence[Finding]:
    """One picture, taken now."""
    if not isinstance(section, OpencvCamera):
        return [_simulated(name) if isinstance(section, Simulated) else ok(name, "没有配置")]
    from gateway.devices.camera import ChildCamera

    async with aclosing(_Closing(ChildCamera(_short(name), section.url, clock))) as held:
        try:
            frame = await held.device.snap()
        except GatewayError as fault:
            return [warn(name, fault.detail, "请检查摄像机的电源、网线和地址")]
        return [ok(name, f"拍到一张，{len(frame.jpeg) // 1000} kB")]


async def scale(
    name: str, section: SerialScale | Simulated | Absent, clock: Clock
) -> Sequence[Finding]:
    """A frame within four seconds."""
    if not isinstance(section, SerialScale):
        return [_simulated(name) if isinstance(section, Simulated) else ok(name, "没有配置")]
    from gateway.devices.scale import SerialScale as Driver

    async with aclosing(_Closing(Driver(_short(name), section.url, clock, section.baud))) as held:
        listening = asyncio.ensure_future(held.device.run())
        try:
            return [await _weight(name, held.device, listening, clock)]
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError, GatewayError):
                await listening


async def _weight(
    name: str, device: Any, listening: "asyncio.Future[None]", clock: Clock
) -> Finding:
    fault: GatewayError = DeviceUnavailable("没有数据")
    for _ in range(round(SCALE_S_MAX / SCALE_EVERY_S)):
        if listening.done():
            break
        try:
            load = await device.load()
        except GatewayError as silent:
            fault = silent
        else:
            return ok(name, f"{load.weight_kg} kg，{'稳定' if load.is_stable else '在变动'}")
        await clock.sleep(SCALE_EVERY_S)
    if listening.done() and isinstance(broken := listening.exception(), GatewayError):
        fault = broken
    return warn(name, fault.detail, "请检查仪表电源、串口线和波特率")


class _Closing:
    """A device as something `aclosing` understands."""

    def __init__(self, device: Any) -> None:
        self.device = device

    async def aclose(self) -> None:
        await self.device.close()


async def _chip(name: str, chip: PcscChip, clock: Clock, look: Look, blame: Blame) -> Finding:
    try:
        pcsc = await in_thread(_pcsc)
    except ImportError:
        return blame(name, "没有安装 pyscard", "请执行 pip install 'lane-gateway[cards]'")
    async with aclosing(_Closing(pcsc.PcscLink(_short(name), chip.reader, clock))) as held:
        try:
            return ok(name, await look(held.device))
        except GatewayError as fault:
            if isinstance(fault.__cause__, DeviceBusy):  # what the PSAM's words were made of
                held_by = "可能就是正在运行的网关，那属正常；要细查请先停网关"
                return warn(name, fault.__cause__.detail, held_by)
            return blame(name, fault.detail, fault.action)


def _short(name: str) -> str:
    """X03 读卡器 → 读卡器: the lane stands at the line's beginning already."""
    return name.rpartition(" ")[2]


def _pcsc() -> Any:
    from gateway.devices import pcsc

    return pcsc


async def _presence(link: CardLink) -> str:
    return "正常，有卡" if await link.is_present() else "正常，没有放卡"


async def _terminal(link: CardLink) -> str:
    facts = await Psam(link).open()
    return f"正常，终端机编号 {facts.terminal_no.hex().upper()}"


def _simulated(name: str) -> Finding:
    return warn(name, "是模拟的，不能收费", "正式使用请在配置里改成真实设备")

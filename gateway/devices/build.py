"""A lane's configuration → its devices. Each driver is imported only where it is asked for.

So a machine without pcsc-lite, OpenCV or a serial port builds and demonstrates all the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gateway.config import (
    Absent,
    LaneSection,
    MaybeCamera,
    MaybeChip,
    MaybeScale,
    OpencvCamera,
    PcscChip,
    SerialScale,
)
from gateway.devices.ports import Camera, CardLink, Scale
from gateway.errors import ConfigInvalid
from gateway.params import Parameters
from gateway.units import Clock

if TYPE_CHECKING:
    from gateway.devices.sim.bench import Bench
    from gateway.devices.sim.faults import CenterSwitch, DiskSwitch

CARD, PSAM, OBU, CAMERA, SCALE = "读卡器", "PSAM", "OBU天线", "相机", "地磅"


@runtime_checkable
class _Started(Protocol):
    async def start(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Devices:
    """One lane's. None where the configuration says `none`."""

    card: CardLink
    psam: CardLink
    obu: CardLink | None
    camera: Camera | None
    scale: Scale | None

    async def close(self) -> None:
        """Let all of them go. Never raises."""
        for device in (self.card, self.psam, self.obu, self.camera, self.scale):
            if device is not None:
                await device.close()


def devices(lane: LaneSection, clock: Clock, *, is_instant: bool = False) -> Devices:
    """The devices of a lane; nothing is opened yet.

    Args:   is_instant: twins answer at once and draw no picture.
    Raises: ConfigInvalid, if a driver's package is not installed.
    """
    card, psam = _chip(lane.card, CARD, clock), _chip(lane.psam, PSAM, clock)
    assert card is not None
    assert psam is not None
    return Devices(
        card,
        psam,
        _chip(lane.obu, OBU, clock),
        _camera(lane.camera, lane.shown, clock, is_instant),
        _scale(lane.scale, clock),
    )


async def warm_up(camera: Camera | None) -> None:
    """Start the camera's process before the first vehicle needs it. Raises: DeviceUnavailable."""
    if isinstance(camera, _Started):
        await camera.start()


def bench(
    built: Devices,
    parameters: Callable[[], Parameters],
    exit_hex: str,
    folder: Path | None,
    clock: Clock,
    *,
    center: "CenterSwitch | None" = None,
    disk: "DiskSwitch | None" = None,
) -> "Bench":
    """The bench over a lane of twins. Raises: ConfigInvalid, if card or PSAM is none.

    Other devices that are no twins are left alone.
    """
    from gateway.devices.sim.bench import Bench
    from gateway.devices.sim.camera import SimCamera
    from gateway.devices.sim.link import SimLink
    from gateway.devices.sim.scale import SimScale

    card, psam, obu = built.card, built.psam, built.obu
    if not isinstance(card, SimLink) or not isinstance(psam, SimLink):
        raise ConfigInvalid('测试台只能用在模拟的读卡器和 PSAM 上（driver = "sim"）')
    return Bench(
        card,
        psam,
        obu if isinstance(obu, SimLink) else None,
        built.camera if isinstance(built.camera, SimCamera) else None,
        built.scale if isinstance(built.scale, SimScale) else None,
        parameters,
        exit_hex,
        folder,
        clock,
        center=center,
        disk=disk,
    )


def _chip(section: MaybeChip, name: str, clock: Clock) -> CardLink | None:
    match section:
        case Absent():
            return None
        case PcscChip(reader=reader):
            try:
                from gateway.devices.pcsc import PcscLink
            except ImportError as missing:
                raise _not_installed("pcsc", "cards", missing) from missing
            return PcscLink(name, reader, clock)
        case _:
            from gateway.devices.sim.link import SimLink

            return SimLink(name)


def _camera(section: MaybeCamera, lane: str, clock: Clock, is_instant: bool) -> Camera | None:
    match section:
        case Absent():
            return None
        case OpencvCamera(url=url):
            from gateway.devices.camera import ChildCamera

            return ChildCamera(CAMERA, url, clock)
        case _:
            from gateway.devices.sim.camera import SimCamera

            return SimCamera(CAMERA, lane, clock, is_drawn=not is_instant)


def _scale(section: MaybeScale, clock: Clock) -> Scale | None:
    match section:
        case Absent():
            return None
        case SerialScale(url=url, baud=baud):
            from gateway.devices.scale import SerialScale as Driver

            return Driver(SCALE, url, clock, baud)
        case _:
            from gateway.devices.sim.scale import SimScale

            return SimScale(SCALE, clock)


def _not_installed(driver: str, extra: str, missing: ImportError) -> ConfigInvalid:
    return ConfigInvalid(
        f"驱动 {driver} 需要的软件包没有安装：{missing.name}",
        f"请安装：pip install -e '.[{extra}]'",
    )

"""Configuration → devices: the right driver for each word, none loaded that nobody asked for."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from gateway.config import LaneSection
from gateway.devices import build
from gateway.devices.camera import ChildCamera
from gateway.devices.scale import SerialScale
from gateway.devices.sim.camera import SimCamera
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.scale import SimScale
from gateway.errors import ConfigInvalid
from tests.devices.test_bench import EXIT_HEX, PARAMETERS
from tests.still_clock import StillClock

SIM, NONE = {"driver": "sim"}, {"driver": "none"}


def section(**devices: object) -> LaneSection:
    lane = {"name": "X03", "lane_id": "G00306200100202010030", "lane_no": 3}
    return TypeAdapter(LaneSection).validate_python({**lane, "card": SIM, "psam": SIM, **devices})


async def test_twins_are_built_and_benched() -> None:
    built = build.devices(section(obu=SIM, camera=SIM, scale=SIM), StillClock(), is_instant=True)
    kinds = (SimLink, SimLink, SimLink, SimCamera, SimScale)
    devices = (built.card, built.psam, built.obu, built.camera, built.scale)
    assert all(isinstance(d, k) for d, k in zip(devices, kinds, strict=True))
    bench = build.bench(built, lambda: PARAMETERS, EXIT_HEX, None, StillClock())
    put = bench.put({"preset": "truck"})
    assert built.scale is not None
    assert (await built.scale.load()).weight_kg == put["weight_kg"]
    await build.warm_up(built.camera)
    await built.close()


async def test_what_the_lane_has_not_is_none() -> None:
    built = build.devices(section(obu=NONE, camera=NONE, scale=NONE), StillClock())
    assert (built.obu, built.camera, built.scale) == (None, None, None)
    await build.warm_up(None)
    await built.close()


async def test_drivers_are_built_but_nothing_is_opened() -> None:
    built = build.devices(
        section(
            camera={"driver": "opencv", "url": "rtsp://192.0.2.1/"},
            scale={"driver": "serial", "url": "/dev/ttyNONE", "baud": 4800},
        ),
        StillClock(),
    )
    assert isinstance(built.camera, ChildCamera)
    assert isinstance(built.scale, SerialScale)
    await built.close()


async def test_readers_are_pcsc() -> None:
    pcsc = pytest.importorskip("gateway.devices.pcsc")
    reader = {"driver": "pcsc", "reader": "No such reader"}
    built = build.devices(section(card=reader, psam=reader, obu=reader), StillClock())
    assert isinstance(built.card, pcsc.PcscLink)
    with pytest.raises(ConfigInvalid, match="模拟"):
        build.bench(built, lambda: PARAMETERS, EXIT_HEX, None, StillClock())
    await built.close()


def test_missing_package_is_said_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.devices.pcsc", raising=False)
    monkeypatch.setitem(sys.modules, "smartcard", None)
    reader = {"driver": "pcsc", "reader": "x"}
    with pytest.raises(ConfigInvalid) as said:
        build.devices(section(card=reader), StillClock())
    assert "smartcard" in said.value.detail
    assert "cards" in said.value.action


def test_no_driver_is_loaded_before_it_is_asked_for() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import gateway.devices.build, sys;"
            "print(sorted({'cv2','numpy','smartcard','serial','cryptography'} & set(sys.modules)))",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == "[]"

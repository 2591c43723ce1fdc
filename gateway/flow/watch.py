"""The lamps: what each device of a lane last proved about itself. Never disturbs an exchange.

A device is well only if it gave evidence of life within the last seconds (reliability.md rule 11);
a lamp that nobody could renew goes out by itself.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from gateway.devices.ports import Camera, CardLink, Health, Load, Scale
from gateway.errors import DeviceGarbled, DeviceUnavailable, GatewayError
from gateway.runtime import Topic
from gateway.units import Clock

POLL_S = 1.0
CAMERA_EVERY = 10  # polls: a picture costs the camera's child some 10 ms
STALE_MS = 15_000


class Lamp(NamedTuple):
    name: str
    state: Health
    text: str
    proved_ms: int | None
    """Monotonic; None = never yet."""


class Watch:
    """Service: polls the devices of one lane and publishes when a lamp changes."""

    def __init__(
        self,
        lane: str,
        links: dict[str, CardLink | None],
        camera: Camera | None,
        scale: Scale | None,
        changes: Topic,
        clock: Clock,
        psam_trouble: Callable[[], str] = lambda: "",
    ) -> None:
        """`psam_trouble`: why the PSAM last failed, in Chinese; empty once it works."""
        self.name = f"watch {lane}"
        self._links, self._camera, self._scale = links, camera, scale
        self._changes, self._clock = changes, clock
        self._psam_trouble = psam_trouble
        self._lamps: dict[str, Lamp] = {}
        self._load: Load | None = None
        names = {"reader": "读卡器", "psam": "PSAM", "obu": "标签天线"}
        devices = {**links, "camera": camera, "scale": scale}
        for key, device in devices.items():
            if device is not None:
                name = names.get(key) or {"camera": "相机", "scale": "称台"}[key]
                self._lamps[key] = Lamp(name, Health.MISSING, "正在连接", None)

    async def run(self) -> None:
        turn = 0
        while True:
            await self.look(with_camera=turn % CAMERA_EVERY == 0)
            turn += 1
            await self._clock.sleep(POLL_S)

    async def look(self, with_camera: bool = True) -> None:
        """One round over all devices."""
        before = self.lamps()
        for key, link in self._links.items():
            if link is not None:
                await self._try(key, self._presence(key, link))
        if self._scale is not None:
            await self._try("scale", self._weigh)
        if self._camera is not None and with_camera:
            await self._try("camera", self._snap)
        if self.lamps() != before:
            self._changes.publish()

    def lamps(self) -> dict[str, Any]:
        """`devices` of the snapshot."""
        now_ms = self._clock.monotonic_ms()
        shown = {key: self._shown(lamp, now_ms) for key, lamp in self._lamps.items()}
        if "scale" in shown:
            load = self._load if shown["scale"]["state"] == Health.OK else None
            shown["scale"]["weight_kg"] = load.weight_kg if load else None
            shown["scale"]["is_stable"] = bool(load and load.is_stable)
        return shown

    def proofs(self) -> dict[str, int | None]:
        """Age of each device's last sign of life, ms; None = none yet."""
        now_ms = self._clock.monotonic_ms()
        return {
            key: None if lamp.proved_ms is None else now_ms - lamp.proved_ms
            for key, lamp in self._lamps.items()
        }

    def _shown(self, lamp: Lamp, now_ms: int) -> dict[str, Any]:
        is_stale = lamp.proved_ms is None or now_ms - lamp.proved_ms > STALE_MS
        state = Health.MISSING if is_stale else lamp.state
        text = lamp.text if not is_stale or lamp.text else "没有应答"
        return {"name": lamp.name, "state": state.value, "text": text}

    async def _try(self, key: str, ask: Callable[[], Awaitable[str]]) -> None:
        lamp = self._lamps[key]
        try:
            text = await ask()
        except (DeviceUnavailable, DeviceGarbled) as fault:
            self._lamps[key] = lamp._replace(state=Health.MISSING, text=_word(fault))
        else:
            state = Health.DEGRADED if text else Health.OK
            proved_ms = self._clock.monotonic_ms()
            self._lamps[key] = lamp._replace(state=state, text=text, proved_ms=proved_ms)

    def _presence(self, key: str, link: CardLink) -> Callable[[], Awaitable[str]]:
        async def ask() -> str:
            is_there = await link.is_present()
            if key != "psam":
                return ""
            return self._psam_trouble() if is_there else "未插卡，不能扣款"

        return ask

    async def _weigh(self) -> str:
        assert self._scale is not None
        self._load = await self._scale.load()
        return ""

    async def _snap(self) -> str:
        assert self._camera is not None
        await self._camera.snap()
        return ""


def _word(fault: GatewayError) -> str:
    return fault.detail or "未连接"

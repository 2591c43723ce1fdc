"""Faults on demand: what can go wrong on the lane, by name, and how it is put right again."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.devices.sim.camera import SimCamera
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import Chip, SimLink
from gateway.devices.sim.psam import SEQ_MAX, WRONG_MAC2_MAX, SimPsam
from gateway.devices.sim.scale import SimScale
from gateway.errors import RequestInvalid
from gateway.units import Clock

T = TypeVar("T")
CenterSwitch = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Tells the embedded centre how to behave: the body of its POST /test/faults."""
DiskSwitch = Callable[[bool], None]
"""Makes the disk look full, or not."""

AFTER_MAX, SECONDS_MAX = 1_000, 20 * 365 * 86_400
CENTER = frozenset(
    {"down", "slow", "busy", "html", "redirect", "garbage", "denied", "refuse", "retry"}
    | {"lost_answer", "ack_and_drop"}
)
PSAM_STATES = frozenset({"unauthorised", "locked", "exhausted"})
KNOWN: Mapping[str, frozenset[str]] = {
    "reader": frozenset({"gone"}),
    "card": frozenset({"pulled", "pulled_before", "pulled_after", "mute", "wrong_mac2"}),
    "psam": frozenset({"pulled", "pulled_before", "pulled_after", "mute", "gone", *PSAM_STATES}),
    "obu": frozenset({"pulled", "pulled_before", "pulled_after", "mute", "gone"}),
    "camera": frozenset({"frozen", "mute", "no_plate", "misread"}),
    "scale": frozenset({"unstable", "silent", "garbled"}),
    "disk": frozenset({"full"}),
    "center": CENTER,
    "clock": frozenset({"jump"}),
}
"""Device → its faults. A chip also takes `refuse:6985`, any status word."""


class DemoClock:
    """The machine's clock, and how far the bench has moved it. Only the wall clock jumps."""

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self.boot_id = inner.boot_id
        self.offset_ms = 0

    def now_ms(self) -> int:
        return self._inner.now_ms() + self.offset_ms

    def monotonic_ms(self) -> int:
        return self._inner.monotonic_ms()

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


@dataclass(slots=True)
class Faults:
    """Everything on the lane that can be made to fail. None where the lane has none."""

    card: SimLink
    psam: SimLink
    obu: SimLink | None
    camera: SimCamera | None
    scale: SimScale | None
    clock: Clock
    center: CenterSwitch | None = None
    disk: DiskSwitch | None = None

    async def arm(
        self, device: str, fault: str, after: int | None, seconds: int | None
    ) -> dict[str, Any]:
        """Let it fail; what was armed. Raises: RequestInvalid, if there is no such fault here."""
        _check(device, fault, after, seconds)
        match device:
            case "card" if fault == "wrong_mac2":
                _lie(self.card.chip)
            case "reader" | "card":
                after = _arm_link(self.card, fault, after)
            case "psam" if fault in PSAM_STATES:
                _put_psam(self.psam.chip, fault)
            case "psam":
                after = _arm_link(self.psam, fault, after)
            case "obu":
                after = _arm_link(_there(self.obu, device), fault, after)
            case "camera":
                self._arm_camera(fault)
            case "scale":
                _there(self.scale, device).fault = fault
            case _:
                seconds = await self._arm_world(device, fault, seconds)
        armed = {"device": device, "fault": fault, "after": after, "seconds": seconds}
        return {key: value for key, value in armed.items() if value is not None}

    async def disarm(self) -> None:
        """Everything works again. Chips that were pulled are the bench's to lay back."""
        for link in filter(None, (self.card, self.psam, self.obu)):
            link.disarm()
        _put_psam(self.psam.chip, "")
        if isinstance(self.card.chip, SimUserCard):
            self.card.chip.lies_mac2 = False
        if self.camera:
            self.camera.fault, self.camera.misread_as = "", None
        if self.scale:
            self.scale.fault = ""
        if self.disk:
            self.disk(False)
        if isinstance(self.clock, DemoClock):
            self.clock.offset_ms = 0
        if self.center:
            await self.center({"fault": "none"})

    def _arm_camera(self, fault: str) -> None:
        camera = _there(self.camera, "camera")
        if fault == "misread":
            plate = camera.in_view.plate if camera.in_view else ""
            camera.misread_as = plate[:-1] + ("8" if plate[-1:] != "8" else "3")
        else:
            camera.fault = fault

    async def _arm_world(self, device: str, fault: str, seconds: int | None) -> int | None:
        if device == "disk":
            _there(self.disk, device)(True)
        elif device == "center":
            slow = {"seconds": seconds} if seconds is not None else {}
            await _there(self.center, device)({"fault": fault, **slow})
        elif isinstance(self.clock, DemoClock):
            seconds = 3_600 if seconds is None else seconds
            self.clock.offset_ms += seconds * 1_000
        else:
            _there(None, device)
        return seconds


def _check(device: str, fault: str, after: int | None, seconds: int | None) -> None:
    known = KNOWN.get(device)
    if known is None:
        raise RequestInvalid(f"没有这个设备：{device[:40]}；可用：{'、'.join(KNOWN)}")
    is_chip = device in ("card", "psam", "obu")
    if fault not in known and not (is_chip and _is_refusal(fault)):
        extra = "、refuse:状态字" if is_chip else ""
        raise RequestInvalid(
            f"{device} 没有这种故障：{fault[:40]}；可用：{'、'.join(sorted(known))}{extra}"
        )
    if after is not None and not 0 <= after <= AFTER_MAX:
        raise RequestInvalid(f"after 应为 0 到 {AFTER_MAX} 的整数")
    if seconds is not None and abs(seconds) > SECONDS_MAX:
        raise RequestInvalid(f"seconds 最多 {SECONDS_MAX}")


def _is_refusal(fault: str) -> bool:
    word = fault.removeprefix("refuse:")
    return word != fault and len(word) == 4 and all(c in "0123456789abcdefABCDEF" for c in word)


def _arm_link(link: SimLink, fault: str, after: int | None) -> int:
    """Without `after`: the next APDU; a reader and a hand need none to go at once."""
    if fault in ("gone", "pulled"):
        after = after or 0
    elif after is None:
        after = 1
    link.arm("pulled_before" if fault == "pulled" else fault, after)
    return after


def _put_psam(chip: Chip | None, fault: str) -> None:
    """Into one of its states, and out of all others; on disk, as a chip would keep it."""
    if isinstance(chip, SimPsam):
        chip.wrong_mac2 = WRONG_MAC2_MAX if fault == "locked" else 0
        chip.is_authorised = fault != "unauthorised"
        chip.seq_max = chip.terminal_seq if fault == "exhausted" else SEQ_MAX
        chip.save()


def _lie(chip: Chip | None) -> None:
    if not isinstance(chip, SimUserCard):
        raise RequestInvalid("读卡区上没有卡，不能设置它的故障")
    chip.lies_mac2 = True


def _there(thing: T | None, name: str) -> T:
    if thing is None:
        raise RequestInvalid(f"这里没有 {name}，不能设置它的故障")
    return thing

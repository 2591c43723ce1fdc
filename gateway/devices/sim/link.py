"""A reader without hardware: a CardLink whose chip comes, goes and fails as the bench wishes."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gateway.devices.apdu import T0_STEPS_MAX, t0_form, t0_next
from gateway.devices.ports import Answer
from gateway.errors import CardAbsent, DeviceGarbled, DeviceUnavailable, NoAnswer

FAULTS = ("pulled_before", "pulled_after", "mute", "gone")


class Chip(Protocol):
    """Anything that answers command bytes with data ‖ status word."""

    atr: bytes

    def reset(self) -> None: ...

    def answer(self, command: bytes) -> bytes: ...


@dataclass(slots=True)
class _Armed:
    fault: str
    countdown: int


class SimLink:
    """The twin of `PcscLink`. Differs from metal: insertion is seen at once, nothing wears out.

    `latency_s` is spent before each APDU. `is_t0` makes it speak as T=0 readers do: no Le with
    data, GET RESPONSE for the answer; each counts as an APDU of its own.
    """

    def __init__(self, name: str, latency_s: float = 0.0, is_t0: bool = False) -> None:
        self.name = name
        self.latency_s, self.is_t0 = latency_s, is_t0
        self.chip: Chip | None = None
        self.sent = 0
        """APDUs that were on their way to a chip, since this link was made."""
        self._insertion = 0
        self._connection: int | None = None
        self._armed: _Armed | None = None

    # ---- the bench's side ----

    def insert(self, chip: Chip) -> None:
        """Lay a chip down, in place of whatever was there."""
        self.remove()
        self.chip = chip

    def remove(self) -> None:
        """Take the chip away: it loses power, and every connection to it is dead."""
        if self.chip is not None:
            self.chip.reset()
        self.chip = None
        self._insertion += 1

    def arm(self, fault: str, after: int = 1) -> None:
        """Let the `after`-th APDU from now fail; 0 = before anything else happens.

        pulled_before: the card goes before that APDU reaches it (the command is lost);
        pulled_after: it goes before its answer is heard (the answer is lost). Both must be laid
        down anew with `insert`. mute: no answer, no effect, once. gone: the reader is away until
        `disarm`. refuse:6985: that status word, without the chip being asked, once.
        """
        is_refusal = fault.startswith("refuse:") and int(fault[7:], 16) <= 0xFFFF
        if fault not in FAULTS and not is_refusal:
            raise ValueError(f"no such fault: {fault}")
        if after <= 0 and fault.startswith("pulled"):
            self.remove()
            return
        self._armed = _Armed(fault, after)

    def disarm(self) -> None:
        self._armed = None

    # ---- the gateway's side: CardLink ----

    async def connect(self) -> bytes:
        self._connection = None
        self._check_reader()
        if self.chip is None:
            raise CardAbsent(f"{self.name}上没有卡")
        self.chip.reset()
        self._connection = self._insertion
        return self.chip.atr

    async def send(self, command: bytes) -> Answer:
        data, step = b"", t0_form(command) if self.is_t0 else command
        for number in range(T0_STEPS_MAX):
            raw = await self._exchange(step, is_first=number == 0)
            if len(raw) < 2:
                raise DeviceGarbled(f"{self.name}应答没有状态字")
            data, sw = data + raw[:-2], int.from_bytes(raw[-2:])
            following = t0_next(step, sw)
            if following is None:
                return Answer(data, sw)
            step = following
        raise DeviceGarbled(f"{self.name}的应答没有结束")

    async def is_present(self) -> bool:
        self._check_reader()
        return self.chip is not None

    async def close(self) -> None:
        self._connection = None

    async def _exchange(self, command: bytes, *, is_first: bool) -> bytes:
        """One APDU. Only the first of an exchange can be known never to have left."""
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        chip = self.chip
        if chip is None or self._connection != self._insertion:
            raise self._lost(is_first)
        fault = self._due()
        if fault == "gone":
            self._connection = None
            raise self._lost(is_first)
        self.sent += 1
        if fault and fault.startswith("refuse:"):
            return int(fault[7:], 16).to_bytes(2)
        answer = chip.answer(command) if fault in (None, "pulled_after") else b""
        if fault is None:
            return answer
        self._connection = None
        if fault.startswith("pulled"):
            self.remove()
        raise NoAnswer(f"{self.name}没有应答")

    def _due(self) -> str | None:
        """The fault that strikes this APDU. All but `gone` strike once."""
        if self._armed is None:
            return None
        self._armed.countdown -= 1
        if self._armed.countdown > 0:
            return None
        fault = self._armed.fault
        if fault != "gone":
            self._armed = None
        return fault

    def _check_reader(self) -> None:
        armed = self._armed
        if armed and armed.fault == "gone" and armed.countdown <= 0:
            raise DeviceUnavailable(f"{self.name}没有连接")

    def _lost(self, is_first: bool) -> DeviceUnavailable:
        if is_first:
            return DeviceUnavailable(f"{self.name}的连接已断开，指令没有发出")
        return NoAnswer(f"{self.name}没有应答")

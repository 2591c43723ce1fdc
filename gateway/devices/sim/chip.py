"""What every twin of a chip shares: parsing a command, T=0 manners, refusing. No card knowledge.

A command without Le that has something to answer gets 61xx and waits for GET RESPONSE, as on
T=0; with Le the answer comes at once, as on T=1. So the link decides, and both are the same chip.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.devices.apdu import StatusWord

GET_RESPONSE: Final = 0xC0
ATR: Final = b"\x3b\x6d\x00\x00TOLL-TWIN-001"
"""Offers T=0 only."""


@dataclass(frozen=True, slots=True)
class Apdu:
    """One command, taken apart."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    le: int | None
    """Bytes wanted, 1 to 256; None if the command does not say."""

    @property
    def key(self) -> tuple[int, int]:
        return self.cla, self.ins


class Refusal(Exception):
    """The chip says no, by status word; nothing changed."""

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class SimChip:
    """A chip that answers bytes. Subclasses say how: one handler per class and instruction."""

    atr: bytes = ATR

    def __init__(self) -> None:
        self._handlers: dict[tuple[int, int], Callable[[Apdu], bytes]] = {}
        self._pending = b""

    def reset(self) -> None:
        """Power off and on: whatever was not written to memory is gone."""
        self._pending = b""

    def answer(self, command: bytes) -> bytes:
        """Command bytes → data ‖ status word."""
        try:
            apdu = _parse(command)
            if apdu.ins == GET_RESPONSE:
                return self._get_response(apdu)
            self._pending = b""
            return self._shape(apdu, self._execute(apdu))
        except Refusal as no:
            return no.sw.to_bytes(2)

    def _execute(self, apdu: Apdu) -> bytes:
        """Do it; the data to answer. Raises: Refusal."""
        handler = self._handlers.get(apdu.key)
        if handler is None:
            raise Refusal(StatusWord.UNKNOWN_INS)
        return handler(apdu)

    def _shape(self, apdu: Apdu, data: bytes) -> bytes:
        if data and apdu.data and apdu.le is None:
            self._pending = data
            return bytes([0x61, len(data) & 0xFF])
        if data and not apdu.data and apdu.le not in (256, len(data)):
            return bytes([0x6C, len(data)])
        return data + StatusWord.OK.to_bytes(2)

    def _get_response(self, apdu: Apdu) -> bytes:
        data, self._pending = self._pending, b""
        if not data:
            raise Refusal(StatusWord.CONDITIONS)
        return data[: apdu.le] + StatusWord.OK.to_bytes(2)


def piece(file: bytes, offset: int, le: int | None) -> bytes:
    """READ BINARY: what of the file was asked for; less, if it ends before."""
    if offset >= len(file):
        raise Refusal(StatusWord.OFFSET)
    return file[offset : offset + (le or 256)]


def _parse(command: bytes) -> Apdu:
    """ISO 7816-4 short form, cases 1 to 4."""
    if len(command) < 4:
        raise Refusal(StatusWord.WRONG_LENGTH)
    cla, ins, p1, p2 = command[:4]
    rest = command[4:]
    if len(rest) <= 1:
        return Apdu(cla, ins, p1, p2, b"", (rest[0] or 256) if rest else None)
    data, tail = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
    if len(data) != rest[0] or len(tail) > 1:
        raise Refusal(StatusWord.WRONG_LENGTH)
    return Apdu(cla, ins, p1, p2, data, (tail[0] or 256) if tail else None)

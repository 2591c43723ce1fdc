"""Serial bytes → frames: length, check digits, resync. Pure; knows no port, no clock, no rule.

Yaohua XK3190-A9, continuous mode (tF=0), 12 bytes (domain.md §10.1):
02 | sign + - | 6 digits, high first | decimal places 0..4 | XOR high | XOR low | 03
XOR is over sign, digits and places. Firmwares spell its upper nibbles A..F or :..?; both are taken.
"""

STX, ETX = 0x02, 0x03
LENGTH = 12
PLACES_MAX = 4
_SIGNS = {ord("+"): 1, ord("-"): -1}


class A9Decoder:
    """Feed bytes as they come, cut anywhere; get weights. What is no frame is skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self.garbled_count = 0
        """Bytes skipped since the start: noise, cut frames, wrong check digits."""

    def feed(self, data: bytes) -> list[int]:
        """Weights in kg of the frames that `data` completes, oldest first.

        Tenths and below are rounded to the nearest kilogram, halves away from zero.
        """
        weights: list[int] = []
        rest = self._rest + data
        while (start := rest.find(STX)) >= 0 and len(rest) - start >= LENGTH:
            weight = decode_a9(rest[start : start + LENGTH])
            if weight is None:  # not a frame, or a false STX: the next one may lie within
                self.garbled_count += start + 1
                rest = rest[start + 1 :]
            else:
                self.garbled_count += start
                rest = rest[start + LENGTH :]
                weights.append(weight)
        self._rest = rest[start:] if start >= 0 else b""
        self.garbled_count += len(rest) - len(self._rest)
        return weights


def decode_a9(frame: bytes) -> int | None:
    """Weight in kg of one frame of 12 bytes, or None if it is none."""
    if len(frame) != LENGTH or frame[0] != STX or frame[-1] != ETX:
        return None
    sign, digits, places = _SIGNS.get(frame[1]), frame[2:8], frame[8] - ord("0")
    if sign is None or not digits.isdigit() or not 0 <= places <= PLACES_MAX:
        return None
    if frame[9:11] not in check_digits(frame[1:9]):
        return None
    scale: int = 10**places
    return sign * ((int(digits) + scale // 2) // scale)


def check_digits(body: bytes) -> tuple[bytes, bytes]:
    """The two bytes after sign, digits and places: in hexadecimal, and as nibble + 0x30."""
    check = 0
    for byte in body:
        check ^= byte
    return f"{check:02X}".encode(), bytes((0x30 + (check >> 4), 0x30 + (check & 0x0F)))

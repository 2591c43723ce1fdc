"""A pushed body, from the bytes on the wire to lines. Refuses whatever could not be checked."""

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Sequence

import zstandard
from pydantic import ValidationError

from gateway.center.book import Arrival
from gateway.center.scrutiny import Slot, read_line

WIRE_BYTES_MAX = 2 * 1024 * 1024
PLAIN_BYTES_MAX = 16 * 1024 * 1024  # a bomb ends here
SIP_BYTES = 256
LINES_MAX = 5_000
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")


class BadBody(Exception):
    """The request as a whole cannot be read; no record has been looked at."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def check_digest(header: str | None, body: bytes) -> None:
    """RFC 9530: over the bytes on the wire, before any decompression."""
    found = _DIGEST.search(header or "")
    if not found:
        raise BadBody(400, "缺少 Content-Digest（sha-256）")
    try:
        wanted = base64.b64decode(found[1], validate=True)
    except binascii.Error as bad:
        raise BadBody(400, "Content-Digest 不是 base64") from bad
    if hashlib.sha256(body).digest() != wanted:
        raise BadBody(400, "Content-Digest 与收到的内容不符")


def unpack(encoding: str, body: bytes) -> bytes:
    """gzip, zstd or identity; bounded."""
    match encoding:
        case "" | "identity":
            return body
        case "gzip":
            return _gunzip(body)
        case "zstd":
            return _unzstd(body)
    raise BadBody(415, f"不支持的压缩方式：{encoding}")


def _gunzip(body: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(body, PLAIN_BYTES_MAX)
    except zlib.error as bad:
        raise BadBody(400, "gzip 内容损坏") from bad
    if inflate.unconsumed_tail:
        raise BadBody(413, "解压后内容过大")
    if not inflate.eof:
        raise BadBody(400, "gzip 内容不完整")
    return plain


def _unzstd(body: bytes) -> bytes:
    """Fed in sips: four bytes may say 128 KB, and nothing else bounds what comes out."""
    inflate, plain = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    for at in range(0, len(body), SIP_BYTES):
        try:
            plain += inflate.decompress(body[at : at + SIP_BYTES])
        except zstandard.ZstdError as bad:
            raise BadBody(400, "zstd 内容损坏") from bad
        if len(plain) > PLAIN_BYTES_MAX:
            raise BadBody(413, "解压后内容过大")
        if inflate.eof:
            break
    if not inflate.eof:
        raise BadBody(400, "zstd 内容不完整")
    return bytes(plain)


def split(plain: bytes) -> list[Arrival]:
    """NDJSON → what each line claims to be. Each line must name its id and seq."""
    lines = [line for line in plain.split(b"\n") if line.strip()]
    if not lines:
        raise BadBody(400, "没有流水")
    if len(lines) > LINES_MAX:
        raise BadBody(413, "一次的流水太多")
    return [_arrival(line, place) for place, line in enumerate(lines, start=1)]


def _arrival(raw: bytes, place: int) -> Arrival:
    """Read once. What cannot be booked may still have a slot, and then gets a verdict."""
    try:
        line = read_line(raw)
        return Arrival(line.id, line.seq, raw, line)
    except ValueError:
        return _claim(raw, place)


def _claim(raw: bytes, place: int) -> Arrival:
    try:
        slot = Slot.model_validate_json(raw)
    except ValidationError as bad:
        raise BadBody(400, f"第 {place} 行没有 id 或 seq") from bad
    return Arrival(slot.id, slot.seq, raw)


def check_range(first: str | None, last: str | None, arrivals: Sequence[Arrival]) -> None:
    """First-Seq and Last-Seq are the lines' min and max (interfaces.md §7.3)."""
    seqs = [arrival.seq for arrival in arrivals]
    if (first, last) != (str(min(seqs)), str(max(seqs))):
        raise BadBody(400, "First-Seq / Last-Seq 与内容不符")

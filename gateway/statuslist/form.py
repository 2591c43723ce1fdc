"""The file of a big status list, byte for byte (docs/statuslist.md). Knows no folder and no disk.

Block 0 is the head, signed; then sealed blocks of fixed-width entries in strict order; then the
first key of each block. The same bytes travel, are checked and are looked up in.
"""

import json
import re
import zlib
from collections.abc import Mapping
from struct import Struct
from typing import Annotated, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway.params import ListDamaged, Listed
from gateway.units import beijing, plausible

MAGIC = b"LANELIST1\n"
BLOCK_BYTES = 4096
ENTRY_BYTES, KEY_BYTES, FIRST_BYTES = 16, 10, 11
ENTRIES_MAX = 255
SIGNED_BYTES = BLOCK_BYTES - 64 - 4
CARD, OBU = 1, 2
KIND_DIGITS = {20: CARD, 16: OBU}
BLOCK_HEAD = Struct(">IIHBxI")  # CRC-32 of all behind it, number, entries, kind, tag
STATE = Struct(">HI")  # reasons as bits (bit 0 = reason 1; none = off the list), s since 1970
HEX = re.compile(r"[0-9A-F]+")


class Head(BaseModel):
    """What a list says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(pattern=r"^[0-9A-Za-z_.]{1,40}$")
    base: str = Field(default="", pattern=r"^[0-9A-Za-z_.]{0,40}$")
    """Of a delta: the version it changes. Empty in a full list."""
    effective_from: Annotated[AwareDatetime, AfterValidator(plausible)]
    reasons: Mapping[int, str]
    """Bit + 1 → what the collector reads."""
    cards: int = Field(ge=0)
    obus: int = Field(ge=0)
    blocks: int = Field(ge=0, lt=2**32)
    first_keys_crc32: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of all behind the head."""

    @property
    def effective_from_ms(self) -> int:
        return round(self.effective_from.timestamp() * 1000)

    @property
    def rank(self) -> tuple[int, str]:
        """Of two lists the higher one is newer."""
        return rank(self.effective_from_ms, self.version)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return BLOCK_BYTES * (1 + self.blocks) + FIRST_BYTES * self.blocks

    @property
    def tag(self) -> int:
        return tag_of(self.version, self.base)


def rank(effective_from_ms: int, version: str) -> tuple[int, str]:
    return effective_from_ms, version.zfill(40)


def tag_of(version: str, base: str) -> int:
    """Stands in each block: bytes of another list are noticed though their sums are right."""
    return zlib.crc32(f"{base}>{version}".encode())


def key_of(number: str) -> tuple[int, bytes] | None:
    """Kind and key of a 20-digit card or 16-digit OBU number; None: no list can have it."""
    kind = KIND_DIGITS.get(len(number))
    if kind is None or not HEX.fullmatch(number):
        return None
    return kind, bytes.fromhex(number).rjust(KEY_BYTES, b"\0")


def listed(number: str, state: bytes, reasons: Mapping[int, str]) -> Listed | None:
    """None: this state says that the number has left the list."""
    bits, at_s = STATE.unpack(state)
    types = [place + 1 for place in range(16) if bits >> place & 1]
    if not types:
        return None
    texts = [reasons.get(one, f"类型 {one}") for one in types]
    at = f"{beijing(at_s * 1000):%Y-%m-%d %H:%M}"
    return Listed(number=number, type=types[0], reason="、".join(texts), listed_at=at)


def entry(number: str, types: tuple[int, ...], at_s: int) -> tuple[int, bytes]:
    """Kind and the 16 bytes; no types = off the list. Raises: ValueError."""
    found = key_of(number)
    if found is None:
        raise ValueError("neither a card's number nor an OBU's")
    bits = sum({1 << one - 1 for one in types})
    return found[0], found[1] + STATE.pack(bits, at_s)


def seal(number: int, kind: int, tag: int, rows: bytes) -> bytes:
    """One block of up to 255 entries."""
    behind = BLOCK_HEAD.pack(0, number, len(rows) // ENTRY_BYTES, kind, tag)[4:] + rows
    behind = behind.ljust(BLOCK_BYTES - 4, b"\0")
    return zlib.crc32(behind).to_bytes(4, "big") + behind


def unseal(block: bytes, number: int, tag: int) -> tuple[int, bytes]:
    """Kind and entries. Raises: ListDamaged."""
    if len(block) != BLOCK_BYTES:
        raise ListDamaged(f"状态名单第 {number} 块不完整")
    crc, own, count, kind, own_tag = BLOCK_HEAD.unpack_from(block)
    if (
        zlib.crc32(memoryview(block)[4:]) != crc
        or (own, own_tag) != (number, tag)
        or count > ENTRIES_MAX
    ):
        raise ListDamaged(f"状态名单第 {number} 块损坏")
    return kind, block[BLOCK_HEAD.size : BLOCK_HEAD.size + count * ENTRY_BYTES]


def unsigned_head(facts: Mapping[str, Any]) -> bytes:
    """The signed part of block 0. Raises: ValueError, if the reasons' texts are too long."""
    told = MAGIC + json.dumps(dict(facts), ensure_ascii=False, separators=(",", ":")).encode()
    if len(told) > SIGNED_BYTES:
        raise ValueError("the head does not fit into its block")
    return told.ljust(SIGNED_BYTES, b" ")


def head_block(signed: bytes, signature: bytes) -> bytes:
    block = signed + signature.ljust(64, b"\0")
    return block + zlib.crc32(block).to_bytes(4, "big")


def read_head(block: bytes, key: Ed25519PublicKey | None = None) -> Head:
    """Block 0 → what it says; with `key` its signature is checked. Raises: ListDamaged."""
    if len(block) != BLOCK_BYTES or not block.startswith(MAGIC):
        raise ListDamaged("不是状态名单文件")
    if zlib.crc32(block[:-4]) != int.from_bytes(block[-4:], "big"):
        raise ListDamaged("状态名单文件头损坏")
    signed, signature = block[:SIGNED_BYTES], block[SIGNED_BYTES:-4]
    try:
        if key is not None:
            key.verify(signature, signed)
        return Head.model_validate_json(signed[len(MAGIC) :])
    except InvalidSignature as bad:
        raise ListDamaged("状态名单签名不对") from bad
    except ValidationError as bad:
        raise ListDamaged("状态名单文件头看不懂") from bad

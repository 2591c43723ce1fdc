"""What one side says it holds of a lane's records, so that the other can compare it: counts, sums
by kind, the chain's head, and a digest over every line. Both sides count with this; pure.

A record's leaf is SHA-256(seq ‖ id ‖ the line's own SHA-256, or `stub`); a range's digest is
SHA-256 of its leaves in order of seq. Signed as `reconciliation\\n` and the statement in canonical
JSON (sorted keys, no blanks), so that nothing else that is signed can be taken for it.
"""

import hashlib
import json
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.spool.tables import record_chain
from gateway.units import COUNT_MAX

PREFIX = b"reconciliation\n"
Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
Sum = Annotated[int, Field(ge=-COUNT_MAX, le=COUNT_MAX)]
EMPTY = hashlib.sha256().hexdigest()


class KindSum(BaseModel):
    """Records of one kind. `sum_fen`: of their fees; of corrections, of what they add."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    means: str
    correction: bool
    count: Count
    sum_fen: Sum


class Statement(BaseModel):
    """What is held of `first_seq`…`last_seq`. `count` with stubs; the sums without."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lane: str = Field(pattern=r"^[0-9A-Za-z_.-]{1,40}$")
    of: Literal["shift", "day"]
    name: str = Field(max_length=40)
    """The shift's number, or the day."""
    first_seq: int = Field(ge=1, le=COUNT_MAX)
    last_seq: int = Field(ge=1, le=COUNT_MAX)
    count: Count
    stubs: Count
    sum_fen: Sum
    kinds: tuple[KindSum, ...]
    chain_head: str
    """Of the newest whole record; empty if there is none."""
    digest: str


class Tally:
    """Adds up records in order of seq."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._counts, self._sums = (
            Counter[tuple[str, str, bool]](),
            Counter[tuple[str, str, bool]](),
        )
        self._stubs, self._chain = 0, ""

    def add(self, seq: int, record_id: str, line: bytes) -> None:
        told = json.loads(line)
        is_correction = bool(told.get("corrects"))
        kind = told.get("outcome", ""), told.get("means", ""), is_correction
        self._counts[kind] += 1
        self._sums[kind] += told.get("adjustFee" if is_correction else "fee", 0)
        self._chain = record_chain(told.get("prevChain", ""), line.decode())
        self._digest.update(leaf(seq, record_id, line))

    def add_stub(self, seq: int, record_id: str) -> None:
        self._stubs += 1
        self._digest.update(leaf(seq, record_id, None))

    def told(self, lane: str, of: Any, name: str, first_seq: int, last_seq: int) -> Statement:
        kinds = tuple(
            KindSum(
                kind=kind, means=means, correction=correction,
                count=count, sum_fen=self._sums[kind, means, correction],
            )
            for (kind, means, correction), count in sorted(self._counts.items())
        )  # fmt: skip
        return Statement(
            lane=lane, of=of, name=name, first_seq=first_seq, last_seq=last_seq,
            count=sum(self._counts.values()) + self._stubs, stubs=self._stubs,
            sum_fen=sum(self._sums.values()), kinds=kinds, chain_head=self._chain,
            digest=self._digest.hexdigest(),
        )  # fmt: skip


def leaf(seq: int, record_id: str, line: bytes | None) -> bytes:
    """`line` None: only the slot of a record that was refused."""
    what = b"stub" if line is None else hashlib.sha256(line).hexdigest().encode()
    return hashlib.sha256(b"%d %s %s" % (seq, record_id.encode(), what)).digest()


def signed_bytes(statement: Statement) -> bytes:
    """What is signed."""
    told = statement.model_dump(mode="json")
    text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return PREFIX + text.encode()


def split(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """`first`…`last` as at most so many ranges, as even as can be."""
    size = -(-(last - first + 1) // parts)
    return [(at, min(at + size - 1, last)) for at in range(first, last + 1, size)]

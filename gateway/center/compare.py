"""Reconciliation at the centre: compare a lane's signed statement with what is held, sign what is
held, and help to narrow a difference down to the record (gateway/tally.py)."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway import keys
from gateway.center.book import Book
from gateway.center.database import Db
from gateway.center.photos import Photos
from gateway.center.wire import BadBody
from gateway.keys import Signer
from gateway.tally import Count, Statement, Tally, signed_bytes

RANGES_MAX = 64
SPAN_MAX = 200_000  # records of one statement
MISSING_MAX = 500  # photos named in one answer
LINES = """
SELECT seq, id, is_stub, line FROM record WHERE lane = ? AND seq BETWEEN ? AND ? ORDER BY seq
LIMIT 1000
"""
KEEP = """
INSERT INTO reconciliation (lane, of, name, statement, lane_key, signature, ours, agrees, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
KNOWN = "SELECT heartbeat FROM lane WHERE name = ?"


class Signed(BaseModel):
    """POST /v1/reconciliations"""

    model_config = ConfigDict(frozen=True, extra="ignore")

    statement: Statement
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


class Asked(BaseModel):
    """POST /v1/digests"""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lane: str
    ranges: tuple[tuple[Count, Count], ...] = Field(min_length=1, max_length=RANGES_MAX)


class Held(NamedTuple):
    ours: Statement
    photos: list[str]
    """Named by these records."""


class Comparing:
    """Answers with what the book holds; keeps every statement for ever."""

    def __init__(self, book: Book, photos: Photos, signer: Signer) -> None:
        self._book, self._photos, self._signer = book, photos, signer

    async def statement(self, raw: bytes, at_ms: int) -> dict[str, Any]:
        """`{agrees, ours, key, signature, photos_missing}`. Raises: BadBody, ValidationError."""
        told = Signed.model_validate_json(raw)
        theirs = told.statement
        if theirs.last_seq - theirs.first_seq >= SPAN_MAX:
            raise BadBody(413, "一次对账的流水太多")
        if not keys.is_signed(
            bytes.fromhex(told.key), signed_bytes(theirs), bytes.fromhex(told.signature)
        ):
            raise BadBody(403, "对账单的签名不对")
        await self._check_key(theirs.lane, told.key)
        held = await self._book.ask(lambda db: _held(db, theirs))
        agrees = held.ours == theirs
        row = (
            theirs.lane, theirs.of, theirs.name, theirs.model_dump_json(), told.key,
            told.signature, held.ours.model_dump_json(), int(agrees), at_ms,
        )  # fmt: skip
        await self._book.ask(lambda db: db.execute(KEEP, row).rowcount)
        missing = [name for name in held.photos if not self._photos.has(name)]
        return {
            "agrees": agrees,
            "ours": held.ours.model_dump(mode="json"),
            "key": self._signer.public_hex,
            "signature": self._signer.sign(signed_bytes(held.ours)).hex(),
            "photos_missing": missing[:MISSING_MAX],
        }

    async def digests(self, raw: bytes) -> dict[str, Any]:
        """`{ranges: [{first_seq, last_seq, count, stubs, digest}]}`, as asked."""
        asked = Asked.model_validate_json(raw)
        if any(not 0 < first <= last < first + SPAN_MAX for first, last in asked.ranges):
            raise BadBody(400, "范围不对")
        told = await self._book.ask(
            lambda db: [_digest(db, asked.lane, first, last) for first, last in asked.ranges]
        )
        return {"ranges": told}

    async def _check_key(self, lane: str, key: str) -> None:
        """The key that this lane's newest heartbeat named, if it named one."""
        row = await self._book.ask(lambda db: db.execute(KNOWN, (lane,)).fetchone())
        known = json.loads(row[0]).get("lane_key") if row and row[0] else None
        if known and known != key:
            raise BadBody(403, "对账单不是用本车道登记的密钥签的")


def _held(db: Db, theirs: Statement) -> Held:
    photos = list[str]()

    def see(line: bytes) -> None:
        photo = json.loads(line).get("photo")
        if isinstance(photo, str):
            photos.append(photo)

    tally = _counted(db, theirs.lane, theirs.first_seq, theirs.last_seq, see)
    ours = tally.told(theirs.lane, theirs.of, theirs.name, theirs.first_seq, theirs.last_seq)
    return Held(ours, photos)


def _digest(db: Db, lane: str, first: int, last: int) -> dict[str, Any]:
    told = _counted(db, lane, first, last).told(lane, "day", "", first, last)
    return {
        "first_seq": first,
        "last_seq": last,
        "count": told.count,
        "stubs": told.stubs,
        "digest": told.digest,
    }


def _counted(
    db: Db,
    lane: str,
    first: int,
    last: int,
    see: Callable[[bytes], None] = lambda _: None,
) -> Tally:
    tally = Tally()
    while piece := db.execute(LINES, (lane, first, last)).fetchall():
        for seq, record_id, is_stub, line in piece:
            if is_stub:
                tally.add_stub(seq, record_id)
            else:
                tally.add(seq, record_id, line)
                see(line)
        first = piece[-1]["seq"] + 1
    return tally


COMPARING = web.AppKey("comparing", Comparing)

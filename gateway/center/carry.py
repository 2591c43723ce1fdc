"""lane-gateway center import: an export that was carried here by hand, booked like a push.

The whole file is examined before anything of it is booked; the same file again is all duplicates.
What is said of each record goes into a receipt, signed with the centre's key, to be carried back.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gateway import audit, parcel
from gateway.audit import ExportTold, LaneTold
from gateway.center.book import Arrival, Book, Verdict
from gateway.center.photos import Photos, Piece
from gateway.center.scrutiny import Slot
from gateway.center.tables import signing_key
from gateway.keys import Signer
from gateway.parcel import Parcel, Writing
from gateway.units import Clock

RECEIPT = "receipt"
BOOKED_AT_ONCE = 200


@dataclass(slots=True)
class LaneSaid:
    """What became of one lane's records."""

    lane: str
    said: Counter[str] = field(default_factory=Counter)
    high_water: int = 0


def verdicts_of(lane: str) -> str:
    return f"verdicts-{lane}.ndjson"


def take(
    export: Path, db: Path, public: bytes, out: Path, clock: Clock, dsn: str = ""
) -> list[LaneSaid]:
    """Book the export into the centre's `db`, write the receipt to `out`.

    `public`: the key of the box it comes from. A centre may be serving from the same file, or from
    the PostgreSQL database that `dsn` names.
    Raises: ParcelRefused, and nothing was booked; OSError; sqlite3.Error; DatabaseAway.
    """
    opened = Parcel.open(export, public, audit.EXPORT)
    told = audit.examine(opened)
    signer = Signer(signing_key(db.with_name(f"{db.stem}-key.pem")))
    return asyncio.run(_take(opened, told, db, signer, out, clock, dsn))


async def _take(
    opened: Parcel,
    told: ExportTold,
    db: Path,
    signer: Signer,
    out: Path,
    clock: Clock,
    dsn: str,
) -> list[LaneSaid]:
    book = await Book.open(db, dsn)
    try:
        await _keep_photos(opened, Photos(db.with_name(f"{db.stem}-evidence")))
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            written, lanes = list[Writing](), list[LaneSaid]()
            for lane in told.lanes:
                with closing(Writing(Path(folder), verdicts_of(lane.lane))) as verdicts:
                    lanes.append(await _book(opened, lane, book, verdicts, clock.now_ms()))
                    written.append(verdicts)
            made_ms = clock.now_ms()
            manifest = {
                "kind": RECEIPT,
                "number": await book.next_receipt(opened.sha256, made_ms),
                "made_ms": made_ms,
                "export": opened.sha256,
                "box": told.key,
                "lanes": [
                    _told(one, bounds) for one, bounds in zip(lanes, told.lanes, strict=True)
                ],
            }
            parts = [(part.done(), part.path) for part in written]
            parcel.write(out, signer, manifest, parts)
            return lanes
    finally:
        await book.close()


async def _book(
    opened: Parcel, told: LaneTold, book: Book, verdicts: Writing, at_ms: int
) -> LaneSaid:
    said, lines = LaneSaid(told.lane), opened.lines(audit.part_of(told.lane))
    while piece := [_arrival(line) for line in islice(lines, BOOKED_AT_ONCE)]:
        taken = await book.take(told.lane, piece, at_ms)
        closed = await _close(book, told.lane, taken, at_ms)
        for verdict in taken:
            said.said[verdict.verdict] += 1
            stub = {"stub": True} if verdict.seq in closed else {}
            verdicts.add(parcel.canonical({**verdict.as_json(), **stub}))
    said.high_water = await book.high_water(told.lane)
    return said


async def _close(book: Book, lane: str, verdicts: Sequence[Verdict], at_ms: int) -> set[int]:
    """The slots of what was refused, now held by stubs: who comes on foot sends none later."""
    refused = [v for v in verdicts if v.verdict == "refused"]
    if not refused:
        return set()
    stubs = [Arrival(v.id, v.seq, parcel.canonical(_stub(v))) for v in refused]
    said = await book.take(lane, stubs, at_ms)
    return {v.seq for v in said if v.verdict in ("accepted", "duplicate")}


def _stub(verdict: Verdict) -> dict[str, Any]:
    """interfaces.md §7.5"""
    return {"seq": verdict.seq, "id": verdict.id, "stub": True, "refused": verdict.reason}


async def _keep_photos(opened: Parcel, photos: Photos) -> None:
    for sha256 in opened.photos():
        if not photos.has(sha256):
            body = opened.photo(sha256)
            whole = Piece(0, len(body) - 1, len(body))
            photos.drop_part(sha256)
            await photos.take(sha256, whole, _once(body))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _arrival(line: bytes) -> Arrival:
    slot = Slot.model_validate_json(line)
    return Arrival(slot.id, slot.seq, line)


def _told(said: LaneSaid, told: LaneTold) -> dict[str, Any]:
    kinds = ("accepted", "duplicate", "refused", "retry")
    return {
        "lane": said.lane,
        "first_seq": told.first_seq,
        "last_seq": told.last_seq,
        "chain_head": told.chain_head,
        "high_water": said.high_water,
        **{kind: said.said[kind] for kind in kinds},
    }

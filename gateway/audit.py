"""Is an export true? Told from the file alone: the hash chain of the journal, the records in it,
the chain of each lane's records, and the sums of the manifest. Whoever takes an export asks here.

journal.txt: one row a line, `hash text`. hash = SHA-256(hash of the row before ‖ text), beginning
with the manifest's `previous_hash`; the text is the row as JSON, its record's line the last field.
A line `- hash` says that rows are missing there, and on which hash the next one stands; only an
export of a damaged box has such lines.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.errors import ParcelRefused
from gateway.parcel import Parcel
from gateway.spool.frame import Row, chained
from gateway.spool.tables import record_chain

EXPORT = "export"
RAISED = "lane_raised"
JOURNAL, PHOTOS = "journal.txt", "photos.txt"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KindTold(_Told):
    """Records of one kind. `sum_fen`: of their fees; of corrections, of what they add."""

    kind: str
    means: str
    correction: bool
    count: int
    sum_fen: int


class LaneTold(_Told):
    """One lane's records in the file. `vehicles`: neither stubs nor corrections."""

    lane: str
    first_seq: int
    last_seq: int
    count: int
    vehicles: int
    sum_fen: int
    chain_before: str
    chain_head: str
    kinds: tuple[KindTold, ...]


class JournalTold(_Told):
    first_seq: int
    last_seq: int
    count: int
    previous_hash: str
    head_hash: str


class ExportTold(BaseModel):
    """The manifest of an export, without what every parcel has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    """The box's public key, 64 hex digits."""
    since: str | None
    until: str | None
    journal: JournalTold
    lanes: tuple[LaneTold, ...]
    photos: int
    photos_missing: tuple[str, ...]
    """Named by records, and not to be had when this was made."""
    damaged: tuple[str, ...]
    """What was wrong with the box's own copies when this was made; empty if nothing was."""


def part_of(lane: str) -> str:
    return f"records-{lane}.ndjson"


@dataclass(slots=True)
class LaneSum:
    """Counts one lane's records as they come."""

    lane: str
    first_seq: int = 0
    last_seq: int = 0
    count: int = 0
    vehicles: int = 0
    sum_fen: int = 0
    chain_before: str = ""
    chain_head: str = ""
    kinds: dict[tuple[str, str, bool], list[int]] = field(default_factory=dict)

    def add(self, line: str, record: dict[str, Any]) -> None:
        """`record`: the line, read."""
        if not self.count:
            self.first_seq, self.chain_before = record["seq"], record["prevChain"]
        is_correction = bool(record.get("corrects"))
        fen = record["adjustFee"] if is_correction else record["fee"]
        self.last_seq = record["seq"]
        self.count += 1
        self.vehicles += not (is_correction or record.get("isStub"))
        self.sum_fen += fen
        self.chain_head = record_chain(record["prevChain"], line)
        kind = self.kinds.setdefault((record["outcome"], record["means"], is_correction), [0, 0])
        kind[0] += 1
        kind[1] += fen

    def told(self) -> LaneTold:
        kinds = tuple(
            KindTold(kind=kind, means=means, correction=of, count=count, sum_fen=sum_fen)
            for (kind, means, of), (count, sum_fen) in sorted(self.kinds.items())
        )
        return LaneTold(
            lane=self.lane,
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            count=self.count,
            vehicles=self.vehicles,
            sum_fen=self.sum_fen,
            chain_before=self.chain_before,
            chain_head=self.chain_head,
            kinds=kinds,
        )


def examine(parcel: Parcel) -> ExportTold:
    """Walk the whole export. Raises: ParcelRefused, naming the first row that is not true."""
    try:
        told = ExportTold.model_validate_json(json.dumps(parcel.manifest))
    except ValidationError as bad:
        raise ParcelRefused("清单缺内容，或写得不对") from bad
    walk = _Walk(parcel, told)
    try:
        for line in parcel.lines(JOURNAL):
            walk.row(line)
    except (ValueError, KeyError, TypeError) as bad:
        raise ParcelRefused(f"{JOURNAL} 第 {walk.at} 行读不出") from bad
    walk.end()
    return told


class _Walk:
    """Through journal.txt, the parts of the records beside it."""

    def __init__(self, parcel: Parcel, told: ExportTold) -> None:
        self._parcel, self._told = parcel, told
        self.at = 0
        self._seq, self._hash = 0, bytes.fromhex(told.journal.previous_hash)
        self._first_seq, self._count = 0, 0
        self._sums: dict[str, LaneSum] = {}
        self._parts: dict[str, Iterator[bytes]] = {}
        self._raised: dict[str, int] = {}
        """Lane → the number behind which it goes on: the centre held what the box had lost."""

    def row(self, line: bytes) -> None:
        self.at += 1
        named, _, text = line.partition(b" ")
        if named == b"-" and self._told.damaged:
            self._seq, self._hash = 0, bytes.fromhex(text.decode())
            return
        row = Row(*json.loads(text))
        expected = chained(self._hash, text)
        if named.decode() != expected.hex() or (self._seq and row.seq != self._seq + 1):
            raise ParcelRefused(f"流水第 {row.seq} 条接不上：哈希链断了")
        self._first_seq = self._first_seq or row.seq
        self._seq, self._hash = row.seq, expected
        self._count += 1
        if row.event == RAISED:
            self._raised[row.lane] = json.loads(row.extra)["raised"]
        if row.line:
            self._record(row)

    def _record(self, row: Row) -> None:
        lane = row.lane
        part = self._parts.setdefault(lane, self._lines_of(lane))
        if next(part, None) != row.line.encode():
            raise ParcelRefused(f"{part_of(lane)} 和流水第 {row.seq} 条里的记录不是同一条")
        found = self._sums.setdefault(lane, LaneSum(lane))
        record = json.loads(row.line)
        before = (found.last_seq, self._raised.get(row.lane))
        follows = record["seq"] - 1 in before and record["prevChain"] == found.chain_head
        if found.count and not follows and not self._told.damaged:
            raise ParcelRefused(f"车道 {lane} 第 {record['seq']} 条记录接不上前一条")
        found.add(row.line, record)

    def _lines_of(self, lane: str) -> Iterator[bytes]:
        if not self._parcel.has(part_of(lane)):
            raise ParcelRefused(f"缺 {part_of(lane)}")
        return self._parcel.lines(part_of(lane))

    def end(self) -> None:
        """The manifest must say what was found."""
        if self._told.photos != len(self._parcel.photos()):
            raise ParcelRefused("照片的张数和清单不符")
        if any(next(part, None) is not None for part in self._parts.values()):
            raise ParcelRefused("有的记录不在流水里")
        named = {part_of(lane) for lane in self._sums} | {JOURNAL, PHOTOS}
        if any(part["name"] not in named for part in self._parcel.manifest["parts"]):
            raise ParcelRefused("清单里有不该有的部分")
        lanes = tuple(self._sums[lane].told() for lane in sorted(self._sums))
        journal = JournalTold(
            first_seq=self._first_seq,
            last_seq=self._seq,
            count=self._count,
            previous_hash=self._told.journal.previous_hash,
            head_hash=self._hash.hex(),
        )
        if (lanes, journal) != (self._told.lanes, self._told.journal):
            raise ParcelRefused("清单里的条数、金额或哈希和内容不符")

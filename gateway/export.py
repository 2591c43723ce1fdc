"""lane-gateway journal export: one signed file with records, journal and photos, for the centre
and for auditors. Reads only; a box may go on selling. Both copies are verified first.

Everything comes from the log, which is the truth. Parts are written to files beside the target
first, so that memory stays small however much there is.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from gateway import keys, parcel
from gateway.audit import EXPORT, JOURNAL, PHOTOS, ExportTold, JournalTold, LaneSum, part_of
from gateway.errors import GatewayError, RequestInvalid
from gateway.flow.journal import verify
from gateway.parcel import Part, Photo, Writing
from gateway.spool.verify import Damage, Walked, frames_of
from gateway.store import SPOOL
from gateway.units import BEIJING, iso

SHOWN_MAX = 3
LISTED_MAX = 100
EVIDENCE = "evidence"


class ExportRefused(GatewayError):
    """The box's own copies are not sound; nothing was written."""

    code = "export.refused"
    default_action = (
        "请先启动一次网关（会自动修复并留下记录）再导出；要按现状导出请加 --force-damaged"
    )


class Span(NamedTuple):
    """From one moment to before another, wall clock; None: without end."""

    since_ms: int | None = None
    until_ms: int | None = None


def span(since: str | None, until: str | None) -> Span:
    """Days (2026-11-22, the last one included) or moments (2026-11-22T08:00), Beijing time.

    Raises: RequestInvalid.
    """
    return Span(_moment(since, 0) if since else None, _moment(until, 1) if until else None)


def export(
    data: Path,
    out: Path,
    of: Span = Span(),  # noqa: B008 - a value
    *,
    with_photos: bool = False,
    is_forced: bool = False,
) -> ExportTold:
    """Write `out`; what its manifest says. The same data and span give the same bytes.

    Raises: ExportRefused, if a copy is damaged and nobody insists; KeyMissing; RequestInvalid, if
    there is nothing of that time; OSError.
    """
    signer = keys.of_box(data)
    damages = verify(data)
    if damages and not is_forced:
        raise ExportRefused(f"发现 {len(damages)} 处损坏：{_shown(damages)}")
    first_seq, last_seq = _bounds(data / SPOOL, of)
    with (
        tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder,
        closing(_Taken(Path(folder))) as taken,
    ):
        for walked in frames_of(data / SPOOL):
            if first_seq <= walked.frame.seq <= last_seq:
                taken.add(walked)
        photos, missing = _photos(data / EVIDENCE, taken.photos) if with_photos else ([], [])
        manifest = ExportTold(
            key=signer.public_hex,
            since=None if of.since_ms is None else iso(of.since_ms),
            until=None if of.until_ms is None else iso(of.until_ms),
            journal=taken.journal(),
            lanes=tuple(taken.sums[lane].told() for lane in sorted(taken.sums)),
            photos=len(photos),
            photos_missing=tuple(missing[:LISTED_MAX]),
            damaged=tuple(_words(damage) for damage in damages[:LISTED_MAX]),
        )
        parts = taken.done(photos)
        parcel.write(
            out, signer, {"kind": EXPORT, **manifest.model_dump(mode="json")}, parts, photos
        )
    return manifest


class _Taken:
    """What goes into the file, part by part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = Writing(folder, JOURNAL)
        self._records: dict[str, Writing] = {}
        self._first: Walked | None = None
        self._last: Walked | None = None
        self._count = 0
        self.sums: dict[str, LaneSum] = {}
        self.photos: set[str] = set()

    def close(self) -> None:
        for part in (self._journal, *self._records.values()):
            part.close()

    def add(self, walked: Walked) -> None:
        frame = walked.frame
        if self._last and self._last.frame.hash != walked.previous:
            self._journal.add(f"- {walked.previous.hex()}".encode())
        self._journal.add(frame.hash.hex().encode() + b" " + frame.text)
        self._first, self._last = self._first or walked, walked
        self._count += 1
        if (row := frame.row).line:
            self._add_record(row.lane, row.line)

    def _add_record(self, lane: str, line: str) -> None:
        if lane not in self._records:
            self._records[lane] = Writing(self._folder, part_of(lane))
            self.sums[lane] = LaneSum(lane)
        record = json.loads(line)
        self._records[lane].add(line.encode())
        self.sums[lane].add(line, record)
        if photo := record["photo"]:
            self.photos.add(photo)

    def journal(self) -> JournalTold:
        """Raises: RequestInvalid, if nothing was added."""
        if self._first is None or self._last is None:
            raise RequestInvalid("这段时间没有流水", "请核对起止日期")
        return JournalTold(
            first_seq=self._first.frame.seq,
            last_seq=self._last.frame.seq,
            count=self._count,
            previous_hash=self._first.previous.hex(),
            head_hash=self._last.frame.hash.hex(),
        )

    def done(self, photos: Sequence[Photo]) -> list[tuple[Part, Path]]:
        written = [self._journal, *(self._records[lane] for lane in sorted(self._records))]
        if photos:
            listed = Writing(self._folder, PHOTOS)
            for photo in photos:
                listed.add(f"{photo.sha256} {photo.size}".encode())
            written.append(listed)
        return [(part.done(), part.path) for part in written]


def _bounds(folder: Path, of: Span) -> tuple[int, int]:
    """First and last row of that time. All between them come too: a clock that was set back in
    the meantime breaks no chain."""
    if of == Span():
        return 0, 1 << 62
    first_seq, last_seq = 1 << 62, 0
    for walked in frames_of(folder):
        at_ms = walked.frame.row.at_ms
        if (of.since_ms or 0) <= at_ms < (of.until_ms or 1 << 62):
            first_seq, last_seq = min(first_seq, walked.frame.seq), walked.frame.seq
    return first_seq, last_seq


def _photos(folder: Path, wanted: Iterable[str]) -> tuple[list[Photo], list[str]]:
    """Those that are there and whole, and the names of the others."""
    found, missing = list[Photo](), list[str]()
    for sha256 in sorted(wanted):
        path = folder / sha256[:2] / f"{sha256[2:]}.jpg"
        body = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(body).hexdigest() == sha256:
            found.append(Photo(sha256, len(body), path))
        else:
            missing.append(sha256)
    return found, missing


def _moment(text: str, days: int) -> int:
    """`days`: what a day without a time of day is counted on."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as bad:
        raise RequestInvalid(
            f"看不懂这个时间：{text}", "写 2026-11-22 或 2026-11-22T08:00"
        ) from bad
    at = at if at.tzinfo else at.replace(tzinfo=BEIJING)
    at += timedelta(days=days if len(text) <= len("2026-11-22") else 0)
    return round(at.timestamp() * 1000)


def _words(damage: Damage) -> str:
    return f"{Path(damage.file).name} 第 {damage.row} 行：{damage.what}"


def _shown(damages: Sequence[Damage]) -> str:
    more = f"；另有 {len(damages) - SHOWN_MAX} 处" if len(damages) > SHOWN_MAX else ""
    return "；".join(map(_words, damages[:SHOWN_MAX])) + more

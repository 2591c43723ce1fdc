"""A box with years behind it, made in a minute: log and tables as the gateway would have left them.

One real passage (a truck, driven through a real lane with instant twins) is the pattern. Each copy
has ids, times, counters and a place in the chains of its own; frames are packed by the log's code
and tables filled by the code that follows the log. A vehicle comes every 30 s; keys of commands
are kept for two days as the gateway does; the centre has been away for the last `UNSENT` records.
"""

import asyncio
import gzip
import hashlib
import json
import multiprocessing
import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from gateway.devices import build
from gateway.flow.books import KEY_KEPT_MS
from gateway.spool import segment, tables
from gateway.spool.database import connect
from gateway.spool.frame import GENESIS, Row, chained, pack, text_of
from gateway.spool.log import BLOCK, SEGMENT_BYTES, Spool
from gateway.spool.segment import HEAD_SIZE, Head
from gateway.store import SPOOL
from gateway.units import SystemClock
from tests.bench import box, passage

EVERY_MS = 30_000  # between vehicles
A_SHIFT = 960  # vehicles in eight hours
UNSENT = 10_000  # records; three and a half days without the centre
ROWS_A_COMMIT = 50_000


class Pattern(NamedTuple):
    """One real passage, and what of its rows is its own."""

    rows: tuple[Row, ...]
    passage_id: str
    card_id: str
    record_id: str
    prev_chain: str
    seq: int
    shift_id: int


def pattern(folder: Path) -> Pattern:
    """One passage of the real thing."""
    asyncio.run(_driven(folder))
    spool = Spool.open(folder / SPOOL)
    rows = [row for row, _ in spool.rows()]
    spool.close()
    saved = rows[-1]
    own = tuple(row for row in rows if row.passage_id == saved.passage_id)
    record = json.loads(saved.line)
    shift_id = json.loads(saved.extra)["passage"][2]
    return Pattern(
        own, saved.passage_id, record["cardId"], record["id"], record["prevChain"],
        record["seq"], shift_id,
    )  # fmt: skip


async def _driven(folder: Path) -> None:
    clock = SystemClock()
    devices = partial(build.devices, is_instant=True)
    async with box.gateway(box.settings(folder, 1), clock, devices) as built:
        bench = box.bench_of(built, clock)
        running = asyncio.create_task(built.lanes["X03"].run())
        try:
            for _ in range(2):  # the first row of all is the shift's
                await passage.one(built, bench.put({"preset": "truck"}))
        finally:
            running.cancel()


def make(folder: Path, of: Pattern, rows: int, now_ms: int) -> None:
    """Fill a new data folder with at least `rows` rows of the journal. Two processes."""
    (folder / SPOOL).mkdir(parents=True)
    passages = -(-rows // len(of.rows))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        works = [
            pool.apply_async(work, (folder, of, passages, now_ms))
            for work in (_write_log, _fill_tables)
        ]
        for work in works:
            work.get()


def told(of: Pattern, passages: int, now_ms: int) -> Iterator[Row]:
    """Every row of the log, in order."""
    first_ms = now_ms - passages * EVERY_MS
    seq, chain = count(1), ""
    for number in range(1, passages + 1):
        at_ms, shift_id = first_ms + number * EVERY_MS, 1 + number // A_SHIFT
        if number == 1 or number % A_SHIFT == 0:
            yield from _change(of, seq, shift_id, at_ms)
        for row in _copies(of, number, shift_id, at_ms, chain):
            yield row._replace(seq=next(seq))
        chain = tables.record_chain(chain, row.line)


def _change(of: Pattern, seq: Iterator[int], shift_id: int, at_ms: int) -> Iterator[Row]:
    """One goes, the next one comes."""
    bare = of.rows[0]._replace(passage_id="", at_ms=at_ms, state="", body="{}")
    if shift_id > 1:
        closed = {"id": shift_id - 1, "closed_ms": at_ms, "totals": {}}
        extra = json.dumps({"shift": closed}, separators=(",", ":"))
        yield bare._replace(seq=next(seq), event=tables.SHIFT_CLOSED, extra=extra)
    opened = {"id": shift_id, "operator": "1001", "shift": 1, "opened_ms": at_ms}
    extra = json.dumps({"shift": opened}, separators=(",", ":"))
    yield bare._replace(seq=next(seq), event=tables.SHIFT_OPENED, extra=extra)


def _copies(of: Pattern, number: int, shift_id: int, at_ms: int, chain: str) -> Iterator[Row]:
    """The pattern's rows as the passage of that number would have them. Text for text: a million
    rows are no time for JSON."""
    passage_id = f"X03-{number:014d}-{number:08X}"
    own = (
        (of.passage_id, passage_id),
        (of.card_id, f"62012045{number:012d}"),
        (of.record_id, f"{of.record_id[:-10]}{number:010d}"),
        (f'"1001",{of.shift_id},', f'"1001",{shift_id},'),
    )
    by_ms = at_ms - of.rows[0].at_ms
    opened, saved = of.rows[0].at_ms, of.rows[-1].at_ms
    for row in of.rows:
        body, extra, line = (_put(text, own) for text in (row.body, row.extra, row.line))
        extra = extra.replace(f"[{opened},", f"[{opened + by_ms},")
        if line:
            extra = extra.replace(f",{saved}]", f",{saved + by_ms}]")
            line = line.replace(f'"seq":{of.seq},', f'"seq":{number},')
            line = line.replace(f'"prevChain":"{of.prev_chain}"', f'"prevChain":"{chain}"')
        yield Row(0, row.lane, passage_id, row.at_ms + by_ms, *row[4:9], body, extra, line)


def _put(text: str, own: Sequence[tuple[str, str]]) -> str:
    for old, new in own:
        text = text.replace(old, new)
    return text


# ---- the log ----


def _write_log(folder: Path, of: Pattern, passages: int, now_ms: int) -> None:
    seq, last, raw = 0, GENESIS, bytearray()
    numbers = count(1)
    for row in told(of, passages, now_ms):
        text = text_of(row)
        frame = pack(row.seq, seq, chained(last, text), text, BLOCK)
        if not raw or len(raw) + len(frame) > SEGMENT_BYTES:
            _finish(folder, numbers, raw)
            raw = bytearray(segment.pack_head(Head(BLOCK, row.seq, last)))
        raw += frame
        seq, last = row.seq, chained(last, text)
    _finish(folder, numbers, raw)


def _finish(folder: Path, numbers: Iterator[int], raw: bytearray) -> None:
    if len(raw) > HEAD_SIZE:
        path = segment.path_of(folder / SPOOL, next(numbers))
        path.write_bytes(raw.ljust(SEGMENT_BYTES, b"\0"))


# ---- the tables ----


def _fill_tables(folder: Path, of: Pattern, passages: int, now_ms: int) -> None:
    db = connect(folder / "lane.db")
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-200000"):
        db.execute(f"PRAGMA {pragma}")
    last = GENESIS
    db.execute("BEGIN")
    for row in told(of, passages, now_ms):
        last = chained(last, text_of(row))
        tables.follow(db, row, last)
        if row.seq % ROWS_A_COMMIT == 0:
            db.execute("DELETE FROM command WHERE at_ms < ?", (now_ms - KEY_KEPT_MS,))
            db.execute("COMMIT")
            db.execute("BEGIN")
    db.execute("DELETE FROM command WHERE at_ms < ?", (now_ms - KEY_KEPT_MS,))
    _deliver(db, of, passages)
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode=WAL")
    db.close()


def _deliver(db: sqlite3.Connection, of: Pattern, passages: int) -> None:
    """Each record was sealed alone, as vehicles come; the centre has all but the newest, and
    their photos. Answers to commands were kept."""
    sent = "SELECT lane, seq, 'accepted', 'push', saved_ms FROM record WHERE seq <= ?"
    db.execute(
        f"INSERT INTO delivery (lane, seq, verdict, via, at_ms) {sent}",
        (max(0, passages - UNSENT),),
    )
    body = gzip.compress(f"{of.rows[-1].line}\n".encode(), 6, mtime=0)
    digest = hashlib.sha256(body).hexdigest()
    db.execute(
        "INSERT INTO batch (lane, first_seq, last_seq, count, sum_fen, sha256, prev_sha256,"
        " sealed_ms, body) SELECT lane, seq, seq, 1, fee_fen, ?1, ?1, saved_ms, ?2 FROM record",
        (digest, body),
    )
    db.execute(
        "INSERT INTO evidence (sha256, size, at_ms, source)"
        " SELECT chain, 90000, saved_ms, 'camera' FROM record"
    )
    db.execute(
        "INSERT INTO evidence_delivery (sha256, at_ms)"
        " SELECT r.chain, r.saved_ms FROM record AS r JOIN delivery AS d USING (lane, seq)"
    )
    answer = tables.packed({"rev": 1, "passage": of.rows[-1].line})
    db.execute("UPDATE command SET status = 200, answer = ?", (answer,))

"""What must be true of a box (reliability.md T0, as code). Each finding is a sentence.

`on_opening` looks at a disk as recovery left it, before the lane does anything; `at_the_end`
looks when everything standing was brought to its end and a fresh car has passed; `quiet` says
that nothing had to be mended, as after any cut that breaks no promise of the disk's.

    i     told → at the centre exactly once     saved, delivered, arrived, `Collector` repeats: keys
    ii    no debit without a record, and back   money
    iii   a passage, at most one charge         money
    iv    states only move up                   upward, derived
    v     records without holes                 sequence
    vi    shift = journal = centre              shifts, arrived
    vii   the table in force is on the record   versions
    viii  nobody is told before it is durable   history, saved, photos
    ix    the two copies agree                  whole, agreed
    x     a fresh car passes                    whoever drives the lane (tests/powercut/life.py)
    xi    not vacuous                           whoever counts (tests/powercut/campaign.py)
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.devices.etc_files import CardKind
from gateway.devices.sim.card import Debit, SimUserCard
from gateway.devices.sim.vehicle import CREDIT_PURSE, STORED_FEN
from gateway.errors import JournalMismatch
from gateway.flow import journal
from gateway.flow.shift import COLLECTED

KEPT_REFUSALS = frozenset({"entry.mismatch"})
"""Refusals that are noted, key and all; the others are judged anew each time."""
MENDED = "incident"
"""The journal's note of something damaged that was mended."""


class Promises(Protocol):
    """What the world was told by a moment, and what the centre holds then."""

    centre: dict[str, str]
    """Record id → SHA-256 of the line that the centre accepted."""
    answers: list[dict[str, Any]]
    """{key, asked, rev, refused} or {key, asked, rev, state, passage, record, photo}."""


class Scene(NamedTuple):
    """One box's disk and the world around it."""

    db: sqlite3.Connection
    folder: Path
    world: Promises
    hashes: Sequence[str]
    """Of every journal row that the recorded program wrote, oldest first."""
    photo: Callable[[str], tuple[int, str]] | None = None
    """SHA-256 → (size, SHA-256 of what is there); None: look into the folder."""


Check = Callable[[Scene], Iterator[str]]


def on_opening(scene: Scene, *, was_damaged: bool = False) -> list[str]:
    """`was_damaged`: not by a cut; the rows of other tables than money's may be gone, and those of
    photos are written by the start that follows."""
    proof = photos_kept if was_damaged else photos
    checks: tuple[Check, ...] = (history, saved, keys, delivered, shifts, proof)
    return [said for check in checks for said in check(scene)]


def at_the_end(scene: Scene, cards: Sequence[SimUserCard]) -> list[str]:
    checks: tuple[Check, ...] = (
        whole, sequence, upward, versions, photos, derived, shifts, arrived,
    )  # fmt: skip
    return [*(said for check in checks for said in check(scene)), *money(scene.db, cards)]


def long_after(scene: Scene) -> list[str]:
    """At any time, whatever went on since; nobody writes now."""
    checks: tuple[Check, ...] = (
        kept, saved, keys, whole, sequence, upward, versions, photos, derived, shifts, quiet,
    )  # fmt: skip
    return [said for check in checks for said in check(scene)]


def read_only(folder: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{(folder / 'lane.db').as_uri()}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    return db


# ---- nothing promised is lost ----------------------------------------------------------------


def history(scene: Scene) -> Iterator[str]:
    """The journal is a beginning of what really happened, and as long as anybody was told."""
    newest = scene.db.execute(
        "SELECT seq, hash FROM journal WHERE event <> ? ORDER BY seq DESC LIMIT 1", (MENDED,)
    ).fetchone()
    seq, row_hash = (newest["seq"], newest["hash"].hex()) if newest else (0, "")
    told = max((answer["rev"] for answer in scene.world.answers), default=0)
    if seq < told:
        yield f"the collector saw rev {told}, the journal ends at {seq}"
    if seq > len(scene.hashes) or (seq and scene.hashes[seq - 1] != row_hash):
        yield f"row {seq} of the journal is not the one that was written"


def kept(scene: Scene) -> Iterator[str]:
    """Every row that anybody was told of is the one that was written."""
    told = max((answer["rev"] for answer in scene.world.answers), default=0)
    for seq, row_hash in scene.db.execute(
        "SELECT seq, hash FROM journal WHERE seq <= ? ORDER BY seq", (told,)
    ):
        if scene.hashes[seq - 1] != row_hash.hex():
            yield f"row {seq} of the journal is not the one that was written"
    (rows,) = scene.db.execute("SELECT count(*) FROM journal WHERE seq <= ?", (told,)).fetchone()
    if rows != told:
        yield f"of {told} rows that somebody was told of {rows} are there"


def saved(scene: Scene) -> Iterator[str]:
    """A record that the collector saw is there, with the same number, id and bytes."""
    rows = {row["seq"]: row for row in scene.db.execute("SELECT seq, id, chain FROM record")}
    for answer in scene.world.answers:
        if seen := answer.get("record"):
            row = rows.get(seen["seq"])
            if row is None or (row["id"], row["chain"]) != (seen["id"], seen["chain"]):
                yield f"record {seen['seq']} was shown as saved and is not there as shown"


def keys(scene: Scene) -> Iterator[str]:
    """A command that was answered is known, so that its repeat does nothing."""
    known = {row["key"] for row in scene.db.execute("SELECT key FROM command")}
    for answer in scene.world.answers:
        if answer.get("refused") not in {None, *KEPT_REFUSALS}:
            continue
        if answer["key"] not in known:
            yield f"{answer['asked']['command']} was answered and its key is not known"


def photos(scene: Scene) -> Iterator[str]:
    """Each row has its photo, whole; each photo that was shown has its row."""
    there = set()
    for sha256, size in scene.db.execute("SELECT sha256, size FROM evidence"):
        there.add(sha256)
        there_size, there_sha256 = (scene.photo or _photo_in(scene.folder))(sha256)
        if (there_size, there_sha256) != (size, sha256):
            yield f"a photo of {size} bytes is promised, {there_size} bytes are there, or others"
    if missing := _shown(scene) - there:
        yield f"{len(missing)} photos were shown and have no row"


def photos_kept(scene: Scene) -> Iterator[str]:
    """Each photo that was shown is there, whole."""
    for sha256 in _shown(scene):
        if (scene.photo or _photo_in(scene.folder))(sha256)[1] != sha256:
            yield "a photo was shown and is not there, or another"


def _shown(scene: Scene) -> set[str]:
    return {answer["photo"] for answer in scene.world.answers if answer.get("photo")}


def photo_path(sha256: str) -> str:
    """Below the data folder."""
    return f"evidence/{sha256[:2]}/{sha256[2:]}.jpg"


def _photo_in(folder: Path) -> Callable[[str], tuple[int, str]]:
    def look(sha256: str) -> tuple[int, str]:
        file = folder / photo_path(sha256)
        body = file.read_bytes() if file.exists() else b""
        return len(body), hashlib.sha256(body).hexdigest()

    return look


def quiet(scene: Scene) -> Iterator[str]:
    """Nothing had to be mended."""
    for (body,) in scene.db.execute("SELECT body FROM journal WHERE event = ?", (MENDED,)):
        yield f"mended: {json.loads(body)['what']}"


def delivered(scene: Scene) -> Iterator[str]:
    """What is marked as delivered is at the centre; what is at the centre is ours."""
    lines = {row["seq"]: row for row in scene.db.execute("SELECT seq, id, line FROM record")}
    for row in scene.db.execute("SELECT seq, verdict FROM delivery"):
        line = lines.get(row["seq"])
        if line is None or line["id"] not in scene.world.centre:
            yield f"record {row['seq']} is marked {row['verdict']}, and the centre lacks it"
    ours = {row["id"]: _sha256(row["line"]) for row in lines.values()}
    for record_id, sha256 in scene.world.centre.items():
        if ours.get(record_id) != sha256:
            yield "the centre holds a record that the box no longer has"


# ---- nothing contradicts itself --------------------------------------------------------------


def whole(scene: Scene) -> Iterator[str]:
    """The file is sound, all hash chains hold to the last row, and the two copies agree."""
    for (said,) in scene.db.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield f"the database file is damaged: {said}"
    yield from agreed(scene.folder)


def agreed(folder: Path) -> list[str]:
    """Both copies, row by row, as `lane-gateway journal verify` sees them."""
    return [f"journal verify: row {d.row}: {d.what}" for d in journal.verify(folder)]


def upward(scene: Scene) -> Iterator[str]:
    """Each passage's rows lead from state to state as the rules say, and nothing follows an end."""
    rows = scene.db.execute("SELECT passage_id, seq, event, state, body FROM journal ORDER BY seq")
    passages: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        passages.setdefault(row["passage_id"], []).append(row)
    passages.pop("", None)
    for passage_id, story in passages.items():
        try:
            journal.replay(story)
        except JournalMismatch as no:
            yield f"passage {passage_id}: {no.detail}"
        states = [row["state"] for row in story if row["state"]]
        ends = [number for number, state in enumerate(states) if state in ("saved", "idle")]
        if ends and states[ends[0] + 1 :]:
            yield f"passage {passage_id} went on after its end: {states[ends[0] :]}"


def versions(scene: Scene) -> Iterator[str]:
    """A record names the tables that were in force when its passage began."""
    begun = {
        passage_id: json.loads(body)["parameters"]
        for passage_id, body in scene.db.execute(
            "SELECT passage_id, body FROM journal WHERE event = 'ReadRequested'"
        )
    }
    for passage_id, line in scene.db.execute("SELECT passage_id, line FROM record"):
        if json.loads(line)["paramVersions"] != begun.get(passage_id):
            yield "a record names other tables than those its passage began with"


def shifts(scene: Scene) -> Iterator[str]:
    """What was signed off is what the records of that shift come to."""
    for shift_id, totals in scene.db.execute(
        "SELECT id, totals FROM shift WHERE closed_ms IS NOT NULL"
    ):
        told, kinds = json.loads(totals), tuple(COLLECTED)
        marks = ",".join("?" * len(kinds))
        count, sum_fen = scene.db.execute(
            f"SELECT count(*), coalesce(sum(fee_fen) FILTER (WHERE kind IN ({marks})), 0)"
            " FROM record WHERE shift_id = ? AND kind <> 'cancelled'",
            (*kinds, shift_id),
        ).fetchone()
        if (told["count"], told["sum_fen"]) != (count, sum_fen):
            yield f"shift {shift_id} was signed off as {told}, its records say {count}, {sum_fen}"


def sequence(scene: Scene) -> Iterator[str]:
    for first, last, count in scene.db.execute(
        "SELECT min(seq), max(seq), count(*) FROM record GROUP BY lane"
    ):
        if (first, last - first + 1) != (1, count):
            yield f"records {first} to {last} are {count}: a hole"


def derived(scene: Scene) -> Iterator[str]:
    """Each passage's own row says what its journal says."""
    newest = dict(
        scene.db.execute(
            "SELECT passage_id, state FROM journal WHERE seq IN"
            " (SELECT max(seq) FROM journal WHERE state <> '' GROUP BY passage_id)"
        ).fetchall()
    )
    for row in scene.db.execute("SELECT id, state, ended, record_id FROM passage"):
        ends = {None: row["state"], "saved": "saved"}
        if newest.get(row["id"]) != ends.get(row["ended"], "idle"):
            yield f"a passage is {row['state']}, its journal says {newest.get(row['id'])}"
        if (row["ended"] in ("saved", "cancelled")) != (row["record_id"] is not None):
            yield "a passage ended without its record or stub, or has one and did not end"


def arrived(scene: Scene) -> Iterator[str]:
    """With the line back, the centre holds each record once, and nothing else."""
    ours = {row["id"]: _sha256(row["line"]) for row in scene.db.execute("SELECT * FROM record")}
    if ours != scene.world.centre:
        yield f"the box has {len(ours)} records, the centre {len(scene.world.centre)} or others"


# ---- money -----------------------------------------------------------------------------------


def money(db: sqlite3.Connection, cards: Sequence[SimUserCard]) -> Iterator[str]:
    """Each debit of a card is one passage's, announced before it happened, and on one record."""
    records, tickets = _records(db), _tickets(db)
    taken: dict[str, int] = {}
    for card in cards:
        yield from _balance(card)
        for debit in card.ledger:
            name = card.info.card_id, debit.card_seq, debit.terminal_seq
            passage_id = tickets.get(name)
            if passage_id is None:
                yield f"{debit.amount_fen} fen were taken that no journal row announced"
                continue
            taken[passage_id] = taken.get(passage_id, 0) + 1
            record = records.pop(name, None)
            if record is None:
                yield f"{debit.amount_fen} fen were taken and no record says so"
            elif _claims(record) != _happened(record, debit):
                yield f"a record of {record['outcome']} disagrees with its card: {_claims(record)}"
    yield from (f"{n} debits for one passage" for n in taken.values() if n > 1)
    for record in records.values():
        if record["outcome"] == "paid":
            yield "a record says paid, and no card was debited"


def _balance(card: SimUserCard) -> Iterator[str]:
    start = CREDIT_PURSE if card.info.card_kind == CardKind.CREDIT else STORED_FEN
    if card.balance != start - sum(debit.amount_fen for debit in card.ledger):
        yield "a card's balance does not agree with its own debits"


def _records(db: sqlite3.Connection) -> dict[tuple[str, int, int], dict[str, Any]]:
    """By (card, its trade number, the PSAM's) those records that name a debit."""
    lines = [json.loads(row["line"]) for row in db.execute("SELECT line FROM record")]
    return {
        (line["cardId"], int(line["cardTransNo"], 16), int(line["terminalTransNo"], 16)): line
        for line in lines
        if line["terminalTransNo"]
    }


def _tickets(db: sqlite3.Connection) -> dict[tuple[str, int, int], str]:
    """The same names → the passage whose journal announced that debit."""
    rows = db.execute("SELECT passage_id, body FROM journal WHERE event = 'DebitPrepared'")
    found = {}
    for passage_id, body in rows:
        ticket = json.loads(body)["ticket"]
        found[ticket["card_id"], ticket["card_seq"], ticket["terminal_seq"]] = passage_id
    return found


def _claims(record: dict[str, Any]) -> tuple[int, str | None, int]:
    """(asked of the card, its TAC, collected), as the record says."""
    return record["transFee"], record["tac"], record["fee"]


def _happened(record: dict[str, Any], debit: Debit) -> tuple[int, str | None, int]:
    """The same, as it should say: a doubtful one knows no TAC and collected by hand."""
    if record["outcome"] == "doubtful":
        return debit.amount_fen, None, record["fee"]
    return debit.amount_fen, debit.tac, debit.amount_fen


def _sha256(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()

"""What must be true of a box after a cut (reliability.md §0 and T0). Each finding is a sentence.

`on_opening` looks at the disk as recovery found it, before the lane does anything; `at_the_end`
looks when everything standing was brought to its end and a fresh car has passed.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.devices.etc_files import CardKind
from gateway.devices.sim.card import Debit, SimUserCard
from gateway.devices.sim.vehicle import CREDIT_PURSE, STORED_FEN
from gateway.flow import journal
from tests.powercut.world import World

KEPT_REFUSALS = frozenset({"entry.mismatch"})
"""Refusals that are noted, key and all; the others are judged anew each time."""


class Scene(NamedTuple):
    """One box's disk and the world around it."""

    db: sqlite3.Connection
    folder: Path
    world: World
    hashes: Sequence[str]
    """Of every journal row that the recorded program wrote, oldest first."""


Check = Callable[[Scene], Iterator[str]]


def on_opening(scene: Scene) -> list[str]:
    checks: tuple[Check, ...] = (history, saved, keys, photos, delivered)
    return [said for check in checks for said in check(scene)]


def at_the_end(scene: Scene, cards: Sequence[SimUserCard]) -> list[str]:
    checks: tuple[Check, ...] = (whole, sequence, photos, derived, arrived)
    return [*(said for check in checks for said in check(scene)), *money(scene.db, cards)]


def read_only(folder: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{(folder / 'lane.db').as_uri()}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    return db


# ---- nothing promised is lost ----------------------------------------------------------------


def history(scene: Scene) -> Iterator[str]:
    """The journal is a beginning of what really happened, and as long as anybody was told."""
    newest = scene.db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    seq, row_hash = (newest["seq"], newest["hash"].hex()) if newest else (0, "")
    told = max((answer["rev"] for answer in scene.world.answers), default=0)
    if seq < told:
        yield f"the collector saw rev {told}, the journal ends at {seq}"
    if seq > len(scene.hashes) or (seq and scene.hashes[seq - 1] != row_hash):
        yield f"row {seq} of the journal is not the one that was written"


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
        file = scene.folder / "evidence" / sha256[:2] / f"{sha256[2:]}.jpg"
        body = file.read_bytes() if file.exists() else b""
        if len(body) != size or hashlib.sha256(body).hexdigest() != sha256:
            yield f"a photo of {size} bytes is promised, {len(body)} bytes are there, or others"
    shown = {answer["photo"] for answer in scene.world.answers if answer.get("photo")}
    if missing := shown - there:
        yield f"{len(missing)} photos were shown and have no row"


def delivered(scene: Scene) -> Iterator[str]:
    """What is marked as delivered is at the centre; what is at the centre is ours."""
    lines = {row["seq"]: row for row in scene.db.execute("SELECT seq, id, line FROM record")}
    for row in scene.db.execute("SELECT seq, verdict FROM delivery"):
        if lines[row["seq"]]["id"] not in scene.world.centre:
            yield f"record {row['seq']} is marked {row['verdict']}, and the centre lacks it"
    ours = {row["id"]: _sha256(row["line"]) for row in lines.values()}
    for record_id, sha256 in scene.world.centre.items():
        if ours.get(record_id) != sha256:
            yield "the centre holds a record that the box no longer has"


# ---- nothing contradicts itself --------------------------------------------------------------


def whole(scene: Scene) -> Iterator[str]:
    """The file is sound and both hash chains hold, from the first row to the last."""
    for (said,) in scene.db.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield f"the database file is damaged: {said}"
    for damage in journal.verify(scene.folder):
        yield f"journal verify: row {damage.row}: {damage.what}"


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
        if (row["ended"] == "saved") != (row["record_id"] is not None):
            yield "a passage is saved without a record, or has one unsaved"


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

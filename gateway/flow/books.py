"""What one step writes, all or none: its key, its journal row, its record, its passage's row.

The only writer of journal, passage, record and command. Runs in the store's thread, so it is
given values and gives values; it decides nothing.
"""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic_core import to_json

from gateway.errors import KeyReused, fault_of
from gateway.flow import journal
from gateway.flow.journal import Moment
from gateway.flow.messages import Cancelled, Event, MediaUnreadable
from gateway.flow.passage import Owed, Passage, Step
from gateway.flow.recording import Place, exit_record, record_id_prefix
from gateway.params import Operators
from gateway.records import ClockReading
from gateway.store import Store

KEY_KEPT_MS = 48 * 3_600_000  # interfaces.md §7.10 wants at least 24 h
ENDINGS: dict[type[Event], str] = {Cancelled: "cancelled", MediaUnreadable: "unreadable"}


class Key(NamedTuple):
    """A command's Idempotency-Key, and a digest of what it asked for."""

    key: str
    fingerprint: str


class Saved(NamedTuple):
    """A record as the screen shows it."""

    id: str
    seq: int
    chain: str


class Committed(NamedTuple):
    """What is now on disk: the journal row's number, and the record if one was due."""

    seq: int
    record: Saved | None


class Books:
    """One lane's pages in the store."""

    def __init__(self, store: Store, place: Place, operators: Callable[[], Operators]) -> None:
        self._store, self._place, self._operators = store, place, operators
        self._lane = place.lane
        self._keys: set[str] | None = None
        """Every key in the store, and perhaps more; None until `forget_old_keys` has looked."""
        self._riding: dict[Key, dict[str, Any]] = {}
        """Answers that are not in the store yet."""

    async def commit(
        self, event: Event, step: Step, before: Passage, moment: Moment, key: Key | None
    ) -> Committed:
        """Write one step down, and the answers that wait for a commit. Raises: StoreUnavailable."""
        riding = dict(self._riding)

        def work(db: sqlite3.Connection) -> Committed:
            if riding:
                self._unload(db, riding)
            if key:
                self._keep_key(db, key, moment.at_ms, None, None)
            passage_id = step.passage.id or before.id
            state = step.passage.state
            seq = journal.append(db, self._lane, passage_id, event, state, moment)
            record = self._owe(db, step, moment) if step.owed else None
            self._keep_passage(db, event, step.passage, before, moment.at_ms, record)
            return Committed(seq, record)

        if key:
            self._learn(key)
        committed = await self._store.write(work)
        self._forget_riding(riding)
        return committed

    async def note(
        self,
        passage_id: str,
        name: str,
        body: dict[str, Any],
        moment: Moment,
        key: Key,
        status: int,
    ) -> None:
        """For the auditor; and the same key is not judged (and counted) twice."""

        def work(db: sqlite3.Connection) -> None:
            journal.note(db, self._lane, passage_id, name, body, moment)
            self._keep_key(db, key, moment.at_ms, status, body)

        self._learn(key)
        await self._store.write(work)

    def keep_answer(self, key: Key, answer: dict[str, Any]) -> None:
        """It rides on the next commit: a sync of its own is more than an answer is worth.

        Lost before that, a repeat gets the newest snapshot instead.
        """
        self._riding[key] = answer

    async def write_answers(self) -> None:
        """Now, since the next commit may be long in coming. Raises: StoreUnavailable."""
        if riding := dict(self._riding):
            await self._store.write(lambda db: self._unload(db, riding))
            self._forget_riding(riding)

    async def answer_of(self, key: Key) -> tuple[bool, dict[str, Any] | None]:
        """Whether this key was carried out, and its answer if that was kept.

        Raises: KeyReused; and what was raised the first time.
        """
        if fresh := self._riding.get(key):
            return True, fresh
        if self._keys is not None and key.key not in self._keys:
            return False, None
        rows = await self._store.rows(
            "SELECT fingerprint, status, answer FROM command WHERE lane = ? AND key = ?",
            self._lane,
            key.key,
        )
        if not rows:
            return False, None
        row = rows[0]
        if row["fingerprint"] != key.fingerprint:
            raise KeyReused("同一个请求号用在了另一条命令上，没有执行")
        if row["status"] is None:  # carried out, then the plug was pulled before the answer
            return True, None
        body: dict[str, Any] = json.loads(zlib.decompress(row["answer"]))
        if row["status"] != 200:
            raise fault_of(body["code"])(body["detail"], body["action"])
        return True, body

    async def forget_old_keys(self, now_ms: int) -> None:
        """Drop the keys that nobody will send again, and know all the others by heart."""

        def work(db: sqlite3.Connection) -> set[str]:
            old = (self._lane, now_ms - KEY_KEPT_MS)
            db.execute("DELETE FROM command WHERE lane = ? AND at_ms < ?", old)
            kept = "SELECT key FROM command INDEXED BY command_age WHERE lane = ?"
            return {row[0] for row in db.execute(kept, (self._lane,))}

        before = set(self._keys or ())
        self._keys = await self._store.write(work) | (self._keys or set()) - before

    # ---- reading back ----

    async def newest_step(self) -> tuple[int, str, str]:
        """(journal seq, passage id, state) of this lane's last step; (0, "", "idle") if none."""
        rows = await self._store.rows(
            "SELECT seq, passage_id, state FROM journal WHERE lane = ? AND state <> ''"
            " ORDER BY seq DESC LIMIT 1",
            self._lane,
        )
        return tuple(rows[0]) if rows else (0, "", "idle")

    async def replay(self, passage_id: str) -> Step:
        """Raises: JournalMismatch."""
        return journal.replay(
            await self._store.rows(
                "SELECT seq, event, state, body FROM journal WHERE passage_id = ? ORDER BY seq",
                passage_id,
            )
        )

    async def open_passages(self) -> list[str]:
        rows = await self._store.rows(
            "SELECT id FROM passage WHERE lane = ? AND ended IS NULL", self._lane
        )
        return [row["id"] for row in rows]

    async def record_of(self, passage_id: str) -> Saved | None:
        rows = await self._store.rows(
            "SELECT id, seq, chain FROM record WHERE passage_id = ?", passage_id
        )
        return Saved(*rows[0]) if rows else None

    async def last_saved(self) -> dict[str, Any] | None:
        """`last` of the snapshot."""
        rows = await self._store.rows(
            "SELECT line, saved_ms FROM record WHERE lane = ? ORDER BY seq DESC LIMIT 1",
            self._lane,
        )
        if not rows:
            return None
        record = json.loads(rows[0]["line"])
        plate, _, colour = record["vehicleId"].rpartition("_")
        return {
            "plate": plate,
            "colour": int(colour),
            "amount_fen": record["fee"],
            "saved_at_ms": rows[0]["saved_ms"],
            "record_id": record["id"],
            "seq": record["seq"],
        }

    # ---- keys and answers ----

    def _learn(self, key: Key) -> None:
        if self._keys is not None:
            self._keys.add(key.key)

    def _forget_riding(self, written: Iterable[Key]) -> None:
        for key in written:
            self._riding.pop(key, None)

    # ---- in the writer's thread ----

    def _unload(self, db: sqlite3.Connection, riding: dict[Key, dict[str, Any]]) -> None:
        db.executemany(
            "UPDATE command SET status = 200, answer = ? WHERE lane = ? AND key = ?",
            [(_packed(answer), self._lane, key.key) for key, answer in riding.items()],
        )

    def _keep_key(
        self,
        db: sqlite3.Connection,
        key: Key,
        at_ms: int,
        status: int | None,
        answer: dict[str, Any] | None,
    ) -> None:
        db.execute(
            "INSERT INTO command (lane, key, fingerprint, at_ms, status, answer)"
            " VALUES (?,?,?,?,?,?)",
            (self._lane, key.key, key.fingerprint, at_ms, status, answer and _packed(answer)),
        )

    def _owe(self, db: sqlite3.Connection, step: Step, moment: Moment) -> Saved:
        """Give the record its number, its id and its place in the chain; freeze its line."""
        p, owed = step.passage, step.owed
        assert isinstance(owed, Owed)
        seq, previous = self._next_seq(db)
        shift = db.execute("SELECT shift FROM shift WHERE id = ?", (p.shift_id,)).fetchone()
        person = self._operators().find(p.operator)
        record = exit_record(
            p,
            owed,
            self._place,
            seq=seq,
            record_id=self._next_id(db, owed.at_ms),
            operator_name=person.name if person else "",
            shift=shift[0] if shift else 0,
            prev_chain=previous,
            clock=ClockReading(
                wall_ms=moment.at_ms, monotonic_ms=moment.mono_ms, boot_id=moment.boot_id
            ),
        )
        line = record.model_dump_json(by_alias=True)
        chain = journal.record_chain(previous, line)
        db.execute(
            "INSERT INTO record (lane, seq, id, passage_id, shift_id, kind, means, fee_fen,"
            " card_id, saved_ms, line, chain) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (self._lane, seq, record.id, p.id, p.shift_id, owed.outcome, record.means,
             record.fee, record.card_id, owed.at_ms, line, chain),
        )  # fmt: skip
        return Saved(record.id, seq, chain)

    def _next_seq(self, db: sqlite3.Connection) -> tuple[int, str]:
        last = db.execute(
            "SELECT seq, chain FROM record WHERE lane = ? ORDER BY seq DESC LIMIT 1",
            (self._lane,),
        ).fetchone()
        return (last[0] + 1, last[1]) if last else (1, "")

    def _next_id(self, db: sqlite3.Connection, at_ms: int) -> str:
        """37 characters; the last six count within the hour, whatever the clock did."""
        prefix = record_id_prefix(self._place.lane_id, at_ms)
        newest = db.execute(
            "SELECT max(id) FROM record WHERE id >= ? AND id < ?", (prefix, prefix + "~")
        ).fetchone()[0]
        number = int(newest[len(prefix) :]) + 1 if newest else 1
        return f"{prefix}{number:06d}"

    def _keep_passage(
        self,
        db: sqlite3.Connection,
        event: Event,
        after: Passage,
        before: Passage,
        at_ms: int,
        record: Saved | None,
    ) -> None:
        """The passage's own row: derived from the journal, for lists and for a quick start.

        What ends a passage is written apart, so that the other steps leave its index alone.
        """
        ended = "saved" if record else ENDINGS.get(type(event))
        p = after if after.id else before
        card_id = p.media.card.issue.card_id if p.media else ""
        db.execute(
            "INSERT INTO passage (id, lane, state, opened_ms, changed_ms, operator, shift_id,"
            " plate, card_id, amount_fen) VALUES (?,?,?,?,?,?,?,?,?,?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
            " changed_ms = excluded.changed_ms, plate = excluded.plate,"
            " card_id = excluded.card_id, amount_fen = excluded.amount_fen",
            (p.id, self._lane, ended or after.state.value, p.opened_at_ms, at_ms, p.operator,
             p.shift_id, p.plate, card_id, amount_of(p)),
        )  # fmt: skip
        if ended:
            db.execute(
                "UPDATE passage SET ended = ?, record_id = ? WHERE id = ?",
                (ended, record.id if record else None, p.id),
            )


def amount_of(p: Passage) -> int | None:
    """What this passage costs, or was paid by hand; None while nobody knows."""
    if p.means in ("cash", "mobile", "none"):
        return p.amount_by_hand_fen
    return p.quote.fee_fen if p.quote else None


def key_of(key: str, command: dict[str, Any], operator: str) -> Key:
    """Passwords are masked in `command`: they are no part of what makes two commands the same."""
    text = json.dumps([command, operator], sort_keys=True)
    return Key(key, hashlib.sha256(text.encode()).hexdigest())


def _packed(answer: dict[str, Any]) -> bytes:
    """An answer as it is kept: a quarter of its size."""
    return zlib.compress(to_json(answer), 1)

"""What one step writes, all or none: its journal row, and on it its key, its record, its passage.

Drafts rows in the store's thread, so it is given values and gives values; it decides nothing.
What the rows mean for the tables: spool/tables.py.
"""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.errors import KeyReused, fault_of
from gateway.flow import journal, standing
from gateway.flow.commands import CloseLane, OpenLane, PauseLane
from gateway.flow.journal import Moment
from gateway.flow.messages import Cancelled, Event, MediaUnreadable
from gateway.flow.passage import Owed, Passage, Step
from gateway.flow.recording import Place, exit_record, next_record_id
from gateway.flow.standing import Standing
from gateway.params import Operators
from gateway.records import ClockReading, ExitRecord
from gateway.spool.frame import DATA_MAX
from gateway.spool.tables import LaneHead, go_on, newest_id, packed, record_chain
from gateway.store import Draft, Store
from gateway.units import ClockState

FINGERPRINT = 32  # hex digits; with more, most rows of the log would need a second block
KEY_KEPT_MS = 48 * 3_600_000  # interfaces.md §7.10 wants at least 24 h
LINE_MAX = DATA_MAX // 2  # bytes of a record: what else its row says must find room beside it
ENDINGS: dict[type[Event], str] = {Cancelled: "cancelled", MediaUnreadable: "unreadable"}


Recorder = Callable[[LaneHead, str], ExitRecord]
"""Makes the record that goes on where the lane's records end, and behind the lane id's newest."""


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

    def __init__(
        self,
        store: Store,
        place: Place,
        operators: Callable[[], Operators],
        shift_number: Callable[[int], int],
        clock_state: Callable[[], ClockState] = ClockState,
    ) -> None:
        """`shift_number`: a shift's id → 1 早, 2 中, 3 晚. `clock_state`: of the clock, now."""
        self._store, self._place, self._operators = store, place, operators
        self._shift_number, self._clock_state = shift_number, clock_state
        self._lane = place.lane
        self._keys: set[str] | None = None
        """Every key in the store, and perhaps more; None until `forget_old_keys` has looked."""

    async def commit(
        self, event: Event, step: Step, before: Passage, moment: Moment, key: Key | None
    ) -> Committed:
        """Write one step down: on disk when this returns. Raises: StoreUnavailable."""
        record_of = self._recorder(step, before, moment) if step.owed else None

        def entry(draft: Draft) -> Committed:
            extra: dict[str, Any] = {"key": [key.key, key.fingerprint]} if key else {}
            line, saved = "", None
            if record_of and step.owed:
                line, saved = self._owe(draft, record_of)
                extra["record"] = [saved.id, step.owed.at_ms]
            extra["passage"] = _passage_row(event, step.passage, before, saved)
            passage_id, state = step.passage.id or before.id, step.passage.state
            seq = journal.append(draft, self._lane, passage_id, event, state, moment, extra, line)
            return Committed(seq, saved)

        if key:
            self._learn(key)
        return await self._store.log(entry)

    def why_no_record(self, step: Step, before: Passage, moment: Moment) -> str:
        """What would keep the record of this step from being made, in Chinese; empty if nothing.

        Asked before money moves: afterwards it is too late.
        """
        try:
            record = self._recorder(step, before, moment)(LaneHead(), "")
            line = record.model_dump_json(by_alias=True)
        except ValidationError as bad:
            names = ("、".join(str(place) for place in fault["loc"]) for fault in bad.errors())
            return f"{'、'.join(filter(None, names)) or '金额'}不合规定"
        except (ValueError, OverflowError) as bad:
            return f"有不能保存的内容（{type(bad).__name__}）"
        return "" if len(line.encode()) <= LINE_MAX else "内容太长"

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
        extra = {"key": [key.key, key.fingerprint], "refused": [status, body]}
        self._learn(key)
        await self._store.log(
            lambda draft: journal.note(draft, self._lane, passage_id, name, body, moment, extra)
        )

    async def stand(
        self, said: PauseLane | CloseLane | OpenLane, moment: Moment, key: Key
    ) -> Standing:
        """Whether this lane takes vehicles from now on. Raises: StoreUnavailable, if it is not so.

        What was logged counts, whether or not the tables can follow: they are not asked.
        """
        event, body = standing.EVENTS[said.command], {"reason": said.reason.strip()}
        extra = {"key": [key.key, key.fingerprint]}
        self._learn(key)
        await self._store.log(
            lambda draft: journal.note(draft, self._lane, "", event, body, moment, extra)
        )
        return standing.told(event, json.dumps(body), moment.at_ms, moment.operator)

    def keep_answer(self, key: Key, answer: dict[str, Any]) -> None:
        """It is written when the tables follow: a sync of its own is more than it is worth.

        Lost before that, a repeat gets the newest snapshot instead.
        """
        update = "UPDATE command SET status = 200, answer = ? WHERE lane = ? AND key = ?"
        self._store.later(  # packed in the store's thread, behind the answer that is on its way
            lambda db: _execute(db, update, (packed(answer), self._lane, key.key))
        )

    async def answer_of(self, key: Key) -> tuple[bool, dict[str, Any] | None]:
        """Whether this key was carried out, and its answer if that was kept.

        Raises: KeyReused; and what was raised the first time.
        """
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

    async def standing(self) -> Standing:
        """As somebody last said it."""
        rows = await self._store.rows(standing.NEWEST, self._lane)
        return standing.told(*rows[0]) if rows else Standing()

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
            "SELECT id, seq, chain FROM record WHERE passage_id = ? AND corrects IS NULL",
            passage_id,
        )
        return Saved(*rows[0]) if rows else None

    async def last_saved(self) -> dict[str, Any] | None:
        """`last` of the snapshot."""
        rows = await self._store.rows(
            "SELECT line, saved_ms FROM record WHERE lane = ? AND corrects IS NULL"
            " AND kind <> 'cancelled' ORDER BY seq DESC LIMIT 1",
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

    def _recorder(self, step: Step, before: Passage, moment: Moment) -> Recorder:
        """Who, which shift and by which clock is asked here and now: the writer's thread knows
        none of them, and they may be others when it comes to this."""
        p, owed = step.passage if step.passage.id else before, step.owed
        person = self._operators().find(p.operator)
        name, shift = person.name if person else "", self._shift_number(p.shift_id)
        clock = clock_reading(moment, self._clock_state())

        def record_of(last: LaneHead, newest: str) -> ExitRecord:
            assert isinstance(owed, Owed)
            return exit_record(
                p,
                owed,
                self._place,
                seq=last.seq + 1,
                record_id=next_record_id(newest, self._place.lane_id, owed.at_ms),
                operator_name=name,
                shift=shift,
                prev_chain=last.chain,
                clock=clock,
            )

        return record_of

    # ---- in the writer's thread ----

    def _owe(self, draft: Draft, record_of: Recorder) -> tuple[str, Saved]:
        """Give the record its number, its id and its place in the chain; freeze its line."""
        last = draft.lanes.get(self._lane, LaneHead())
        record = record_of(last, newest_id(draft.lanes, self._place.lane_id))
        line = record.model_dump_json(by_alias=True)
        head = LaneHead(record.seq, record_chain(last.chain, line), record.id)
        go_on(draft.lanes, self._lane, head)
        return line, Saved(record.id, record.seq, head.chain)


def clock_reading(moment: Moment, state: ClockState) -> ClockReading:
    """What a record says of the time of its row."""
    return ClockReading(
        wall_ms=moment.at_ms - state.ahead_ms,
        monotonic_ms=moment.mono_ms,
        boot_id=moment.boot_id,
        assumed_ms=moment.at_ms,
        source=state.source,
        is_synchronised=state.is_synchronised,
        error_ms=state.error_ms,
        offset_ms=state.offset_ms,
    )


def _passage_row(event: Event, after: Passage, before: Passage, saved: Saved | None) -> list[Any]:
    """`passage` of a row's extra (spool/tables.py)."""
    ended = ENDINGS.get(type(event)) or ("saved" if saved else None)
    p = after if after.id else before
    card_id = p.media.card.issue.card_id if p.media else ""
    state = ended or after.state.value
    return [
        p.opened_at_ms, p.operator, p.shift_id, p.plate, card_id, amount_of(p), state, ended,
    ]  # fmt: skip


def _execute(db: sqlite3.Connection, sql: str, values: tuple[Any, ...]) -> None:
    db.execute(sql, values)


def amount_of(p: Passage) -> int | None:
    """What this passage costs, or was paid by hand; None while nobody knows."""
    if p.means in ("cash", "mobile", "none"):
        return p.amount_by_hand_fen
    return p.quote.fee_fen if p.quote else None


def key_of(key: str, command: dict[str, Any], operator: str) -> Key:
    """Passwords are masked in `command`: they are no part of what makes two commands the same."""
    text = json.dumps([command, operator], sort_keys=True)
    return Key(key, hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT])

"""上班 下班: one shift open on a lane at a time, and what it took in by kind of payment."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.errors import GatewayError, NotFound, ShiftOpen, UnexpectedEvent
from gateway.flow.journal import Moment
from gateway.spool.tables import SHIFT_CLOSED, SHIFT_OPENED
from gateway.store import Draft, Store
from gateway.units import Clock, beijing

COLLECTED = ("paid", "by_hand")
"""Kinds of record whose money the lane has; doubtful and unpaid are counted apart."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One collector's turn at one lane."""

    id: int
    lane: str
    operator: str
    shift: int
    """1 早, 2 中, 3 晚."""
    opened_at_ms: int
    closed_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """What came in one way: `kind` and `means` are the record's."""

    kind: str
    means: str
    count: int
    sum_fen: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a shift took. `sum_fen` is collected money only (paid and by hand)."""

    count: int
    sum_fen: int
    kinds: tuple[Kind, ...]
    unsent_count: int
    unsent_sum_fen: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A shift with its totals now and, once closed, as they were signed off."""

    shift: Shift
    totals: Totals
    signed_off: dict[str, Any] | None


@dataclass(slots=True)
class _Running:
    """The open shift of a lane, and what it took so far."""

    shift: Shift
    count: int = 0
    sum_fen: int = 0
    is_closing: bool = False
    """Whether it still is open is on its way to the disk."""


class Shifts:
    """Drafts the rows of `shift`; reads `record`, `delivery` and `passage`.

    The open shift of each lane is also held in memory, for the screen; `load` fills that.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._open: dict[str, _Running] = {}

    async def load(self, lane: str) -> None:
        """Read the lane's open shift and what it took so far. Once, before the lane runs."""
        self._open.pop(lane, None)
        if shift := await self.current(lane):
            totals = (await self.statement(shift.id)).totals
            self._open[lane] = _Running(shift, totals.count, totals.sum_fen)

    def shown(self, lane: str) -> dict[str, Any] | None:
        """The `shift` of a snapshot: {id, operator, shift, opened_at_ms, count, sum_fen}."""
        running = self._open.get(lane)
        if running is None:
            return None
        return {
            "id": running.shift.id,
            "operator": running.shift.operator,
            "shift": running.shift.shift,
            "opened_at_ms": running.shift.opened_at_ms,
            "count": running.count,
            "sum_fen": running.sum_fen,
        }

    def count(self, lane: str, collected_fen: int) -> None:
        """One more record of the open shift is on disk; `collected_fen` of it is money taken."""
        if running := self._open.get(lane):
            running.count += 1
            running.sum_fen += collected_fen

    def adjust(self, shift_id: int, collected_fen: int) -> None:
        """A record of this shift was corrected: so much more, or less, was taken."""
        if running := self._running(shift_id):
            running.sum_fen += collected_fen

    async def open(self, lane: str, operator: str, shift: int | None = None) -> Shift:
        """上班. `shift` 1–3, by the hour if None. Raises: ShiftOpen, if one is open here."""

        def entry(draft: Draft) -> Shift:
            if standing := _open_on(draft.db, lane):
                raise ShiftOpen(f"{lane} 车道还有一班没有下班（工号 {standing.operator}）")
            return self._draft_open(draft, lane, operator, shift or shift_at(now_ms), now_ms)

        now_ms = self._clock.now_ms()
        opened = await self._store.log(entry, looks=True)
        self._open[lane] = _Running(opened)
        return opened

    async def ensure_open(self, lane: str, operator: str) -> int:
        """The id of the shift open on this lane, whoever's; if there is none, one begins now."""

        def entry(draft: Draft) -> Shift:
            if standing := _open_on(draft.db, lane):
                return standing
            return self._draft_open(draft, lane, operator, shift_at(now_ms), now_ms)

        running = self._open.get(lane)
        if running and not running.is_closing:
            return running.shift.id
        now_ms = self._clock.now_ms()
        opened = await self._store.log(entry, looks=True)
        running = self._open.get(lane)
        if running is None or running.shift.id != opened.id:
            self._open[lane] = _Running(opened)
        return opened.id

    async def current(self, lane: str) -> Shift | None:
        """The shift open on this lane, if any."""
        rows = await self._store.rows(
            "SELECT * FROM shift WHERE lane = ? AND closed_ms IS NULL", lane
        )
        return _shift(rows[0]) if rows else None

    async def close(self, shift_id: int) -> Statement:
        """下班: totals are signed off as they are now. A closed shift stays as it was closed.

        Raises: NotFound; UnexpectedEvent, while a vehicle of this shift is not settled: its
        record would be missing from what was signed off.
        """

        def entry(draft: Draft) -> None:
            db = draft.db
            found = "SELECT lane, operator, closed_ms FROM shift WHERE id = ?"
            row = db.execute(found, (shift_id,)).fetchone()
            if row is None:
                raise NotFound(f"没有这一班：{shift_id}")
            lane, operator, closed_ms = row
            if closed_ms is not None:
                return
            _refuse_unsettled(db, shift_id)
            told = {"id": shift_id, "closed_ms": now_ms, "totals": asdict(_totals(db, shift_id))}
            moment = self._moment(operator, now_ms)
            draft.add(lane, "", moment, SHIFT_CLOSED, extra={"shift": told})

        now_ms = self._clock.now_ms()
        running = self._running(shift_id)
        if running:  # first: a vehicle read from now on asks the store anew
            running.is_closing = True
        try:
            await self._store.log(entry, looks=True)
        except GatewayError:
            if running:  # as before; meanwhile records were counted, and bear its number
                running.is_closing = False
            raise
        if running and self._open.get(running.shift.lane) is running:
            del self._open[running.shift.lane]
        return await self.statement(shift_id)

    def number_of(self, shift_id: int) -> int:
        """1 早, 2 中, 3 晚 of a shift that is open; 0 of any other."""
        running = self._running(shift_id)
        return running.shift.shift if running else 0

    def _draft_open(self, draft: Draft, lane: str, operator: str, shift: int, now_ms: int) -> Shift:
        (newest,) = draft.db.execute("SELECT ifnull(max(id), 0) FROM shift").fetchone()
        opened = Shift(newest + 1, lane, operator, shift, now_ms)
        told = {"id": opened.id, "operator": operator, "shift": shift, "opened_ms": now_ms}
        moment = self._moment(operator, now_ms)
        draft.add(lane, "", moment, SHIFT_OPENED, extra={"shift": told})
        return opened

    def _moment(self, operator: str, now_ms: int) -> Moment:
        return Moment(now_ms, self._clock.monotonic_ms(), self._clock.boot_id, operator)

    def _running(self, shift_id: int) -> _Running | None:
        return next((one for one in self._open.values() if one.shift.id == shift_id), None)

    async def statement(self, shift_id: int) -> Statement:
        """The shift, what it took and what of that is not at the centre. Raises: NotFound."""
        rows = await self._store.rows("SELECT * FROM shift WHERE id = ?", shift_id)
        if not rows:
            raise NotFound(f"没有这一班：{shift_id}")
        totals = _added(
            await self._store.rows(_KINDS, shift_id), await self._store.rows(_UNSENT, shift_id)
        )
        signed = rows[0]["totals"]
        return Statement(_shift(rows[0]), totals, signed and json.loads(signed))


def shift_at(now_ms: int) -> int:
    """By the Beijing hour: 1 早 06–14, 2 中 14–22, 3 晚 22–06."""
    hour = beijing(now_ms).hour
    return 1 if 6 <= hour < 14 else 2 if 14 <= hour < 22 else 3


_KINDS = """
    SELECT kind, means, count(*), coalesce(sum(fee_fen), 0) FROM record r
    WHERE shift_id = ? AND kind <> 'cancelled'
    AND NOT EXISTS (SELECT 1 FROM record n WHERE n.corrects = r.id AND n.lane = r.lane)
    GROUP BY kind, means ORDER BY kind, means
"""
"""Vehicles served: no stub of a cancelled one, and of a corrected record only what counts now."""
_UNSENT = """
    SELECT count(*), coalesce(sum(coalesce(r.adjust_fen, r.fee_fen)), 0) FROM record r
    WHERE r.shift_id = ? AND NOT EXISTS
        (SELECT 1 FROM delivery d WHERE d.lane = r.lane AND d.seq = r.seq)
"""


def _totals(db: sqlite3.Connection, shift_id: int) -> Totals:
    return _added(
        db.execute(_KINDS, (shift_id,)).fetchall(), db.execute(_UNSENT, (shift_id,)).fetchall()
    )


def _added(kinds: Sequence[Any], unsent: Sequence[Any]) -> Totals:
    by_kind = tuple(Kind(*row) for row in kinds)
    return Totals(
        count=sum(kind.count for kind in by_kind),
        sum_fen=sum(kind.sum_fen for kind in by_kind if kind.kind in COLLECTED),
        kinds=by_kind,
        unsent_count=unsent[0][0],
        unsent_sum_fen=unsent[0][1],
    )


def _open_on(db: sqlite3.Connection, lane: str) -> Shift | None:
    row = db.execute(
        "SELECT id, lane, operator, shift, opened_ms FROM shift"
        " WHERE lane = ? AND closed_ms IS NULL",
        (lane,),
    ).fetchone()
    return Shift(*row) if row else None


def _refuse_unsettled(db: sqlite3.Connection, shift_id: int) -> None:
    (count,) = db.execute(
        "SELECT count(*) FROM passage WHERE shift_id = ? AND ended IS NULL", (shift_id,)
    ).fetchone()
    if count:
        raise UnexpectedEvent(f"本班还有 {count} 辆车没有办完", "请先办完或取消，再下班")


def _shift(row: Any) -> Shift:
    return Shift(
        row["id"], row["lane"], row["operator"], row["shift"], row["opened_ms"], row["closed_ms"]
    )

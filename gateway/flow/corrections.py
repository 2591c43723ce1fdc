"""A saved record is frozen: what was wrong in it is said by a new one, linked to it.

A station master answers for it, by name and with a reason. Whatever the card was debited stays as
it is; the difference of money collected by hand is named. A correction of a correction is one of
the newest, so that each passage has one chain and its end is what counts.
"""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway import __version__
from gateway.access import Who
from gateway.errors import (
    AccessRefused,
    KeyReused,
    NotFound,
    RequestInvalid,
    UnexpectedEvent,
    fault_of,
)
from gateway.flow import journal
from gateway.flow.books import Key, clock_reading, key_of
from gateway.flow.checks import overweight_percent
from gateway.flow.commands import REASON_MAX
from gateway.flow.journal import Moment
from gateway.flow.recording import PAY_TYPES, next_record_id
from gateway.flow.shift import COLLECTED, Shifts
from gateway.params import Operator, Parameters
from gateway.plate import check_plate
from gateway.records import Approval, ExitRecord
from gateway.spool.tables import LaneHead, go_on, newest_id, record_chain
from gateway.store import Draft, Store
from gateway.units import Clock, ClockState

NOTE, REFUSED = "corrected", "refused_correction"
SPACE = "更正 "
"""Before a key in the store: no header can hold it, so that no lane's command has the same one."""
CHAIN = """
SELECT r.* FROM passage AS p JOIN record AS r ON r.id = p.record_id AND r.lane = p.lane
WHERE p.id = ?1
UNION ALL SELECT * FROM record WHERE passage_id = ?1 AND corrects IS NOT NULL ORDER BY seq
"""
OWN = ("id", "seq", "corrects", "adjust_fee", "prev_chain", "clock", "approval", "reason")
"""Fields in which a correction speaks of itself."""


class Correct(BaseModel):
    """POST /api/passages/{id}/corrections: what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operator: str = Field(min_length=1, max_length=20, description="站长工号")
    password: SecretStr = Field(min_length=1, max_length=128)
    reason: Annotated[str, Field(min_length=1, max_length=REASON_MAX, pattern=r"\S")]
    plate: str | None = Field(default=None, min_length=1, max_length=12)
    colour: int | None = None
    vehicle_type: int | None = None
    vehicle_class: int | None = None
    axle_count: int | None = Field(default=None, ge=2, le=40)
    weight_kg: int | None = Field(default=None, ge=0, le=500_000)
    limit_kg: int | None = Field(default=None, gt=0, le=500_000)
    means: Literal["cash", "mobile", "none"] | None = None
    amount_fen: int | None = Field(default=None, ge=0, le=100_000_000)


class _Newest(NamedTuple):
    """What counts now of one passage."""

    lane: str
    passage_id: str
    shift_id: int
    record: ExitRecord


class Corrections:
    """Drafts the rows `corrected`; one at a time, over all lanes of the box."""

    def __init__(
        self,
        store: Store,
        lane_ids: Mapping[str, str],
        approve: Callable[[str, str], Awaitable[Operator]],
        parameters: Callable[[], Parameters],
        shifts: Shifts,
        on_saved: Callable[[str, int], None],
        clock: Clock,
        clock_state: Callable[[], ClockState] = ClockState,
    ) -> None:
        """`lane_ids`: 21 characters each (domain.md §4). `on_saved(lane, at_ms)`: a record is on
        disk. `clock_state`: of the clock, now."""
        self._store, self._lane_ids, self._approve = store, lane_ids, approve
        self._parameters, self._shifts = parameters, shifts
        self._on_saved, self._clock, self._clock_state = on_saved, clock, clock_state
        self._one_by_one = asyncio.Lock()

    async def correct(self, passage_id: str, asked: Correct, who: Who, key: str) -> dict[str, Any]:
        """`{record_id, seq, chain, corrects, adjust_fen, changed, reason, approval, at_ms}`.

        `changed`: wire name → [before, now]. The same key again gives the same answer.
        Raises: NotFound; UnexpectedEvent, if there is nothing to correct; RequestInvalid;
        MasterRefused, OperatorLocked; KeyReused; StoreUnavailable.
        """
        body = {"passage": passage_id, **asked.model_dump(mode="json")}
        kept = key_of(SPACE + key, body, who.operator)
        async with self._one_by_one:
            lane = await self._lane_of(passage_id)
            if before := await self._answer_of(lane, kept):
                return before
            newest = await self._newest(passage_id)
            changes = _changes(newest.record, asked, self._parameters())
            master = await self._master(newest, asked, who, kept)
            how = "booth" if who.owner == "booth" else "handheld"
            approval = Approval(
                operator=master.number, name=master.name, how=how, at_ms=self._clock.now_ms()
            )
            more = {"approval": approval, "reason": asked.reason.strip()}
            return await self._write(newest, {**changes, **more}, who, kept)

    # ---- inside ----

    async def _lane_of(self, passage_id: str) -> str:
        rows = await self._store.rows("SELECT lane FROM passage WHERE id = ?", passage_id)
        if not rows:
            raise NotFound("没有这一次过车")
        return str(rows[0]["lane"])

    async def _answer_of(self, lane: str, key: Key) -> dict[str, Any] | None:
        """What this key was told before. Raises: KeyReused; and what was raised then."""
        found = "SELECT fingerprint, status, answer FROM command WHERE lane = ? AND key = ?"
        rows = await self._store.rows(found, lane, key.key)
        if not rows:
            return None
        if rows[0]["fingerprint"] != key.fingerprint:
            raise KeyReused("同一个请求号用在了另一次更正上，没有执行")
        body: dict[str, Any] = json.loads(zlib.decompress(rows[0]["answer"]))
        if rows[0]["status"] != 200:
            raise fault_of(body["code"])(body["detail"], body["action"])
        return body

    async def _newest(self, passage_id: str) -> _Newest:
        rows = await chain_of(self._store, passage_id)
        if not rows:
            raise UnexpectedEvent("这一笔还没有保存，没有流水可以更正", "请先办完这一笔")
        newest = rows[-1]
        if newest["lane"] not in self._lane_ids:
            raise UnexpectedEvent(f"本机不再管理 {newest['lane']} 车道", "请在那条车道的网关上更正")
        if newest["kind"] == "cancelled":
            raise UnexpectedEvent("这一笔是取消的，没有收费，不能更正", "车辆须重新读卡办理")
        record = ExitRecord.model_validate_json(newest["line"])
        return _Newest(newest["lane"], passage_id, newest["shift_id"], record)

    async def _master(self, newest: _Newest, asked: Correct, who: Who, key: Key) -> Operator:
        """A refusal is written down, key and all."""
        try:
            return await self._approve(asked.operator, asked.password.get_secret_value())
        except AccessRefused as no:
            body = {"code": no.code, "detail": no.detail, "action": no.action}
            extra = {"key": list(key), "refused": [no.http_status, body]}
            at = newest.lane, newest.passage_id
            moment = self._moment(who)
            await self._store.log(
                lambda draft: journal.note(draft, *at, REFUSED, body, moment, extra)
            )
            raise

    async def _write(
        self, newest: _Newest, changes: Mapping[str, Any], who: Who, key: Key
    ) -> dict[str, Any]:
        moment, old = self._moment(who), newest.record
        clock = clock_reading(moment, self._clock_state())  # here: not in the writer's thread

        def entry(draft: Draft) -> tuple[ExitRecord, dict[str, Any]]:
            last = draft.lanes.get(newest.lane, LaneHead())
            lane_id = self._lane_ids[newest.lane]
            record_id = next_record_id(newest_id(draft.lanes, lane_id), lane_id, moment.at_ms)
            record = _corrected(old, {**changes, "clock": clock}, last, record_id)
            line = record.model_dump_json(by_alias=True)
            head = LaneHead(record.seq, record_chain(last.chain, line), record.id)
            go_on(draft.lanes, newest.lane, head)
            answer = _told(old, record, head.chain, moment.at_ms)
            extra = {
                "key": list(key),
                "answered": [200, answer],
                "record": [record.id, moment.at_ms],
                "corrects": [newest.shift_id, record.vehicle_id.rpartition("_")[0], record.fee],
            }
            at = newest.lane, newest.passage_id
            journal.note(draft, *at, NOTE, answer, moment, extra, line)
            return record, answer

        record, answer = await self._store.log(entry)
        self._shifts.adjust(newest.shift_id, _collected(record) - _collected(old))
        self._on_saved(newest.lane, moment.at_ms)
        return answer

    def _moment(self, who: Who) -> Moment:
        clock = self._clock
        return Moment(clock.now_ms(), clock.monotonic_ms(), clock.boot_id, who.operator)


async def chain_of(store: Store, passage_id: str) -> Sequence[Any]:
    """Rows of `record`: the first record and its corrections, oldest first."""
    return await store.rows(CHAIN, passage_id)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Of two lines: wire name → [before, now], without what a correction says of itself."""
    own = {ExitRecord.model_fields[name].alias for name in (*OWN, "lane_app_ver")}
    names = [name for name in new if name not in own and old.get(name) != new[name]]
    return {name: [old.get(name), new[name]] for name in names}


# ---- what may change -------------------------------------------------------------------------


def _changes(old: ExitRecord, asked: Correct, parameters: Parameters) -> dict[str, Any]:
    """Fields and their new values. Raises: RequestInvalid, if one is wrong or none differs."""
    wanted = {
        **_plate(old, asked),
        **_class(asked, parameters),
        **_weight(old, asked),
        **_money(old, asked),
    }
    changes = {name: value for name, value in wanted.items() if getattr(old, name) != value}
    if not changes:
        raise RequestInvalid("和原来的流水一样，没有要更正的内容")
    return changes


def _plate(old: ExitRecord, asked: Correct) -> dict[str, Any]:
    if asked.plate is None and asked.colour is None:
        return {}
    plate, _, colour = old.vehicle_id.rpartition("_")
    colour_now = int(colour) if asked.colour is None else asked.colour
    checked = check_plate((asked.plate or plate).strip().upper(), colour_now)
    return {"vehicle_id": f"{checked}_{colour_now}"}


def _class(asked: Correct, parameters: Parameters) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if asked.vehicle_type is not None:
        if parameters.vehicle_types.find(asked.vehicle_type) is None:
            raise RequestInvalid(f"车型表里没有 {asked.vehicle_type}")
        wanted["vehicle_type"] = asked.vehicle_type
    if asked.vehicle_class is not None:
        if parameters.vehicle_classes.find(asked.vehicle_class) is None:
            raise RequestInvalid(f"车种表里没有 {asked.vehicle_class}")
        wanted["vehicle_class"] = asked.vehicle_class
    return wanted


def _weight(old: ExitRecord, asked: Correct) -> dict[str, Any]:
    named = {
        "axle_count": asked.axle_count,
        "ex_weight": asked.weight_kg,
        "limit_weight": asked.limit_kg,
    }
    wanted: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if wanted:
        weight_kg = wanted.get("ex_weight", old.ex_weight)
        limit_kg = wanted.get("limit_weight", old.limit_weight)
        wanted["overweight_rate"] = overweight_percent(weight_kg, limit_kg)
    return wanted


def _money(old: ExitRecord, asked: Correct) -> dict[str, Any]:
    """Only what hands took. A doubtful debit stays doubtful, whatever was collected beside it."""
    if asked.means is None and asked.amount_fen is None:
        return {}
    if old.outcome == "paid":
        raise RequestInvalid("从卡上扣的款不能更正", "多扣少扣请按退费、补费办理")
    means = asked.means or old.means
    amount_fen = old.fee if asked.amount_fen is None else asked.amount_fen
    if (means == "none") != (amount_fen == 0):
        raise RequestInvalid("收费方式和金额不符：没有收费时金额为 0，收了费须有金额")
    by_hand = "unpaid" if means == "none" else "by_hand"
    return {
        "outcome": old.outcome if old.outcome == "doubtful" else by_hand,
        "means": means,
        "trans_pay_type": PAY_TYPES[means],
        "fee": amount_fen,
        "pay_fee": amount_fen,
        "discount_fee": 0,
        "province_discount_fee": 0,
    }


def _corrected(
    old: ExitRecord, changes: Mapping[str, Any], last: LaneHead, record_id: str
) -> ExitRecord:
    """The old record with its changes, a place of its own, and checked as any record is."""
    own = {
        "id": record_id,
        "seq": last.seq + 1,
        "corrects": old.id,
        "adjust_fee": changes.get("fee", old.fee) - old.fee,
        "prev_chain": last.chain,
        "lane_app_ver": __version__,
    }
    return ExitRecord.model_validate({**dict(old), **changes, **own})


def _told(old: ExitRecord, new: ExitRecord, chain: str, at_ms: int) -> dict[str, Any]:
    before, now = (r.model_dump(mode="json", by_alias=True) for r in (old, new))
    return {
        "record_id": new.id,
        "seq": new.seq,
        "chain": chain,
        "corrects": old.id,
        "adjust_fen": new.adjust_fee,
        "changed": differences(before, now),
        "reason": new.reason,
        "approval": new.approval.model_dump(mode="json") if new.approval else None,
        "at_ms": at_ms,
    }


def _collected(record: ExitRecord) -> int:
    return record.fee if record.outcome in COLLECTED else 0

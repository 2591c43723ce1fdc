"""A centre's receipt that was carried back: its verdicts enter the one ledger, as `via` receipt.

Everything is checked before anything is stored. The same receipt again changes nothing; one that
is older than what the centre has said since is refused.
"""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import KeyMissing, ParcelRefused
from gateway.parcel import Parcel
from gateway.store import Draft, Store
from gateway.sync.center import Verdict
from gateway.sync.ledger import RECEIPT, keep_mark, lost_mark, mark, mark_stubs
from gateway.units import COUNT_MAX, MS_MAX, Clock, iso

KIND = "receipt"
AT_ONCE = 500
NEWEST = "receipt:newest"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class LaneTold(_Told):
    lane: str = Field(pattern=r"^[0-9A-Za-z]{1,8}$")
    high_water: int = Field(ge=0, le=COUNT_MAX)
    last_seq: int = Field(ge=0, le=COUNT_MAX)


class ReceiptTold(_Told):
    """The manifest of a receipt."""

    number: int = Field(ge=1, le=COUNT_MAX)
    made_ms: int = Field(ge=0, lt=MS_MAX)
    lanes: tuple[LaneTold, ...]


class _Line(_Told):
    seq: int = Field(ge=1, le=COUNT_MAX)
    id: str
    verdict: Literal["accepted", "duplicate", "retry", "refused"]
    reason: str = ""
    stub: bool = False


class Taken(NamedTuple):
    """What became of a receipt."""

    number: int
    settled: int
    """Records whose fate is new."""
    said: dict[str, int]
    """Verdict → how many."""
    was_known: bool
    """The same receipt was taken before; nothing changed."""


class Receipts:
    """Takes receipts for all lanes of the box."""

    def __init__(
        self,
        store: Store,
        public: Callable[[], bytes | None],
        clock: Clock,
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        """`public`: the centre's key, 32 bytes, if one is known. `on_settled` hears that the
        ledger changed."""
        self._store, self._public, self._clock = store, public, clock
        self._on_settled = on_settled

    async def take(self, file: Path, operator: str = "") -> Taken:
        """Raises: ParcelRefused, KeyMissing, and nothing changed; StoreUnavailable: then take it
        again."""
        public = self._public()
        if public is None:
            raise KeyMissing(
                "没有配置中心的公钥，不能核对回执", "请在配置里写 center.parameter_key"
            )
        parcel = await asyncio.to_thread(Parcel.open, file, public, KIND)
        told = _read(parcel)
        newest = await self._newest()
        if newest.get("sha256") == parcel.sha256:
            return Taken(told.number, 0, {}, True)
        said, fresh = await self._check(parcel, told)
        if not fresh and told.number < newest.get("number", 0):
            raise ParcelRefused(
                f"第 {told.number} 号回执比已导入的第 {newest['number']} 号旧，没有新内容",
                "不用再导入",
            )
        settled = 0
        for lane in told.lanes:
            for piece in _pieces(parcel, lane.lane):
                settled += await self._settle(lane.lane, piece)
        await self._note(parcel.sha256, told, said, operator)
        self._on_settled()
        return Taken(told.number, settled, said, False)

    # ---- before anything is stored ----

    async def _check(self, parcel: Parcel, told: ReceiptTold) -> tuple[dict[str, int], bool]:
        """(verdict → count, whether any of it is news). Raises: ParcelRefused."""
        said, fresh = Counter[str](), False
        for lane in told.lanes:
            lost = await self._lost(lane.lane)
            if told.made_ms < lost.get("at_ms", 0) and lane.last_seq > lost["high_water"]:
                raise ParcelRefused(
                    f"回执是 {iso(told.made_ms)} 的，中心在 {iso(lost['at_ms'])} 又说"
                    f"没有 {lane.lane} 第 {lost['high_water']} 条以后的流水",
                    "请重新导出，拿到中心再开一份回执",
                )
            for piece in _pieces(parcel, lane.lane):
                said.update(line.verdict for line in piece)
                fresh |= await self._compare(lane.lane, piece)
        return dict(said), fresh

    async def _compare(self, lane: str, piece: Sequence[_Line]) -> bool:
        """Are these our records? Whether any fate is news."""
        rows = await self._store.rows(
            "SELECT r.seq, r.id, d.verdict FROM record r"
            " LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq"
            " WHERE r.lane = ? AND r.seq IN (SELECT value FROM json_each(?))",
            lane,
            json.dumps([line.seq for line in piece]),
        )
        ours = {row["seq"]: row for row in rows}
        for line in piece:
            row = ours.get(line.seq)
            if row is None or row["id"] != line.id:
                raise ParcelRefused(
                    f"回执里 {lane} 第 {line.seq} 条（{line.id}）不是本机的流水",
                    "这是另一台网关的回执，请核对文件",
                )
        return any(_is_news(line.verdict, ours[line.seq]["verdict"]) for line in piece)

    async def _newest(self) -> dict[str, Any]:
        return await self._mark(NEWEST)

    async def _lost(self, lane: str) -> dict[str, Any]:
        return await self._mark(lost_mark(lane))

    async def _mark(self, name: str) -> dict[str, Any]:
        rows = await self._store.rows("SELECT value FROM sync_mark WHERE name = ?", name)
        told: dict[str, Any] = json.loads(rows[0]["value"]) if rows else {}
        return told

    # ---- then ----

    async def _settle(self, lane: str, piece: Sequence[_Line]) -> int:
        return await self._store.write(
            partial(_settle, lane=lane, piece=piece, at_ms=self._clock.now_ms())
        )

    async def _note(
        self, sha256: str, told: ReceiptTold, said: dict[str, int], operator: str
    ) -> None:
        clock = self._clock
        moment = clock.now_ms(), clock.monotonic_ms(), clock.boot_id, operator
        body = {"number": told.number, "made_ms": told.made_ms, "sha256": sha256, **said}
        text = json.dumps(body, ensure_ascii=False)

        def entry(draft: Draft) -> None:
            for lane in told.lanes:
                draft.add(lane.lane, "", moment, "receipt_taken", "", text)

        await self._store.log(entry)
        value = json.dumps({"number": told.number, "sha256": sha256})
        await self._store.write(lambda db: keep_mark(db, NEWEST, value, moment[0]))


def _read(parcel: Parcel) -> ReceiptTold:
    try:
        told = ReceiptTold.model_validate_json(json.dumps(parcel.manifest))
    except ValidationError as bad:
        raise ParcelRefused("回执的清单缺内容，或写得不对") from bad
    named = {_part(lane.lane) for lane in told.lanes}
    if named != {part["name"] for part in parcel.manifest["parts"]}:
        raise ParcelRefused("回执的清单和内容不符")
    return told


def _part(lane: str) -> str:
    return f"verdicts-{lane}.ndjson"


def _pieces(parcel: Parcel, lane: str) -> Iterator[list[_Line]]:
    lines = parcel.lines(_part(lane))
    while piece := [_line(raw) for raw in islice(lines, AT_ONCE)]:
        yield piece


def _line(raw: bytes) -> _Line:
    try:
        return _Line.model_validate_json(raw)
    except ValidationError as bad:
        raise ParcelRefused("回执里有一行读不懂") from bad


def _is_news(said: str, known: str | None) -> bool:
    """A fate only moves up: owed, refused, delivered (sync/ledger.py)."""
    if said == "retry":
        return False
    return known is None or (known == "refused" and said != "refused")


def _settle(db: sqlite3.Connection, lane: str, piece: Sequence[_Line], at_ms: int) -> int:
    said = [Verdict(line.seq, line.id, line.verdict, line.reason) for line in piece]
    settled = sum(mark(db, lane, verdict, RECEIPT, at_ms) for verdict in said)
    mark_stubs(db, lane, [line.seq for line in piece if line.stub])
    return settled

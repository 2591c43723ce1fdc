"""Looking back and around: passages, their timelines, devices, sync, parameters, tables.

Reads short pages and writes nothing. Card and tag numbers leave masked.
"""

import json
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import NotFound
from gateway.flow.corrections import differences
from gateway.params import Parameters
from gateway.plate import COLOURS
from gateway.runtime import mask
from gateway.store import Store
from gateway.web.answers import (
    Devices,
    ParametersShown,
    PassageFacts,
    PassagePage,
    Receipts,
    Rows,
    SyncShown,
    Timeline,
)
from gateway.web.api import Api
from gateway.web.faults import answer
from gateway.web.lane import LANES
from gateway.web.words import REASONS

PAGE_MAX = 100
PARKED_SHOWN_MAX = 100
TIMELINE_MAX = 1000  # journal rows of one passage; far above any real one
TEXT_MAX = 64


class Sync(Protocol):
    """What the centre has and has not, as the outbox knows it."""

    def state(self) -> dict[str, Any]:
        """{online, unsent, oldest_unsent_ms, eta_s, parked}"""

    async def backlog(self) -> dict[str, Any]:
        """{count, oldest_age_s, drain_s}"""

    async def parked(self) -> Sequence[Mapping[str, Any]]:
        """[{seq, id, reason}]"""

    @property
    def by_broker(self) -> bool:
        """Records go by way of one."""

    def delivered(self, lane: str | None = None) -> Set[tuple[str, int]]:
        """(lane, seq) of what a broker was given in this life."""

    async def count_delivered(self) -> int:
        """How many of the backlog a broker has."""


class Shelf(Protocol):
    """The parameter tables in force, and their ages."""

    def current(self) -> Parameters: ...

    def ages(self) -> Sequence[Mapping[str, Any]]: ...


routes = Api()
STORE = web.AppKey("store", Store)
SYNC: web.AppKey[Sync] = web.AppKey("sync", object)  # type: ignore[arg-type]
SHELF: web.AppKey[Shelf] = web.AppKey("shelf", object)  # type: ignore[arg-type]


class PassageQuery(BaseModel):
    """Filters; times in epoch milliseconds, `before` as the last page's `next` gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lane: str | None = Field(default=None, max_length=TEXT_MAX)
    plate: str | None = Field(default=None, max_length=TEXT_MAX, description="part of a plate")
    state: str | None = Field(default=None, max_length=TEXT_MAX)
    shift: int | None = Field(default=None, ge=0, le=10**15)
    from_ms: int | None = Field(default=None, ge=0, le=10**15)
    to_ms: int | None = Field(default=None, ge=0, le=10**15, description="not included")
    limit: int = Field(default=20, ge=1, le=PAGE_MAX)
    before: str | None = Field(default=None, pattern=r"^\d{1,15}\.[!-~]{1,64}$")


@routes.api(
    "GET",
    "/api/passages",
    summary="过车记录，新的在前",
    query=PassageQuery,
    answers={200: PassagePage},
)
async def passages(request: web.Request, asked: PassageQuery) -> web.Response:
    sql, values = _selection(asked)
    rows = await request.app[STORE].rows(sql, *values, asked.limit + 1)
    page = [_row(row, request) for row in rows[: asked.limit]]
    last = rows[asked.limit - 1] if len(rows) > asked.limit else None
    more = f"{last['opened_ms']}.{last['id']}" if last else None
    return answer({"passages": page, "next": more})


@routes.api(
    "GET",
    "/api/passages/{id}",
    summary="一次过车",
    answers={200: PassageFacts},
    faults=(404,),
)
async def passage(request: web.Request) -> web.Response:
    row = await _passage(request)
    facts = {"card": mask(row["card_id"]), "ended": row["ended"]}
    corrections = await _corrections(request, row)
    return answer(
        {
            **_row(row, request),
            **facts,
            "record": _record(row),
            "fate": _fate(row),
            "corrections": corrections,
        }
    )


@routes.api(
    "GET",
    "/api/passages/{id}/timeline",
    summary="一次过车的每条流水",
    answers={200: Timeline},
    faults=(404,),
)
async def timeline(request: web.Request) -> web.Response:
    passage_id = (await _passage(request))["id"]
    rows = await request.app[STORE].rows(
        "SELECT seq, at_ms, event, state, operator, body FROM journal"
        " WHERE passage_id = ? ORDER BY seq LIMIT ?",
        passage_id,
        TIMELINE_MAX,
    )
    return answer(
        {"entries": [{**dict(row), "body": _masked(json.loads(row["body"]))} for row in rows]}
    )


@routes.api("GET", "/api/devices", summary="设备状态", answers={200: Devices})
async def devices(request: web.Request) -> web.Response:
    return answer(
        {
            "lanes": [
                {"lane": lane.lane, "name": lane.title, "devices": lane.snapshot()["devices"]}
                for lane in request.app[LANES].values()
            ]
        }
    )


@routes.api("GET", "/api/sync", summary="与上级的同步", answers={200: SyncShown})
async def sync(request: web.Request) -> web.Response:
    known = request.app[SYNC]
    parked = (await known.parked())[:PARKED_SHOWN_MAX]
    backlog = await known.backlog()
    return answer(
        {
            "online": known.state()["online"],
            "backlog": backlog,
            "parked": parked,
            "by_broker": known.by_broker,
            "delivered": await known.count_delivered(),
        }
    )


@routes.api("GET", "/api/receipts", summary="被上级退回的流水及原因", answers={200: Receipts})
async def receipts(request: web.Request) -> web.Response:
    parked = await request.app[SYNC].parked()
    return answer({"receipts": parked[:PARKED_SHOWN_MAX]})


@routes.api("GET", "/api/parameters", summary="参数表的版本与时间", answers={200: ParametersShown})
async def parameters(request: web.Request) -> web.Response:
    return answer({"parameters": request.app[SHELF].ages()})


@routes.api(
    "GET",
    "/api/tables/{name}",
    summary="stations 收费站、vehicle_types 车型、vehicle_classes 车种、colours 颜色、reasons 原因",
    answers={200: Rows},
    faults=(404,),
)
async def table(request: web.Request) -> web.Response:
    name, current = request.match_info["name"], request.app[SHELF].current()
    if name not in _TABLES:
        raise NotFound("没有这张表")
    rows = _TABLES[name](current)
    return answer({"version": current.versions.get(name, ""), "rows": rows})


_TABLES: dict[str, Callable[[Parameters], object]] = {
    "stations": lambda p: [
        {"hex": row.hex, "name": row.name, "pinyin": row.pinyin} for row in p.stations.rows
    ],
    "vehicle_types": lambda p: p.vehicle_types.rows,
    "vehicle_classes": lambda p: p.vehicle_classes.rows,
    "reasons": lambda _: [
        {"list": name, "name": text} for name, texts in REASONS.items() for text in texts.split()
    ],
    "colours": lambda _: [{"code": code, "name": name} for code, name in COLOURS.items()],
}

_JOINED = """
    SELECT p.*, r.seq, r.kind, r.means, r.fee_fen, r.saved_ms, r.chain, r.line,
           d.verdict, d.reason, d.via, d.at_ms AS told_ms
    FROM passage p
    LEFT JOIN record r ON r.id = p.record_id AND r.lane = p.lane
    LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq
"""


_CORRECTIONS = """
    SELECT r.*, d.verdict FROM record r
    LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq
    WHERE r.passage_id = ? AND r.corrects IS NOT NULL ORDER BY r.seq
"""


def _selection(asked: PassageQuery) -> tuple[str, list[Any]]:
    """The page's SQL without its limit, and the values for its places."""
    filters = {
        "p.lane = ?": asked.lane,
        "instr(p.plate, ?) > 0": asked.plate,
        "coalesce(p.ended, p.state) = ?": asked.state,
        "p.shift_id = ?": asked.shift,
        "p.opened_ms >= ?": asked.from_ms,
        "p.opened_ms < ?": asked.to_ms,
    }
    chosen = {place: value for place, value in filters.items() if value is not None}
    values: list[Any] = list(chosen.values())
    places = list(chosen)
    if asked.before is not None:
        opened, _, passage_id = asked.before.partition(".")
        places.append("(p.opened_ms, p.id) < (?, ?)")
        values += [int(opened), passage_id]
    where = f"WHERE {' AND '.join(places)}" if places else ""
    return f"{_JOINED} {where} ORDER BY p.opened_ms DESC, p.id DESC LIMIT ?", values


async def _passage(request: web.Request) -> Any:
    """Raises: NotFound."""
    rows = await request.app[STORE].rows(f"{_JOINED} WHERE p.id = ?", request.match_info["id"])
    if not rows:
        raise NotFound("没有这一次过车")
    return rows[0]


def _row(row: Any, request: web.Request) -> dict[str, Any]:
    return {
        "id": row["id"],
        "lane": row["lane"],
        "state": row["ended"] or row["state"],
        "plate": row["plate"],
        "colour": _colour(row["line"]),
        "amount_fen": row["amount_fen"],
        "kind": row["kind"],
        "means": row["means"],
        "fee_fen": row["fee_fen"],
        "opened_at_ms": row["opened_ms"],
        "changed_at_ms": row["changed_ms"],
        "operator": row["operator"],
        "shift_id": row["shift_id"],
        "record_id": row["record_id"],
        "seq": row["seq"],
        "delivery": delivery_of(row, request.app[SYNC].delivered),
    }


def _colour(line: str | None) -> int | None:
    """Of the plate, as the record has it."""
    *_, colour = (json.loads(line).get("vehicleId") or "").rpartition("_") if line else ("",)
    return int(colour) if colour else None


def delivery_of(row: Any, delivered: Callable[[str], Set[tuple[str, int]]]) -> str | None:
    """Of a row with lane, seq and verdict; None before there is a record."""
    if row["seq"] is None:
        return None
    if row["verdict"] is not None:
        return "被退回" if row["verdict"] == "refused" else "已确认"
    return "已送达" if (row["lane"], row["seq"]) in delivered(row["lane"]) else "未传"


def _record(row: Any) -> dict[str, Any] | None:
    if row["seq"] is None:
        return None
    line = json.loads(row["line"])
    return {
        "id": row["record_id"],
        "seq": row["seq"],
        "kind": row["kind"],
        "means": row["means"],
        "fee_fen": row["fee_fen"],
        "saved_at_ms": row["saved_ms"],
        "chain": row["chain"],
        "tac": line.get("tac"),
        "photo": line.get("photo"),
    }


async def _corrections(request: web.Request, row: Any) -> list[dict[str, Any]]:
    """The chain behind the first record, each with what it changes of the one before it."""
    told, before = [], json.loads(row["line"]) if row["line"] else {}
    for found in await request.app[STORE].rows(_CORRECTIONS, row["id"]):
        line = json.loads(found["line"])
        told.append(
            {
                "record_id": found["id"],
                "seq": found["seq"],
                "chain": found["chain"],
                "corrects": found["corrects"],
                "kind": found["kind"],
                "means": found["means"],
                "fee_fen": found["fee_fen"],
                "adjust_fen": found["adjust_fen"],
                "changed": differences(before, line),
                "reason": line["reason"],
                "approval": _approval(line["approval"]),
                "saved_at_ms": found["saved_ms"],
                "delivery": delivery_of(found, request.app[SYNC].delivered),
            }
        )
        before = line
    return told


def _approval(told: Mapping[str, Any]) -> dict[str, Any]:
    """The wire's names back to ours."""
    named = {"operator": "operator", "name": "name", "how": "how", "at_ms": "atMs"}
    return {ours: told[wire] for ours, wire in named.items()}


def _fate(row: Any) -> dict[str, Any] | None:
    if row["verdict"] is None:
        return None
    return {
        "verdict": row["verdict"],
        "reason": row["reason"],
        "via": row["via"],
        "at_ms": row["told_ms"],
    }


_NUMBERS = frozenset({"card_id", "card_number", "contract_serial"})


def _masked(value: Any, name: str = "") -> Any:
    """A journal body as people may see it: the numbers of cards and tags shortened."""
    if isinstance(value, dict):
        return {key: _masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    is_number = name in _NUMBERS and len(value) > 8
    return f"{value[:4]}****{value[-4:]}" if is_number else mask(value)

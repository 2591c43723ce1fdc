"""Around the lane, one document a place: history, devices, sync, versions, hand-over.

A document is {"title", "blocks", "bar", "primary", "again_ms"}; see blocks.py. It is made from
what the other routes answer, so the two cannot disagree. It looks; what is done goes elsewhere.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field

from gateway.errors import NotFound
from gateway.web import drawing, history, mending, page, syncing
from gateway.web.api import Api, require
from gateway.web.blocks import Block, age, day, facts, freshness, line, moment, money, plate
from gateway.web.documents import Document, lamp_row, lane_asked, read_answer
from gateway.web.faults import answer
from gateway.web.forms import FORMS
from gateway.web.session import SHIFTS
from gateway.web.words import Say, is_known, speech

MENU = (
    "history", "suspended", "standing", "devices", "sync", "versions", "shiftEnd", "settings",
)  # fmt: skip
FOR_MASTERS = ("pairing", "approvals", "carry")
ENDINGS = ("saved", "cancelled", "unreadable")
ROWS = 20
DAY_MS = 86_400_000
HOURS_EAST_MS = 8 * 3_600_000
PART_KEYS = [*"1234567890ABCDEFGHJKLMNPQRSTUVWXYZ退清"]
"""A part of a plate finds it."""

routes = Api()


class Place(BaseModel):
    """What a page draws, and what can be done there."""

    title: str
    blocks: list[dict[str, Any]]
    bar: list[dict[str, Any] | str] = []
    primary: dict[str, Any] | None = None
    again_ms: int | None = Field(default=None, description="ask again after so long")
    is_auto: bool = Field(default=False, description="the primary is done without a press")


@routes.api(
    "GET", "/api/places/{place}", summary="车道以外的一页", answers={200: Place}, faults=(404, 422)
)
async def place(request: web.Request) -> web.Response:
    """Query: `lane`, and what the page's own choices add."""
    name = request.match_info["place"]
    if name not in PLACES:
        raise NotFound("没有这一页")
    say = speech(request)
    return answer({"title": say(name), **await PLACES[name](request, say)})


@routes.api(
    "GET",
    "/api/places/passage/{id}",
    summary="一次过车的经过",
    answers={200: Place},
    faults=(404,),
)
async def passage(request: web.Request) -> web.Response:
    say = speech(request)
    told = read_answer(await history.passage(request))
    entries = read_answer(await history.timeline(request))["entries"]
    photo = told["record"] and told["record"]["photo"]
    may_correct = told["record"] and told["record"]["kind"] != "cancelled"
    corrects = {"label": say("correct"), "go": f"correct/{told['id']}"}
    blocks: list[Block] = [
        facts(
            (say("plate"), plate(told)),
            (say("amount"), _taken(told)),
            (say("means"), _how(told, say) or "—"),
            (say("state"), say(f"state.{told['state']}")),
            (say("seq"), told["seq"] or "—"),
            (say("delivery"), _fate(told)),
            (say("card.number"), told["card"] or "—"),
            (say("operator"), told["operator"]),
        ),
        line(f"{told['id']} {told['record_id'] or ''}"),
        *([{"image": f"/api/photos/{photo}", "alt": say("photo")}] if photo else []),
        *({"rows": [_correction(each, say)]} for each in told["corrections"]),
        {"h": say("timeline")},
        {"image": drawing.drawn(entries, say), "alt": drawing.summary(entries, say)},
        {"h": say("journal")},
        {"rows": [_entry(n, entry, say) for n, entry in enumerate(entries, 1)]},
    ]
    bar = [corrects] if may_correct else []
    return answer({"title": say("passage"), "blocks": blocks, "bar": bar})


@routes.api(
    "GET",
    "/api/places/correct/{id}",
    summary="更正一笔：要改什么",
    answers={200: Place},
    faults=(404,),
)
async def correct(request: web.Request) -> web.Response:
    """Query: what was tapped so far; see mending.py."""
    return answer(await mending.document(request, speech(request)))


@routes.api(
    "GET",
    "/api/places/resend/{id}",
    summary="原样重传一条被退回的流水：为什么",
    answers={200: Place},
    faults=(404,),
)
async def resend(request: web.Request) -> web.Response:
    return answer(await syncing.resend(request, speech(request)))


async def _menu(request: web.Request, say: Say) -> Document:
    places = MENU + (FOR_MASTERS if require(request).role == "master" else ())
    tiles = [{"label": say(name), "go": name} for name in places]
    return {
        "blocks": [{"options": tiles}],
        "bar": [{"label": say("signOut"), "deed": "signOut"}],
    }


async def _history(request: web.Request, say: Say) -> Document:
    asked = request.query
    span, state, plate_ = asked.get("span", "shift"), asked.get("state", ""), asked.get("plate", "")
    filters = f"{span}|{state}|{plate_}|"
    lane = lane_asked(request).snapshot()
    limits: dict[str, Any] = {"limit": asked.get("limit", ROWS)}
    if span == "shift" and lane["shift"]:
        limits["shift"] = lane["shift"]["id"]
    if span == "today":
        limits["from_ms"] = (lane["at_ms"] + HOURS_EAST_MS) // DAY_MS * DAY_MS - HOURS_EAST_MS
    limits |= {name: asked[name] for name in ("plate", "state") if asked.get(name)}
    if (before := asked.get("before", "")).startswith(filters):  # of the same question
        limits["before"] = before.removeprefix(filters) or None
    query = history.PassageQuery.model_validate(limits)
    told = read_answer(await history.passages(request, query))
    endings = [["", say("day.all")], *([name, say(f"state.{name}")] for name in ENDINGS)]
    spans = [[name, say(f"day.{name}")] for name in ("shift", "today", "all")]
    rows = [_vehicle(row, say) for row in told["passages"]]
    is_bare = (span, state, plate_) == ("shift", "", "")
    pad = [{"letters": "plate", "value": plate_, "keys": PART_KEYS}] if asked.get("keys") else []
    return {
        "blocks": [
            {"field": "plate", "label": say("plate"), "value": plate_},
            *pad,
            {"choices": endings, "name": "state", "label": say("state"), "chosen": state},
            {"choices": spans, "name": "span", "label": say("history.span"), "chosen": span},
            {"rows": rows, "empty": say("history.none" if is_bare else "history.nothing")},
        ],
        "bar": [
            {"label": say("history.keys"), "with": {"keys": "" if pad else 1}},
            *_turns(query, told["next"], filters, say),
        ],
    }


def _turns(
    query: history.PassageQuery, after: str | None, filters: str, say: Say
) -> list[dict[str, Any]]:
    """More below, up to a full page; then page by page, and back to the newest."""
    turns = []
    if query.before:
        turns.append({"label": say("history.newest"), "with": {"before": "", "limit": ROWS}})
    if after:
        is_full = query.limit == history.PAGE_MAX
        longer = {"limit": min(query.limit + ROWS, history.PAGE_MAX)}
        more = {"before": f"{filters}{after}"} if is_full else longer
        turns.append({"label": say("history.more"), "with": more})
    return turns


async def _suspended(request: web.Request, say: Say) -> Document:
    lane = lane_asked(request).snapshot()
    rows = [
        {
            "parts": [plate(aside), say("suspended.at", state=state, at=moment(opened))],
            "button": {"label": say("resume"), "resume": aside["passage"]},
        }
        for aside in lane["suspended"]
        for state, opened in [(say(f"state.{aside['state']}"), aside["opened_at_ms"])]
    ]
    later = [line(say("resume.later"))] if rows and "resume" not in lane["allowed"] else []
    return {"blocks": [{"rows": rows, "empty": say("suspended.none")}, *later]}


async def _devices(request: web.Request, say: Say) -> Document:
    lane = lane_asked(request).snapshot()
    twins = [line(f"▲ {say('twins')}", "warn")] if lane.get("is_training") else []
    rows = [lamp_row(name, lamp, say) for name, lamp in lane["devices"].items()]
    return {"blocks": [*twins, {"rows": rows}]}


async def _versions(request: web.Request, say: Say) -> Document:
    files = page.shown()
    what = " ".join(files.wrong)
    own = {
        "look": "bad" if what else "",
        "parts": [
            {"b": f"lane-gateway {files.version}"},
            say("page.wrong", what=what) if what else say("page.right", n=files.files),
            files.sha256[:16],
        ],
    }
    tables = read_answer(await history.parameters(request))["parameters"]
    return {"blocks": [{"rows": [own, *(_table(table, say) for table in tables)]}]}


async def _shift_end(request: web.Request, say: Say) -> Document:
    lane = lane_asked(request).snapshot()
    asked = request.query.get("shift", "")
    id_ = int(asked) if asked.isdecimal() else lane["shift"] and lane["shift"]["id"]
    if id_ is None:
        return {"blocks": [line(say("shift.none"))]}
    told = await request.app[SHIFTS].statement(id_)
    shift, totals = told.shift, told.totals
    closed = shift.closed_at_ms
    aside, unsent = len(lane["suspended"]), totals.unsent_count
    blocks = [
        facts(
            (say("shift"), say(f"shift.{shift.shift}")),
            (say("operator"), shift.operator),
            (say("shift.opened"), day(shift.opened_at_ms)),
            (say("shift.closed"), day(closed)) if closed else None,
            (say("shift.count"), totals.count),
            (say("amount"), money(totals.sum_fen)),
        ),
        facts(
            *(
                (
                    f"{say(f'kind.{kind.kind}')} · {say(f'means.{kind.means}')}",
                    f"{kind.count} · {money(kind.sum_fen)}",
                )
                for kind in totals.kinds
            )
        ),
    ]
    if unsent:
        blocks.append(line(say("shift.unsent", n=unsent, sum=money(totals.unsent_sum_fen))))
    if aside and not closed:
        blocks.append(line(f"▲ {say('shift.first', n=aside)}", "warn"))
    close = {
        "label": say("close"),
        "method": "POST",
        "path": f"/api/shifts/{id_}/close",
        "body": {},
        "sure": say("close.sure"),
        "then": {"shift": id_},
    }
    out = {"label": say("signOut"), "deed": "signOut"}
    if aside:  # a shift is not signed off over them
        close = {"label": say("suspended"), "go": "suspended"}
    return {"blocks": blocks, "bar": [] if closed else [out], "primary": out if closed else close}


Maker = Callable[[web.Request, Say], Awaitable[Document]]
PLACES: dict[str, Maker] = {
    "menu": _menu,
    "history": _history,
    "suspended": _suspended,
    "devices": _devices,
    "sync": syncing.document,
    "versions": _versions,
    "shiftEnd": _shift_end,
    **FORMS,
}


def _fate(told: dict[str, Any]) -> str:
    """Where its record is, and why not at the centre."""
    reason = (told.get("fate") or {}).get("reason")
    return " ".join(word for word in (told["delivery"], reason) if word) or "—"


def _vehicle(row: dict[str, Any], say: Say) -> dict[str, Any]:
    return {
        "look": "bad" if row["delivery"] == "被退回" else "",
        "parts": [
            moment(row["opened_at_ms"]),
            plate(row),
            {"b": _taken(row)},
            say(f"state.{row['state']}"),
            _how(row, say),
            row["delivery"] or "",
        ],
        "go": f"passage/{row['id']}",
    }


def _taken(row: dict[str, Any]) -> str:
    """Of a cancelled vehicle nothing, whatever was asked; of one in work what is asked."""
    if row["state"] == "cancelled":
        return "—"
    return money(row["amount_fen"] if row["fee_fen"] is None else row["fee_fen"])


def _how(row: dict[str, Any], say: Say) -> str:
    if row["kind"] in (None, "cancelled"):
        return ""
    means = say(f"means.{row['means']}")
    return f"▲ {say('kind.doubtful')} · {means}" if row["kind"] == "doubtful" else means


def _correction(made: dict[str, Any], say: Say) -> dict[str, Any]:
    """One link of the chain: by whom, why, and what it changed."""
    changes = [f"{name}: {old} → {new}" for name, (old, new) in made["changed"].items()]
    who = made["approval"]
    return {
        "parts": [
            {"b": f"#{made['seq']} {say('correct')}"},
            moment(made["saved_at_ms"]),
            f"{who['name']} {who['operator']} · {made['reason']}",
            " · ".join(changes),
            made["delivery"] or "",
        ]
    }


def _entry(number: int, entry: dict[str, Any], say: Say) -> dict[str, Any]:
    told = [
        f"{say(f'field.{name}')} {money(int(value)) if name.endswith('_fen') else value}"
        for name, value in entry["body"].items()
        if is_known(f"field.{name}") and isinstance(value, str | int) and value != ""
    ]
    head = f"{number}. {moment(entry['at_ms'])} #{entry['seq']} {entry['operator']}"
    return {"parts": [head, {"b": say(f"event.{entry['event']}")}, " · ".join(told)]}


def _table(table: dict[str, Any], say: Say) -> dict[str, Any]:
    next_, seconds = table.get("next"), table.get("age_s")
    since = day(table.get("effective_from_ms"))
    told = say("versions.at", version=table["version"], since=since, age=age(seconds, say))
    is_list = table["name"] == "status_list" and seconds is not None
    refused = [f"✕ {bad['version']} {bad['reason']}" for bad in table.get("rejected") or []]
    look = "bad" if refused else freshness(seconds or 0) if is_list else ""
    parts: list[Any] = [{"b": say(f"table.{table['name']}")}, told]
    if next_:
        at = day(next_["effective_from_ms"])
        parts.append(say("versions.next", version=next_["version"], at=at))
        parts += _rehearsed(next_.get("rehearsal"), say)
    if listed := table.get("listed"):
        parts.append(say("versions.listed", n=f"{listed['entries']:,}"))
        if listed["is_damaged"]:
            look, refused = "bad", [*refused, say("versions.damaged")]
    return {"look": look, "parts": [*parts, *refused]}


def _rehearsed(report: dict[str, Any] | None, say: Say) -> list[str]:
    """What the coming table would have changed, and where most."""
    if report is None:
        return []
    changed, lost = report["dearer"] + report["cheaper"], report["lost"]
    total = f"{report['difference_fen'] / 100:+.2f} 元"
    told = say("versions.rehearsed", n=report["passages"], changed=changed, sum=total, lost=lost)
    return [told, *(_example(one) for one in report["worst"][:3])]


def _example(one: dict[str, Any]) -> str:
    sums = f"{money(one['before_fen'])} → {money(one['after_fen'])}"
    return f"{one['station_name']} {one['vehicle_type']}：{sums}"

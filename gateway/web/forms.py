"""Where a person's word is asked: reasons, masters, stations, handhelds, shifts, settings."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from gateway.errors import NotFound, RequestInvalid, UnexpectedEvent
from gateway.flow.lane import Lane
from gateway.flow.shift import Shift, shift_at
from gateway.params import Station
from gateway.web import approvals, carry, history, pairing, settings
from gateway.web.api import SELLERS, require
from gateway.web.blocks import Block, clock, facts, line, moment, money, plate
from gateway.web.documents import AGAIN_MS, Document, lamp_row, lane_asked, read_answer
from gateway.web.lane import LANES
from gateway.web.session import elsewhere
from gateway.web.words import REASONS, Say

SENSITIVE = ("minimum_fare", "override", "settle_by_hand")
NOT_GIVEN = ("refused", "expired")
STATIONS_MAX = 8
INITIALS = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ退清"]
NO_MATCH = 2
NO_CAPS = 10  # a digit is looked for: it chooses none of what was found


async def _pairing(request: web.Request, say: Say) -> Document:
    shown = read_answer(await pairing.list_pairings(request))["pairings"]
    offer = next((each for each in shown if each["state"] != "paired"), None)
    rows = [
        {
            "parts": [{"b": each["name"]}, say("pairing.seen", at=moment(each["last_seen_ms"]))],
            "button": {
                "label": say("pairing.revoke"),
                "sure": say("pairing.sure", name=each["name"]),
                "method": "DELETE",
                "path": f"/api/pairings/{each['id']}",
            },
        }
        for each in shown
        if each["state"] == "paired"
    ]
    paired = [{"h": say("pairing.list")}, {"rows": rows, "empty": say("pairing.none")}]
    start = {"label": say("pairing.start"), "method": "POST", "path": "/api/pairings", "body": {}}
    if offer is None:
        return {"blocks": [line(say("pairing.hint")), *paired], "primary": start}
    path = f"/api/pairings/{offer['id']}"
    same = {"label": say("pairing.same"), "method": "POST", "path": f"{path}/confirm", "body": {}}
    left_s = max(0, (offer["expires_at_ms"] - lane_asked(request).snapshot()["at_ms"]) // 1000)
    return {
        "blocks": [
            *([{"image": offer["qr_svg"], "alt": say("pairing.qr")}] if offer["qr_svg"] else []),
            {"digits": offer["digits"] or "······"},
            *([_by_hand(offer, say)] if offer["url"] else []),
            line(say("pairing.compare")),
            line(say("pairing.left", n=left_s)),
            *paired,
        ],
        "bar": [{"label": say("pairing.stop"), "method": "DELETE", "path": path}],
        "primary": same if offer["state"] == "waiting" else None,
        "again_ms": AGAIN_MS,
    }


def _by_hand(offer: dict[str, Any], say: Say) -> Block:
    """For a handheld that cannot scan: the code is the same with blanks (gateway/pairing.py)."""
    code = offer["secret"]
    fours = " ".join(code[start : start + 4] for start in range(0, len(code), 4))
    address = offer["url"].partition("#")[0]
    return facts((say("pairing.address"), address), (say("pairing.code"), fours))


async def _approvals(request: web.Request, say: Say) -> Document:
    """A master answers on his own screen what the booth asks."""
    require(request, "master")
    asked = [
        approvals.shown(each)
        for each in request.app[approvals.APPROVALS].all()
        if each.stage == "pending"
    ]
    if not asked:
        return {"blocks": [line(say("approvals.none"))], "again_ms": AGAIN_MS}
    one = asked[0]
    path = f"/api/approvals/{one.id}"
    yes, no = ({"decision": word} for word in ("approve", "refuse"))
    ask = {"method": "POST", "path": path, "needs_credentials": True}
    return {
        "title": say(f"master.{one.command}"),
        "blocks": [
            *_question(one.shown, one.asked_by, say),
            {"credentials": ""},
        ],
        "bar": [{"label": say("refuse"), "body": no, **ask}],
        "primary": {"label": say("agree"), "body": yes, **ask},
    }


def _question(asked: dict[str, Any], by: str, say: Say) -> list[Block]:
    photo, means = asked["photo"], asked["means"]
    return [
        facts(
            (say("plate"), plate(asked)),
            (say("amount"), money(asked["amount_fen"])),
            (say("means"), say(f"means.{means}")) if means else None,
            (say("entry"), asked["station_name"] or "—"),
            (say("reason"), asked["reason"] or "—"),
            (say("operator"), by),
        ),
        *(line(f"▲ {found['text']} ({found['code']})", "warn") for found in asked["findings"]),
        *([{"image": f"/api/photos/{photo}", "alt": say("photo")}] if photo else []),
    ]


async def _master(request: web.Request, say: Say) -> Document:
    """A master's word for one command: here by number and password, or asked from afar."""
    command = _sensitive(request)
    lane = lane_asked(request)
    title = f"{say('master')} · {say('master.' + command['command'])}"
    known = lane.snapshot().get("approvals") or [{"state": "", "id": ""}]
    state, id_ = known[-1]["state"], known[-1]["id"]
    if state == "approved":
        given = request.app[approvals.APPROVALS].find(id_).command
        bare = given.model_dump(exclude_none=True)
        goes_on = {"label": say("master.go"), "command": {**bare, "approval": id_}}
        blocks = [line(say("master.approved"), "big")]
        return {"title": title, "blocks": blocks, "primary": goes_on, "is_auto": True}
    if state == "pending" and "here" not in request.query:
        here = {"label": say("master.here"), "with": {"here": 1}}
        waiting = [line(say("master.waiting"), "big"), line(say("master.where"))]
        return {"title": title, "blocks": waiting, "bar": [here], "again_ms": AGAIN_MS}
    path = f"/api/lanes/{lane.lane}/approvals"
    question, can_be = _asked_here(request, lane, command, say)
    is_off = command.get("reason") == "" or not can_be
    afar = {"label": say("master.afar"), "method": "POST", "path": path, "body": command}
    primary: dict[str, Any] = {"label": say("ok"), "command": command, "off": is_off}
    refused = [_not_given(state, say)] if state in NOT_GIVEN else []
    return {
        "title": title,
        "blocks": [
            *refused,
            *question,
            *(_reasons(command, say) if command["command"] == "override" else []),
            {"credentials": say("master.number")},
            line(say("master.once")),
        ],
        "bar": [afar | {"off": is_off}],
        "primary": primary | {"needs_credentials": True},
    }


def _asked_here(
    request: web.Request, lane: Lane, command: dict[str, Any], say: Say
) -> tuple[list[Block], bool]:
    """The same question as on a master's own screen, but for the photo: the vehicle stands here.
    And whether it can be done at all: nobody keys a password for what would be refused."""
    if command["command"] not in lane.snapshot()["allowed"]:  # busy, or the vehicle has moved on
        return [], True
    try:
        asked = approvals.ASKED.validate_python({**command, **_unsaid(command)})
        told = lane.subject(asked)
    except ValidationError as bad:
        raise RequestInvalid("没有这个要授权的命令") from bad
    except UnexpectedEvent as no:
        alert = {"alert": no.detail, "action": no.action, "code": "E-211", "level": "warn"}
        return [alert], False
    return _question({**told, "photo": None}, require(request).operator, say), True


def _unsaid(command: dict[str, Any]) -> dict[str, str]:
    """A reason that is still to be chosen."""
    return {"reason": "—"} if command.get("reason") == "" else {}


def _not_given(state: str, say: Say) -> Block:
    told = {"alert": say(f"master.{state}"), "action": say("master.again"), "level": "warn"}
    return {**told, "code": "E-223" if state == "expired" else "E-221"}


def _sensitive(request: web.Request) -> dict[str, Any]:
    """The command a master is asked about, as the page asks for it. Raises: RequestInvalid."""
    asked = request.query
    command: dict[str, Any] = {"command": asked.get("command", "")}
    if command["command"] not in SENSITIVE:
        raise RequestInvalid("没有这个要授权的命令")
    if command["command"] != "minimum_fare":
        command["reason"] = asked.get("reason", "")
    if command["command"] == "settle_by_hand":
        fen = asked.get("amount_fen", "")
        command["means"] = asked.get("means", "")
        command["amount_fen"] = int(fen) if fen.isdecimal() else 0
    return command


def _reasons(command: dict[str, Any], say: Say) -> list[Block]:
    texts = [[text, text] for text in REASONS[command["command"]].split()]
    chosen = command["reason"]
    return [{"choices": texts, "name": "reason", "label": say("reason"), "chosen": chosen}]


async def _stations(request: web.Request, say: Say) -> Document:
    """By name: initials, a part of the name, or the Hex; best first."""
    query = request.query.get("q", "")
    wanted = query.strip().lower()
    rows = request.app[history.SHELF].current().stations.rows
    ranked = sorted((_rank(row, wanted), row.name, row.hex) for row in rows)
    found = [(name, hex_) for rank, name, hex_ in ranked if rank < NO_MATCH]
    confirm = {"command": "confirm_entry", "source": "searched"}
    options = [
        {"label": f"{name} {hex_}", "command": {**confirm, "station_hex": hex_}}
        for name, hex_ in found[:STATIONS_MAX]
    ]
    return {
        "blocks": [
            {"field": "q", "label": say("stations.hint"), "value": query, "is_start": True},
            {"options": options, "from": NO_CAPS} if options else line(say("stations.none")),
            {"letters": "q", "keys": INITIALS, "value": ""},
        ]
    }


def _rank(row: Station, wanted: str) -> int:
    """0 begins so, 1 contains it, NO_MATCH."""
    texts = (row.pinyin.lower(), row.name, row.hex.lower())
    if any(text.startswith(wanted) for text in texts):
        return 0
    return 1 if any(wanted in text for text in texts) else NO_MATCH


async def _why(request: web.Request, say: Say) -> Document:
    """Two taps, no free text: the reason that a command is given with."""
    name = request.query.get("list", "")
    if name not in REASONS:
        raise NotFound("没有这些原因")
    command = {"cancel": "cancel", "photo": "submit_plate"}.get(name, "hand_over")
    field = "no_photo_reason" if name == "photo" else "reason"
    is_off = command not in lane_asked(request).snapshot()["allowed"]
    options: list[dict[str, Any]] = []
    for text in REASONS[name].split():
        act: dict[str, Any] = {"command": {"command": command, field: text}}
        if name == "photo":  # the page knows the plate that goes with it
            act = {"deed": "submitPlate", "value": {field: text}}
        options.append({"label": text, "off": is_off, **act})
    told = [line(say("cancel.safe"))] if name == "cancel" else []
    bar = ["suspend", "handOver"] if name == "cancel" else []
    return {"title": say(f"why.{name}"), "blocks": [*told, {"options": options}], "bar": bar}


async def _shift(request: web.Request, say: Say) -> Document:
    """上班: lane and shift, and what the lane's devices say of themselves.

    Who may not sell only looks; a master exports or pairs without a shift of his own.
    """
    lanes = {name: lane for name, lane in request.app[LANES].items() if lane.is_enabled}
    lane = lane_asked(request)
    snapshot = lane.snapshot()
    asked = request.query.get("shift", "")
    chosen = int(asked) if asked in ("1", "2", "3") else shift_at(snapshot["at_ms"])
    names = [[name, each.title] for name, each in lanes.items()]
    shifts = [[n, say(f"shift.{n}")] for n in (1, 2, 3)]
    goes_on = {"label": say("shift.continue"), "enter": lane.lane}
    looks = {"label": say("shift.look"), "enter": lane.lane}
    who, busy = require(request), await elsewhere(request, lane.lane)
    begin = {
        "label": say("screen.shift"),
        "method": "POST",
        "path": "/api/shifts",
        "body": {"lane": lane.lane, "shift": chosen},
    }
    return {
        "title": say("screen.shift"),
        "blocks": [
            *(_elsewhere(busy, request.app[LANES], say) if busy else []),
            {"choices": names, "name": "lane", "label": say("lane"), "chosen": lane.lane},
            {"choices": shifts, "name": "shift", "label": say("shift"), "chosen": chosen},
            {"h": say("shift.check")},
            {"rows": [lamp_row(name, lamp, say) for name, lamp in snapshot["devices"].items()]},
        ],
        "bar": [
            {"label": say("signOut"), "deed": "signOut"},
            *([looks | {"label": say("menu"), "go": "menu"}] if who.role == "master" else []),
        ],
        "primary": looks
        if who.role not in SELLERS
        else goes_on
        if snapshot["shift"]
        else begin | {"enter": lane.lane, "off": busy is not None},
    }


def _elsewhere(busy: Shift, lanes: Mapping[str, Lane], say: Say) -> list[Block]:
    """One person, one lane."""
    lane = lanes[busy.lane].title
    told = say("shift.elsewhere", who=busy.operator, lane=lane, at=clock(busy.opened_at_ms))
    alert = {"alert": told, "action": say("shift.elsewhere.do"), "code": "E-403", "level": "warn"}
    return [alert, {"options": [{"label": say("shift.go", lane=lane), "enter": busy.lane}]}]


async def _standing(request: web.Request, say: Say) -> Document:
    """暂停 恢复 关闭: one tap and its reason; closing is asked twice."""
    standing = lane_asked(request).snapshot().get("standing") or {}
    allowed = standing.get("allowed", ())
    blocks, first = [line(say("standing.keeps"))], 1
    if standing.get("state", "open") != "open":
        blocks.insert(
            0, line(f"▲ {say('standing.' + standing['state'])} {standing['reason']}", "warn")
        )
    for name in ("pause", "close"):
        if f"{name}_lane" in allowed:
            sure = {"sure": say("standing.sure")} if name == "close" else {}
            options = [
                {"label": text, "command": {"command": f"{name}_lane", "reason": text}, **sure}
                for text in REASONS[name].split()
            ]
            blocks += [{"h": say(f"standing.{name}")}, {"options": options, "from": first}]
            first += len(options)
    opens = {"label": say("standing.open"), "command": {"command": "open_lane"}}
    return {"blocks": blocks, "primary": opens if "open_lane" in allowed else None}


FORMS = {
    "approvals": _approvals,
    "master": _master,
    "pairing": _pairing,
    "settings": settings.document,
    "carry": carry.document,
    "shift": _shift,
    "standing": _standing,
    "stations": _stations,
    "why": _why,
}

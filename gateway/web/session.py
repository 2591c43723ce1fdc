"""Signing in and out, and 上班 下班: who is at the screen and on which shift."""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.access import Access, Who
from gateway.errors import AccessRefused, NotFound, ShiftElsewhere
from gateway.flow.shift import Shift, Shifts, Statement
from gateway.web.answers import SessionShown, ShiftShown, StatementShown
from gateway.web.api import OWNER, WHO, Api, Needs, require
from gateway.web.faults import Handler, answer
from gateway.web.lane import LANES, lane_of

COOKIE = "lane_session"
BOOTH = "booth"
ALLOWED = {
    "collector": ["look", "sell"],
    "master": ["look", "sell", "approve", "pair"],
    "engineer": ["look", "maintain"],
}
"""What each role may do, so that a page need not guess."""

routes = Api()
ACCESS = web.AppKey("access", Access)
SHIFTS = web.AppKey("shifts", Shifts)


class SignIn(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    operator: str = Field(pattern=r"^\d{4,6}$")
    password: SecretStr = Field(min_length=1, max_length=128)


class OpenShift(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    lane: str = Field(min_length=1, max_length=20)
    shift: int | None = Field(default=None, ge=1, le=3, description="1 早, 2 中, 3 晚; 空则按时间")


@web.middleware
async def session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Puts `request[WHO]`: the person behind the cookie, if it was given to this screen."""
    token, access = request.cookies.get(COOKIE), request.app[ACCESS]
    if token and (who := await access.who(token, owner_of(request))):
        request[WHO] = who
    return await handler(request)


def owner_of(request: web.Request) -> str:
    """booth, or handheld:<id> as the guard of the lane network found it."""
    owner: str = request.get(OWNER) or request.get("owner", BOOTH)
    return owner


@routes.api(
    "GET",
    "/api/session",
    summary="谁在这个屏幕前；没有登录时 operator 为 null",
    needs=Needs.NOBODY,
    answers={200: SessionShown},
)
async def who_am_i(request: web.Request) -> web.Response:
    return answer(await _shown(request, request.get(WHO)))


@routes.api(
    "POST",
    "/api/session",
    summary="登录",
    needs=Needs.NOBODY,
    body=SignIn,
    answers={200: SessionShown},
    faults=(401, 423),
)
async def sign_in(request: web.Request, asked: SignIn) -> web.Response:
    """Sets the cookie; whoever was signed in at this browser before is signed out."""
    access = request.app[ACCESS]
    password = asked.password.get_secret_value()
    token, who = await access.sign_in(asked.operator, password, owner_of(request))
    await access.sign_out(request.cookies.get(COOKIE, ""))
    shown = answer(await _shown(request, who))
    shown.set_cookie(
        COOKIE, token, path="/", httponly=True, samesite="Strict", secure=request.secure
    )
    return shown


@routes.api(
    "DELETE",
    "/api/session",
    summary="退出登录",
    needs=Needs.NOBODY,
    answers={200: SessionShown},
)
async def sign_out(request: web.Request) -> web.Response:
    await request.app[ACCESS].sign_out(request.cookies.get(COOKIE, ""))
    shown = answer(await _shown(request, None))
    shown.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=request.secure)
    return shown


@routes.api(
    "POST",
    "/api/shifts",
    summary="上班",
    needs=Needs.SELL,
    body=OpenShift,
    answers={200: StatementShown},
    faults=(404, 409),
)
async def open_shift(request: web.Request, asked: OpenShift) -> web.Response:
    """409 if one is open on the lane, or theirs on another."""
    lane, shifts = lane_of(request, asked.lane), request.app[SHIFTS]
    if busy := await elsewhere(request, lane.lane):
        raise ShiftElsewhere(f"工号 {busy.operator} 已在 {busy.lane} 车道上班，还没有下班")
    opened = await shifts.open(lane.lane, require(request).operator, asked.shift)
    lane.changes.publish()
    return answer(_statement(await shifts.statement(opened.id)))


@routes.api(
    "GET",
    "/api/shifts/{id}",
    summary="一班的合计与待传",
    answers={200: StatementShown},
    faults=(404,),
)
async def look_at_shift(request: web.Request) -> web.Response:
    return answer(_statement(await request.app[SHIFTS].statement(_id(request))))


@routes.api(
    "POST",
    "/api/shifts/{id}/close",
    summary="下班",
    needs=Needs.SELL,
    answers={200: StatementShown},
    faults=(404, 409),
)
async def close_shift(request: web.Request) -> web.Response:
    """By the shift's own collector or a station master; 409 while a vehicle is not settled."""
    shifts, who = request.app[SHIFTS], require(request)
    standing = (await shifts.statement(_id(request))).shift
    if who.operator != standing.operator and who.role != "master":
        raise AccessRefused(f"这一班是工号 {standing.operator} 的", "请由本人或站长下班")
    closed = await shifts.close(standing.id)
    if lane := request.app[LANES].get(standing.lane):
        lane.changes.publish()
    return answer(_statement(closed))


async def _shown(request: web.Request, who: Who | None) -> SessionShown:
    if who is None:
        return SessionShown(
            operator=None, name=None, role=None, owner=owner_of(request), shift=None, allowed=[]
        )
    shift = await _shift_of(request, who)
    return SessionShown.model_validate(
        {
            "operator": who.operator,
            "name": who.name,
            "role": who.role,
            "owner": who.owner,
            "shift": shift and _shift(shift),
            "allowed": ALLOWED.get(who.role, []),
        }
    )


async def elsewhere(request: web.Request, lane: str) -> Shift | None:
    """Their open shift on another lane of this box."""
    who, shifts = require(request), request.app[SHIFTS]
    others = [await shifts.current(name) for name in request.app[LANES] if name != lane]
    return next((shift for shift in others if shift and shift.operator == who.operator), None)


async def _shift_of(request: web.Request, who: Who) -> Shift | None:
    """Theirs on any lane; else, where only one lane is enabled, the one that is open there."""
    lanes = [lane for lane in request.app[LANES].values() if lane.is_enabled]
    shifts = [await request.app[SHIFTS].current(lane.lane) for lane in lanes]
    mine = [shift for shift in shifts if shift and shift.operator == who.operator]
    return mine[0] if mine else shifts[0] if len(lanes) == 1 else None


def _shift(shift: Shift) -> ShiftShown:
    return ShiftShown.model_validate(shift, from_attributes=True)


def _statement(statement: Statement) -> dict[str, Any]:
    totals = statement.totals
    return {
        **_shift(statement.shift).model_dump(),
        "count": totals.count,
        "sum_fen": totals.sum_fen,
        "kinds": totals.kinds,
        "unsent": {"count": totals.unsent_count, "sum_fen": totals.unsent_sum_fen},
        "signed_off": statement.signed_off,
    }


def _id(request: web.Request) -> int:
    """Raises: NotFound, for what cannot be a shift's id."""
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise NotFound("没有这一班")
    return int(text)


__all__ = ["ACCESS", "SHIFTS", "owner_of", "require", "routes", "session"]

"""被退回的流水：看原因、重传。改正是另记一条更正流水（corrections.py），它自己会上传。"""

from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.flow.commands import REASON_MAX
from gateway.sync.parked import ParkedDesk
from gateway.web.api import Api, Needs, require
from gateway.web.faults import answer

routes = Api()
PARKED = web.AppKey("parked", ParkedDesk)
State = Literal["parked", "resending", "corrected"]


class Resend(BaseModel):
    """A station master's word for sending a refused record once more, as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operator: str = Field(min_length=1, max_length=20, description="站长工号")
    password: SecretStr = Field(min_length=1, max_length=128)
    reason: Annotated[str, Field(min_length=1, max_length=REASON_MAX, pattern=r"\S")]


class ParkedRecord(BaseModel):
    """`state`: parked 待处理, resending 重传中, corrected 更正流水已上传."""

    lane: str
    seq: int
    id: str
    reason: str | None = Field(description="上级的原话")
    at_ms: int
    passage_id: str
    corrected_by: str | None = Field(description="更正它的流水")
    correction: str | None = Field(description="更正流水的上传结果；null 还没有结果")
    state: State


class ParkedList(BaseModel):
    parked: list[ParkedRecord]


class Resent(BaseModel):
    lane: str
    seq: int
    id: str
    state: State


@routes.api("GET", "/api/parked", summary="被上级退回的流水", answers={200: ParkedList})
async def show(request: web.Request) -> web.Response:
    """At most 100 a lane, oldest first. To correct one: POST /api/passages/{id}/corrections."""
    return answer({"parked": await request.app[PARKED].parked()})


@routes.api(
    "POST",
    "/api/parked/{id}/resend",
    summary="原样重传被退回的流水；站长授权",
    needs=Needs.SELL,
    body=Resend,
    answers={200: Resent},
    faults=(403, 404, 409, 422, 423),
)
async def resend(request: web.Request, asked: Resend) -> web.Response:
    """409 if it is not refused (any more)."""
    who, word = require(request), asked.password.get_secret_value()
    desk, record = request.app[PARKED], request.match_info["id"]
    return answer(await desk.resend(record, asked.operator, word, asked.reason, who.operator))

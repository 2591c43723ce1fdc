"""Remote authority over HTTP: the booth asks, a master answers on his own screen."""

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter

from gateway.flow.approvals import Approval, Approvals
from gateway.flow.commands import Override, SettleByHand, UseMinimumFare
from gateway.web.api import Api, Needs, require
from gateway.web.faults import answer
from gateway.web.lane import lane_of

routes = Api()
APPROVALS = web.AppKey("approvals", Approvals)

Asked = Annotated[
    UseMinimumFare | Override | SettleByHand,
    Field(discriminator="command", description="要站长同意的命令，不带工号和密码"),
]
ASKED: TypeAdapter[UseMinimumFare | Override | SettleByHand] = TypeAdapter(Asked)


class Decision(BaseModel):
    """The master's word, with his own password once more."""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision: Literal["approve", "refuse"]
    password: SecretStr


class ApprovalShown(BaseModel):
    """One question and what became of it."""

    id: str
    lane: str
    command: str
    state: Literal["pending", "approved", "refused", "expired", "used"]
    passage: str
    asked_by: str
    asked_at_ms: int
    expires_at_ms: int
    master: str | None
    shown: dict[str, Any]
    """plate, colour, state, amount_fen, station_name, findings, means, reason, photo"""


@routes.api(
    "POST",
    "/api/lanes/{lane}/approvals",
    summary="请站长远程授权",
    needs=Needs.SELL,
    body=ASKED,
    answers={200: ApprovalShown},
    faults=(404, 409, 422),
)
async def ask(
    request: web.Request, asked: UseMinimumFare | Override | SettleByHand
) -> web.Response:
    """For one command on the passage as it stands now. Two minutes, one use."""
    lane = lane_of(request, request.match_info["lane"])
    return answer(shown(lane.ask_master(asked, require(request))))


@routes.api(
    "GET", "/api/approvals", summary="授权请求", answers={200: TypeAdapter(list[ApprovalShown])}
)
async def all_asked(request: web.Request) -> web.Response:
    return answer([shown(approval) for approval in request.app[APPROVALS].all()])


@routes.api(
    "GET",
    "/api/approvals/{id}",
    summary="一个授权请求",
    answers={200: ApprovalShown},
    faults=(404,),
)
async def one(request: web.Request) -> web.Response:
    return answer(shown(request.app[APPROVALS].find(request.match_info["id"])))


@routes.api(
    "POST",
    "/api/approvals/{id}",
    summary="站长同意或不同意",
    needs=Needs.SELL,
    body=Decision,
    answers={200: ApprovalShown},
    faults=(404, 409, 422, 423),
)
async def decide(request: web.Request, asked: Decision) -> web.Response:
    who = require(request, "master")
    approval = await request.app[APPROVALS].decide(
        request.match_info["id"],
        who,
        asked.password.get_secret_value(),
        asked.decision == "approve",
    )
    return answer(shown(approval))


def shown(approval: Approval) -> ApprovalShown:
    master = approval.authority
    return ApprovalShown(
        id=approval.id,
        lane=approval.lane,
        command=approval.command.command,
        state=approval.stage,
        passage=approval.passage.id,
        asked_by=approval.asked_by.operator,
        asked_at_ms=approval.asked_at_ms,
        expires_at_ms=approval.expires_at_ms,
        master=master.operator if master else None,
        shown=approval.shown,
    )

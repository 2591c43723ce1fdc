"""对账：每班、每日与中心核对的结果。"""

from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field

from gateway.sync.reconcile import Reconciler
from gateway.web.api import Api
from gateway.web.faults import answer

routes = Api()
RECONCILER = web.AppKey("reconciler", Reconciler)


class FindingShown(BaseModel):
    """lost 中心缺，已重传；altered 中心的内容不同；extra 中心多出来的."""

    seq: int
    what: Literal["lost", "altered", "extra"]


class SideShown(BaseModel):
    """What one side holds of these records."""

    count: int
    stubs: int
    sum_fen: int
    chain_head: str
    digest: str


class Reconciled(BaseModel):
    lane: str
    of: Literal["shift", "day"]
    name: str = Field(description="班次编号，或日期")
    first_seq: int
    last_seq: int
    agrees: bool
    count: int
    sum_fen: int
    ours: SideShown
    theirs: SideShown
    signature: str = Field(description="中心的签名")
    findings: list[FindingShown]
    at_ms: int


class Reconciliations(BaseModel):
    reconciliations: list[Reconciled]


@routes.api("GET", "/api/reconciliations", summary="与中心的对账", answers={200: Reconciliations})
async def show(request: web.Request) -> web.Response:
    """The newest 60, of all lanes."""
    return answer({"reconciliations": await request.app[RECONCILER].shown()})

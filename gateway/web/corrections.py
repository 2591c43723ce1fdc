"""更正: a station master has a saved record corrected by a new one (flow/corrections.py)."""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field

from gateway.flow.corrections import Correct, Corrections
from gateway.web.answers import ApprovalShown
from gateway.web.api import Api, Needs, require
from gateway.web.faults import answer
from gateway.web.lane import KEY, LANES, header_of

routes = Api()
CORRECTIONS = web.AppKey("corrections", Corrections)


class CorrectionMade(BaseModel):
    """The new record, and what it changes."""

    record_id: str
    seq: int
    chain: str
    corrects: str
    adjust_fen: int
    changed: dict[str, list[Any]] = Field(description="字段 → [原来, 现在]")
    reason: str
    approval: ApprovalShown
    at_ms: int


@routes.api(
    "POST",
    "/api/passages/{id}/corrections",
    summary="更正已保存的流水：另记一条，原来的不动；站长授权",
    needs=Needs.SELL,
    headers=(KEY,),
    body=Correct,
    answers={200: CorrectionMade},
    faults=(404, 409, 422, 423, 428),
)
async def correct(request: web.Request, asked: Correct) -> web.Response:
    """409 while the passage is not saved, or if it was cancelled."""
    key, who = header_of(request, KEY), require(request)
    made = await request.app[CORRECTIONS].correct(request.match_info["id"], asked, who, key)
    for lane in request.app[LANES].values():
        lane.changes.publish()
    return answer(made)

"""Every fault as one JSON shape in Chinese: {code, detail, action}, with its HTTP status.

Knows how pydantic and aiohttp complain; knows no route.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_json

from gateway.errors import GatewayError, RequestInvalid

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Snapshots = Callable[[web.Request], Mapping[str, Any] | None]

SPOKEN = ("/api/", "/bench/", "/center/", "/pair")
"""Paths whose every refusal is JSON, also what the router itself refuses."""


class Fault(BaseModel):
    """What went wrong: `code` for programs, `detail` and `action` for the person, `number` for
    the phone call (ui.md §2.7); without one of its own it is the code."""

    code: str
    detail: str
    action: str
    number: str = ""
    lasts: bool = False
    """Its cause stands for a while; a snapshot tells when it is gone."""


LASTING = ("store.unavailable", "flow.unexpected", "flow.not_owner")
NUMBERS = {
    "plate.invalid": "E-201",
    "photo.invalid": "E-203",
    "weight.differs": "E-206",
    "weight.missing": "E-206",
    "fare.unknown": "E-211",
    "entry.mismatch": "E-212",
    "station.unknown": "E-213",
    "session.refused": "E-221",
    "master.refused": "E-221",
    "access.locked": "E-222",
    "approval.expired": "E-223",
    "access.refused": "E-224",
    "card.absent": "E-101",
    "card.mismatch": "E-102",
    "card.outcome_unknown": "E-301",
    "card.refused": "E-302",
    "psam.unavailable": "E-113",
    "store.unavailable": "E-303",
    "export.no_room": "E-304",
    "flow.not_owner": "E-402",
    "shift.elsewhere": "E-403",
    "flow.unexpected": "E-407",
    "pairing.refused": "E-501",
    "parcel.refused": "E-503",
}
"""Code → number on the screen."""


def answer(value: object, status: int = 200) -> web.Response:
    """Models, dataclasses and plain values as JSON."""
    return web.Response(
        body=to_json(value), status=status, content_type="application/json", charset="utf-8"
    )


def faults_as_json(snapshot_of: Snapshots) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The one place where faults become answers. A 409 about a lane carries its snapshot."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ValidationError as bad:
            return _told(RequestInvalid(in_chinese(bad)), None)
        except GatewayError as fault:
            is_conflict = fault.http_status == 409
            return _told(fault, snapshot_of(request) if is_conflict else None)
        except web.RequestPayloadError:  # its gzip or its chunks are broken
            return _routers(web.HTTPBadRequest())
        except web.HTTPException as refusal:
            if refusal.status < 400 or not request.path.startswith(SPOKEN):
                raise
            return _routers(refusal)

    return middleware


def in_chinese(bad: ValidationError) -> str:
    """The first thing to correct: which field, and what was expected. Never what was sent."""
    first, *more = bad.errors(include_url=False, include_input=False)
    rest = f"（另有 {len(more)} 处）" if more else ""
    return f"{_place(first)}{_expected(first)}{rest}"


_FIELDS = {
    "command": "命令",
    "plate": "车牌",
    "colour": "车牌颜色",
    "photo": "照片",
    "source": "来源",
    "vehicle_type": "车型",
    "vehicle_class": "车种",
    "axle_count": "轴数",
    "weight_kg": "总重",
    "limit_kg": "限重",
    "reason": "原因",
    "station_hex": "站 Hex 码",
    "operator": "工号",
    "password": "密码",
    "means": "收费方式",
    "amount_fen": "金额",
    "passage": "过车编号",
    "lane": "车道",
    "shift": "班次",
    "limit": "条数",
    "before": "翻页位置",
    "from_ms": "开始时间",
    "to_ms": "结束时间",
    "state": "状态",
}

_EXPECTED = {
    "missing": "没有填",
    "extra_forbidden": "不是这个请求的内容",
    "int_type": "应为整数",
    "int_parsing": "应为整数",
    "int_from_float": "应为整数",
    "string_type": "应为文字",
    "bool_type": "应为是或否",
    "json_invalid": "请求不是完整的 JSON",
    "json_type": "请求不是完整的 JSON",
    "model_type": "应为一个 JSON 对象",
    "dict_type": "应为一个 JSON 对象",
    "model_attributes_type": "应为一个 JSON 对象",
    "string_pattern_mismatch": "格式不对，应符合 {pattern}",
    "string_too_short": "至少 {min_length} 个字",
    "string_too_long": "最多 {max_length} 个字",
    "too_long": "最多 {max_length} 个字",
    "greater_than": "应大于 {gt}",
    "greater_than_equal": "不能小于 {ge}",
    "less_than": "应小于 {lt}",
    "less_than_equal": "不能大于 {le}",
    "literal_error": "只能是 {expected}",
    "enum": "只能是 {expected}",
    "union_tag_invalid": "没有这个命令，可用：{expected_tags}",
    "union_tag_not_found": "没有写明命令",
}


def _place(fault: ErrorDetails) -> str:
    """`车型（vehicle_type）`; a tagged union's tag in the path is no field."""
    names = [part for part in fault["loc"] if isinstance(part, str)]
    if not names or fault["type"].startswith(("json_", "union_tag_")):
        return ""
    name = names[-1]
    return f"{_FIELDS[name]}（{name}）" if name in _FIELDS else f"{name[:40]} "


def _expected(fault: ErrorDetails) -> str:
    words = _EXPECTED.get(fault["type"], "内容不对")
    context = {
        key: str(value).replace(" or ", " 或 ") for key, value in fault.get("ctx", {}).items()
    }
    return words.format_map(context) if context else words


_ROUTER = {
    400: ("request.invalid", "请求格式不对"),
    404: ("not_found", "没有这个地址"),
    405: ("request.method", "这个地址不支持这种操作"),
    413: ("request.too_large", "内容太大"),
}


def _told(fault: GatewayError, snapshot: Mapping[str, Any] | None) -> web.Response:
    body: dict[str, Any] = {"code": fault.code, "detail": fault.detail, "action": fault.action}
    body["number"] = NUMBERS.get(fault.code, fault.code)
    if fault.code in LASTING:
        body["lasts"] = True
    if snapshot is not None:
        body["snapshot"] = snapshot
    return answer(body, fault.http_status)


def _routers(refusal: web.HTTPException) -> web.Response:
    """What aiohttp itself refuses, in our shape; its headers (Allow, …) stay."""
    code, detail = _ROUTER.get(refusal.status, (f"http.{refusal.status}", "请求不能处理"))
    told = answer(Fault(code=code, detail=detail, action="请刷新页面后重试"), refusal.status)
    for name, value in refusal.headers.items():
        if name.lower() not in ("content-type", "content-length"):
            told.headers[name] = value
    return told

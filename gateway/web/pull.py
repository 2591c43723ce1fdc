"""What a centre may fetch by itself (interfaces.md §3.2): one bearer token a consumer, each with
its own cursor. Deletes nothing; the flow is not asked."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import AccessRefused, NotFound, RequestInvalid
from gateway.sync.batches import Batches
from gateway.sync.holdings import Holdings

SEQ_MAX = 2**62
VERDICTS_BYTES_MAX = 1024 * 1024
"""A batch of refusals, each with a reason in escaped Chinese."""
PREFIX = "/center/v1"


@dataclass(frozen=True, slots=True)
class Pull:
    """What the routes need."""

    batches: Batches
    holdings: Holdings
    photo: Callable[[str], Path]


PULL = web.AppKey("pull", Pull)
CONSUMERS: web.AppKey[dict[str, str]] = web.AppKey("consumers", dict)
"""`token_hash(token)` → the consumer's name."""

routes = web.RouteTableDef()


class ConsumerUnknown(AccessRefused):
    """No consumer has this token."""

    code = "consumer.unknown"
    http_status = 401
    default_action = "请核对取数方的凭证"


class _Page(BaseModel):
    after: int | None = Field(default=None, ge=0, le=SEQ_MAX)
    limit: int = Field(default=100, ge=1)


class _Range(BaseModel):
    lane: str | None = None
    from_seq: int = Field(default=1, ge=0, le=SEQ_MAX)
    to_seq: int = Field(default=SEQ_MAX, ge=0, le=SEQ_MAX)


class _Verdicts(BaseModel):
    """As the answer of 3.1; what is malformed inside counts as `retry`."""

    model_config = ConfigDict(extra="ignore")

    verdicts: list[Any] = Field(max_length=1000)


def token_hash(token: str) -> str:
    """SHA-256, hex: tokens are random and long, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


@routes.get(f"{PREFIX}/batches")
async def list_batches(request: web.Request) -> web.Response:
    """Manifests after `after`; left out, after this consumer's own cursor."""
    consumer, pull = _consumer(request), request.app[PULL]
    page = _Page.model_validate(dict(request.query))
    cursor = await pull.batches.cursor(consumer)
    after = cursor if page.after is None else page.after
    manifests = await pull.batches.manifests(after, page.limit)
    return web.json_response({"batches": manifests, "cursor": cursor})


@routes.get(f"{PREFIX}/batches/{{batch:\\d{{1,18}}}}")
async def show_batch(request: web.Request) -> web.Response:
    """The sealed file itself: no Content-Encoding, so that nobody unpacks it on the way."""
    _consumer(request)
    body = await request.app[PULL].batches.body(int(request.match_info["batch"]))
    etag = {hdrs.ETAG: f'"{hashlib.sha256(body).hexdigest()}"'}
    return web.Response(body=body, content_type="application/gzip", headers=etag)


@routes.post(f"{PREFIX}/batches/{{batch:\\d{{1,18}}}}/verdicts")
async def settle_batch(request: web.Request) -> web.Response:
    consumer = _consumer(request)
    raw = await request.clone(client_max_size=VERDICTS_BYTES_MAX).read()
    said = _Verdicts.model_validate_json(raw)
    batch = int(request.match_info["batch"])
    return web.json_response(await request.app[PULL].batches.settle(consumer, batch, said.verdicts))


@routes.get(f"{PREFIX}/records")
async def show_records(request: web.Request) -> web.Response:
    """NDJSON, at most 500 lines; `Next-Seq` names where to go on if there may be more."""
    _consumer(request)
    asked = _Range.model_validate(dict(request.query))
    lane = _lane(request, asked.lane)
    lines = await request.app[PULL].holdings.lines(lane, asked.from_seq, asked.to_seq)
    text = "".join(f"{line}\n" for _, line in lines)
    more = {"Next-Seq": str(lines[-1][0] + 1)} if lines and lines[-1][0] < asked.to_seq else {}
    return web.Response(text=text, content_type="application/x-ndjson", headers=more)


@routes.get(f"{PREFIX}/evidence/{{sha256:[0-9a-f]{{64}}}}")
async def show_photo(request: web.Request) -> web.StreamResponse:
    """The JPEG; Range is honoured."""
    _consumer(request)
    path = request.app[PULL].photo(request.match_info["sha256"])
    if not path.is_file():
        raise NotFound("没有这张图片")
    return web.FileResponse(path, headers={hdrs.CONTENT_TYPE: "image/jpeg"})


@routes.get(f"{PREFIX}/holdings")
async def show_holdings(request: web.Request) -> web.Response:
    """Of the lane asked for, or of the first; `lanes` names them all."""
    _consumer(request)
    holdings = request.app[PULL].holdings
    held = await holdings.lane(_lane(request, request.query.get("lane")))
    return web.json_response({**held, "lanes": list(holdings.lanes)})


@routes.get(f"{PREFIX}/digests/{{shift:\\d{{1,18}}}}")
async def show_digest(request: web.Request) -> web.Response:
    _consumer(request)
    digest = await request.app[PULL].holdings.digest(int(request.match_info["shift"]))
    return web.json_response(digest)


def _consumer(request: web.Request) -> str:
    """The name behind the token, found in constant time. Raises: ConsumerUnknown."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    given, name = token_hash(token), ""
    for known, consumer in request.app[CONSUMERS].items():
        if hmac.compare_digest(known, given):
            name = consumer
    if scheme.lower() != "bearer" or not name:
        raise ConsumerUnknown("没有有效的取数凭证")
    return name


def _lane(request: web.Request, lane: str | None) -> str:
    lanes = request.app[PULL].holdings.lanes
    if lane is None:
        return lanes[0]
    if lane not in lanes:
        raise RequestInvalid(f"本机没有车道 {lane[:40]}")
    return lane

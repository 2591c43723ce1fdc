"""The reference centre's HTTP face (interfaces.md §3.1, §7). Every answer follows its commit."""

import asyncio
import hmac
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from gateway.center import rehearsals
from gateway.center.book import Arrival, Book, Verdict
from gateway.center.compare import COMPARING, Comparing
from gateway.center.database import DatabaseAway
from gateway.center.fares import NoFare, Question, price
from gateway.center.faults import FAULTS, Fault, Faults, break_off, misbehave
from gateway.center.photos import Photos, read_range
from gateway.center.tables import Tables, public_hex, signing_key
from gateway.center.wire import (
    WIRE_BYTES_MAX,
    BadBody,
    check_digest,
    check_range,
    split,
    unpack,
)
from gateway.keys import Signer
from gateway.units import Clock, SystemClock

if TYPE_CHECKING:
    from gateway.center.stream import Broker

BOOK = web.AppKey("book", Book)
PHOTOS = web.AppKey("photos", Photos)
TABLES = web.AppKey("tables", Tables)
CLOCK: web.AppKey[Clock] = web.AppKey("clock", Clock)
TOKEN = web.AppKey("token", str)
PAGE_MAX = 500
AWAY_S = "2"  # a lane waits before it asks again, while the database is away
COMPRESSED_FROM = 8  # verdicts in one answer
SHA256 = r"{sha256:[0-9a-f]{64}}"

log = logging.getLogger(__name__)
routes = web.RouteTableDef()


# ---- records -------------------------------------------------------------------------------


@routes.post("/v1/records")
async def take_records(request: web.Request) -> web.StreamResponse:
    """One verdict a record, in request order, and the lane's high water."""
    lane = request.headers.get("Lane", "")
    if not re.fullmatch(r"[0-9A-Za-z_.-]{1,40}", lane):
        raise BadBody(400, "缺少 Lane")
    body = await request.read()
    check_digest(request.headers.get("Content-Digest"), body)
    arrivals = split(unpack(request.headers.get(hdrs.CONTENT_ENCODING, "").lower(), body))
    check_range(request.headers.get("First-Seq"), request.headers.get("Last-Seq"), arrivals)
    verdicts, high_water = await _book(request.app, lane, arrivals)
    if request.app[FAULTS].take("lost_answer"):
        return break_off(request)
    answer = {"verdicts": [v.as_json() for v in verdicts], "high_water": high_water}
    response = web.json_response(answer)
    if len(verdicts) > COMPRESSED_FROM:
        response.enable_compression()  # if the lane takes it; ids are alike
    return response


async def _book(
    app: web.Application, lane: str, arrivals: list[Arrival]
) -> tuple[list[Verdict], int]:
    book, fault = app[BOOK], app[FAULTS].take("refuse", "retry", "ack_and_drop")
    spoilt = [fault is not None and fault.strikes(arrival.seq) for arrival in arrivals]
    kept = [a for a, is_spoilt in zip(arrivals, spoilt, strict=True) if not is_spoilt]
    verdicts, high_water = await book.answer(lane, kept, app[CLOCK].now_ms())
    taken, both = iter(verdicts), zip(arrivals, spoilt, strict=True)
    said = [_instead(a, fault) if is_spoilt else next(taken) for a, is_spoilt in both]
    return said, high_water


def _instead(arrival: Arrival, fault: Fault | None) -> Verdict:
    assert fault is not None
    match fault.fault:
        case "refuse":
            return Verdict(arrival.id, arrival.seq, "refused", "演练：中心拒收")
        case "ack_and_drop":
            return Verdict(arrival.id, arrival.seq, "accepted")
        case _:
            return Verdict(arrival.id, arrival.seq, "retry")


@routes.get("/v1/records")
async def show_records(request: web.Request) -> web.Response:
    """What arrived, in order of arrival, after the cursor `after`."""
    query = request.query
    limit = min(_number(query, "limit", 100), PAGE_MAX)
    after = _number(query, "after", 0)
    rows = await request.app[BOOK].records(query.get("lane"), after, limit)
    return web.json_response({"records": rows, "next": rows[-1]["n"] if rows else after})


@routes.get("/v1/lanes")
async def show_lanes(request: web.Request) -> web.Response:
    """Completeness, lane by lane."""
    return web.json_response({"lanes": await request.app[BOOK].lanes()})


@routes.post("/v1/reconciliations")
async def compare(request: web.Request) -> web.Response:
    now_ms = request.app[CLOCK].now_ms()
    return web.json_response(await request.app[COMPARING].statement(await request.read(), now_ms))


@routes.post("/v1/digests")
async def narrow(request: web.Request) -> web.Response:
    return web.json_response(await request.app[COMPARING].digests(await request.read()))


@routes.get("/v1/lanes/{lane}")
async def show_lane(request: web.Request) -> web.Response:
    return web.json_response(await request.app[BOOK].lane(request.match_info["lane"]))


@routes.post("/v1/heartbeat")
async def take_heartbeat(request: web.Request) -> web.Response:
    """Keeps the newest; answers high water, so that an idle lane learns of a restored centre, and
    the `proof` that it keeps, so that the lane knows that what it says is heard to the end."""
    body = json.loads(await request.read())
    if not isinstance(body, dict) or not isinstance(lane := body.get("lane"), str):
        raise BadBody(400, "心跳没有 lane")
    now_ms = request.app[CLOCK].now_ms()
    told = json.dumps(body, ensure_ascii=False)
    high_water, kept = await request.app[BOOK].beat(lane, told, now_ms)
    answer = {"lane": lane, "high_water": high_water, "at_ms": now_ms}
    return web.json_response({**answer, "proof": json.loads(kept).get("proof")})


# ---- evidence ------------------------------------------------------------------------------


@routes.head(f"/v1/evidence/{SHA256}")
async def ask_photo(request: web.Request) -> web.StreamResponse:
    sha256, photos = request.match_info["sha256"], request.app[PHOTOS]
    if photos.has(sha256):
        return web.Response(headers={"Upload-Offset": str(photos.path(sha256).stat().st_size)})
    return web.Response(status=404, headers={"Upload-Offset": str(photos.offset(sha256))})


@routes.put(f"/v1/evidence/{SHA256}")
async def take_photo(request: web.Request) -> web.Response:
    """201 complete, 202 more wanted, 409 wrong offset, 422 hash differs (§7.8)."""
    try:
        piece = read_range(request.headers.get(hdrs.CONTENT_RANGE), request.content_length)
    except ValueError as bad:
        raise BadBody(400, str(bad)) from bad
    body = request.content.iter_chunked(64 * 1024)
    taken = await request.app[PHOTOS].take(request.match_info["sha256"], piece, aiter(body))
    status = {"complete": 201, "more": 202, "wrong_offset": 409, "hash_differs": 422}
    return web.Response(status=status[taken.outcome], headers={"Upload-Offset": str(taken.offset)})


@routes.get(f"/v1/evidence/{SHA256}", allow_head=False)
async def show_photo(request: web.Request) -> web.StreamResponse:
    sha256, photos = request.match_info["sha256"], request.app[PHOTOS]
    if not photos.has(sha256):
        raise BadBody(404, "没有这张图片")
    return web.FileResponse(photos.path(sha256), headers={hdrs.CONTENT_TYPE: "image/jpeg"})


# ---- fares and parameters ------------------------------------------------------------------


@routes.post("/v1/fares")
async def quote(request: web.Request) -> web.Response:
    fare = price(Question.model_validate_json(await request.read()))
    if isinstance(fare, NoFare):
        return web.json_response(fare.as_json(), status=422)
    return web.json_response(fare.model_dump(mode="json", by_alias=True))


@routes.get("/v1/parameters")
async def show_manifest(request: web.Request) -> web.Response:
    body, etag = await asyncio.to_thread(request.app[TABLES].manifest)
    asked = {tag.value for tag in request.if_none_match or ()}  # weakly: a proxy may have said W/
    if asked & {etag.strip('"'), "*"}:
        return web.Response(status=304, headers={hdrs.ETAG: etag})
    return web.Response(body=body, content_type="application/json", headers={hdrs.ETAG: etag})


@routes.get("/v1/parameters/{name}/{version}")
async def show_package(request: web.Request) -> web.StreamResponse:
    """The file's own bytes; Range and conditional requests are FileResponse's. `?base=`: the
    delta on that version, not the full one."""
    name, version = request.match_info["name"], request.match_info["version"]
    base = request.query.get("base", "")
    found = await asyncio.to_thread(request.app[TABLES].find, name, version, base)
    if found is None:
        raise BadBody(404, "没有这个参数包")
    return web.FileResponse(found, headers={hdrs.CONTENT_TYPE: "application/json"})


async def arm_fault(request: web.Request) -> web.Response:
    """Only routed when the centre was started with faults allowed."""
    fault = Fault.model_validate_json(await request.read())
    request.app[FAULTS].armed = fault
    return web.json_response(fault.model_dump(mode="json"))


# ---- frame ---------------------------------------------------------------------------------


@web.middleware
async def answer_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadBody as bad:
        return _fault(bad.status, bad.detail)
    except DatabaseAway as away:
        log.warning("database away", extra={"reason": str(away)})
        return _fault(503, "中心的数据库没有应答", {hdrs.RETRY_AFTER: AWAY_S})
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        return _fault(422, "请求内容不合要求")
    except web.HTTPException as refusal:  # the router's own
        if refusal.status < 400:
            raise
        allow = {n: v for n, v in refusal.headers.items() if n == hdrs.ALLOW}
        return _fault(refusal.status, _ROUTER.get(refusal.status, "请求不能处理"), allow)


@web.middleware
async def check_token(request: web.Request, handler: Handler) -> web.StreamResponse:
    token = request.app[TOKEN]
    given = request.headers.get(hdrs.AUTHORIZATION, "").encode()
    if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        return _fault(401, "凭证不对")
    return await handler(request)


_ROUTER = {404: "没有这个地址", 405: "这个地址不支持这种操作", 413: "内容太大"}


def _fault(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"code": f"center.{status}", "detail": detail, "action": "请改正后再发"}
    return web.json_response(body, status=status, headers=headers)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 18:
        raise BadBody(400, f"{name} 应为整数")
    return int(text)


@dataclass(frozen=True, slots=True)
class Serving:
    """A centre that answers."""

    url: str
    port: int
    public_key: str
    """Ed25519, 64 hex digits: what lanes check parameter packages with."""
    app: web.Application


@asynccontextmanager
async def serve_center(
    db: Path,
    port: int,
    parameters: Path | None,
    token: str = "",
    *,
    allow_faults: bool = False,
    clock: Clock | None = None,
    host: str = "127.0.0.1",
    dsn: str = "",
    broker: "Broker | None" = None,
) -> AsyncIterator[Serving]:
    """Serve until the block ends. `port` 0 takes a free one. Files stand beside `db`, and the book
    is `db` itself, unless a `dsn` names a PostgreSQL database. With a `broker` records are taken
    from its stream too.

    Raises: OSError, if the port is taken; what Book.open raises.
    """
    db.parent.mkdir(parents=True, exist_ok=True)
    book = await Book.open(db, dsn)
    key = signing_key(db.with_name(f"{db.stem}-key.pem"))
    app = web.Application(
        middlewares=[answer_in_json, misbehave, check_token], client_max_size=WIRE_BYTES_MAX
    )
    app[BOOK], app[TOKEN], app[CLOCK] = book, token, clock or SystemClock()
    app[PHOTOS] = Photos(db.with_name(f"{db.stem}-evidence"))
    app[COMPARING] = Comparing(book, app[PHOTOS], Signer(key))
    app[TABLES], app[FAULTS] = Tables(parameters, key), Faults(Fault(fault="none"))
    app[rehearsals.REHEARSALS] = rehearsals.Rehearsals(db.with_name(f"{db.stem}-rehearsals"))
    app.add_routes([*routes, *rehearsals.routes])
    if allow_faults:
        app.router.add_post("/test/faults", arm_fault)
    # The digest is over the bytes on the wire: nobody may inflate them before (§7.6).
    runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=2)
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound: Any = runner.addresses[0]
        async with _consuming(app, broker):
            yield Serving(f"http://{host}:{bound[1]}", bound[1], public_hex(key), app)
    finally:
        await runner.cleanup()
        await book.close()


def _consuming(app: web.Application, broker: "Broker | None") -> AbstractAsyncContextManager[None]:
    """Raises: ImportError, without the extra `nats`."""
    if broker is None:
        return nullcontext()
    from gateway.center.stream import consuming

    return consuming(app[BOOK], broker, app[CLOCK])

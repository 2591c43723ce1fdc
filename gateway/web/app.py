"""One listener: its routes, its guards, its headers, its page. The composition root fills it.

The booth's listener and the lane network's are two of these over the same lanes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware
from yarl import URL

import gateway
from gateway.access import Access
from gateway.errors import AccessRefused
from gateway.evidence import Evidence
from gateway.flow.lane import Lane
from gateway.flow.shift import Shifts
from gateway.store import Store
from gateway.units import Clock
from gateway.web import drafts, history, lane, live, page, places, session, settings
from gateway.web.api import Api, Needs
from gateway.web.drafts import Drafts
from gateway.web.faults import Handler, answer, faults_as_json
from gateway.web.openapi import document

BODY_BYTES_MAX = 64 * 1024
BENCH = "/bench/vehicle"
STATIC = Path(__file__).parent / "static"
LOOPBACK = re.compile(r"^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$", re.IGNORECASE)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

CSP = (  # ui.md §3.1
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; font-src 'self'; media-src 'self'; manifest-src 'self';"
    " worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types lit-html"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

routes = Api()
DOCUMENT: web.AppKey[Callable[[], dict[str, Any]]] = web.AppKey("document")
"""Written when somebody first asks for it: a box that starts has better things to do."""


class ForeignRequest(AccessRefused):
    """Another site's page, or another name for this machine, is behind the request."""

    code = "request.foreign"
    default_action = "请从车道页面操作"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work on; built once, shared by all listeners."""

    store: Store
    clock: Clock
    access: Access
    shifts: Shifts
    lanes: Mapping[str, Lane]
    evidence: Evidence
    sync: history.Sync
    shelf: history.Shelf
    drafts: Drafts = field(default_factory=Drafts)


def create_app(
    parts: Parts,
    tables: Sequence[web.RouteTableDef] = (),
    guards: Sequence[Middleware] = (),
    *,
    is_loopback: bool = True,
    static: Path = STATIC,
) -> web.Application:
    """The application of one listener.

    Args: tables: more routes (bench, pairing, pull, health); their AppKeys are the caller's to
          set. guards: middlewares before the session, such as the lane network's, which may set
          request[OWNER]. is_loopback: refuse other Host names than loopback's own.
    """
    before: list[Middleware] = [faults_as_json(_snapshot_of)]
    if is_loopback:
        before.append(_only_by_loopback_name)
    app = web.Application(
        middlewares=[*before, *guards, _only_our_own_page, session.session],
        client_max_size=BODY_BYTES_MAX,
    )
    _hand_out(app, parts)
    app[settings.LOCK] = settings.Lock(parts.clock)
    own = [
        session.routes,
        settings.routes,
        lane.routes,
        live.routes,
        history.routes,
        places.routes,
        page.routes,
    ]
    all_tables = [*own, routes, *tables]
    write: Callable[[], dict[str, Any]] = cache(lambda: document(all_tables, gateway.__version__))
    app[DOCUMENT] = write
    for table in all_tables:
        app.add_routes(table)
    app[lane.STARTED_MS] = parts.clock.now_ms()
    app[lane.HAS_BENCH] = any(each.canonical == BENCH for each in app.router.resources())
    _serve_files(app, static)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_end_streams)
    return app


@routes.api(
    "GET",
    "/api/openapi.json",
    summary="本接口的 OpenAPI 3.1 文档",
    needs=Needs.NOBODY,
    answers={200: None},
)
async def openapi(request: web.Request) -> web.Response:
    return answer(request.app[DOCUMENT]())


def _hand_out(app: web.Application, parts: Parts) -> None:
    app[history.STORE] = parts.store
    app[history.SYNC] = parts.sync
    app[history.SHELF] = parts.shelf
    app[lane.LANES] = parts.lanes
    app[drafts.DRAFTS] = parts.drafts
    app[lane.EVIDENCE] = parts.evidence
    app[lane.VIEWS] = lane.Views(parts.clock)
    app[live.SCREENS] = live.Screens(parts.clock)
    app[session.ACCESS] = parts.access
    app[session.SHIFTS] = parts.shifts


async def _end_streams(app: web.Application) -> None:
    """What never ends by itself must not hold up the stop."""
    await app[lane.VIEWS].close()
    await app[live.SCREENS].close()


def _snapshot_of(request: web.Request) -> Mapping[str, Any] | None:
    known = request.app[lane.LANES].get(request.match_info.get("lane", ""))
    return lane.dress(request, known.snapshot()) if known else None


@web.middleware
async def _only_by_loopback_name(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A foreign name that resolves to loopback (DNS rebinding) makes a foreign page same-origin."""
    if not LOOPBACK.match(request.headers.get("Host", "")):
        raise ForeignRequest("只能用本机地址打开")
    return await handler(request)


@web.middleware
async def _only_our_own_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No other site's page may act here, nor listen in by WebSocket; browsers name the page."""
    is_upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
    if (request.method not in SAFE or is_upgrade) and not _is_same_origin(request):
        raise ForeignRequest("请求不是从本系统的页面发出的")
    return await handler(request)


def _is_same_origin(request: web.Request) -> bool:
    """Programs send neither header; a browser cannot be made to leave them out."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    try:
        return URL(origin).origin() == request.url.origin()
    except ValueError:  # `null`, or not a URL
        return False


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    is_file = not request.path.startswith("/api/")
    response.headers.setdefault("Cache-Control", "no-cache" if is_file else "no-store")


def _serve_files(app: web.Application, static: Path) -> None:
    """Each file under its own path, as found at start: a name that is not one of them is a 404."""
    for file in sorted(static.rglob("*")):
        if file.is_file() and not file.is_symlink() and not file.name.startswith("."):
            path = f"/{file.relative_to(static).as_posix()}"
            app.router.add_get("/" if path == "/index.html" else path, _file(file))


def _file(file: Path) -> Handler:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(file)

    return serve

"""Pairing over HTTP: what the booth asks, what a handheld asks, and the door of the LAN listener.

Knows nothing of lanes; a paired handheld is an owner like the booth, once it is through the door.
"""

from collections.abc import Awaitable, Callable
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from gateway.errors import NotFound, NotPaired, PairingRefused
from gateway.pairing import Answer, Device, Offer, Pairings, Stage
from gateway.web.api import OWNER, Api, Needs, require
from gateway.web.faults import answer
from gateway.web.session import ACCESS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "lane_device"
COOKIE_AGE_S = 400 * 86_400  # the longest a browser keeps one
PAGE_FILES = {"/pair": "index.html", "/pair/pair.js": "pair.js", "/pair/pair.css": "pair.css"}
OPEN_TO_ALL = frozenset({*PAGE_FILES, "/ca.crt"})
OWN_DOOR = ("/center/v1/",)
"""The centre's pulls come over the same listener and bring a bearer token of their own."""
NEVER_ON_LAN = ("/bench", "/metrics")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class Lan(NamedTuple):
    """What a handheld needs to find us: https://{authority}, and the authority's certificate."""

    authority: str
    """Host and port, "192.168.3.1:8443"."""
    ca_pem: bytes


routes = Api()
PAIRINGS = web.AppKey("pairings", Pairings)
LAN = web.AppKey("lan", Lan)


class PairingShown(BaseModel):
    """One offer or one paired handheld. `url`, `qr_svg` and `secret` until it is confirmed."""

    id: str
    state: Stage
    name: str
    digits: str | None = None
    url: str | None = None
    qr_svg: str | None = None
    secret: str | None = None
    ca_sha256: str | None = None
    expires_at_ms: int | None = None
    tries_left: int | None = None
    paired_at_ms: int | None = None
    paired_by: str
    last_seen_ms: int | None = None


class PairingsShown(BaseModel):
    pairings: list[PairingShown]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(_Asked):
    """A handheld that scanned the QR."""

    secret: str = Field(min_length=1, max_length=64)
    nonce: str = Field(pattern=r"^[0-9A-Za-z_-]{16,128}$")
    """Its public key or a random number, base64url: what the digits bind."""
    name: str = Field(min_length=1, max_length=20, pattern=r"^[^\x00-\x1f\x7f]+$")


class Poll(_Asked):
    """A handheld that waits for the booth."""

    claim: str = Field(min_length=1, max_length=64)


class Heard(BaseModel):
    """What a handheld is told; once it is `paired` its credential came as a cookie."""

    state: Literal["waiting", "paired"]
    claim: str
    digits: str


def _kind(raw: object) -> str:
    return "poll" if isinstance(raw, dict) and "claim" in raw else "claim"


CLAIM_OR_POLL: TypeAdapter[Claim | Poll] = TypeAdapter(
    Annotated[Annotated[Claim, Tag("claim")] | Annotated[Poll, Tag("poll")], Discriminator(_kind)]
)


# ---- the booth ----


@routes.api("POST", "/api/pairings", summary="打开配对", answers={200: PairingShown}, faults=(404,))
async def open_pairing(request: web.Request) -> web.Response:
    """A station master opens a pairing: the QR and its secret, good for two minutes."""
    who = require(request, "master")
    _lan(request)
    offer = request.app[PAIRINGS].open(who.operator)
    return answer(_offer_shown(request, offer))


@routes.api("GET", "/api/pairings", summary="配对与手持终端", answers={200: PairingsShown})
async def list_pairings(request: web.Request) -> web.Response:
    """The pairing under way first, then every paired handheld."""
    require(request, "master")
    return answer(await _all(request))


@routes.api(
    "POST",
    "/api/pairings/{id}/confirm",
    summary="数字一致",
    answers={200: PairingShown},
    faults=(404,),
)
async def confirm_pairing(request: web.Request) -> web.Response:
    """The master saw the same six digits on both screens."""
    require(request, "master")
    offer = request.app[PAIRINGS].confirm(request.match_info["id"])
    return answer(_offer_shown(request, offer))


@routes.api(
    "DELETE",
    "/api/pairings/{id}",
    summary="取消配对或解除手持终端",
    answers={200: PairingsShown},
    faults=(404,),
)
async def end_pairing(request: web.Request) -> web.Response:
    """Its credential, its sessions and its open connections end at once."""
    require(request, "master")
    id_ = request.match_info["id"]
    await request.app[PAIRINGS].end(id_)
    await request.app[ACCESS].end_sessions_of(owner_of(id_))
    return answer(await _all(request))


# ---- the handheld ----


@routes.api(
    "POST",
    "/pair",
    summary="手持终端请求配对",
    needs=Needs.NOBODY,
    body=CLAIM_OR_POLL,
    answers={200: Heard},
    faults=(403,),
)
async def pair(request: web.Request, asked: Claim | Poll) -> web.Response:
    """First the QR's secret, then, again and again, the claim that came back for it."""
    pairings = request.app[PAIRINGS]
    if isinstance(asked, Claim):
        heard = pairings.claim(asked.secret, asked.nonce, asked.name)
    else:
        heard = await pairings.poll(asked.claim)
    return _with_cookie(request, heard)


@routes.get("/ca.crt")
async def ca_certificate(request: web.Request) -> web.Response:
    """The authority's certificate, for the handheld's own store. No secret."""
    headers = {"Content-Disposition": 'attachment; filename="lane-ca.crt"'}
    body, kind = _lan(request).ca_pem, "application/x-x509-ca-cert"
    return web.Response(body=body, content_type=kind, headers=headers)


async def _page_file(request: web.Request) -> web.Response:
    name = PAGE_FILES[request.path]
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    text = resources.files("gateway.web").joinpath("static_pair", name).read_text("utf-8")
    headers = {
        "Content-Security-Policy": PAGE_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return web.Response(text=text, content_type=kinds[Path(name).suffix], headers=headers)


for _path in PAGE_FILES:
    routes.get(_path)(_page_file)


# ---- the door of the LAN listener ----


def lan_guard(pairings: Pairings) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Middleware for the TLS listener: only paired handhelds get past the pairing page.

    Sets `request[OWNER]` to "handheld:<id>". An open WebSocket ends with its credential.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(NEVER_ON_LAN):
            raise NotFound("没有这个地址")
        if request.path in OPEN_TO_ALL or request.path.startswith(OWN_DOOR):
            return await handler(request)
        credential = request.cookies.get(COOKIE, "")
        id_ = await pairings.device(credential) if credential else None
        if id_ is None:
            raise NotPaired("这台设备没有配对，或已被解除")
        request[OWNER] = owner_of(id_)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await handler(request)
        with pairings.line(credential):
            return await handler(request)

    return middleware


def owner_of(id_: str) -> str:
    """How a paired handheld is named wherever a screen is named."""
    return f"handheld:{id_}"


# ---- shapes ----


def _lan(request: web.Request) -> Lan:
    lan = request.app.get(LAN)
    if lan is None:
        raise NotFound("本机没有开放手持终端接入", "请在配置文件里写上 [lan] 后重新启动")
    return lan


async def _all(request: web.Request) -> PairingsShown:
    pairings = request.app[PAIRINGS]
    devices = [_device_shown(device) for device in await pairings.devices()]
    offer = pairings.offer()
    is_shown = offer is not None and offer.stage is not Stage.PAIRED
    offers = [_offer_shown(request, offer)] if offer is not None and is_shown else []
    return PairingsShown(pairings=offers + devices)


def _offer_shown(request: web.Request, offer: Offer) -> PairingShown:
    shown = PairingShown(
        id=offer.id,
        state=offer.stage,
        name=offer.name,
        digits=offer.digits or None,
        expires_at_ms=offer.expires_ms,
        paired_by=offer.opened_by,
    )
    if offer.stage not in (Stage.OPEN, Stage.CLAIMED):
        return shown
    ca = request.app[PAIRINGS].ca_sha256
    url = f"https://{_lan(request).authority}/pair#s={offer.secret}&ca={ca}"
    more = {"url": url, "qr_svg": _qr(url), "secret": offer.secret, "ca_sha256": ca}
    return shown.model_copy(update=more | {"tries_left": offer.tries_left})


def _qr(text: str) -> str:
    """A whole SVG document without a style attribute: as an image or inline, under any policy."""
    import segno  # most boxes never draw one

    out = BytesIO()
    plain = {"xmldecl": False, "svgclass": None, "lineclass": None, "nl": False}
    segno.make_qr(text, error="m").save(out, "svg", scale=4, border=4, light="#fff", **plain)
    return out.getvalue().decode()


def _device_shown(device: Device) -> PairingShown:
    return PairingShown(
        id=device.id,
        state=Stage.PAIRED,
        name=device.name,
        paired_at_ms=device.paired_ms,
        paired_by=device.paired_by,
        last_seen_ms=device.last_seen_ms,
    )


def _with_cookie(request: web.Request, heard: Answer) -> web.Response:
    state: Literal["waiting", "paired"] = "waiting" if heard.credential is None else "paired"
    told = answer(Heard(state=state, claim=heard.claim, digits=heard.digits))
    if heard.credential is not None:
        if not request.secure:
            raise PairingRefused("配对只能在加密连接上完成", "请用二维码里的 https 地址")
        told.set_cookie(
            COOKIE,
            heard.credential,
            max_age=COOKIE_AGE_S,
            path="/",
            secure=True,
            httponly=True,
            samesite="Strict",
        )
    return told

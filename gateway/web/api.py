"""One decorator that registers a handler, guards it, and writes it into the OpenAPI document.

What the document says of a route is what guards it: who may call, what is parsed, what comes back.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, overload

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from gateway.access import Who
from gateway.errors import AccessRefused, NotSignedIn, RequestInvalid
from gateway.web.faults import in_chinese

M = TypeVar("M")
Plain = Callable[[web.Request], Awaitable[web.StreamResponse]]
Asked = Callable[[web.Request, M], Awaitable[web.StreamResponse]]


class Needs(StrEnum):
    """Who may call a route."""

    NOBODY = "nobody"  # signed out too
    LOOK = "look"  # anyone signed in
    SELL = "sell"  # collectors and station masters


WHO = web.RequestKey("who", Who)
"""Set by the session's middleware, when somebody is signed in."""
OWNER = web.RequestKey("owner", str)
"""handheld:<id>, set by the lane network's guard."""
SELLERS = ("collector", "master")
_RANKS = {"collector": "收费员", "master": "站长", "engineer": "维护人员"}


@dataclass(frozen=True, slots=True)
class Media:
    """An answer or a body that is bytes of this type, not JSON."""

    type: str


@dataclass(frozen=True, slots=True)
class Header:
    """A request header that a route asks for."""

    name: str
    pattern: str


Shape = type[BaseModel] | TypeAdapter[Any] | Media | None
Answers = Mapping[int, Shape]


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as the document states it."""

    method: str
    path: str
    summary: str
    needs: Needs
    body: Shape
    query: type[BaseModel] | None
    headers: tuple[Header, ...]
    answers: Answers
    faults: frozenset[int]
    """Statuses that come with a `Fault`."""


class Api(web.RouteTableDef):
    """A route table that remembers what it promised."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    @overload
    def api(
        self,
        method: str,
        path: str,
        *,
        summary: str,
        answers: Answers,
        faults: tuple[int, ...] = ...,
        needs: Needs = ...,
        headers: tuple[Header, ...] = ...,
        body: Media | None = ...,
    ) -> Callable[[Plain], Plain]: ...
    @overload
    def api(
        self,
        method: str,
        path: str,
        *,
        summary: str,
        answers: Answers,
        faults: tuple[int, ...] = ...,
        needs: Needs = ...,
        headers: tuple[Header, ...] = ...,
        body: type[M] | TypeAdapter[M],
    ) -> Callable[[Asked[M]], Asked[M]]: ...
    @overload
    def api(
        self,
        method: str,
        path: str,
        *,
        summary: str,
        answers: Answers,
        faults: tuple[int, ...] = ...,
        needs: Needs = ...,
        headers: tuple[Header, ...] = ...,
        query: type[M],
    ) -> Callable[[Asked[M]], Asked[M]]: ...
    def api(
        self,
        method: str,
        path: str,
        *,
        summary: str,
        answers: Answers,
        faults: tuple[int, ...] = (),
        needs: Needs = Needs.LOOK,
        headers: tuple[Header, ...] = (),
        body: Any = None,
        query: Any = None,
    ) -> Callable[[Any], Any]:
        """Register `handler(request)`, or `handler(request, asked)` with a body or a query.

        `answers`: status → shape. `faults`: statuses it may refuse with, beyond those that
        follow from the rest (400, 401, 403, 413, 422, 503).
        """
        known = frozenset(faults) | _implied(body, query)
        operation = Operation(
            method, path, summary, needs, body, query, headers, dict(answers), known
        )

        def register(handler: Any) -> Any:
            self.operations.append(operation)
            head = {"allow_head": False} if method == "GET" else {}
            self.route(method, path, **head)(_guarded(operation, handler))
            return handler

        return register


def require(request: web.Request, role: str | None = None) -> Who:
    """Who is behind the request. Raises: NotSignedIn (401); AccessRefused (403), another role."""
    who: Who | None = request.get(WHO)
    if who is None:
        raise NotSignedIn("没有登录，或登录已失效")
    if role is not None and who.role != role:
        raise AccessRefused(
            f"需要{_RANKS.get(role, role)}的权限", f"请由{_RANKS.get(role, role)}操作"
        )
    return who


def admit(request: web.Request, needs: Needs) -> None:
    """Raises: NotSignedIn; AccessRefused, when one who may look wants to sell."""
    if needs is Needs.NOBODY:
        return
    who = require(request)
    if needs is Needs.SELL and who.role not in SELLERS:
        raise AccessRefused(f"{_RANKS.get(who.role, who.role)}只能查看，不能收费", "请由收费员登录")


def _implied(body: Any, query: Any) -> frozenset[int]:
    """400: a body that cannot be unpacked. 401: signed out, or a handheld that is not paired.
    403: a foreign page. 503: no store."""
    implied = {401, 403, 503}
    if body is not None:
        implied |= {400, 413, 422}
    if query is not None:
        implied.add(422)
    return frozenset(implied)


def _guarded(operation: Operation, handler: Any) -> Plain:
    parse = _parser(operation)

    async def guarded(request: web.Request) -> web.StreamResponse:
        admit(request, operation.needs)
        asked = () if parse is None else (await parse(request),)
        answered: web.StreamResponse = await handler(request, *asked)
        return answered

    guarded.__doc__ = handler.__doc__
    return guarded


def _parser(operation: Operation) -> Callable[[web.Request], Awaitable[Any]] | None:
    if operation.query is not None:
        return _query_parser(TypeAdapter(operation.query))
    if operation.body is None or isinstance(operation.body, Media):
        return None
    body = operation.body
    return _body_parser(body if isinstance(body, TypeAdapter) else TypeAdapter(body))


def _body_parser(adapter: TypeAdapter[Any]) -> Callable[[web.Request], Awaitable[Any]]:
    async def parse(request: web.Request) -> Any:
        raw = await request.read()
        try:
            # Strict: true is not 1, and "12" is not 12, where money and weights are concerned.
            return adapter.validate_json(raw, strict=True)
        except ValidationError as bad:
            raise RequestInvalid(in_chinese(bad)) from bad

    return parse


def _query_parser(adapter: TypeAdapter[Any]) -> Callable[[web.Request], Awaitable[Any]]:
    async def parse(request: web.Request) -> Any:
        try:
            return adapter.validate_strings(dict(request.query))
        except ValidationError as bad:
            raise RequestInvalid(in_chinese(bad)) from bad

    return parse

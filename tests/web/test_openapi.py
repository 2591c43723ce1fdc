import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp import web

from gateway.web import ops, pairing
from tests.web.rig import Listener, hold_against, listening


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path, tables=[pairing.routes, ops.routes]) as running:
        yield running


@pytest.fixture
async def document(listener: Listener) -> dict[str, Any]:
    answer = await listener.browser().get("/api/openapi.json")
    assert answer.status == 200
    told: dict[str, Any] = await answer.json()
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_every_route_is_in_the_document_and_every_entry_is_a_route(
    listener: Listener, document: dict[str, Any]
) -> None:
    routed = {
        (route.method, route.resource.canonical)
        for route in listener.app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/api/")
    }
    routed.add(("POST", "/pair"))  # what a native shell asks; GET is a page
    assert routed == {(method, path) for method, path, _ in operations(document)}
    assert len(routed) > 20


async def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"]
    for method, path, operation in operations(document):
        assert operation["summary"], path
        assert operation["responses"], path
        for status, response in operation["responses"].items():
            assert status.isdigit()
            assert response["description"]
        in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert ("requestBody" in operation) <= (method in ("POST", "PUT"))


async def test_every_schema_is_a_schema_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    known = document["components"]["schemas"]
    for schema in known.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = set(_references(document))
    assert references
    assert {reference.rsplit("/", 1)[1] for reference in references} <= set(known)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


async def test_what_a_session_guards_says_so(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        is_public = path in ("/api/session", "/api/openapi.json", "/api/ui", "/pair")
        assert operation["security"] == ([] if is_public else [{"session": []}]), (method, path)
        assert is_public or "401" in operation["responses"]


async def test_a_command_states_its_headers_bodies_and_refusals(
    document: dict[str, Any],
) -> None:
    operation = document["paths"]["/api/lanes/{lane}/commands"]["post"]
    headers = {p["name"] for p in operation["parameters"] if p["in"] == "header"}
    assert headers == {"Idempotency-Key", "If-Match"}
    for status in (200, 401, 403, 404, 409, 413, 422, 423, 428, 503):
        assert str(status) in operation["responses"]
    conflict = operation["responses"]["409"]["content"]["application/json"]["schema"]
    whole = {**conflict, "components": document["components"]}
    with pytest.raises(jsonschema.ValidationError, match="snapshot"):
        jsonschema.validate({"code": "c", "detail": "d", "action": "a"}, whole)
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    whole = {**body, "components": document["components"]}
    jsonschema.validate({"command": "read"}, whole)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"command": "fly"}, whole)


async def test_the_check_of_live_answers_can_fail(
    listener: Listener, document: dict[str, Any]
) -> None:
    """Every test of this folder holds answers against the document; here is that it bites."""

    def lanes(body: Any, status: int = 200) -> web.Response:
        return web.json_response(body, status=status)

    hold_against(document, "GET", "/api/lanes", lanes([]))
    for wrong in (lanes([{"lane": "X03"}]), lanes([], 418), lanes({"code": "x"}, 401)):
        with pytest.raises((AssertionError, jsonschema.ValidationError)):
            hold_against(document, "GET", "/api/lanes", wrong)


async def test_the_document_is_small_enough_to_read(document: dict[str, Any]) -> None:
    assert len(json.dumps(document)) < 100_000

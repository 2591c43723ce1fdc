"""The OpenAPI 3.1 document, written from what the routes promised; nothing is described by hand."""

import re
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, TypeAdapter

from gateway.web.api import Api, Media, Needs, Operation, Shape
from gateway.web.faults import Fault

REF = "#/components/schemas/{model}"
COOKIE = "lane_session"
_MEANING = {
    101: "接通",
    200: "成功",
    400: "请求格式不对",
    401: "没有登录",
    403: "没有权限",
    404: "没有",
    405: "不支持这种操作",
    409: "现在不能做；附当前快照",
    413: "内容太大",
    422: "内容不对；什么都没有改变",
    423: "工号已锁定",
    428: "缺少请求头",
    502: "设备应答不对",
    503: "暂时不能用",
}
Schemas = dict[Any, dict[str, Any]]


def document(tables: Iterable[web.RouteTableDef], version: str) -> dict[str, Any]:
    """All /api routes of these tables. A table that is no `Api` is listed without its shapes."""
    operations = [op for table in tables if isinstance(table, Api) for op in table.operations]
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op, schemas)
    for route in _plain(tables):
        known = paths.setdefault(route.path, {})
        known.setdefault(route.method.lower(), _unshaped(route))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lane gateway", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": COOKIE}},
        },
    }


def _schemas(operations: list[Operation]) -> tuple[Schemas, dict[str, Any]]:
    """Every shape once, with what they share moved to the components."""
    wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        ("fault", "serialization", TypeAdapter(Fault))
    ]
    for op in operations:
        for status, shape in [("body", op.body), ("query", op.query), *op.answers.items()]:
            adapter = _adapter(shape)
            if adapter is not None:
                mode = "validation" if isinstance(status, str) else "serialization"
                wanted.append(((op.method, op.path, status), mode, adapter))
    found, shared = TypeAdapter.json_schemas(wanted, ref_template=REF)
    return {key: schema for (key, _), schema in found.items()}, shared.get("$defs", {})


def _adapter(shape: Shape) -> TypeAdapter[Any] | None:
    if shape is None or isinstance(shape, Media):
        return None
    return shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)


def _operation(op: Operation, schemas: Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": op.summary,
        "parameters": [*_path_parameters(op.path), *_query_parameters(op, schemas), *_headers(op)],
        "responses": _responses(op, schemas),
        "security": [] if op.needs is Needs.NOBODY else [{"session": []}],
    }
    if op.body is not None:
        schema = schemas.get((op.method, op.path, "body"))
        told["requestBody"] = {"required": True, "content": _content(op.body, schema)}
    return told


def _responses(op: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, shape in op.answers.items():
        schema = schemas.get((op.method, op.path, status))
        responses[str(status)] = {"description": _MEANING[status]}
        if shape is not None:
            responses[str(status)]["content"] = _content(shape, schema)
    for status in sorted(op.faults - set(op.answers)):
        refused = {"application/json": {"schema": schemas["fault"]}}
        responses[str(status)] = {"description": _MEANING[status], "content": refused}
    return responses


def _content(shape: Shape, schema: dict[str, Any] | None) -> dict[str, Any]:
    if isinstance(shape, Media):
        return {shape.type: {}}
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(op: Operation, schemas: Schemas) -> list[dict[str, Any]]:
    if op.query is None:
        return []
    schema = schemas[(op.method, op.path, "query")]
    return [
        {
            "name": name,
            "in": "query",
            "required": field.is_required(),
            "schema": _property(schema, op.query, name),
        }
        for name, field in op.query.model_fields.items()
    ]


def _property(schema: dict[str, Any], model: type[BaseModel], name: str) -> Any:
    """Queries are flat and used once, but pydantic may have moved the model aside."""
    whole = schema if "properties" in schema else model.model_json_schema()
    return whole["properties"][name]


def _headers(op: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": header.name,
            "in": "header",
            "required": True,
            "schema": {"type": "string", "pattern": header.pattern},
        }
        for header in op.headers
    ]


def _plain(tables: Iterable[web.RouteTableDef]) -> Iterable[web.RouteDef]:
    for table in tables:
        for route in table:
            if isinstance(route, web.RouteDef) and route.path.startswith("/api/"):
                yield route


def _unshaped(route: web.RouteDef) -> dict[str, Any]:
    summary = (route.handler.__doc__ or route.path).strip().splitlines()[0]
    return {
        "summary": summary,
        "parameters": _path_parameters(route.path),
        "responses": {"default": {"description": "见说明"}},
    }

"""Where a configuration file is wrong, in Chinese: line, key, what was expected.

Knows TOML and pydantic, not which settings there are.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.errors import ConfigInvalid

SHOWN_MAX = 8  # faults told at once
Loc = Sequence[int | str]


def parse(text: str) -> dict[str, Any]:
    """TOML as plain values. Raises: ConfigInvalid, with line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as bad:
        found = re.search(r"^(.*) \(at line (\d+), column (\d+)\)", str(bad))
        lines = text.count("\n") + 1
        what, line, column = found.groups() if found else (str(bad), str(lines), "1")
        raise ConfigInvalid(f"第 {line} 行第 {column} 列：不是合法的 TOML（{what}）") from bad


def line_of(text: str, loc: Loc) -> int | None:
    """The line on which this key begins to exist: the shortest readable head that holds it."""
    lines = text.splitlines()
    for count in range(1, len(lines) + 1):
        try:
            head = tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue  # inside a value of several lines
        if _holds(head, loc):
            return count
    return None


def refuse_secrets(text: str, values: Mapping[str, Any]) -> None:
    """Raises: ConfigInvalid, if a token or password stands in the file."""
    for loc, value in _leaves(values):
        if loc[-1] == "token":
            hint = "环境变量 LANE__…__TOKEN 或 systemd 凭据"
            raise ConfigInvalid(f"{_place(text, loc)}：口令不能写在配置文件里，请用{hint}提供")
        if isinstance(value, str) and re.search(r"://[^/\s@]+@", value):
            hint = "环境变量 LANE__CAMERA__车道__URL 或 systemd 凭据"
            raise ConfigInvalid(f"{_place(text, loc)}：地址里不能带用户名和密码，请用{hint}提供")


def misplaced(loc: Loc, wanted: str) -> PydanticCustomError:
    """For a check across sections: what was wanted (Chinese), and the key to point at."""
    return PydanticCustomError("misplaced", "{wanted}", {"wanted": wanted, "loc": tuple(loc)})


def explain(text: str, model: type[BaseModel], bad: ValidationError) -> str:
    """Every fault on its own line: 第 12 行 lane[0].card.reader：应为…"""
    faults = bad.errors(include_url=False)
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")  # a misspelt key first
    told = [_tell(text, model, fault) for fault in faults[:SHOWN_MAX]]
    if len(faults) > SHOWN_MAX:
        told.append(f"……另有 {len(faults) - SHOWN_MAX} 处")
    return "\n".join(told)


def _tell(text: str, model: type[BaseModel], fault: ErrorDetails) -> str:
    loc, description, members = _follow(model, fault["loc"])
    kind = fault["type"]
    if kind == "misplaced":
        return f"{_place(text, fault['ctx']['loc'])}：{fault['ctx']['wanted']}"
    if kind == "extra_forbidden":
        return f"{_place(text, loc)}：没有这个配置项{_suggest(str(loc[-1]), members)}"
    if kind == "missing":
        return f"{_place(text, loc)}：缺少这一项" + (f"，应为{description}" if description else "")
    if kind.startswith("union_tag"):
        drivers = "、".join(_drivers(members))
        return f"{_place(text, (*loc, 'driver'))}：应为其中之一：{drivers}"
    if kind == "value_error":
        return f"{_place(text, loc)}：{fault['ctx']['error']}"
    return f"{_place(text, loc)}：应为{description or '一节 [表]'}{_seen(fault['input'])}"


def _follow(model: type[BaseModel], loc: Loc) -> tuple[Loc, str | None, list[Any]]:
    """The keys as written in the file, the field's description, and the models it may hold.

    pydantic's location also holds the tag of a union, which is no key of the file.
    """
    keys: list[int | str] = []
    description: str | None = None
    members: list[Any] = [model]
    for step in loc:
        models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
        if len(models) > 1 and step in _drivers(models):
            members = [m for m in models if step in _drivers([m])]
            continue
        keys.append(step)
        field = next((m.model_fields[str(step)] for m in models if step in m.model_fields), None)
        if field is not None:
            description, members = field.description, _members(field.annotation)
        elif isinstance(step, str):
            description = None
    return keys, description, members


def _members(annotation: Any) -> list[Any]:
    """The classes inside X, X | None, tuple[X, ...] or a union."""
    inside = [arg for arg in get_args(annotation) if arg not in (type(None), ...)]
    return [leaf for arg in inside for leaf in _members(arg)] if inside else [annotation]


def _drivers(models: Sequence[Any]) -> list[str]:
    fields = (m.model_fields["driver"] for m in models if "driver" in m.model_fields)
    return [get_args(field.annotation)[0] for field in fields]


def _suggest(key: str, members: Sequence[Any]) -> str:
    known = [name for m in members if hasattr(m, "model_fields") for name in m.model_fields]
    near = get_close_matches(key, known, n=1)
    return f"，是不是 {near[0]}？" if near else f"；可用：{'、'.join(known)}"


def _seen(value: object) -> str:
    if isinstance(value, str | int | float | bool) and len(str(value)) <= 40:
        return f"；现在写的是 {value!r}"
    return ""


def _place(text: str, loc: Loc) -> str:
    """第 12 行 lane[0].card.reader; a missing key is placed at the table it should stand in."""
    line = next((n for end in range(len(loc), 0, -1) if (n := line_of(text, loc[:end]))), 1)
    name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return f"第 {line} 行 {name.lstrip('.')}".rstrip()


def _holds(value: Any, loc: Loc) -> bool:
    for step in loc:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _leaves(value: Any, loc: tuple[int | str, ...] = ()) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*loc, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*loc, index))
    elif loc:
        yield loc, value

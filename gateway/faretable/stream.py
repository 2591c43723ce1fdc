"""A parameter package read as a stream: its own fields, its body's, and one row after another.

Knows JSON and the package's outer shape, not what is in a row.
"""

import json
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import Any, TextIO

from gateway.errors import ParameterInvalid

CHUNK = 64 * 1024
DELIMITERS = tuple(" \t\r\n,:]}")
VALUE_CHARS_MAX = 4 * 1024 * 1024
"""No single row or field is larger; a package that says otherwise is broken."""


class PackageStream:
    """`rows()` first, to its end; then `facts` and `body` have everything else."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at = file, "", 0
        self._decoder = json.JSONDecoder()
        self.facts: dict[str, Any] = {}
        self.body: dict[str, Any] = {}

    def rows(self) -> Iterator[Any]:
        """Raises: ParameterInvalid, if it is no JSON or not a package."""
        try:
            yield from self._object(self.facts, {"body": self._in_body})
        except (JSONDecodeError, UnicodeDecodeError) as bad:
            raise ParameterInvalid("参数文件不完整或格式不对") from bad
        if self._next():
            raise ParameterInvalid("参数文件末尾有多余内容")

    def _in_body(self) -> Iterator[Any]:
        yield from self._object(self.body, {"rows": self._array})

    def _object(
        self, into: dict[str, Any], nested: dict[str, Callable[[], Iterator[Any]]]
    ) -> Iterator[Any]:
        seen: set[str] = set()
        self._expect("{")
        while self._next() != "}":
            if seen:
                self._expect(",")
            name = self._value()
            if not isinstance(name, str) or name in seen:
                raise ParameterInvalid("参数文件不完整或格式不对")
            seen.add(name)
            self._expect(":")
            if name in nested:
                yield from nested[name]()
            else:
                into[name] = self._value()
        self._expect("}")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        is_first = True
        while self._next() != "]":
            if not is_first:
                self._expect(",")
            is_first = False
            yield self._value()
        self._expect("]")

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            raise ParameterInvalid("参数文件不完整或格式不对")
        self._at += 1

    def _next(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError:
                if len(self._text) - self._at > VALUE_CHARS_MAX or not self._more():
                    raise
                continue
            if self._text[end : end + 1] in DELIMITERS:
                self._at = end
                return value
            # the end of what is here, or a number that goes on in the next piece
            if len(self._text) - self._at > VALUE_CHARS_MAX or not self._more():
                raise ParameterInvalid("参数文件不完整或格式不对")

    def _more(self) -> bool:
        piece = self._file.read(CHUNK)
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)

"""A measured number beside its goal, as a line of a table and as JSON. Knows no gateway."""

import math
import os
import platform
import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One result. Without a goal it explains another."""

    name: str
    seen: float
    unit: str
    goal: float | None = None
    """The most it may be, or the least."""
    note: str = ""
    is_least: bool = False

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        is_met = self.seen >= self.goal if self.is_least else self.seen <= self.goal
        return "met" if is_met else "MISSED"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above (nearest rank). Never interpolated:
    a p99 is something that happened. Raises: ValueError, if there are none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def p50(values: Sequence[float]) -> float:
    return percentile(values, 0.50)


def p99(values: Sequence[float]) -> float:
    return percentile(values, 0.99)


def table(figures: Sequence[Figure]) -> str:
    """Lines for a terminal."""
    head = ("what", "goal", "seen", "", "verdict", "note")
    rows = [head, *map(_row, figures)]
    widths = [max(_width(row[i]) for row in rows) for i in range(len(head) - 1)]
    return "\n".join(_line(row, widths) for row in rows)


def as_json(figures: Sequence[Figure]) -> dict[str, Any]:
    """The figures and what one must know of the machine to compare them."""
    return {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in figures],
    }


def _row(figure: Figure) -> tuple[str, ...]:
    sign = "≥" if figure.is_least else "≤"
    goal = "" if figure.goal is None else f"{sign} {_number(figure.goal)}"
    return (
        figure.name,
        goal,
        _number(figure.seen),
        figure.unit,
        figure.verdict,
        figure.note,
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width + len(text) - _width(text))
        if place in (1, 2)
        else text.ljust(width + len(text) - _width(text))
        for place, (text, width) in enumerate(zip(row, widths, strict=False))
    ]
    return "  ".join([*cells, row[-1]]).rstrip()

"""时光轴: a passage's journal as a picture, for a page that shows pictures. Pure.

Each mark is a row of the journal, numbered as in the list below it; each stretch is coloured by who
was waited for. Stretches are drawn by the logarithm of their length: a car put aside for an hour
leaves its seconds to be seen.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from gateway.web.words import Say

WIDTH, HEIGHT, EDGE, TRACK = 760, 132, 18, 66
LEAST_PX = 26
"""Between two marks: their numbers must be legible."""
NAMED_FROM_MS = 1000
TONES = {"person": "#0b5cad", "machine": "#7d8890", "aside": "#f5b700"}
MACHINE = frozenset({
    "ChecksPassed", "ChecksFailed", "MediaUnreadable", "PhotoBound", "PhotoMissing", "FareQuoted",
    "FareUnknown", "DebitPrepared", "DebitConfirmed", "DebitRefused", "DebitUnanswered",
    "DebitNeverHappened", "ProofUnavailable",
})  # fmt: skip
"""What answers by itself; everything else a person did."""


class Stretch(NamedTuple):
    """From one row to the next."""

    took_ms: int
    who: str


def drawn(entries: Sequence[Mapping[str, Any]], say: Say) -> str:
    """SVG. `entries`: of a timeline, oldest first."""
    stretches = [_stretch(old, new) for old, new in pairwise(entries)]
    xs = _places(stretches)
    parts = [_bar(stretch, xs[n], xs[n + 1]) for n, stretch in enumerate(stretches)]
    parts += [_mark(n, x) for n, x in enumerate(xs)]
    parts += _legend(stretches, say)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    style = "<style>text{font:15px sans-serif;fill:#14191d}.n{font-size:13px}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}{"".join(parts)}</svg>'


def summary(entries: Sequence[Mapping[str, Any]], say: Say) -> str:
    """The same in words."""
    stretches = [_stretch(old, new) for old, new in pairwise(entries)]
    return "；".join(_told(who, took_ms, say) for who, took_ms in _sums(stretches).items())


def _stretch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Stretch:
    took_ms = max(0, new["at_ms"] - old["at_ms"])
    if old["event"] == "Suspended":
        return Stretch(took_ms, "aside")
    return Stretch(took_ms, "machine" if new["event"] in MACHINE else "person")


def _places(stretches: Sequence[Stretch]) -> list[float]:
    """Where each mark stands."""
    free = WIDTH - 2 * EDGE - LEAST_PX * len(stretches)
    weights = [math.log1p(stretch.took_ms / 100) for stretch in stretches]
    scale = max(free, 0) / (sum(weights) or 1)
    least = min(LEAST_PX, (WIDTH - 2 * EDGE) / (len(stretches) or 1))
    xs = [float(EDGE)]
    for weight in weights:
        xs.append(xs[-1] + least + weight * scale)
    return xs


def _bar(stretch: Stretch, left: float, right: float) -> str:
    wide, tone = right - left, TONES[stretch.who]
    bar = f'<rect x="{left:.0f}" y="{TRACK - 5}" width="{wide:.0f}" height="10" fill="{tone}"/>'
    if stretch.took_ms < NAMED_FROM_MS or wide < 44:
        return bar
    middle = (left + right) / 2
    told = _seconds(stretch.took_ms)
    return f'{bar}<text x="{middle:.0f}" y="{TRACK + 28}" text-anchor="middle">{told}</text>'


def _mark(number: int, x: float) -> str:
    circle = f'<circle cx="{x:.0f}" cy="{TRACK}" r="11" fill="#fff" stroke="#14191d"/>'
    text = f'<text class="n" x="{x:.0f}" y="{TRACK + 5}" text-anchor="middle">{number + 1}</text>'
    return circle + text


def _legend(stretches: Sequence[Stretch], say: Say) -> list[str]:
    parts, x = [], EDGE
    for who, took_ms in _sums(stretches).items():
        told = escape(_told(who, took_ms, say))
        parts.append(f'<rect x="{x}" y="14" width="14" height="14" fill="{TONES[who]}"/>')
        parts.append(f'<text x="{x + 20}" y="27">{told}</text>')
        x += 240
    return parts


def _sums(stretches: Sequence[Stretch]) -> dict[str, int]:
    sums = {who: sum(s.took_ms for s in stretches if s.who == who) for who in TONES}
    return {who: took_ms for who, took_ms in sums.items() if took_ms or who != "aside"}


def _told(who: str, took_ms: int, say: Say) -> str:
    return f"{say(f'waited.{who}')} {_seconds(took_ms)}"


def _seconds(took_ms: int) -> str:
    if took_ms < 60_000:
        return f"{took_ms / 1000:.1f} s"
    minutes, seconds = divmod(took_ms // 1000, 60)
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"

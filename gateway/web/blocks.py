"""What a screen shows beside its own work, as blocks that a page draws without knowing them.

{"p"} a line · {"h"} a heading · {"facts"} pairs · {"rows"} a list · {"money"} · {"alert"} ·
{"image"} · {"digits"} · {"choices"}, {"field"} and {"letters"}, a pad of keys, that ask again ·
{"setting"} · {"keymap"} · {"credentials"} · {"link"} to save · {"file"} to send · {"options"} and
buttons, each an action: {"label"} and {"go": place}, {"command"} or {"method", "path", "body"};
"key": its Idempotency-Key, "sure": asked twice, "leaves": when done. Options are numbered, the
second list of a place "from" where the first ended. Pure: words, numbers and times are made here.
"""

from collections.abc import Mapping
from typing import Any

from gateway.units import beijing, yuan
from gateway.web.words import Say

Block = dict[str, Any]

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def line(text: str, look: str = "") -> Block:
    """`look`: big, warn, bad, good, or nothing."""
    return {"p": text, "look": look}


def facts(*pairs: tuple[str, Any] | None) -> Block:
    return {"facts": [pair for pair in pairs if pair is not None]}


def plate(of: Mapping[str, Any]) -> dict[str, Any]:
    """As a number plate in its colour."""
    return {"plate": of.get("plate") or "", "colour": of.get("colour")}


def money(amount_fen: int | None) -> str:
    return "—" if amount_fen is None else yuan(amount_fen)


def moment(at_ms: int | None) -> str:
    """11-18 09:30:00, Beijing time."""
    return "—" if at_ms is None else beijing(at_ms).strftime("%m-%d %H:%M:%S")


def clock(at_ms: int | None) -> str:
    """09:30, Beijing time."""
    return "—" if at_ms is None else beijing(at_ms).strftime("%H:%M")


def day(at_ms: int | None) -> str:
    return "—" if at_ms is None else beijing(at_ms).strftime("%Y-%m-%d %H:%M")


def age(seconds: float | None, say: Say) -> str:
    if seconds is None:
        return "—"
    if seconds < 90:
        return say("age.seconds", n=round(seconds))
    if seconds < 90 * MINUTE_S:
        return say("age.minutes", n=round(seconds / MINUTE_S))
    if seconds < 2 * DAY_S:
        return say("age.hours", n=round(seconds / HOUR_S))
    return say("age.days", n=round(seconds / DAY_S))


def freshness(seconds: float) -> str:
    """Grey below a day, amber below three, red above."""
    return "" if seconds < DAY_S else "warn" if seconds < 3 * DAY_S else "bad"

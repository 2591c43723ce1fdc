"""设置 is behind a station master's word: a lane's keys and sounds are not a passer-by's to change.

The settings themselves are kept by each screen. What is opened here is the page that shows them,
for one person at one screen, for five minutes.
"""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.units import Clock
from gateway.web.api import Api, require
from gateway.web.blocks import line
from gateway.web.documents import Document
from gateway.web.faults import answer
from gateway.web.session import ACCESS
from gateway.web.words import Say

OPEN_MS = 5 * 60_000
SETTINGS = {
    "theme": ("auto", "clock", "day", "night"),
    "scale": (1, 1.15),
    "volume": (0, 0.5, 1),
    "lock": (0, 5, 15),
    "language": ("zh-CN", "en"),
}
"""What a screen keeps for itself; the page marks its own choice."""

routes = Api()


class Lock:
    """Who may look at the settings, where, and until when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ms: dict[tuple[str, str], int] = {}

    def open(self, operator: str, owner: str) -> None:
        now_ms = self._clock.monotonic_ms()
        kept = {who: until for who, until in self._until_ms.items() if until > now_ms}
        self._until_ms = {**kept, (operator, owner): now_ms + OPEN_MS}

    def is_open(self, operator: str, owner: str) -> bool:
        return self._until_ms.get((operator, owner), 0) > self._clock.monotonic_ms()


LOCK = web.AppKey("lock", Lock)


class Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    operator: str | None = Field(default=None, max_length=20, description="空则为登录的人自己")
    password: SecretStr = Field(min_length=1, max_length=128)


class Opened(BaseModel):
    minutes: int


@routes.api(
    "POST",
    "/api/settings/open",
    summary="站长同意打开设置，五分钟",
    body=Open,
    answers={200: Opened},
    faults=(423,),
)
async def open_settings(request: web.Request, asked: Open) -> web.Response:
    who = require(request)
    await request.app[ACCESS].approve(asked.operator or who.operator, _word(asked))
    request.app[LOCK].open(who.operator, who.owner)
    return answer(Opened(minutes=OPEN_MS // 60_000))


async def document(request: web.Request, say: Say) -> Document:
    who = require(request)
    if not request.app[LOCK].is_open(who.operator, who.owner):
        return _asked(say, who.role == "master")
    blocks: list[dict[str, Any]] = []
    for name, values in SETTINGS.items():
        pairs = [[value, say(f"{name}.{value}")] for value in values]
        blocks.append({"setting": name, "label": say(name), "pairs": pairs})
    return {"blocks": [*blocks, {"keymap": say("keymap")}]}


def _asked(say: Say, is_master: bool) -> Document:
    opens = {
        "label": say("settings.open"),
        "method": "POST",
        "path": "/api/settings/open",
        "body": {},
        "needs_credentials": True,
        "then": {},
    }
    number = "" if is_master else say("master.number")
    return {"blocks": [line(say("settings.locked")), {"credentials": number}], "primary": opens}


def _word(asked: Open) -> str:
    return asked.password.get_secret_value()

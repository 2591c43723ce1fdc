"""The page as the gateway serves it: which files, whether they are the released ones, since when.

A page that finds other files here than it was made of loads itself anew, between two vehicles.
"""

import hashlib
from functools import cache
from pathlib import Path

from aiohttp import web
from pydantic import BaseModel

import gateway
from gateway.web.api import Api, Needs
from gateway.web.faults import answer
from gateway.web.page_words import PAGE_ENGLISH, PAGE_WORDS

API = 1
"""Raised when an older page cannot work with this gateway."""
LOCK = "static.sha256"

routes = Api()


class PageShown(BaseModel):
    """`wrong`: files that differ from the release, are missing or do not belong to it.
    `words`: English, as the page's code says it → 中文. `english`: of what it calls by a name."""

    api: int
    version: str
    sha256: str
    files: int
    wrong: list[str]
    words: dict[str, str]
    english: dict[str, str]


@routes.api(
    "GET",
    "/api/ui",
    summary="界面文件的版本与校验",
    needs=Needs.NOBODY,
    answers={200: PageShown},
)
async def page(_: web.Request) -> web.Response:
    return answer(shown())


@cache
def shown(static: Path = Path(__file__).parent / "static") -> PageShown:
    """Read once: what is served is what was found at the start."""
    found = digests(static)
    promised = read_lock(static.with_name(LOCK))
    wrong = [name for name in sorted({*found, *promised}) if found.get(name) != promised.get(name)]
    whole = hashlib.sha256("".join(found.values()).encode()).hexdigest()
    return PageShown(
        api=API,
        version=gateway.__version__,
        sha256=whole,
        files=len(found),
        wrong=wrong,
        words=PAGE_WORDS,
        english=PAGE_ENGLISH,
    )


def digests(static: Path) -> dict[str, str]:
    """Path below `static` → SHA-256 of its bytes, sorted."""
    files = sorted(path for path in static.rglob("*") if path.is_file())
    return {
        path.relative_to(static).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def read_lock(lock: Path) -> dict[str, str]:
    """Lines as `sha256sum` writes them."""
    lines = lock.read_text("utf-8").splitlines()
    return {name: digest for digest, name in (each.split("  ", 1) for each in lines)}

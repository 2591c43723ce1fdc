"""One demo process for a module; a fresh booth screen and a fresh handheld for each test."""

import ssl
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.e2e_handheld import demo as rig
from tests.e2e_handheld.demo import Demo, Screen


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with rig.running(tmp_path_factory.mktemp("demo")) as running:
        yield running


def browser() -> aiohttp.ClientSession:
    """Keeps cookies of an address without a name, as a browser does."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


@pytest.fixture
async def booth(demo: Demo) -> AsyncIterator[Screen]:
    """A station master at the booth. Afterwards no vehicle stands there and no handheld is in."""
    async with browser() as http:
        screen = Screen(demo.booth, http)
        await screen.sign_in("9001")
        yield screen
        await screen.clear()
        for row in (await screen.get("/api/pairings"))["pairings"]:
            await screen.ask("DELETE", f"/api/pairings/{row['id']}")
        await screen.ask("DELETE", "/bench/faults")


@pytest.fixture
async def trust(booth: Screen) -> ssl.SSLContext:
    return await rig.trust_by_hash(await rig.offer(booth))


@pytest.fixture
async def hand(demo: Demo, trust: ssl.SSLContext) -> AsyncIterator[Screen]:
    """A handheld that trusts the lane's authority and is not paired."""
    async with browser() as http:
        yield Screen(demo.lan, http, trust)

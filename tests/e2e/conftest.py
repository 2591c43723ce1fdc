"""One demo for a whole file of tests: each begins with an empty lane and no fault armed.

And one centre with as many mortal gateways as a file of tests wants.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.afterlife import World
from tests.e2e.afterlife import world as born
from tests.e2e.booth import Booth


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Booth]:
    folder: Path = tmp_path_factory.mktemp("demo")
    async with Booth(folder) as booth:
        yield booth


@pytest_asyncio.fixture(loop_scope="module")
async def booth(demo: Booth) -> Booth:
    await demo.clear()
    return demo


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with born(tmp_path_factory.mktemp("killed")) as world:
        yield world

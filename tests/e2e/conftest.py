"""One demo for a whole file of tests: each begins with an empty lane and no fault armed.

And one centre with as many mortal gateways as a file of tests wants.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.afterlife import Mother, World
from tests.e2e.booth import ROOT, STOP_S, Booth, Center


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
    folder: Path = tmp_path_factory.mktemp("killed")
    with (folder / "center.stderr").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.center", "--port", "0"),
            *("--db", str(folder / "center.db"), "--ends-with-stdin"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    url = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["url"]
    mother = await Mother.start(url, folder / "mother.stderr")
    async with aiohttp.ClientSession() as http:
        yield World(mother, Center(url, http), folder)
    await mother.close()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), STOP_S) == 0

"""Vehicle after vehicle, the page holds no more than before.

`python -m tests.tools.page_soak` is the long run.
"""

import pytest
from playwright.async_api import Browser

from tests.tools.page_soak import run

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MORE_BYTES = 400_000  # of a heap near 3 MB that is still warming up


async def test_vehicles_leave_nothing_behind(browser: Browser) -> None:
    first, *_, last = await run(browser, vehicles=60, steps=3)
    assert (last.nodes, last.listeners) == (first.nodes, first.listeners)
    assert last.heap_bytes - first.heap_bytes < MORE_BYTES, (first, last)

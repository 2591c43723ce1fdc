"""Thousands of vehicles in a row before one page: does it grow?

python -m tests.tools.page_soak [--real] [VEHICLES]

Real Chromium, real page, the tests' cardboard gateway: snapshots are pushed as fast as the page
draws them, nine a vehicle, each vehicle with a plate, a draft and camera pictures of its own. After
a collection of garbage it is asked for its heap, its DOM nodes and its listeners. `--real`: before
a gateway process of its own (soak_real.py).
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.web.ui.fake_gateway import SCRIPT, Script, create_fake

STATES = (
    "reading", "plate_unsure", "vehicle", "classified", "priced_short", "agreed", "debiting",
    "saved", "idle",
)  # fmt: skip
VEHICLES, STEPS, REAL_STEPS = 5000, 10, 20
SIZE: dict[str, Any] = {"viewport": {"width": 1024, "height": 768}, "has_touch": True}
TYPE = """async () => {
  const { app } = await import('/app.js');
  for (const key of ['清', '甘', 'A', '1', '2', '3', '4', '5']) app.keyPlate(key);
}"""


class Weight(NamedTuple):
    """What the page holds after so many vehicles."""

    vehicles: int
    heap_bytes: int
    nodes: int
    listeners: int
    took_s: float

    def __str__(self) -> str:
        heap = f"{self.heap_bytes / 1e6:.2f} MB"
        return (
            f"{self.vehicles:>6} vehicles  heap {heap}  nodes {self.nodes:>5}"
            f"  listeners {self.listeners:>4}  {self.took_s:>6.0f} s"
        )


async def vehicle(script: Script, page: Page) -> None:
    for state in STATES:
        await script.show(state, is_new=state == "reading")
        if state == "plate_unsure":
            await drawn(script, page)
            await page.evaluate(TYPE)
    await drawn(script, page)


async def drawn(script: Script, page: Page) -> None:
    rev = script.snapshot["rev"]
    await page.wait_for_selector(f":root[data-rev='{rev}']", state="attached")


async def weigh(context: BrowserContext, page: Page, vehicles: int, began: float) -> Weight:
    session = await context.new_cdp_session(page)
    await session.send("Performance.enable")
    for _ in range(3):
        await session.send("HeapProfiler.collectGarbage")
    told = (await session.send("Performance.getMetrics"))["metrics"]
    await session.detach()
    found = {each["name"]: int(each["value"]) for each in told}
    counts = (found["JSHeapUsedSize"], found["Nodes"], found["JSEventListeners"])
    return Weight(vehicles, *counts, time.monotonic() - began)


async def run(browser: Browser, vehicles: int, steps: int = STEPS) -> list[Weight]:
    """Weighed so many times on the way; the first when it is warm."""
    app = create_fake()
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = await browser.new_context(locale="zh-CN", **SIZE)
    try:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await page.wait_for_selector(".with-steps .work")
        return await _drive(app[SCRIPT], context, page, vehicles, steps)
    finally:
        await context.close()
        await runner.cleanup()


async def _drive(
    script: Script, context: BrowserContext, page: Page, vehicles: int, steps: int
) -> list[Weight]:
    weights, began = [], time.monotonic()
    for n in range(1, vehicles + 1):
        await vehicle(script, page)
        script.seen.clear()
        script.asked.clear()
        script.drafts.clear()
        if n % (vehicles // steps) == 0:
            weights.append(await weigh(context, page, n, began))
            print(weights[-1], flush=True)
    return weights


async def main() -> None:
    from tests.tools import soak_real  # it needs what is here

    count = [word for word in sys.argv[1:] if word.isdecimal()]
    vehicles = int(count[0]) if count else VEHICLES
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        if "--real" in sys.argv:
            with tempfile.TemporaryDirectory(prefix="page-soak-") as folder:
                await soak_real.run(browser, Path(folder), vehicles, REAL_STEPS)
        else:
            await run(browser, vehicles)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())

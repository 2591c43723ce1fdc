"""The same before a real gateway process: its demo's twins, its journal, its snapshots.

`python -m tests.tools.page_soak --real [VEHICLES]`. The page shows every vehicle and draws its end
before the next one comes; the others are driven by commands over HTTP, as fast as the lane goes,
every fortieth is keyed at the page: plate by province code and letters, Hex, Enter.
"""

import asyncio
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from playwright.async_api import Browser, Page

from tests.e2e.booth import MASTER, Booth, until
from tests.tools.page_soak import SIZE, Weight, weigh
from tests.web.ui.conftest import DRAWN_AT
from tests.web.ui.conftest import until as page_until

KEYED_EVERY = 40
PRESETS = ("car", "car", "truck", "car", "new_energy", "car", "car", "truck", "car")
TYPED = """async plate => {
  const { app } = await import('/app.js');
  for (const key of ['清', ...plate]) app.keyPlate(key);
  return app.draft.editor.chars.join('');
}"""
SETTLED = "performance.now() - window.__drawnAt > 400"
COLLECTOR = {"operator": "1001", "password": "1001"}
PATIENCE_MS = 60_000


class Told(NamedTuple):
    """What page and process hold after so many vehicles."""

    page: Weight
    gateway_bytes: int
    keyed: int

    def __str__(self) -> str:
        return f"{self.page}  gateway {self.gateway_bytes / 1e6:.0f} MB  keyed {self.keyed}"


async def run(browser: Browser, folder: Path, vehicles: int, steps: int) -> list[Told]:
    """Weighed so many times on the way, each time on the empty lane."""
    context = await browser.new_context(locale="zh-CN", **SIZE)
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(DRAWN_AT)
    try:
        async with Booth(folder) as booth:
            await booth.call("POST", "/api/shifts", {"lane": booth.lane, "shift": 1})
            assert (await context.request.post(f"{booth.url}/api/session", data=COLLECTOR)).ok
            page = await context.new_page()
            await page.goto(booth.url)
            await at(page, "等待来车")
            return await _drive(booth, page, vehicles, steps)
    finally:
        await context.close()


async def _drive(booth: Booth, page: Page, vehicles: int, steps: int) -> list[Told]:
    told, keyed, began = list[Told](), 0, time.monotonic()
    for n in range(1, vehicles + 1):
        is_weighed = n % (vehicles // steps) == 0
        if n % KEYED_EVERY == 0 or is_weighed:
            await by_keys(booth, page)
            keyed += 1
        else:
            await by_commands(booth, page, PRESETS[n % len(PRESETS)])
        if is_weighed:
            weight = await weigh(page.context, page, n, began)
            assert booth.process is not None
            rss = psutil.Process(booth.process.pid).memory_info().rss
            told.append(Told(weight, rss, keyed))
            print(told[-1], flush=True)
    return told


async def by_commands(booth: Booth, page: Page, preset: str) -> None:
    await booth.put(preset)
    await booth.drive("saved")
    await shown(booth, page)


async def shown(booth: Booth, page: Page) -> None:
    """The page has drawn it, or something newer."""
    rev = booth.shot["rev"]
    await page_until(page, f"Number(document.documentElement.dataset.rev) >= {rev}")


async def by_keys(booth: Booth, page: Page) -> None:
    """What a collector presses; the page must have seen the end of the vehicle before."""
    car: dict[str, Any] = await booth.put("car")
    if await page.locator(".work h1:has-text('缴费成功')").count():
        await enter(page, "缴费成功")
    await enter(page, "等待来车")
    await at(page, "核对实际车牌")
    assert await page.evaluate(TYPED, car["plate"]) == car["plate"]
    await enter(page, "核对实际车牌")
    await enter(page, "核对车型")
    await at(page, "核对金额")
    if await page.locator(".hexbox").count():
        await page.keyboard.type(car["entry_hex"])
    else:  # no fare by any way: the minimum, by a master's word
        await booth.look()
        await booth.do("minimum_fare", **MASTER)
    await enter(page, "请确认金额")
    await enter(page, "缴费成功")
    await at(page, "等待来车")
    assert (await booth.look())["state"] == "saved"


async def at(page: Page, heading: str) -> None:
    await page.wait_for_selector(f".work h1:has-text('{heading}')")
    await page_until(page, SETTLED)


async def enter(page: Page, heading: str) -> None:
    """Until that screen has gone: an Enter in the guard of a new one is nothing."""
    await page.wait_for_selector(f".work h1:has-text('{heading}')")

    async def has_gone() -> bool:
        if not await page.locator(f".work h1:has-text('{heading}')").count():
            return True
        if await page.locator("[data-primary]:not(:disabled)").count():
            await page.keyboard.press("Enter")
            await asyncio.sleep(0.05)
        return False

    await until(has_gone, f"{heading} gone")

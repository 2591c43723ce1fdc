"""Draw the README's picture from the real page: a demo, Chromium at 1024×768, a car at its fare.

python -m tests.tools.booth_shot [FILE]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import aiohttp
from playwright.async_api import Page, async_playwright

from tests.e2e_handheld.demo import REPO, Demo, running

FILE = REPO / "tests" / "shots" / "booth.png"
CAR = {"preset": "car", "plate": "甘A12345"}
GUARD_MS = 450  # a new screen takes no press in its first moments


async def at(page: Page, heading: str) -> None:
    await page.wait_for_selector(f".work h1:has-text('{heading}')")
    await page.wait_for_timeout(GUARD_MS)


async def primary(page: Page) -> None:
    await page.locator("[data-primary]:not([disabled])").last.click()


async def to_the_fare(page: Page, demo: Demo) -> None:
    await page.goto(demo.booth)
    await at(page, "登录")
    await page.fill("[name=operator]", "1001")
    await page.fill("[name=password]", "1001")
    for heading in ("上班", "等待来车", "核对实际车牌", "核对车型", "核对金额"):
        await primary(page)
        await at(page, heading)
    for key in "6201":
        await page.locator(f".work .key:text-is('{key}')").click()


async def shoot(demo: Demo, file: Path) -> None:
    url = f"{demo.booth}/bench/vehicle"
    async with aiohttp.ClientSession() as http, http.post(url, json=CAR) as answer:
        assert answer.status == 200, await answer.text()
    async with async_playwright() as play:
        browser = await play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(viewport={"width": 1024, "height": 768}, locale="zh-CN")
        await to_the_fare(page, demo)
        await page.wait_for_load_state("networkidle")
        file.parent.mkdir(exist_ok=True)
        await page.screenshot(path=file)
        await browser.close()


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    with tempfile.TemporaryDirectory() as data, running(Path(data)) as demo:
        asyncio.run(shoot(demo, file))
    print(file, file.stat().st_size)


if __name__ == "__main__":
    main()

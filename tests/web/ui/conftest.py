"""One Chromium for all tests of the page, one cardboard gateway for each.

Without /usr/bin/chromium these tests skip and say so; with CI set they fail instead.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright

from tests.web.ui.fake_gateway import SCRIPT, Script, create_fake

CHROMIUM = Path("/usr/bin/chromium")
BOOTH: dict[str, Any] = {"viewport": {"width": 1024, "height": 768}, "has_touch": True}
HAND: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
WAIT_MS = 8000


@dataclass
class Screen:
    """A page, its gateway, and everything that must not have happened."""

    page: Page
    context: BrowserContext
    script: Script
    url: str
    foreign: list[str] = field(default_factory=list)
    grumbles: list[str] = field(default_factory=list)

    async def open(self) -> None:
        await self.page.goto(self.url)

    async def show(self, name: str, **changes: Any) -> None:
        """A new vehicle in this state, drawn: no draft of another one is left."""
        await self.page.wait_for_selector(".shell .work")
        if not await self.page.locator(".with-steps").count():
            if not await self.page.evaluate(BACK):
                await self.open()
            await self.page.wait_for_selector(".with-steps .work")
        await self.script.show(name, is_new=True, **changes)
        rev = self.script.snapshot["rev"]
        await self.page.wait_for_selector(f":root[data-rev='{rev}'] .with-steps .work")

    async def settle(self) -> None:
        """Past the guard of a new screen."""
        async with asyncio.timeout(WAIT_MS / 1000):
            while not await self.page.evaluate(SETTLED):
                await asyncio.sleep(0.05)

    async def primary(self) -> None:
        await self.page.locator("[data-primary]").last.click()

    async def key(self, key: str) -> None:
        await self.page.locator(f".work .key:text-is('{key}')").click()

    async def plate(self) -> str:
        cells = await self.page.locator(".cell:not(.wider)").all_inner_texts()
        return "".join(cells)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("CI has no /usr/bin/chromium: the page was not tried in a browser")
        pytest.skip("NO BROWSER: /usr/bin/chromium is missing, the page was not tried")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def gateway() -> AsyncIterator[tuple[Script, str]]:
    app = create_fake()
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield app[SCRIPT], f"http://127.0.0.1:{port}/"
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def booth(browser: Browser, gateway: tuple[Script, str]) -> AsyncIterator[Screen]:
    async for screen in look(browser, gateway, BOOTH):
        yield screen


@pytest_asyncio.fixture(loop_scope="session")
async def hand(browser: Browser, gateway: tuple[Script, str]) -> AsyncIterator[Screen]:
    async for screen in look(browser, gateway, HAND):
        yield screen


async def until(page: Page, code: str) -> None:
    """Until it is true in the page. `wait_for_function` evaluates text, which the page forbids."""
    async with asyncio.timeout(3 * WAIT_MS / 1000):
        while not await page.evaluate(code):
            await asyncio.sleep(0.05)


async def look(
    browser: Browser, gateway: tuple[Script, str], size: dict[str, Any]
) -> AsyncIterator[Screen]:
    """A fresh context; afterwards nothing foreign was asked for and nothing was complained of."""
    script, url = gateway
    context = await browser.new_context(locale="zh-CN", **size)
    context.set_default_timeout(WAIT_MS)
    page = await context.new_page()
    screen = Screen(page, context, script, url)
    await context.route("**/*", lambda route: _guard(route, screen))
    page.on("console", lambda m: _heard(screen, m.type, m.text))
    page.on("pageerror", lambda error: screen.grumbles.append(str(error)))
    await context.add_init_script(DRAWN_AT)
    await screen.open()
    yield screen
    violations = await page.evaluate("window.__violations ?? []")
    await context.close()
    assert screen.foreign == []
    assert screen.grumbles == []
    assert violations == []


BACK = """async () => {
  const { app } = await import('/app.js');
  if (app.view === 'place' && app.s) app.show('lane');
  return app.view === 'lane';
}"""
SETTLED = """async () => {
  const { app } = await import('/app.js');
  return performance.now() - Math.max(app.shownAt, window.__drawnAt) > 400;
}"""
DRAWN_AT = """
window.__violations = []; window.__drawnAt = 0;
document.addEventListener('securitypolicyviolation', e => __violations.push(e.violatedDirective));
let last = '';
new MutationObserver(() => {
  const heading = document.querySelector('.dialog h1') ?? document.querySelector('.work h1');
  const now = `${heading?.textContent}`;
  if (now !== last) { last = now; window.__drawnAt = performance.now(); }
}).observe(document, { childList: true, subtree: true, characterData: true });
"""


def _heard(screen: Screen, kind: str, text: str) -> None:
    expected = "the server responded with a status of"  # Chromium notes every 4xx answer
    broken = ("WebSocket connection", "net::ERR_")  # and every lost link
    if kind in ("error", "warning") and expected not in text and not any(b in text for b in broken):
        screen.grumbles.append(text)


async def _guard(route: Route, screen: Screen) -> None:
    url = route.request.url
    if url.startswith((screen.url, "data:", "blob:")):
        await route.continue_()
    else:
        screen.foreign.append(url)
        await route.abort()

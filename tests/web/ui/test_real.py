"""The page against the real gateway: demo in a process of its own, vehicles from the bench.

What a press did is asked of the chips themselves, never of the page.
"""

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.web.ui.conftest import BOOTH, DRAWN_AT, WAIT_MS

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
START_S = 30


@dataclass
class Demo:
    """A running demo and a collector's page in front of it."""

    url: str
    page: Page
    http: aiohttp.ClientSession

    async def vehicle(self, **fields: Any) -> dict[str, Any]:
        """Puts one before the booth; answers what it put there."""
        async with self.http.post(f"{self.url}/bench/vehicle", json=fields) as answer:
            put: dict[str, Any] = await answer.json()
            return put

    async def balance(self) -> int:
        async with self.http.get(f"{self.url}/bench/vehicle") as answer:
            found = re.search(r'"balance_fen": ?(\d+)', await answer.text())
            assert found
            return int(found[1])

    async def at(self, heading: str) -> None:
        await self.page.wait_for_selector(f".work h1:has-text('{heading}')")
        async with asyncio.timeout(WAIT_MS / 1000):
            while not await self.page.evaluate("performance.now() - window.__drawnAt > 400"):
                await asyncio.sleep(0.05)

    async def enter(self, *headings: str) -> None:
        """Enter on each of these screens, one after the other."""
        for heading in headings:
            await self.at(heading)
            await self.page.wait_for_selector("[data-primary]:not(:disabled)")
            await self.page.keyboard.press("Enter")

    async def amount_fen(self) -> int:
        text = await self.page.locator(".strip .amount").inner_text()
        return int(re.sub(r"\D", "", text.split("\n")[-1]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest_asyncio.fixture(loop_scope="session")
async def demo(browser: Browser, tmp_path: Path) -> AsyncIterator[Demo]:
    port, center = free_port(), free_port()
    ports = ("--port", str(port), "--center-port", str(center), "--data", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", *ports,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    context = await browser.new_context(locale="zh-CN", **BOOTH)
    context.set_default_timeout(2 * WAIT_MS)
    await context.add_init_script(DRAWN_AT)
    try:
        async with aiohttp.ClientSession() as http:
            await _until_up(http, url)
            demo = Demo(url, await context.new_page(), http)
            await _sign_in(demo)
            yield demo
    finally:
        await context.close()
        process.terminate()
        await asyncio.wait_for(process.wait(), START_S)


async def _until_up(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                async with http.get(f"{url}/healthz"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def _sign_in(demo: Demo) -> None:
    await demo.page.goto(demo.url)
    await demo.at("登录")
    for word in ("1001", "1001"):
        await demo.page.keyboard.type(word)
        await demo.page.keyboard.press("Enter")
    await demo.enter("上班")
    await demo.at("等待来车")


async def _done(demo: Demo, before: int) -> None:
    """The page says so, and the card's own purse says the same."""
    await demo.at("缴费成功")
    shown = await demo.page.locator(".work").inner_text()
    assert re.search(r"已保存到本机 #\d+ · [0-9A-F]{4}", shown)
    assert before - await demo.balance() == await demo.amount_fen() > 0
    await demo.page.keyboard.press("Enter")


async def test_a_car_a_lorry_and_a_minimum_fare_by_keys_alone(demo: Demo) -> None:
    for preset in ("car", "truck"):
        put = await demo.vehicle(preset=preset)
        before = await demo.balance()
        await demo.enter("等待来车", "核对实际车牌", "核对车型")
        await demo.at("核对金额")
        await demo.page.wait_for_selector(".hexbox")
        await demo.page.keyboard.type(put["entry_hex"])
        await demo.enter("请确认金额")
        await _done(demo, before)
    await demo.vehicle(preset="minimum_fare")
    before = await demo.balance()
    await demo.enter("等待来车", "核对实际车牌", "核对车型")
    await demo.at("核对金额")
    await demo.page.wait_for_selector(".alert:has-text('E-211')")
    await demo.page.keyboard.press("F9")
    await demo.at("站长授权")
    for word in ("9001", "9001"):
        await demo.page.keyboard.type(word)
        await demo.page.keyboard.press("Enter")
    await demo.enter("请确认金额")
    await _done(demo, before)


async def test_a_wrong_hex_a_mismatch_and_a_listed_card_are_told(demo: Demo) -> None:
    await demo.vehicle(preset="car")
    await demo.enter("等待来车", "核对实际车牌", "核对车型")
    await demo.at("核对金额")
    await demo.page.wait_for_selector(".hexbox")
    await demo.page.keyboard.type("62010C07")
    alert = await demo.page.locator(".fares .alert").inner_text()
    assert "定西" in alert
    assert "兰州东" in alert
    for preset, primary in (("mismatch", "转特情"), ("listed", "请站长放行")):
        await demo.page.keyboard.press("Escape")
        await demo.at("为什么取消")
        await demo.page.keyboard.press("2")
        await demo.at("等待来车")
        await demo.vehicle(preset=preset)
        await demo.enter("等待来车")
        await demo.at("不能按正常收费")
        assert primary in await demo.page.locator("[data-primary]").inner_text()


async def test_a_card_pulled_while_it_was_written_is_proved_and_paid_once(demo: Demo) -> None:
    put = await demo.vehicle(preset="car")
    before = await demo.balance()
    await demo.enter("等待来车", "核对实际车牌", "核对车型")
    await demo.at("核对金额")
    await demo.page.wait_for_selector(".hexbox")
    await demo.page.keyboard.type(put["entry_hex"])
    await demo.at("请确认金额")
    fault = {"device": "card", "fault": "pulled_after", "after": 5}
    async with demo.http.post(f"{demo.url}/bench/faults", json=fault) as armed:
        assert armed.ok
    await demo.page.keyboard.press("Enter")
    await demo.at("扣款结果还不知道")
    async with demo.http.delete(f"{demo.url}/bench/faults") as healed:
        assert healed.ok
    await demo.page.keyboard.press("Enter")
    await _done(demo, before)

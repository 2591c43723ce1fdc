"""Two real screens at one real demo: the booth shows a code, a handheld scans it, sells, leaves.

The handheld's Chromium trusts the lane because its certificate was installed, as on a real one.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import numpy
import pytest
from playwright.async_api import Browser, Error, Page, Playwright, async_playwright

from tests.e2e_handheld.demo import Demo, Screen

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
BOOTH: dict[str, Any] = {"viewport": {"width": 1024, "height": 768}, "has_touch": True}
HAND: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
WAIT_MS = 15_000
GUARD_MS = 450  # a new screen takes no press in its first moments


def need(tool: str, package: str) -> None:
    if not (CHROMIUM if tool == "chromium" else shutil.which(tool)) or not CHROMIUM.exists():
        assert "CI" not in os.environ, f"{tool} is missing"
        pytest.skip(f"{tool} is missing: apt-get install {package}")


@pytest.fixture
async def play() -> AsyncIterator[Playwright]:
    need("chromium", "chromium")
    async with async_playwright() as playwright:
        yield playwright


async def browser_at_home(play: Playwright, home: Path) -> Browser:
    """Chromium keeps the authorities a person has installed under HOME."""
    home.mkdir(exist_ok=True)
    return await play.chromium.launch(
        executable_path=str(CHROMIUM), args=FLAGS, env={**os.environ, "HOME": str(home)}
    )


def install(certificate: Path, home: Path) -> None:
    """安装本车道证书, as a person does it in the settings of a handheld."""
    need("certutil", "libnss3-tools")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    base = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*base, "-N", "--empty-password"], check=True, timeout=60)
    trusted = ["-A", "-t", "C,,", "-n", "lane", "-i", str(certificate)]
    subprocess.run([*base, *trusted], check=True, timeout=60)


class Seen:
    """One page, and everything it complained of or asked of strangers."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.noise, self.foreign = page, [], []  # type: ignore[var-annotated]
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.noise.append(str(error)))
        page.on("request", lambda r: self._asked(r.url, base))

    def _asked(self, url: str, base: str) -> None:
        if not url.startswith((base, base.replace("http", "ws", 1), "data:", "blob:")):
            self.foreign.append(url)

    async def at(self, heading: str) -> None:
        await self.page.wait_for_selector(f".work h1:has-text('{heading}')")
        await self.page.wait_for_timeout(GUARD_MS)

    async def primary(self) -> None:
        await self.page.locator("[data-primary]:not([disabled])").last.tap()

    async def sign_in(self, number: str) -> None:
        await self.at("登录")
        await self.page.fill("[name=operator]", number)
        await self.page.fill("[name=password]", number)
        await self.primary()

    async def start_shift(self) -> None:
        await self.at("上班")
        await self.primary()
        await self.at("等待来车")


def read_qr(picture: bytes) -> str:
    """What a handheld's camera makes of it."""
    image = cv2.imdecode(numpy.frombuffer(picture, numpy.uint8), cv2.IMREAD_COLOR)
    text, _, _ = cv2.QRCodeDetector().detectAndDecode(image)
    return str(text)


async def test_two_screens_pair_sell_watch_and_part(
    demo: Demo, booth: Screen, play: Playwright, tmp_path: Path
) -> None:
    there = (await booth.ask("POST", "/bench/vehicle", {"preset": "car"}))[1]
    certificate = tmp_path / "lane-ca.crt"
    async with booth.http.get(f"{demo.lan}/ca.crt", ssl=False) as answer:
        certificate.write_bytes(await answer.read())
    install(certificate, tmp_path / "home")
    browser = await browser_at_home(play, tmp_path / "home")
    try:
        at_booth = Seen(await browser.new_page(**BOOTH), demo.booth)
        in_hand = Seen(await browser.new_page(**HAND), demo.lan)
        await scan_and_compare(at_booth, in_hand, demo)
        picture = tmp_path / "seen.jpg"
        async with booth.http.get(f"{demo.booth}/api/lanes/X03/camera.jpg") as answer:
            picture.write_bytes(await answer.read())
        await sell(at_booth, in_hand, picture, there)
        await part(at_booth, in_hand, booth)
        assert (at_booth.noise, in_hand.noise) == ([], [])
        assert (at_booth.foreign, in_hand.foreign) == ([], [])
    finally:
        await browser.close()
    await booth.look()
    saved = booth.snap["last"]
    assert (saved["plate"], saved["amount_fen"]) == (there["plate"], there["paid_fen"])
    truth = await booth.get("/bench/vehicle")
    assert there["balance_fen"] - truth["card"]["balance_fen"] == there["paid_fen"]


async def scan_and_compare(at_booth: Seen, in_hand: Seen, demo: Demo) -> None:
    await at_booth.page.goto(demo.booth)
    await at_booth.sign_in("9001")
    await at_booth.start_shift()
    await at_booth.page.get_by_role("button", name="功能").tap()
    await at_booth.page.get_by_role("button", name="配对手持机").tap()
    await at_booth.at("配对手持机")
    await at_booth.primary()
    code = at_booth.page.get_by_alt_text("配对二维码")
    await code.wait_for()
    url = read_qr(await code.screenshot())
    assert url.startswith(f"{demo.lan}/pair#s=")

    await in_hand.page.goto(url)  # no warning: the certificate is installed
    await in_hand.page.fill("#name", "手持 3")
    await in_hand.page.tap("button")
    await in_hand.page.wait_for_selector("#waiting:not([hidden])")
    digits = await in_hand.page.text_content("#digits")
    assert digits
    await at_booth.page.wait_for_selector(f".digits6:has-text('{digits}')")
    same = at_booth.page.get_by_role("button", name="数字一致")
    await same.wait_for()
    await at_booth.page.wait_for_timeout(GUARD_MS)
    await same.tap()
    await in_hand.page.wait_for_url(f"{demo.lan}/")


async def sell(at_booth: Seen, in_hand: Seen, picture: Path, there: dict[str, Any]) -> None:
    await in_hand.sign_in("1001")
    await in_hand.at("等待来车")  # the lane's shift is open: nothing to ask
    await in_hand.primary()
    await in_hand.at("核对实际车牌")
    await in_hand.page.set_input_files("input[type=file]", picture)
    await in_hand.page.wait_for_selector("label:has-text('已拍'), label:has-text('手机照片')")
    await in_hand.primary()
    await in_hand.at("核对车型")

    await at_booth.page.get_by_role("button", name="返回").tap()
    await at_booth.page.wait_for_selector(".side .alert:has-text('正在手持机上处理')")

    await in_hand.primary()
    await in_hand.at("核对金额")
    await take_over(at_booth, in_hand, there["entry_hex"])
    await at_booth.at("请确认金额")
    await at_booth.primary()
    await at_booth.at("缴费成功")
    await in_hand.at("缴费成功")
    await at_booth.page.get_by_text(there["plate"][2:]).first.wait_for()


async def take_over(at_booth: Seen, in_hand: Seen, code: str) -> None:
    """In the middle of a word: the booth has seen each character and goes on behind it."""
    for key in code[:4]:
        await in_hand.page.locator(f".work .key:text-is('{key}')").tap()
    await at_booth.page.wait_for_selector(f".hexbox:has-text('{code[:4]}')")
    await at_booth.page.get_by_role("button", name="接管").tap()
    await at_booth.page.wait_for_selector(".dialog.sure")
    await at_booth.page.wait_for_timeout(GUARD_MS)
    await at_booth.primary()
    await in_hand.page.wait_for_selector(".strip .hand.bad")  # it only looks now
    await at_booth.page.wait_for_selector(".side .alert", state="detached")
    assert await at_booth.page.inner_text(".hexbox") == code[:4].ljust(8, "·")
    for key in code[4:]:
        await at_booth.page.locator(f".work .key:text-is('{key}')").tap()


async def part(at_booth: Seen, in_hand: Seen, booth: Screen) -> None:
    """The booth revokes; the handheld's open page is told, and a reload is refused."""
    [row] = (await booth.get("/api/pairings"))["pairings"]
    assert (row["name"], row["state"]) == ("手持 3", "paired")
    refused = asyncio.create_task(
        in_hand.page.wait_for_event("response", lambda r: r.status == 401, timeout=WAIT_MS)
    )
    await booth.ask("DELETE", f"/api/pairings/{row['id']}")
    await refused
    answer = await in_hand.page.reload()
    assert answer
    assert answer.status == 401
    assert "没有配对" in await answer.text()


async def test_a_browser_without_the_lanes_certificate_is_warned(
    demo: Demo, play: Playwright, tmp_path: Path
) -> None:
    browser = await browser_at_home(play, tmp_path / "bare")
    try:
        page = await browser.new_page()
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            await page.goto(f"{demo.lan}/pair")
    finally:
        await browser.close()

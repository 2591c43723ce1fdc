"""A master's work at the real gateway, by taps: correcting, carrying, settings, pausing the lane.

What came of it is asked of the API and of the files themselves.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from gateway import audit, keys
from gateway.parcel import Parcel
from tests.e2e.booth import Booth
from tests.web.ui.conftest import BOOTH, DRAWN_AT, WAIT_MS, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def booth(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Booth]:
    async with Booth(tmp_path_factory.mktemp("master")) as booth:
        await booth.call("POST", "/api/shifts", {"lane": "X03", "shift": 1})
        yield booth


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, booth: Booth) -> AsyncIterator[Page]:
    """A master's, before an empty lane."""
    await booth.clear()
    context = await browser.new_context(locale="zh-CN", accept_downloads=True, **BOOTH)
    context.set_default_timeout(3 * WAIT_MS)
    await context.add_init_script(DRAWN_AT)
    who = {"operator": "9001", "password": "9001"}
    assert (await context.request.post(f"{booth.url}/api/session", data=who)).ok
    page = await context.new_page()
    grumbles: list[str] = []
    page.on("pageerror", lambda error: grumbles.append(str(error)))
    await page.goto(booth.url)
    yield page
    await context.close()
    assert grumbles == []


async def at(page: Page, heading: str) -> None:
    await page.wait_for_selector(f".work h1:has-text('{heading}')")
    await until(page, "performance.now() - window.__drawnAt > 400")


async def tap(page: Page, *names: str) -> None:
    for name in names:
        await page.get_by_role("button", name=name).first.click()


async def key_in(page: Page, word: str) -> None:
    await page.locator("input[name=password]").fill(word)


async def test_a_plate_that_was_keyed_wrong_is_corrected_by_a_linked_record(
    booth: Booth, page: Page
) -> None:
    await booth.put("car")
    await booth.drive("saved")
    passage = booth.shot["passage"]["id"]
    plate = booth.car["plate"]
    other = plate[:-1] + ("1" if plate[-1] != "1" else "2")
    await at(page, "等待来车")
    await tap(page, "历史")
    await page.locator(".line").first.click()
    await at(page, "这一笔")
    assert await page.get_by_alt_text("设备、网关").count() == 1
    await tap(page, "更正")
    await at(page, "更正")
    assert await page.locator("[data-primary]").is_disabled()
    await page.locator(".initials .key:text-is('退')").first.click()
    await until(page, f"document.querySelector('[name=plate]').value === '{plate[:-1]}'")
    await page.locator(f".initials .key:text-is('{other[-1]}')").first.click()
    await page.get_by_role("radio", name="车牌录错").click()
    await page.wait_for_selector(f".work dd:has-text('{plate} → {other}')")
    await page.locator("input[name=operator]").fill("9001")
    await key_in(page, "wrong")
    await page.wait_for_selector("[data-primary]:not(:disabled)")
    await page.locator("[data-primary]").click()
    await page.wait_for_selector(".alert:has-text('E-221')")
    await page.locator("input[name=operator]").fill("9001")
    await key_in(page, "9001")
    await page.locator("[data-primary]").click()
    await at(page, "这一笔")
    await page.wait_for_selector(f".rows li:has-text('{plate}_0 → {other}_0')")
    told = await booth.get(f"/api/passages/{passage}")
    (made,) = told["corrections"]
    assert (made["corrects"], told["plate"]) == (told["record"]["id"], other)
    assert made["approval"]["operator"] == "9001"
    await booth.center.arrived(made["record_id"])


async def test_a_refused_record_goes_again_as_it_is_and_the_screen_says_what_came_of_it(
    booth: Booth, page: Page
) -> None:
    await booth.arm("center", "refuse")
    await booth.put("car")
    await booth.drive("saved")
    record = booth.shot["passage"]["record"]
    await page.locator(".chip:has-text('退回 1 笔')").click()
    await at(page, "同步")
    row = page.locator(f".rows li:has-text('{record['id']}')")
    assert "拒收" in await row.inner_text()
    await booth.disarm()
    await row.get_by_role("button", name="原样重传").click()
    await at(page, "原样重传")
    assert await page.locator("[data-primary]").is_disabled()
    await page.get_by_role("radio", name="中心已改好").click()
    await page.wait_for_selector("[data-primary]:not(:disabled)")
    await page.locator("input[name=operator]").fill("9001")
    await key_in(page, "9001")
    await page.locator("[data-primary]").click()
    await at(page, "同步")
    await page.wait_for_selector(f".rows li:has-text('#{record['seq']} ✓ 重传后中心已确认')")
    await booth.center.arrived(record["id"])
    passage = booth.shot["passage"]["id"]
    assert (await booth.get(f"/api/passages/{passage}"))["delivery"] == "已确认"


async def test_an_export_is_taken_away_and_a_wrong_receipt_refused(
    booth: Booth, page: Page, tmp_path: Path
) -> None:
    await booth.put("car")
    await booth.drive("saved")
    await at(page, "等待来车")
    await tap(page, "功能", "离线搬运")
    await at(page, "离线搬运")
    await page.keyboard.press("Enter")
    link = page.locator("a[download]")
    await link.wait_for()
    async with page.expect_download() as coming:
        await link.click()
    file = tmp_path / "export.tar"
    await (await coming.value).save_as(file)
    public = bytes.fromhex(keys.of_box(booth.data).public_hex)
    told = audit.examine(Parcel.open(file, public, audit.EXPORT))
    assert sum(lane.vehicles for lane in told.lanes) == len(await booth.ledger())
    junk = tmp_path / "receipt.tar"
    junk.write_bytes(b"not a receipt")
    await page.locator("input[type=file]").set_input_files(junk)
    alert = page.locator(".work .alert")
    await alert.wait_for()
    assert "E-503" in await alert.inner_text()


async def test_settings_open_by_the_masters_own_word(page: Page) -> None:
    await at(page, "等待来车")
    await tap(page, "功能", "设置")
    await at(page, "设置")
    assert "须站长同意" in await page.locator(".work").inner_text()
    assert await page.get_by_role("radio", name="夜间").count() == 0
    await key_in(page, "9001")
    await page.locator("[data-primary]").click()
    await page.get_by_role("radio", name="夜间").click()
    await page.wait_for_selector(":root[data-theme=night]")


async def test_a_paused_lane_reads_no_card_and_the_centre_knows(booth: Booth, page: Page) -> None:
    await booth.put("car")
    await at(page, "等待来车")
    await tap(page, "功能", "暂停、关闭车道", "临时离开")
    await at(page, "暂停收费")
    await page.wait_for_selector(".device.warn:has-text('车道')")
    await booth.look()
    refused = await booth.tap("read")
    assert (refused.status, refused.body["code"]) == (409, "flow.unexpected")
    await booth.restart()
    await page.wait_for_selector(".lost", state="detached")
    await at(page, "暂停收费")
    await page.keyboard.press("Enter")
    await at(page, "等待来车")
    await booth.look()
    await booth.drive("saved")
    await booth.saved()

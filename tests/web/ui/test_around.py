"""Around the five steps: another's vehicle, masters afar, restarts, new files, the lock."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import FileChooser

from gateway.web import drawing
from tests.web.ui import around, fixtures
from tests.web.ui.conftest import Screen
from tests.web.ui.test_flow import at, sent
from tests.web.ui.test_layout import MEASURE

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
ASKED = {"id": "A1", "command": "minimum_fare", "expires_at_ms": 0}


async def until(screen: Screen, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(8):
        while len(screen.script.commands) < count:
            await asyncio.sleep(0.02)
    return screen.script.commands


async def test_a_master_afar_says_yes_and_the_command_goes_by_itself(booth: Screen) -> None:
    await booth.show("unpriced")
    await at(booth, "核对金额")
    await booth.page.keyboard.press("F9")
    await at(booth, "站长授权")
    await booth.script.show("unpriced", approvals=[{**ASKED, "state": "pending"}])
    await booth.page.get_by_role("button", name="远程授权").click()
    await booth.page.wait_for_selector(".work:has-text('等待回复')")
    assert booth.script.commands == []
    await booth.script.show("unpriced", approvals=[{**ASKED, "state": "approved"}])
    assert await until(booth, 1) == [{"command": "minimum_fare", "approval": "A1"}]
    await at(booth, "请确认金额")


async def test_a_masters_own_screen_shows_that_he_is_asked(hand: Screen) -> None:
    hand.script.session = fixtures.session("master")
    await hand.open()
    await hand.show("unpriced", approvals=[{**ASKED, "state": "pending"}])
    await hand.page.get_by_role("button", name="授权请求").click()
    await at(hand, "最小费额")
    assert await hand.page.locator("[data-primary]").is_enabled()
    for digit in "9001":
        await hand.page.locator(f".work .key:text-is('{digit}')").click()
    await hand.primary()
    async with asyncio.timeout(8):
        while "/api/approvals/A1" not in hand.script.seen:
            await asyncio.sleep(0.02)


async def test_a_lost_handhelds_vehicle_is_taken_over_after_a_second_look(booth: Screen) -> None:
    booth.script.obey["resume"] = "priced"
    await booth.show("plate_other_screen")
    await at(booth, "核对实际车牌")
    vehicle = booth.script.snapshot["passage"]["id"]
    await booth.page.get_by_role("button", name="接管").click()
    await booth.page.wait_for_selector(".dialog.sure")
    assert booth.script.commands == []
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    assert await until(booth, 2) == [
        {"command": "suspend"},
        {"command": "resume", "passage": vehicle},
    ]
    await at(booth, "核对金额")


async def test_a_vehicle_from_before_a_restart_is_read_before_anybody_goes_on(
    booth: Screen,
) -> None:
    await around.survivor(booth)
    text = await booth.page.locator(".work").inner_text()
    assert "核对入口站" in text
    assert "没有扣款" in text
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    await at(booth, "核对金额")
    await booth.page.reload()
    await at(booth, "核对金额")
    assert await sent(booth) == []


async def test_new_files_wait_until_the_vehicle_has_gone(booth: Screen) -> None:
    await booth.show("priced")
    await booth.page.evaluate("window.__same = true")
    booth.script.ui = "b" * 64
    await booth.script.push()
    await booth.page.evaluate("new Promise(done => setTimeout(done, 1500))")
    assert await booth.page.evaluate("window.__same") is True
    async with booth.page.expect_event("framenavigated"):
        await booth.script.show("idle")
    await at(booth, "等待来车")


async def test_a_damaged_page_says_so_and_may_go_on(booth: Screen) -> None:
    await around.torn(booth)
    assert "界面文件不对" in await booth.page.locator(".work").inner_text()
    await booth.page.get_by_role("button", name="仍然继续").click()
    await at(booth, "等待来车")


async def test_a_locked_screen_opens_by_its_persons_password_also_after_a_reload(
    booth: Screen,
) -> None:
    await booth.show("idle")
    await at(booth, "等待来车")
    await booth.page.get_by_role("button", name="锁屏").click()
    await at(booth, "已锁屏")
    await booth.page.reload()
    await at(booth, "已锁屏")
    assert "1001" in await booth.page.locator(".work").inner_text()
    for key in "1001":
        await booth.page.keyboard.press(key)
    await booth.page.keyboard.press("Enter")
    await at(booth, "等待来车")


async def test_a_locked_screen_stays_locked_when_a_handheld_goes_on(booth: Screen) -> None:
    """Also where a reason was once asked for on this screen."""
    await booth.show("priced")
    await at(booth, "核对金额")
    await booth.page.keyboard.press("Escape")
    await at(booth, "为什么取消")
    await booth.page.get_by_role("button", name="操作错了").click()
    await at(booth, "等待来车")
    await booth.page.get_by_role("button", name="锁屏").click()
    await at(booth, "已锁屏")
    await booth.script.show("plate_other_screen")
    rev = booth.script.snapshot["rev"]
    await booth.page.wait_for_selector(f":root[data-rev='{rev}'] .work", state="attached")
    assert await booth.page.locator(".work h1").inner_text() == "已锁屏"
    assert not await booth.page.get_by_role("button", name="接管").count()


async def test_a_master_reaches_the_menu_and_the_lane_without_a_shift(booth: Screen) -> None:
    shift = fixtures.shift_place(1)
    bar = [*shift["bar"], {"label": "功能", "enter": "X03", "go": "menu"}]
    booth.script.session |= {"role": "master", "shift": None}
    booth.script.answers["GET places/shift"] = (200, {**shift, "bar": bar})
    await booth.open()
    await at(booth, "上班")
    await booth.page.get_by_role("button", name="功能").click()
    await at(booth, "功能")
    await booth.page.get_by_role("button", name="同步").first.click()
    await at(booth, "同步")
    await booth.page.keyboard.press("Escape")
    await at(booth, "等待来车")
    assert await sent(booth) == []


async def test_a_press_meant_for_the_button_before_confirms_no_pairing(booth: Screen) -> None:
    same = fixtures.ANSWERS["GET places/pairing"]
    start = {"label": "取配对码", "method": "POST", "path": "/api/pairings", "body": {}}
    booth.script.answers["GET places/pairing"] = (200, {**same, "primary": start, "again_ms": 100})
    await booth.show("idle")
    await booth.page.evaluate("async () => { (await import('/app.js')).app.go('pairing'); }")
    await at(booth, "配对手持机")
    early = """() => new Promise(done => {
      const watch = new MutationObserver(() => {
        const button = document.querySelector('[data-primary]');
        if (!button?.textContent.includes('数字一致')) return;
        watch.disconnect();
        setTimeout(() => { button.click(); done(!button.disabled); }, 150);
      });
      watch.observe(document.body, { childList: true, subtree: true, characterData: true });
    })"""
    pressed = asyncio.ensure_future(booth.page.evaluate(early))
    booth.script.answers["GET places/pairing"] = (200, same)
    assert await pressed, "the button was enabled: the press would have confirmed"
    await booth.settle()
    assert "/api/pairings/offer-1/confirm" not in booth.script.seen
    await booth.primary()
    async with asyncio.timeout(8):
        while "/api/pairings/offer-1/confirm" not in booth.script.seen:
            await asyncio.sleep(0.02)


async def test_what_another_screen_has_saved_is_nobodys_any_more(booth: Screen) -> None:
    aside = fixtures.snapshot("idle_suspended")["suspended"]
    await booth.show("saved", suspended=aside)
    booth.script.snapshot["passage"]["owner"] = "handheld:2"
    booth.script.snapshot["rev"] += 1
    await booth.script.push()
    await booth.page.wait_for_selector(".work h1:has-text('等待来车')")
    await booth.settle()
    assert not await booth.page.get_by_text("正在手持机上处理").count()
    await booth.page.get_by_role("button", name="2 辆车挂起").click()
    await at(booth, "挂起的车")


async def test_another_language_is_spoken_at_once_and_by_every_button(booth: Screen) -> None:
    await booth.show("idle")
    await booth.page.evaluate("async () => { (await import('/app.js')).app.go('settings'); }")
    await at(booth, "设置")
    await booth.page.get_by_role("radio", name="English").click()
    await at(booth, "Waiting")
    assert "Read card" in await booth.page.locator(".bar").inner_text()
    await booth.show("refused_stops")
    assert "Hand over" in await booth.page.locator(".bar").inner_text()


async def test_a_handheld_lists_its_keys_and_draws_a_timeline_to_be_read(hand: Screen) -> None:
    await hand.show("plate")
    await hand.settle()
    await hand.page.keyboard.press("F1")
    await hand.page.wait_for_selector(".dialog.help")
    assert await hand.page.locator(".help kbd").first.is_visible()
    await around.go(hand, "passage/X03-4")
    drawn = hand.page.locator(".wide img")
    assert await drawn.evaluate("img => img.decode().then(() => img.width)") == drawing.WIDTH
    assert await hand.page.locator(".wide").evaluate("e => e.scrollWidth > e.clientWidth")


async def test_an_engineer_is_offered_nothing_that_would_be_refused(booth: Screen) -> None:
    booth.script.session |= {"role": "engineer", "allowed": ["look", "maintain"]}
    await booth.open()
    await at(booth, "等待来车")
    assert await booth.page.locator("[data-primary]").is_disabled()
    await booth.show("priced")
    await at(booth, "核对金额")
    assert await booth.page.locator("[data-primary]").is_disabled()
    for key in ("Digit6", "Escape", "F3", "F9", "F11"):
        await booth.page.keyboard.press(key)
    assert not await booth.page.locator(".hexbox").count()
    assert await booth.page.locator(".work h1").inner_text() == "核对金额与入口站"
    await booth.page.keyboard.press("F12")
    await at(booth, "设备")
    assert booth.script.commands == []


OTHERS = ("plate", "vehicle_truck", "priced", "refused_master", "held", "doubtful", "agreed")


@pytest.mark.parametrize("size", [(1024, 768), (360, 640)])
async def test_nothing_of_anothers_vehicle_can_be_changed_and_every_screen_says_so(
    booth: Screen, size: tuple[int, int]
) -> None:
    faults: dict[str, Any] = {}
    alive = """() => [...document.querySelectorAll('.work button, .bar button')]
        .filter(b => !b.disabled && !b.closest('[inert]')).map(b => b.textContent)"""
    for state in OTHERS:
        await booth.page.set_viewport_size({"width": size[0], "height": size[1]})
        await booth.show(state)
        booth.script.snapshot["passage"]["owner"] = "handheld:2"
        booth.script.snapshot["rev"] += 1
        await booth.script.push()
        await booth.page.wait_for_selector(f":root[data-rev='{booth.script.snapshot['rev']}']")
        assert await booth.page.get_by_text("正在手持机上处理").locator("visible=true").count()
        before = await booth.page.locator(".shell").inner_text()
        for key in ("Digit1", "KeyB", "F3", "F4", "F5", "F6", "F7", "F9", "F10", "Backspace"):
            await booth.page.keyboard.press(key)
        await booth.settle()
        for key in ("F6", "F7", "F9"):
            await booth.page.keyboard.press(key)
        assert await booth.page.locator(".shell").inner_text() == before, state
        left = {each.rstrip() for each in await booth.page.evaluate(alive)}
        assert left <= {"接管", "挂起F11"}, (state, left)
        found = await booth.page.evaluate(MEASURE, 46)
        faults |= {state: found} if any(found.values()) else {}
    assert faults == {}
    assert booth.script.commands == []


async def test_an_idle_screen_locks_itself_a_busy_one_does_not(booth: Screen) -> None:
    hurry = "async () => { (await import('/app.js')).app.configure({ lock: 0.01 }); }"
    await booth.show("priced")
    await booth.page.evaluate(hurry)
    await booth.page.evaluate("new Promise(done => setTimeout(done, 1600))")
    assert await booth.page.locator(".fares").count() == 1
    await booth.script.show("idle")
    await booth.page.wait_for_selector(".work h1:has-text('已锁屏')")


async def test_a_lane_is_paused_and_opened_again_by_taps(booth: Screen) -> None:
    await around.go(booth, "standing")
    await booth.page.get_by_role("button", name="临时离开").click()
    await at(booth, "暂停收费")
    await booth.page.keyboard.press("F2")
    await booth.page.keyboard.press("Enter")
    await at(booth, "等待来车")
    assert booth.script.commands == [
        {"command": "pause_lane", "reason": "临时离开"},
        {"command": "open_lane"},
    ]


async def test_the_number_on_a_reason_is_the_key_of_it(booth: Screen) -> None:
    await around.go(booth, "standing")
    caps = await booth.page.locator("[data-option] kbd").all_inner_texts()
    assert caps == [str(n + 1) for n in range(len(caps))]
    await booth.settle()
    await booth.page.keyboard.press("Digit4")
    await at(booth, "暂停收费")
    assert booth.script.commands == [{"command": "pause_lane", "reason": "其他"}]


async def test_closing_the_lane_is_asked_twice(booth: Screen) -> None:
    await around.go(booth, "standing")
    await booth.page.get_by_role("button", name="交通管制").click()
    await booth.page.wait_for_selector(".dialog.sure")
    assert booth.script.commands == []
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    await at(booth, "车道已关闭")
    assert booth.script.commands == [{"command": "close_lane", "reason": "交通管制"}]


async def test_a_learned_key_does_what_it_was_taught(booth: Screen) -> None:
    await around.go(booth, "settings")
    await booth.page.get_by_role("button", name="读卡").click()
    await booth.page.wait_for_selector("[aria-pressed=true]")
    await booth.settle()
    await booth.page.keyboard.press("KeyQ")
    await booth.show("idle")
    await at(booth, "等待来车")
    await booth.page.keyboard.press("KeyQ")
    await at(booth, "核对实际车牌")
    assert await sent(booth) == ["read"]


async def test_help_says_which_keys_work_now(booth: Screen) -> None:
    await booth.show("idle")
    await around.open_dialog(booth, "help")
    off = await booth.page.locator(".dialog dd.off").all_inner_texts()
    assert "数据保存" in off
    assert "确认" not in off


async def test_history_is_asked_for_less_and_leads_to_one_passage_and_back(booth: Screen) -> None:
    await around.go(booth, "history")
    await booth.page.locator("input[name=plate]").fill("甘a")
    await booth.page.get_by_role("radio", name="已保存").click()
    async with asyncio.timeout(8):
        while not any("state=saved" in url for url in booth.script.asked):
            await asyncio.sleep(0.02)
    assert any("plate=%E7%94%98A" in url for url in booth.script.asked)
    await booth.page.locator(".line").first.click()
    await at(booth, "这一笔")
    await booth.page.keyboard.press("Escape")
    await at(booth, "历史")
    await booth.page.keyboard.press("Escape")
    await at(booth, "等待来车")


async def test_signing_off_is_asked_once_more(booth: Screen) -> None:
    await around.go(booth, "shiftEnd")
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    await booth.page.wait_for_selector(".dialog.sure")
    assert "/api/shifts/3/close" not in booth.script.seen
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    async with asyncio.timeout(8):
        while "/api/shifts/3/close" not in booth.script.seen:
            await asyncio.sleep(0.02)


async def test_numbers_and_passwords_are_kept_nowhere(booth: Screen) -> None:
    await around.ask(booth, "master")
    await booth.page.locator("input[name=operator]").fill("9001")
    await booth.page.locator("input[name=password]").fill("90019001")
    await booth.settle()
    await booth.page.keyboard.press("Escape")
    await at(booth, "核对金额")
    await around.ask(booth, "master")
    assert await booth.page.locator("input[name=password]").input_value() == ""
    kept = await booth.page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert "9001" not in kept


async def test_by_keys_enter_presses_the_link_that_tab_came_to(booth: Screen) -> None:
    """And not the primary: a new export would take the place of the one that is wanted."""
    opened: list[FileChooser] = []
    # From the start on: Chromium cancels a chooser for which the interception comes too late.
    booth.page.on("filechooser", lambda chooser: opened.append(chooser))
    await around.go(booth, "carry")
    await booth.settle()
    for wanted in ("a", "input[type=file]"):
        for _ in range(30):
            await booth.page.keyboard.press("Tab")
            if await booth.page.evaluate(f"document.activeElement.matches('{wanted}')"):
                break
        else:
            raise AssertionError(f"Tab never comes to {wanted}")
        booth.script.seen.clear()
        if wanted == "a":
            async with booth.page.expect_download():
                await booth.page.keyboard.press("Enter")
            assert booth.script.seen[0].startswith("/api/exports/lane-export-")
        else:
            await booth.page.keyboard.press("Enter")
            async with asyncio.timeout(8):
                while not opened:
                    await asyncio.sleep(0.02)
        assert "/api/exports" not in booth.script.seen

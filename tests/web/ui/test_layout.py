"""Every screen on every size: nothing sticks out, nothing is cut, every target can be hit."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.web.ui import around, fixtures
from tests.web.ui.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MEASURE = Path(__file__).with_name("measure.js").read_text(encoding="utf-8")
SIZES = ((1024, 768), (1280, 800), (360, 740), (360, 640))
SCALES = ("1", "1.15")
LEAST, LEAST_LOW = 48, 46  # of a target, and on the lowest screen


async def measure(screen: Screen, name: str, faults: dict[str, Any]) -> None:
    """This screen, on every size and scale."""
    for width, height in SIZES:
        await screen.page.set_viewport_size({"width": width, "height": height})
        for scale in SCALES:
            dress = "scale => { document.documentElement.dataset.scale = scale; }"
            await screen.page.evaluate(dress, scale)
            least = LEAST_LOW if height == 640 else LEAST
            found = await screen.page.evaluate(MEASURE, least)
            if any(found.values()):
                where = f"{name} {width}x{height} {scale}"
                faults[where] = {key: value for key, value in found.items() if value}


def told(faults: dict[str, Any]) -> str:
    return json.dumps(faults, ensure_ascii=False, indent=1)


async def every_state(screen: Screen) -> dict[str, Any]:
    faults: dict[str, Any] = {}
    for name in fixtures.STATES:
        await screen.show(name)
        await measure(screen, name, faults)
    return faults


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_no_state_sticks_out_and_every_target_can_be_hit(booth: Screen, theme: Any) -> None:
    await booth.page.emulate_media(color_scheme=theme)
    faults = await every_state(booth)
    assert faults == {}, told(faults)


async def test_words_may_be_two_fifths_longer(booth: Screen) -> None:
    booth.script.is_pseudo = True
    await booth.open()
    faults = await every_state(booth)
    assert faults == {}, told(faults)


async def test_engineers_read_the_same_screens_in_english(booth: Screen) -> None:
    await booth.page.evaluate("localStorage.setItem('settings', '{\"language\": \"en\"}')")
    await booth.open()
    faults = await every_state(booth)
    assert faults == {}, told(faults)
    assert await booth.page.locator("html").get_attribute("lang") == "en"
    await booth.show("priced")
    assert await booth.page.locator(".work h1").inner_text() == "Fare and entry"


async def test_no_place_dialog_or_start_sticks_out(booth: Screen) -> None:
    faults: dict[str, Any] = {}
    ways: list[tuple[str, Callable[[Screen, str], Awaitable[None]]]] = [
        *((name, around.go) for name in around.PLACES),
        *((name, around.ask) for name in around.ASKED),
        *((name, around.open_dialog) for name in around.DIALOGS),
    ]
    for name, arrive in ways:
        await booth.page.set_viewport_size({"width": 1024, "height": 768})
        size = (360, 740) if name in ("pick", "photo") else (1024, 768)
        await booth.page.set_viewport_size({"width": size[0], "height": size[1]})
        await arrive(booth, name)
        await measure(booth, name, faults)
    for name, reach in around.OTHERS.items():
        await reach(booth)
        await measure(booth, name, faults)
    assert faults == {}, told(faults)


PROBLEMS = {
    "plate": ("E-203", "没有拍到照片：相机没有应答", "再拍一次，用手持机拍，或记原因后无照片继续"),
    "vehicle_truck": ("E-206", "没有称重数据：称台没有应答", "再取一次，或人工填写"),
    "priced": (
        "E-212",
        "Hex码和入口站不一致：输入 62010A3E，入口站是兰州东",
        "请重新输入，或按站名找",
    ),
    "unpriced": ("E-211", "路径还原失败，上级也算不出", "请核对入口站，或按最小费额计费"),
    "held": ("E-221", "站长工号或密码不对，还可以试 4 次", "请核对"),
}


@pytest.mark.parametrize("state", PROBLEMS)
async def test_a_low_handheld_shows_what_to_do_and_the_number(booth: Screen, state: str) -> None:
    number, detail, action = PROBLEMS[state]
    await booth.page.set_viewport_size({"width": 360, "height": 640})
    await booth.show(state, **fixtures.problem(number, detail, action))
    said = booth.page.locator(".work .alert p")
    assert await said.inner_text() == f"{action} {number}"
    assert await said.evaluate("p => getComputedStyle(p).clipPath") == "none"
    found = await booth.page.evaluate(MEASURE, LEAST_LOW)
    assert not any(found.values()), found


async def test_a_lorry_of_another_type_than_its_card_can_be_mended_on_a_low_handheld(
    booth: Screen,
) -> None:
    await booth.page.set_viewport_size({"width": 360, "height": 640})
    await booth.show("vehicle_truck")
    await booth.page.get_by_role("radio", name="货六").click()
    back = booth.page.get_by_role("button", name="改回货二")
    bar, box = await booth.page.locator(".bar").bounding_box(), await back.bounding_box()
    assert bar
    assert box
    assert box["y"] + box["height"] <= bar["y"]
    last = booth.page.locator(".axles .option").last
    await last.scroll_into_view_if_needed()
    await last.click()
    await back.click()
    assert await booth.page.locator(".axles .option").last.get_attribute("aria-checked") == "false"


async def test_night_follows_the_system_and_the_setting(booth: Screen) -> None:
    background = "getComputedStyle(document.querySelector('.shell')).color"
    await booth.show("idle")
    day = await booth.page.evaluate(background)
    await booth.page.emulate_media(color_scheme="dark")
    await booth.page.wait_for_selector(":root[data-theme=night]")
    assert await booth.page.evaluate(background) != day
    choose = "async () => (await import('/app.js')).app.configure({ theme: 'day' })"
    await booth.page.evaluate(choose)
    await booth.page.wait_for_selector(":root[data-theme=day]")
    assert await booth.page.evaluate(background) == day


CUT = """() => [...document.querySelectorAll('.top > *, .device, .steps span')].filter(e => {
  const { width, bottom } = e.getBoundingClientRect();
  const line = parseFloat(getComputedStyle(e).fontSize) * 1.6;
  const isFolded = e.closest('.steps') && e.offsetHeight > line;
  const isCut = e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 3;
  const isBelow = e.closest('.top') && bottom > 57;
  return width && getComputedStyle(e).display !== 'inline' && (isCut || isFolded || isBelow);
}).map(e => e.textContent)"""


@pytest.mark.parametrize("scale", SCALES)
async def test_who_the_lamps_and_the_chip_all_stand_at_the_top(booth: Screen, scale: str) -> None:
    bare = fixtures.snapshot("idle_offline")
    lamps = {
        **bare["devices"],
        "disk": {"name": "磁盘", "state": "degraded", "text": ""},
        "clock": {"name": "时钟", "state": "missing", "text": ""},
    }
    lamps["scale"] |= {"state": "missing"}
    sync = {**bare["sync"], "parked": 2, "unsent": 1234}
    await booth.show("idle_offline", devices=lamps, sync=sync)
    dress = "scale => { document.documentElement.dataset.scale = scale; }"
    await booth.page.evaluate(dress, scale)
    assert await booth.page.evaluate(CUT) == []

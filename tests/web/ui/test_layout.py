"""Every state on every size: nothing sticks out, every target can be hit, day and night."""

import json
from pathlib import Path

import pytest

from tests.web.ui import fixtures
from tests.web.ui.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MEASURE = Path(__file__).with_name("measure.js").read_text(encoding="utf-8")
CLEAN = {"small": [], "outside": [], "over": [], "cut": []}
SIZES = ((1024, 768), (1280, 800), (360, 740), (360, 640))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_no_state_sticks_out_and_every_target_can_be_hit(
    booth: Screen, size: tuple[int, int]
) -> None:
    await booth.page.set_viewport_size({"width": size[0], "height": size[1]})
    faults = {}
    for name in fixtures.STATES:
        await booth.show(name)
        measured = await booth.page.evaluate(MEASURE)
        if measured != CLEAN:
            faults[name] = {key: value for key, value in measured.items() if value}
    assert faults == {}, json.dumps(faults, ensure_ascii=False)


PLACES = ("history", "suspended", "devices", "sync", "versions", "pairing", "settings", "shiftEnd")
DIALOGS = {
    "cancel": ("priced", "Escape"),
    "master": ("priced", "F9"),
    "weigh": ("vehicle_truck", "F7"),
    "help": ("plate", "F1"),
}


@pytest.mark.parametrize("size", [(1024, 768), (360, 740)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_no_place_around_the_lane_sticks_out(booth: Screen, size: tuple[int, int]) -> None:
    await booth.page.set_viewport_size({"width": size[0], "height": size[1]})
    faults = {}
    for n in range(len(PLACES)):
        await booth.show("idle_suspended")
        await booth.page.get_by_role("button", name="功能").click()
        await booth.page.locator("[data-option]").nth(n).click()
        await booth.page.wait_for_selector(".work.wide h1:not(:text-is('功能'))")
        measured = await booth.page.evaluate(MEASURE)
        if measured != CLEAN:
            faults[PLACES[n]] = {key: value for key, value in measured.items() if value}
    assert faults == {}, json.dumps(faults, ensure_ascii=False)


@pytest.mark.parametrize("size", [(1024, 768), (360, 740)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_no_dialog_sticks_out(booth: Screen, size: tuple[int, int]) -> None:
    await booth.page.set_viewport_size({"width": size[0], "height": size[1]})
    faults = {}
    for name, (state, key) in DIALOGS.items():
        await booth.show(state)
        await booth.settle()
        await booth.page.keyboard.press(key)
        await booth.page.wait_for_selector(f".dialog.{name}")
        measured = await booth.page.evaluate(MEASURE)
        if measured != CLEAN:
            faults[name] = {key: value for key, value in measured.items() if value}
    assert faults == {}, json.dumps(faults, ensure_ascii=False)


async def test_signed_out_the_page_asks_who_is_there(hand: Screen) -> None:
    hand.script.session = fixtures.signed_out()
    await hand.open()
    await hand.page.wait_for_selector("input[name=operator]")
    assert await hand.page.evaluate(MEASURE) == CLEAN


async def test_night_follows_the_system_and_the_setting(booth: Screen) -> None:
    background = "getComputedStyle(document.querySelector('.shell')).color"
    await booth.show("idle")
    day = await booth.page.evaluate(background)
    await booth.page.emulate_media(color_scheme="dark")
    assert await booth.page.evaluate(background) != day
    # In one go: the page dresses itself anew twice a second, after its own setting.
    chosen = f"() => {{ document.documentElement.dataset.theme = 'day'; return {background} }}"
    assert await booth.page.evaluate(chosen) == day

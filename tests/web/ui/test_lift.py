"""A refusal whose cause has gone: the screen hears it from the snapshot, not from a press."""

import pytest

from tests.web.ui import fixtures
from tests.web.ui.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
REFUSED = {
    "code": "store.unavailable",
    "number": "E-303",
    "detail": "磁盘满了，不再开始新的一笔",
    "action": "请改用别的车道",
    "lasts": True,
}
FULL = {"code": "E-306", "detail": "磁盘满了，预留的空间也快用完", "action": "请改用别的车道"}


async def drawn(screen: Screen, **changes: object) -> None:
    """The next snapshot of the same vehicle, or of the same empty lane."""
    script = screen.script
    script.snapshot = {**script.snapshot, "rev": script.snapshot["rev"] + 1, **changes}
    await script.push()
    await screen.page.wait_for_selector(f":root[data-rev='{script.snapshot['rev']}']")


async def test_a_refusal_for_the_disks_sake_goes_with_its_cause(booth: Screen) -> None:
    booth.script.obey["read"] = (503, REFUSED)
    await booth.show("idle")
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    alert = booth.page.locator(".work .alert")
    await alert.filter(has_text="E-303").wait_for()
    allowed = booth.script.snapshot["allowed"]
    await drawn(booth, problem=FULL, allowed=[])
    await alert.filter(has_text="E-306").wait_for()
    assert await alert.count() == 1
    await drawn(booth, problem=None, allowed=allowed)
    await alert.wait_for(state="detached")
    assert await booth.page.locator("[data-primary]").is_enabled()


async def test_a_refusal_stays_while_the_snapshot_does_not_take_it_back(booth: Screen) -> None:
    refused = {**REFUSED, "code": "flow.unexpected", "number": "flow.unexpected"}
    booth.script.obey["read"] = (409, refused)
    await booth.show("idle")
    await booth.settle()
    allowed = booth.script.snapshot["allowed"]
    await booth.page.keyboard.press("Enter")
    await booth.page.locator(".work .alert").wait_for()
    await drawn(booth, allowed=["resume"])
    assert await booth.page.locator(".work .alert").count() == 1
    await drawn(booth, allowed=allowed)
    await booth.page.locator(".work .alert").wait_for(state="detached")


async def test_in_mid_vehicle_it_says_that_the_press_did_nothing(booth: Screen) -> None:
    booth.script.obey["save"] = (503, REFUSED)
    await booth.show("agreed")
    await booth.settle()
    await booth.page.keyboard.press("Enter")
    await booth.page.locator(".work .alert.bad").wait_for()
    await drawn(booth)
    after = await booth.page.locator(".work .alert.warn").inner_text()
    assert "请再按一次" in after
    assert await booth.page.locator("[data-primary]").is_enabled()


async def test_what_the_person_keyed_wrong_is_not_taken_back_by_a_snapshot(booth: Screen) -> None:
    wrong = {"code": "entry.mismatch", "number": "E-212", "detail": "Hex 码不一致", "action": ""}
    booth.script.obey["confirm_entry"] = (422, wrong)
    await booth.show("priced")
    await booth.settle()
    await booth.page.keyboard.type("62010A3E")
    await booth.page.locator(".work .alert:has-text('E-212')").wait_for()
    await drawn(booth, sync={**fixtures.snapshot("priced")["sync"], "unsent": 7})
    assert await booth.page.locator(".work .alert:has-text('E-212')").count() == 1

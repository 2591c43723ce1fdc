"""The process killed behind each journal row of a car: which card the page shows in its next life.

A collector who comes to the screen then must be told where the vehicle stands, and never that
nothing was debited when something may have been. Afterwards: paid once, one record, books whole.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.e2e.afterlife import Died, Story, World
from tests.e2e.afterlife import world as born
from tests.web.ui.conftest import BOOTH, DRAWN_AT, WAIT_MS, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]

AT_ONCE = 2
COMMIT = "commit flow.books Books.commit"
HALF_DONE, PAID = ("停机之前的车",), ("✓ 缴费成功", "等待来车")
CARDS = {
    "ReadRequested": (HALF_DONE, "停在“车牌照片”"),
    "ChecksPassed": (HALF_DONE, "停在“车牌照片”"),
    "PlateSubmitted": (HALF_DONE, "停在“车型车种”"),
    "PhotoBound": (HALF_DONE, "停在“车型车种”"),
    "VehicleClassified": (HALF_DONE, "停在“算费”"),
    "QuoteRequested": (HALF_DONE, "停在“核对入口站”"),
    "FareQuoted": (HALF_DONE, "停在“核对入口站”"),
    "EntryConfirmed": (HALF_DONE, "停在“数据保存”"),
    "SaveRequested": (PAID, "#1"),  # the card still lies there: what was ordered is done
    "DebitPrepared": (HALF_DONE, "已查清：卡上没有扣款"),  # it died before the DEBIT
    "DebitConfirmed": (PAID, "#1"),
}
"""The last row on disk → heading of the card, and what it must say. The success is shown for
three seconds, then it is the last vehicle."""
SAFE = "没有扣款"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with born(tmp_path_factory.mktemp("reborn")) as world:
        yield world


async def die_behind(story: Story, event: str) -> None:
    """A first life that ends when this row is on disk."""
    try:
        await story.wake((f"{COMMIT} {event}", 1, "after"))
        await story.work(waits_for_death=True)
    except Died:
        assert story.life is not None
        await asyncio.wait_for(asyncio.shield(story.life.ended), 30)


async def card(context: BrowserContext, story: Story) -> tuple[str, str]:
    """What a collector sees who comes to the screen of the next life."""
    who = {"operator": "1001", "password": "1001"}
    url = story.browser.url
    assert (await context.request.post(f"{url}/api/session", data=who)).ok
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector(".with-steps .work h1")
    await until(
        page, "async () => { const { app } = await import('/app.js'); return !app.s?.busy; }"
    )
    work = page.locator(".work")
    told = (await work.locator("h1").inner_text(), await work.inner_text())
    await page.close()
    return told


async def tell(browser: Browser, world: World, event: str) -> str:
    """Empty, or what was not as promised."""
    story = world.story()
    context = await browser.new_context(locale="zh-CN", **BOOTH)
    context.set_default_timeout(3 * WAIT_MS)
    await context.add_init_script(DRAWN_AT)
    try:
        async with story:
            await die_behind(story, event)
            await story.wake()
            heading, text = await card(context, story)
            await story.work()
            await story.end()
    finally:
        await context.close()
    titles, says = CARDS[event]
    if heading not in titles or says not in text:
        return f"{event}: {heading!r}, not {titles}; {text!r}"
    if (SAFE in text) != (titles == HALF_DONE):
        return f"{event}: {SAFE!r} was said, or was not, in {text!r}"
    return ""


async def test_each_row_of_a_car_leads_to_its_card_and_the_car_pays_once(
    browser: Browser, world: World
) -> None:
    points = await world.points()
    rows = [name.split()[-1] for name, _ in points if name.startswith(COMMIT)]
    assert rows == list(CARDS), "each row has its card"
    waiting, wrong = list(CARDS), []

    async def tell_some() -> None:
        while waiting:
            if told := await tell(browser, world, waiting.pop(0)):
                wrong.append(told)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(tell_some())
    assert wrong == [], "\n".join(wrong)

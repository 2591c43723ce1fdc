"""The page before the real gateway, and everything that can go between them: the wire, the process.

What came of it is asked of the journal and of the chips, never of the page.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from tests.e2e.booth import Booth
from tests.web.ui.conftest import BOOTH, DRAWN_AT, WAIT_MS, until
from tests.web.ui.proxy import Wire

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BAR_MS = 6000  # ui.md §5: after so long at most a person sees that the link is lost
COMMANDS = "POST /api/lanes/X03/commands"
CAR = [
    "ReadRequested", "ChecksPassed", "PlateSubmitted", "PhotoBound", "VehicleClassified",
    "QuoteRequested", "FareQuoted", "EntryConfirmed", "SaveRequested", "DebitPrepared",
    "DebitConfirmed",
]  # fmt: skip
WATCH_BAR = """() => { window.__bar = new Promise(done => {
  const timer = setInterval(async () => {
    if (!document.querySelector('.lost')) return;
    clearInterval(timer);
    const { app } = await import('/app.js');
    done(performance.now() - app.link.heardAt);
  }, 50);
}); }"""


FREE = "async () => { const { app } = await import('/app.js'); return !app.isBusy; }"
ENTER = """repeat => dispatchEvent(
  new KeyboardEvent('keydown', { code: 'Enter', repeat, cancelable: true }))"""
AT_ONCE = f"""at => new Promise(done => setTimeout(() => {{
  const enter = {ENTER};
  done(enter(false));
}}, at - Date.now()))"""
EARLY = f"""() => {{
  const enter = {ENTER};
  let last = '';
  window.__early = 0;
  new MutationObserver(() => {{
    const now = document.querySelector('.work h1')?.textContent;
    if (now === last) return;
    last = now;
    window.__early += 1;
    enter(false);
    setTimeout(() => enter(false), 200);
  }}).observe(document, {{ childList: true, subtree: true, characterData: true }});
}}"""
HASTE = f"""() => {{
  const enter = {ENTER};
  enter(false);
  enter(false);
  for (let n = 0; n < 20; n += 1) setTimeout(() => enter(true), n * 30);
}}"""


class Lane:
    """The demo process, the wire before it, and a collector's page at the wire's end."""

    def __init__(self, booth: Booth, wire: Wire, page: Page) -> None:
        self.booth, self.wire, self.page = booth, wire, page

    @property
    def pid(self) -> int:
        assert self.booth.process is not None
        return self.booth.process.pid

    async def at(self, heading: str) -> None:
        await self.page.wait_for_selector(f".work h1:has-text('{heading}')")
        await until(self.page, "performance.now() - window.__drawnAt > 400")

    async def ready(self, heading: str) -> None:
        """And Enter would work: on a crowded machine the link is not always up."""
        await self.at(heading)
        await self.page.wait_for_selector("[data-primary]:not(:disabled)")

    async def enter(self, *headings: str) -> None:
        for heading in headings:
            await self.ready(heading)
            await self.page.keyboard.press("Enter")

    async def plate(self) -> str:
        cells = await self.page.locator(".cell:not(.wider)").all_inner_texts()
        return "".join(cells)

    async def half_typed(self) -> str:
        """A vehicle read, its plate begun anew by hand; the passage's id."""
        await self.booth.put("car")
        await self.enter("等待来车")
        await self.at("核对实际车牌")
        await self.page.keyboard.press("Delete")
        await self.type(self.booth.car["plate"][:4])
        return str((await self.booth.look())["passage"]["id"])

    async def type(self, text: str) -> None:
        for char in text:
            await self.page.locator(f".work .key:text-is('{char}')").click()

    async def whole(self) -> None:
        """The rest of the plate is typed and submitted."""
        await self.type(self.booth.car["plate"][4:])
        assert await self.plate() == self.booth.car["plate"]
        await self.page.wait_for_selector("[data-primary]:not(:disabled)")
        await self.enter("核对实际车牌")
        await self.at("核对车型")

    async def bar(self) -> None:
        """It came in time, by the page's own clock; a crowded machine is allowed for."""
        took_ms = await self.page.evaluate("window.__bar")
        crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        assert took_ms < BAR_MS * crowd, (took_ms, crowd)
        assert await self.page.locator("[data-primary]").is_disabled()

    async def events(self, passage: str) -> list[str]:
        told = await self.booth.get(f"/api/passages/{passage}/timeline")
        return [entry["event"] for entry in told["entries"]]

    async def key_hex(self) -> None:
        """Once the fare is there: before, there is nothing to key it for."""
        await self.at("核对金额")
        await self.page.wait_for_selector(".hexbox")
        await until(self.page, FREE)
        await self.page.keyboard.type(self.booth.car["entry_hex"])

    async def save(self) -> None:
        """From the fare on: by keys, until the card has paid."""
        await self.key_hex()
        await self.enter("请确认金额")
        await self.at("缴费成功")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Booth, Wire]]:
    """One for all: each test begins with an empty lane."""
    async with Wire() as wire, Booth(tmp_path_factory.mktemp("cut")) as booth:
        await booth.call("POST", "/api/shifts", {"lane": "X03", "shift": 1})
        yield booth, wire


@pytest_asyncio.fixture(loop_scope="session")
async def lane(browser: Browser, box: tuple[Booth, Wire]) -> AsyncIterator[Lane]:
    booth, wire = box
    await booth.clear()
    wire.upstream = booth.port
    context = await signed_in(browser, wire)
    try:
        lane = Lane(booth, wire, await context.new_page())
        await lane.page.goto(wire.url)
        yield lane
    finally:
        await context.close()


async def signed_in(browser: Browser, wire: Wire) -> BrowserContext:
    """A collector's browser, whose shift goes on."""
    context = await browser.new_context(locale="zh-CN", **BOOTH)
    context.set_default_timeout(3 * WAIT_MS)
    await context.add_init_script(DRAWN_AT)
    who = {"operator": "1001", "password": "1001"}
    answer = await context.request.post(f"{wire.url}/api/session", data=who)
    assert answer.ok
    return context


async def test_a_wire_cut_in_mid_plate_loses_no_character_and_writes_once(lane: Lane) -> None:
    passage = await lane.half_typed()
    lane.wire.upstream = 0
    await lane.page.evaluate(WATCH_BAR)
    lane.wire.cut()
    await lane.bar()
    await lane.type(lane.booth.car["plate"][4])
    assert await lane.plate() == lane.booth.car["plate"][:5]
    await lane.page.keyboard.press("Backspace")
    lane.wire.upstream = lane.booth.port
    await lane.page.wait_for_selector(".lost", state="detached")
    await lane.whole()
    assert (await lane.events(passage)).count("PlateSubmitted") == 1


async def test_a_gateway_that_stands_still_is_a_lost_link(lane: Lane) -> None:
    """SIGSTOP: the sockets stay open, and nothing comes."""
    passage = await lane.half_typed()
    await lane.page.evaluate(WATCH_BAR)
    os.kill(lane.pid, signal.SIGSTOP)
    try:
        await lane.bar()
        assert await lane.plate() == lane.booth.car["plate"][:4]
    finally:
        os.kill(lane.pid, signal.SIGCONT)
    await lane.page.wait_for_selector(".lost", state="detached")
    await lane.whole()
    assert (await lane.events(passage)).count("PlateSubmitted") == 1


async def test_a_gateway_killed_in_mid_plate_goes_on_where_it_was_and_debits_once(
    lane: Lane,
) -> None:
    passage = await lane.half_typed()
    await lane.page.evaluate(WATCH_BAR)
    await lane.booth.kill()
    await lane.bar()
    await lane.booth.start()
    await lane.enter("停机之前的车")
    await lane.at("核对实际车牌")
    assert await lane.plate() == lane.booth.car["plate"][:4]
    await lane.whole()
    await lane.page.keyboard.press("Enter")
    await lane.save()
    events = await lane.events(passage)
    assert (events.count("PlateSubmitted"), events.count("DebitConfirmed")) == (1, 1)
    await lane.booth.look()
    await lane.booth.saved()


async def test_answers_lost_after_the_commit_are_asked_again_and_nothing_is_done_twice(
    lane: Lane,
) -> None:
    """Of each of a car's commands the first answer is lost on the way back, of the last two."""
    await lane.booth.put("car")
    for heading in ("等待来车", "核对实际车牌", "核对车型"):
        await lane.ready(heading)
        lane.wire.drop_answers(COMMANDS, 1)
        await lane.enter(heading)
    await lane.at("核对金额")
    await lane.page.wait_for_selector(".hexbox")
    lane.wire.drop_answers(COMMANDS, 1)
    await lane.key_hex()
    await lane.ready("请确认金额")
    lane.wire.drop_answers(COMMANDS, 2)
    await lane.page.keyboard.press("Enter")
    await lane.at("缴费成功")
    assert len(lane.wire.lost) >= 6
    shot = await lane.booth.look()
    assert await lane.events(shot["passage"]["id"]) == CAR
    await lane.booth.saved()


async def test_killed_while_nobody_knows_it_asks_for_the_same_card_and_debits_once(
    lane: Lane,
) -> None:
    """The card left in mid-write, then the process: the question outlives both."""
    await lane.booth.put("car")
    await lane.enter("等待来车", "核对实际车牌", "核对车型")
    await lane.key_hex()
    await lane.ready("请确认金额")
    await lane.booth.arm("card", "pulled_after", after=5)
    await lane.page.keyboard.press("Enter")
    await lane.at("扣款结果还不知道")
    passage = (await lane.booth.look())["passage"]["id"]
    await lane.booth.kill()
    await lane.booth.start()
    await lane.at("扣款结果还不知道")
    assert "放回同一张卡" in await lane.page.locator(".work").inner_text()
    await lane.booth.disarm()
    await lane.page.wait_for_selector("[data-primary]:not(:disabled)")
    await lane.enter("扣款结果还不知道")
    await lane.at("缴费成功")
    assert (await lane.events(passage)).count("DebitConfirmed") == 1
    await lane.booth.look()
    await lane.booth.saved()


async def test_a_hasty_hand_does_nothing_twice(lane: Lane) -> None:
    """Enter in the first moment of each screen, then twice at once, then held down."""
    await lane.booth.put("car")
    await lane.page.evaluate(EARLY)
    for heading in ("等待来车", "核对实际车牌", "核对车型"):
        await lane.ready(heading)
        await lane.page.evaluate(HASTE)
    await lane.key_hex()
    await lane.ready("请确认金额")
    await lane.page.evaluate(HASTE)
    await lane.at("缴费成功")
    assert await lane.page.evaluate("window.__early") >= 5
    shot = await lane.booth.look()
    assert await lane.events(shot["passage"]["id"]) == CAR
    await lane.booth.saved()


async def test_two_screens_press_at_once_and_it_is_done_once(lane: Lane) -> None:
    """Both at the booth, so both may; the journal holds each step once."""
    await lane.booth.put("car")
    other = await lane.page.context.new_page()
    await other.goto(lane.wire.url)
    await other.wait_for_selector(".work h1:has-text('等待来车')")
    for heading in ("等待来车", "核对实际车牌", "核对车型"):
        await lane.ready(heading)
        await other.wait_for_selector(f".work h1:has-text('{heading}')")
        await other.wait_for_selector("[data-primary]:not(:disabled)")
        await until(other, "performance.now() - window.__drawnAt > 400")
        at_ms = time.time() * 1000 + 300
        await asyncio.gather(*(page.evaluate(AT_ONCE, at_ms) for page in (lane.page, other)))
    await lane.save()
    await other.wait_for_selector(".work h1:has-text('缴费成功')")
    shot = await lane.booth.look()
    assert await lane.events(shot["passage"]["id"]) == CAR
    await lane.booth.saved()


async def test_a_killed_page_takes_up_its_plate_from_the_gateway(lane: Lane) -> None:
    await lane.half_typed()
    typed = lane.booth.car["plate"][:4]

    async def is_kept() -> bool:
        draft = (await lane.booth.look())["draft"]
        return bool(draft) and "".join(draft["editor"]["chars"]) == typed

    async with asyncio.timeout(WAIT_MS / 1000):
        while not await is_kept():
            await asyncio.sleep(0.05)
    browser = lane.page.context.browser
    assert browser is not None
    await lane.page.close()
    context = await signed_in(browser, lane.wire)  # nothing kept: no storage of the old one
    try:
        lane.page = await context.new_page()
        await lane.page.goto(lane.wire.url)
        await lane.at("核对实际车牌")
        assert await lane.plate() == typed
        await lane.whole()
    finally:
        await context.close()

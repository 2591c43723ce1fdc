"""How to come to what is no state of the lane: places, dialogs, the page's own start."""

from collections.abc import Awaitable, Callable

from tests.web.ui import fixtures
from tests.web.ui.conftest import Screen

PLACES = (
    "menu", "history", "passage/X03-4", "suspended", "devices", "sync", "versions", "pairing",
    "approvals", "settings", "standing", "carry", "correct/X03-4", "resend/R1", "shiftEnd", "shift",
    "stations",
)  # fmt: skip
ASKED = {
    "why": ("priced", "cancel"),
    "master": ("unpriced", "minimum"),
}
DIALOGS = {
    "help": ("plate", "F1"),
    "weigh": ("vehicle_truck", "F7"),
    "pick": ("vehicle", "F6"),
    "photo": ("plate", ".photo:visible"),
    "aside": ("priced", ".strip"),
}


async def go(screen: Screen, place: str) -> None:
    """A place, as its button would open it."""
    await screen.show("idle_offline" if place == "sync" else "idle_suspended")
    await screen.page.evaluate("async place => (await import('/app.js')).app.go(place)", place)
    await screen.page.wait_for_selector(".work .scroll")


async def ask(screen: Screen, name: str) -> None:
    state, action = ASKED[name]
    await screen.show(state)
    await screen.page.evaluate("async action => (await import('/app.js')).app.act(action)", action)
    await screen.page.wait_for_selector(".work .scroll")


async def open_dialog(screen: Screen, name: str) -> None:
    state, how = DIALOGS[name]
    await screen.page.evaluate("async () => (await import('/app.js')).app.close()")
    await screen.show(state)
    await screen.settle()
    if how.startswith("F"):
        await screen.page.keyboard.press(how)
    else:
        await screen.page.locator(how).first.click()
    await screen.page.wait_for_selector(f".dialog.{name}")


async def signed_out(screen: Screen) -> None:
    screen.script.session = fixtures.signed_out()
    await screen.open()
    await screen.page.wait_for_selector("input[name=operator]")


async def locked(screen: Screen) -> None:
    await screen.page.evaluate("async () => (await import('/app.js')).app.close()")
    await screen.show("idle")
    await screen.page.evaluate("async () => (await import('/app.js')).app.lock()")
    await screen.page.wait_for_selector("input[name=password]")


async def torn(screen: Screen) -> None:
    """The gateway's files are not the released ones."""
    screen.script.wrong = ["ui.css"]
    await screen.open()
    await screen.page.wait_for_selector("[data-primary]")


async def survivor(screen: Screen) -> None:
    await screen.page.evaluate("async () => (await import('/app.js')).app.close()")
    screen.script.started_ms = fixtures.now_ms() + 60_000
    await screen.show("priced")
    await screen.page.wait_for_selector(".work h1:has-text('停机之前的车')")


OTHERS: dict[str, Callable[[Screen], Awaitable[None]]] = {
    "survivor": survivor,
    "locked": locked,
    "signed_out": signed_out,
    "torn": torn,
}

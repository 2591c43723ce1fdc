"""axe-core finds nothing on any screen: states, places, dialogs, day and night, both sizes."""

import json
from typing import Any

import pytest

from tests.tools.vendor_axe import script
from tests.web.ui import around, fixtures
from tests.web.ui.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = f"axe.run(document, {{ runOnly: {TAGS}, resultTypes: ['violations'] }}).then(JSON.stringify)"


class Judge:
    """axe in the page's own world, put there past the Content-Security-Policy."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.found = screen, dict[str, Any]()
        self._session: Any = None

    async def look(self, name: str) -> None:
        if self._session is None:
            self._session = await self.screen.context.new_cdp_session(self.screen.page)
        if not await self.screen.page.evaluate("'axe' in window"):
            await self._do(script())
        told = await self._do(RUN)
        broken = [
            (each["id"], [node["html"][:160] for node in each["nodes"][:3]])
            for each in json.loads(told)["violations"]
        ]
        if broken:
            self.found[name] = broken

    async def _do(self, code: str) -> Any:
        asked = {"expression": code, "awaitPromise": True, "returnByValue": True}
        told = await self._session.send("Runtime.evaluate", asked)
        assert "exceptionDetails" not in told, str(told)[:400]
        return told["result"].get("value")


@pytest.mark.parametrize("night", [False, True], ids=["day", "night"])
async def test_no_state_of_the_lane_breaks_a_rule(booth: Screen, night: bool) -> None:
    await booth.page.emulate_media(color_scheme="dark" if night else "light")
    judge = Judge(booth)
    for name in fixtures.STATES:
        await booth.show(name)
        await judge.look(name)
    assert judge.found == {}


async def test_no_state_on_a_handheld_breaks_a_rule(hand: Screen) -> None:
    judge = Judge(hand)
    for name in fixtures.STATES:
        await hand.show(name)
        await judge.look(name)
    assert judge.found == {}


async def test_no_place_dialog_or_start_breaks_a_rule(booth: Screen) -> None:
    judge = Judge(booth)
    for place in around.PLACES:
        await around.go(booth, place)
        await judge.look(place)
    for name in around.ASKED:
        await around.ask(booth, name)
        await judge.look(name)
    for name in around.DIALOGS:
        await around.open_dialog(booth, name)
        await judge.look(name)
    for name, arrive in around.OTHERS.items():
        await arrive(booth)
        await judge.look(name)
    assert judge.found == {}

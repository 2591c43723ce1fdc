"""Two minutes pass at a real process: what was offered is over, what was paired is not."""

import signal
from collections.abc import Iterator

import pytest

from tests.e2e_handheld import demo as rig
from tests.e2e_handheld.demo import Demo, Screen, claim, offer, pair

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    program = ("-m", "tests.e2e_handheld.hasty")
    with rig.running(tmp_path_factory.mktemp("hasty"), program) as running:
        yield running


async def two_minutes_pass(demo: Demo, booth: Screen) -> None:
    demo.process.send_signal(signal.SIGUSR1)
    await booth.get("/healthz")  # the signal is handled before the next answer


async def test_a_secret_that_nobody_used_in_two_minutes_is_refused(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    offered = await offer(booth)
    await two_minutes_pass(demo, booth)
    status, told = await claim(hand, offered)
    assert (status, told["code"]) == (403, "pairing.refused")
    assert (await booth.ask("POST", f"/api/pairings/{offered.id}/confirm"))[0] == 404
    assert (await booth.get("/api/pairings"))["pairings"] == []


async def test_digits_that_nobody_confirmed_in_two_minutes_admit_nobody(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    offered = await offer(booth)
    _, waiting = await claim(hand, offered)
    await two_minutes_pass(demo, booth)
    assert (await booth.ask("POST", f"/api/pairings/{offered.id}/confirm"))[0] == 404
    assert (await hand.ask("POST", "/pair", {"claim": waiting["claim"]}))[0] == 403
    assert (await hand.ask("GET", "/api/session"))[0] == 401


async def test_a_paired_handheld_outlives_its_offer_and_a_jump_of_the_wall_clock(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    await pair(booth, hand)
    await two_minutes_pass(demo, booth)
    jump = {"device": "clock", "fault": "jump", "seconds": -86_400}
    assert (await booth.ask("POST", "/bench/faults", jump))[0] == 200
    assert (await hand.ask("GET", "/api/session"))[0] == 200
    offered = await offer(booth)  # a jump does not make a new offer old, nor an old one young
    jump = {"device": "clock", "fault": "jump", "seconds": 86_400}
    assert (await booth.ask("POST", "/bench/faults", jump))[0] == 200
    assert (await claim(hand, offered))[0] == 200

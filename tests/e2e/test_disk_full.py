"""The disk full in the middle of the trade: the lane stops in time, says so, and its books agree.

No money moves that is not on disk first; what a full disk did not take is written when it can be.
"""

from typing import Any

import pytest

from tests.e2e.afterlife import World, lane_of
from tests.e2e.booth import Booth, is_chinese, next_tap, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

Json = dict[str, Any]
CARS_MAX = 30
STEPS = ("idle", "checked", "evidenced", "classified", "priced", "agreed")


async def until_the_disk_says_no(booth: Booth) -> Json:
    """Cars go on until a tap is refused for the disk's sake; what the page was told."""
    for _ in range(CARS_MAX * 8):
        await booth.look()
        if booth.shot["state"] in ("idle", "saved"):
            await booth.put("car")
        if not booth.shot["allowed"]:
            return booth.shot["problem"]
        command, body = next_tap(booth.shot, booth.car)
        answer = await booth.tap(command, **body)
        if answer.status == 503:
            return answer.body
        assert answer.status == 200, answer
    raise AssertionError("the disk took everything")


async def books_agree(booth: Booth) -> None:
    """Every debit has its record, every paid record its debit, here and at the centre."""
    debits = [debit["tac"] for debit in await booth.ledger()]
    held = await booth.get("/api/passages?state=saved&limit=100")
    records = [
        (await booth.get(f"/api/passages/{row['id']}"))["record"] for row in held["passages"]
    ]
    assert sorted(record["tac"] for record in records) == sorted(debits)
    for record in records:
        assert (await booth.center.arrived(record["id"]))["tac"] == record["tac"]


async def sells_again(booth: Booth) -> None:
    """The same car goes on where the screen says, and so does the next one."""

    async def is_open() -> bool:
        shot = await booth.look()
        return bool(shot["allowed"])

    await until(is_open, "the lane is open again")
    if booth.shot["state"] not in ("idle", "saved"):
        await booth.drive_on("saved")
    await booth.put("car")
    await booth.drive()
    await booth.saved()


@pytest.mark.parametrize("state", STEPS)
async def test_a_disk_full_from_some_step_on_costs_nothing(booth: Booth, state: str) -> None:
    await booth.put("car")
    await booth.look()
    if state != "idle":
        await booth.drive(state)
    before = len(await booth.ledger())
    saved_before = (await booth.get("/api/passages?state=saved&limit=100"))["passages"]
    await booth.arm("disk", "full")

    told = await until_the_disk_says_no(booth)
    assert told["code"] in ("E-303", "store.unavailable"), told
    assert is_chinese(told["detail"])
    assert is_chinese(told["action"])
    shot = await booth.look()
    assert shot["allowed"] == [] or shot["state"] != "debiting"
    ready = await booth.call("GET", "/readyz")
    debits = len(await booth.ledger()) - before
    saved = (await booth.get("/api/passages?state=saved&limit=100"))["passages"]
    unwritten = debits - (len(saved) - len(saved_before))
    assert unwritten in (0, 1)
    if unwritten:
        assert (shot["state"], shot["problem"]["code"]) == ("debiting", "E-303")
        assert ready.status == 503

    await booth.disarm()
    await sells_again(booth)
    await books_agree(booth)


async def test_a_lane_killed_while_its_disk_is_full_finds_its_debit_again(booth: Booth) -> None:
    await booth.put("car")
    await booth.drive("agreed")
    await booth.arm("disk", "full")
    await until_the_disk_says_no(booth)
    await booth.kill()
    await booth.start()
    await sells_again(booth)
    await books_agree(booth)


@pytest.mark.parametrize("is_killed", [False, True], ids=["over", "killed"])
@pytest.mark.parametrize("event", ["SaveRequested", "DebitPrepared", "DebitConfirmed"])
async def test_a_disk_full_within_the_save_loses_no_debit_and_makes_none(
    world: World, event: str, is_killed: bool
) -> None:
    """Full from that commit on: before the DEBIT nothing is sent, after it nothing is forgotten."""
    story = world.story()
    async with story:
        await story.wake((f"commit flow.books Books.commit {event}", 1, "full"))
        browser, has_debited = story.browser, event == "DebitConfirmed"
        await browser.drive("agreed")
        answer = await browser.tap("save")
        assert (answer.status, answer.body["code"]) == (503, "store.unavailable")
        assert is_chinese(answer.body["detail"])
        assert is_chinese(answer.body["action"])
        assert len(await browser.ledger()) == int(has_debited)
        shot = await browser.look()
        assert (
            shot["state"]
            == {
                "SaveRequested": "agreed",
                "DebitPrepared": "preparing",
                "DebitConfirmed": "debiting",
            }[event]
        )
        if event != "SaveRequested":
            assert (shot["problem"]["code"], shot["allowed"]) == ("E-303", [])
        assert await story.center.lines(lane_of(story.number)) == []

        if is_killed:
            await story.kill()
            await story.wake()
        else:
            await browser.disarm()

        async def is_settled() -> bool:
            shot = await browser.look()
            return bool(shot["allowed"]) and shot["state"] in ("agreed", "saved")

        await until(is_settled, "the lane is open again")
        assert len(await browser.ledger()) <= 1
        if has_debited:
            assert browser.shot["state"] == "saved"
        await story.work()
        record = await story.end()
        assert record["tacSource"] == ("proved" if has_debited and is_killed else "answered")

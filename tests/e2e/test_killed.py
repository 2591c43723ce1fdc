"""The real process killed at every point where it touches the world, and started again.

Each commit, each APDU, the photo's file and each request to the centre, before and after it; and
once more during the recovery. Afterwards: paid once, one record, at the centre once, books whole.
A kill proves our logic, not the disk's: unsynced writes survive it (reliability.md §3.2-3).
"""

import asyncio
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.e2e.afterlife import DEATH, Doom, World
from tests.e2e.booth import ROOT, Booth

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

AT_ONCE = 2
DEBIT = "读卡器 8054"
PHOTOS = ("/v1/evidence", "sync.photos")
WHEN = ("before", "after")


async def tell_all(world: World, dooms: Iterable[tuple[Doom, ...]]) -> list[str]:
    """Every story, a few at a time; those that did not end as promised, in words."""
    waiting, wrong = list(dooms), []

    async def tell_some() -> None:
        while waiting:
            doomed = waiting.pop(0)
            story = world.story(*doomed)
            try:
                await story.tell()
                assert story.deaths == len(doomed)
            except AssertionError as broken:
                wrong.append(f"{doomed}: {str(broken)[:1500]}")

    await asyncio.gather(*(tell_some() for _ in range(AT_ONCE)))
    return wrong


@pytest.mark.parametrize("when", WHEN)
async def test_money_moves_once_wherever_the_process_is_killed(world: World, when: str) -> None:
    points = await world.points()
    names = [name for name, _ in points]
    assert len(points) > 40
    assert names.count(DEBIT) == 1
    assert sum(name.startswith("commit flow.books Books.commit") for name in names) >= 11
    wrong = await tell_all(world, (((*point, when),) for point in points))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("when", WHEN)
async def test_money_moves_once_if_it_is_killed_again_while_recovering(
    world: World, when: str
) -> None:
    """The first death falls right after the DEBIT, the second at every touch from the start on."""
    first = (DEBIT, 1, "after")
    points = await world.points(first)
    recovery = points[len(points) - points[::-1].index(DEATH) :]
    assert DEBIT not in [name for name, _ in recovery], "a second DEBIT"
    # The photo leaves in the first life or in the second, as it happens.
    sure = [point for point in recovery if not any(word in point[0] for word in PHOTOS)]
    assert len(sure) >= 12
    wrong = await tell_all(world, ((first, (*point, when)) for point in sure))
    assert not wrong, "\n".join(wrong)


async def test_the_ordinary_demo_goes_on_where_a_killed_one_left_off(tmp_path: Path) -> None:
    """Nothing prepared: SIGKILL from outside, in the middle of the save, again and again."""
    async with Booth(tmp_path) as booth:
        for pause_s in (0.0, 0.006, 0.02):
            await booth.put("car")
            await booth.drive("agreed")
            key, rev = booth.next_key(), booth.shot["rev"]
            tap = asyncio.ensure_future(booth.tap("save", key=key, rev=rev))
            await asyncio.sleep(pause_s)
            await booth.kill()
            await asyncio.gather(tap, return_exceptions=True)
            await booth.start()
            again = await booth.tap("save", key=key, rev=rev)
            assert again.status in (200, 409), again
            await booth.look()
            await booth.drive_on("saved")
            await booth.saved()
        assert len(await booth.ledger()) == len(await booth.center.lines()) == 3
        assert booth.process is not None
        booth.process.send_signal(signal.SIGTERM)
        assert await booth.process.wait() == 0
    verify = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "journal", "verify", str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(verify.communicate(), 60)
    assert (verify.returncode, said.decode().strip()) == (0, "流水完好")

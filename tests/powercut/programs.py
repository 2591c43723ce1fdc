"""The whole program on disks that a cut left: a process of its own, its listeners, asked over HTTP.

The composition is the one that runs; the process is forked from one that has imported everything
(tests/e2e/mortal.py), so that hundreds of starts are affordable. The chips lie beside it in files,
as they were when the power was cut.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from tests.e2e.afterlife import Life, Mother
from tests.e2e.booth import START_S, Browser, until
from tests.powercut.box import NOBODY
from tests.powercut.disk import KINDS, lay_out
from tests.powercut.recording import Place, Recording, boundaries
from tests.powercut.tally import Tally
from tests.powercut.world import LANE, World
from tests.rig import invariants
from tests.rig.invariants import KEPT_REFUSALS, Scene

LANE_ID = "G00306200100202010030"
SERVED = 4
"""After one start of so many a vehicle is taken through."""
AT_ONCE = 2
OK = 200
END_S = 90.0  # on cores that many share


class Starts(Mother):
    """Bears programs on data folders, each with the one lane that was recorded."""

    async def on(self, data: Path) -> Life:
        loop = asyncio.get_running_loop()
        name = os.urandom(6).hex()
        life = self._lives[name] = Life(loop.create_future(), loop.create_future())
        order = {"id": name, "data": str(data), "lane": LANE, "lane_id": LANE_ID, "doom": None}
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        await self._process.stdin.drain()
        return life


async def start_programs(recording: Recording, folder: Path, seed: str, count: int) -> Tally:
    """So many of the recording's disks, from all over it. Violations as in `replay`."""
    tally = Tally()
    if not count:
        return tally
    mother = await Starts.start(NOBODY, folder / "mother.stderr")
    turns = asyncio.Semaphore(AT_ONCE)
    running: set[asyncio.Task[None]] = set()
    try:
        for place, image, world in recording.states(_places(recording, seed, count), seed):
            await turns.acquire()
            box = folder / f"program{tally.programs}"
            lay_out(image, box)
            _put_chips(world, box / "bench")
            tally.programs += 1
            trying = _try(mother, box, world.copy(), recording.hashes, place, seed, tally)
            task = asyncio.create_task(_freeing(turns, trying))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    finally:
        await mother.close()
    return tally


def _places(recording: Recording, seed: str, count: int) -> list[Place]:
    dice = Random(f"{seed} programs")
    cuts, kinds = boundaries(recording.events), list(KINDS)
    return [Place(dice.choice(cuts), kinds[n % len(kinds)], n) for n in range(count)]


async def _freeing(turns: asyncio.Semaphore, trying: Any) -> None:
    try:
        await trying
    finally:
        turns.release()


def _put_chips(world: World, bench: Path) -> None:
    """As the twins' own drawer keeps them."""
    for name, state in {**world.chips, **world.notes}.items():
        file = bench.joinpath(*name.split("/")).with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


async def _try(
    mother: Starts,
    box: Path,
    world: World,
    hashes: Sequence[str],
    place: Place,
    seed: str,
    tally: Tally,
) -> None:
    life = await mother.on(box)
    is_serving = Random(f"{seed} {place} served").randrange(SERVED) == 0
    try:
        said = await _ask(life, world, is_serving=is_serving)
    except (AssertionError, OSError, TimeoutError) as fault:
        said = [f"a started program: {fault!r:.300}"]
    finally:
        if not life.ended.done():
            os.kill(life.pid, signal.SIGTERM)
        code = await asyncio.wait_for(life.ended, END_S)
    tally.served += is_serving
    if code:
        said.append(f"a program ended with {code}")
    said += _afterwards(Scene(_NO_DB, box, world, hashes))
    tally.accuse(f"program on {place}", said)
    if not said:
        shutil.rmtree(box)


async def _ask(life: Life, world: World, *, is_serving: bool) -> list[str]:
    """Everything a page asks; raises what a page would see as broken."""
    page = Browser(await asyncio.wait_for(life.ready, START_S), LANE)
    try:
        await page.sign_in()
        shot = await page.look()
        told = max((answer["rev"] for answer in world.answers), default=0)
        said = [f"the page shows rev {shot['rev']} after {told}"] if shot["rev"] < told else []
        said += await _press_again(page, world)
        await until(lambda: _is_ready(page), "/readyz says yes")
        if is_serving:
            said += await _serve(page)
        return said
    finally:
        await page.close()


async def _is_ready(page: Browser) -> bool:
    """Not at once on cores that many share: it also says how late the box is."""
    return (await page.call("GET", "/readyz")).status == OK


async def _press_again(page: Browser, world: World) -> list[str]:
    """The newest press that was answered: the same is said, and nothing is done."""
    kept = [a for a in world.answers if a.get("refused") in {None, *KEPT_REFUSALS}]
    if not kept:
        return []
    asked: Mapping[str, Any] = kept[-1]["asked"]
    before = await page.look()
    again = await page.tap(**asked, key=kept[-1]["key"], rev=kept[-1]["rev"])
    code = None if again.status == OK else again.body["code"]
    if code != kept[-1].get("refused"):
        return [f"{asked['command']}, once answered, now gets {again.status}: {again.body}"]
    if (await page.look())["rev"] < before["rev"]:
        return [f"{asked['command']}, repeated, went back"]
    return []


async def _serve(page: Browser) -> list[str]:
    """Whatever stands there is ended; the next vehicle passes."""

    async def at_rest() -> bool:
        return not (await page.look())["busy"]

    await until(at_rest, "the lane at rest")
    page.car = (await page.truth())["vehicle"] or {}
    await page.clear()
    await page.put("car")
    shot = await page.drive()
    tac = shot["passage"]["record"]["tac"]
    return [] if tac else ["a fresh car has no proof of its debit"]


_NO_DB: Any = None


def _afterwards(scene: Scene) -> list[str]:
    """With the program gone: what was told still stands, and nothing contradicts itself."""
    with closing(invariants.read_only(scene.folder)) as db:
        return invariants.long_after(scene._replace(db=db))

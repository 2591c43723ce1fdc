"""Lives of mortal gateways, and the collector who goes on with the same car in the next one.

A collector knows the screen only: when a tap is lost he taps again, the page sends it with the
same key and rev, and then he does what the snapshot says.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from gateway.devices.sim.vehicle import BLUE, invented_plate
from gateway.flow.journal import verify
from tests.e2e.booth import ROOT, START_S, STOP_S, Browser, Center, agree, next_tap, until

Json = dict[str, Any]
Doom = tuple[str, int, str]
LOST = (aiohttp.ClientError, ConnectionError, TimeoutError)
KILLED = -9
DEATH = ("died", 0)
TAPS_MAX = 40
PATIENCE_S = 20.0  # a touch may keep us waiting so long: photos look twice, 5 s apart, after money


@dataclass
class Life:
    """One process, from fork to end."""

    ready: "asyncio.Future[str]"
    ended: "asyncio.Future[int]"
    pid: int = 0


class Mother:
    """The program that bears lives, and its ears."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lives: dict[str, Life] = {}
        self._listening = asyncio.ensure_future(self._listen())

    @classmethod
    async def start(cls, center: str, log: Path) -> Self:
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.e2e.mortal", center),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        return cls(process)

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await self._listening

    async def begin(self, data: Path, number: int, doom: Doom | None) -> Life:
        """A life on this data folder. Each number is a lane of its own to the centre."""
        loop = asyncio.get_running_loop()
        name = os.urandom(6).hex()
        life = self._lives[name] = Life(loop.create_future(), loop.create_future())
        order = {
            "id": name,
            "data": str(data),
            "lane": lane_of(number),
            "lane_id": f"G0030620010020{number:07d}",
            "doom": doom,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        await self._process.stdin.drain()
        return life

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            life = self._lives[told["id"]]
            life.pid = told.get("pid", life.pid)
            if "ready" in told:
                life.ready.set_result(told["ready"])
            if "ended" in told:
                life.ended.set_result(told["ended"])
        for life in self._lives.values():  # the mother has gone: nobody else would say it
            if not life.ended.done():
                life.ended.set_result(KILLED + 1)


def lane_of(number: int) -> str:
    return f"L{number:04d}"


class Died(Exception):
    """The gateway is gone: begin another life."""


@dataclass
class Story:
    """One car at one lane, through as many lives as it takes."""

    mother: Mother
    center: Center
    data: Path
    number: int
    dooms: list[Doom] = field(default_factory=list)
    deaths: int = 0
    car: Json = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self.browser = Browser("", lane_of(self.number))
        self.life: Life | None = None
        self._lost: tuple[str, str, int, Json] | None = None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.browser.close()
        await self.kill()

    async def tell(self) -> Json:
        """To the end, and what is true there. The record as the centre holds it.

        Raises: AssertionError, with whatever is not as promised.
        """
        dooms = list(self.dooms)
        async with self:
            while True:
                doom = dooms.pop(0) if dooms else None
                try:
                    await self.wake(doom)
                    await self.work(waits_for_death=doom is not None)
                    return await self.end()
                except Died:
                    await self._bury(doom)

    async def wake(self, doom: Doom | None = None) -> None:
        """A life, a collector signed in, the car at the window. Raises: Died."""
        self.life = await self.mother.begin(self.data, self.number, doom)
        await self._begin()
        try:
            await self._arrive()
        except LOST as silent:
            raise Died from silent

    async def work(self, *, waits_for_death: bool = False) -> None:
        """Until all is done that this car and its record need. Raises: Died."""
        try:
            for _ in range(TAPS_MAX):
                if self.browser.shot["state"] == "saved":
                    break
                await self._tap()
            await until(self._is_over, "record and photo at the centre", 30)
            if waits_for_death:
                await until(self._is_dead, f"the touch {self.dooms[self.deaths]}", PATIENCE_S)
                raise Died
        except LOST as silent:
            raise Died from silent

    async def kill(self) -> None:
        """By another hand than its own."""
        life, self.life = self.life, None
        if life and life.pid and not life.ended.done():
            with suppress(ProcessLookupError):
                os.kill(life.pid, signal.SIGKILL)
            await asyncio.wait_for(asyncio.shield(life.ended), STOP_S)

    async def _bury(self, doom: Doom | None) -> None:
        assert self.life is not None
        code = await asyncio.wait_for(asyncio.shield(self.life.ended), STOP_S)
        assert code == KILLED, self._log()
        assert doom is not None, self._log()
        assert (self.data / "touches").read_text().endswith("died\n"), "killed by another hand"
        self.deaths += 1

    async def _begin(self) -> None:
        """Until pages are served, or it died before."""
        assert self.life is not None
        both = {self.life.ready, self.life.ended}
        waits = asyncio.wait(both, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        done, _ = await waits
        assert done, self._log()
        if not self.life.ready.done():
            raise Died
        self.browser.url = self.life.ready.result()

    async def _arrive(self) -> None:
        """A collector signed in, a car at the window, and the tap that was lost tapped again."""
        browser = self.browser
        if (await browser.get("/api/session"))["operator"] is None:
            await browser.sign_in()
        if not self.car or not (await browser.truth())["present"]:
            # A plate of its own: two stories in one second must not be one photo at the centre.
            self.car = await browser.put("car", plate=invented_plate(self.number, BLUE))
        browser.car = self.car
        if self._lost:
            key, command, rev, body = self._lost
            answer = await browser.tap(command, key=key, rev=rev, **body)
            assert answer.status in (200, 409), answer
            self._lost = None
        await browser.look()

    async def _tap(self) -> None:
        browser = self.browser
        command, body = next_tap(browser.shot, self.car)
        key, rev = browser.next_key(), browser.shot["rev"]
        self._lost = (key, command, rev, body)
        answer = await browser.tap(command, key=key, rev=rev, **body)
        assert answer.status == 200, (command, answer)
        self._lost = None

    async def _is_over(self) -> bool:
        if await self._is_dead():
            raise Died
        shot = await self.browser.look()
        lines = await self.center.lines(lane_of(self.number))
        if shot["sync"]["unsent"] or not lines:
            return False
        return await self.center.has_photo(lines[0]["record"]["photo"])

    async def _is_dead(self) -> bool:
        assert self.life is not None
        return self.life.ended.done()

    async def end(self) -> Json:
        """Everything asked, everything compared, the box switched off, its books verified."""
        shot, truth = await self.browser.look(), await self.browser.truth()
        (line,) = await self.center.lines(lane_of(self.number))
        record: Json = line["record"]
        agree(record, shot, self.car, truth)
        assert (line["seq"], line["stub"]) == (1, False)
        assert len(await self.browser.ledger()) == 1
        assert self.life is not None
        os.kill(self.life.pid, signal.SIGTERM)
        assert await asyncio.wait_for(asyncio.shield(self.life.ended), STOP_S) == 0, self._log()
        assert verify(self.data) == []
        return record

    def _log(self) -> str:
        return (self.data / "stderr").read_text(errors="replace")[-3000:]


class World:
    """One centre, one mother, and as many lanes as there are stories."""

    def __init__(self, mother: Mother, center: Center, folder: Path) -> None:
        self.mother, self.center, self.folder = mother, center, folder
        self._count = 0

    def story(self, *dooms: Doom) -> Story:
        self._count += 1
        data = self.folder / str(self._count)
        return Story(self.mother, self.center, data, self._count, list(dooms))

    async def points(self, *dooms: Doom) -> list[tuple[str, int]]:
        """What all lives of such a story touch, in order."""
        story = self.story(*dooms)
        await story.tell()
        return touches(story.data)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """One centre with as many mortal gateways as a file of tests wants."""
    with (folder / "center.stderr").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.center", "--port", "0"),
            *("--db", str(folder / "center.db"), "--ends-with-stdin"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    url = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["url"]
    mother = await Mother.start(url, folder / "mother.stderr")
    async with aiohttp.ClientSession() as http:
        yield World(mother, Center(url, http), folder)
    await mother.close()
    process.terminate()
    assert await asyncio.wait_for(process.wait(), STOP_S) == 0


def touches(data: Path) -> list[tuple[str, int]]:
    """What all lives on this folder touched, in order; ("died", 0) where one ended by its doom."""
    lines = (data / "touches").read_text().splitlines()
    return [DEATH if line == "died" else tuple(json.loads(line)) for line in lines]

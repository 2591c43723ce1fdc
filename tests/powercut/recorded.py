"""The recorded program: a real gateway takes vehicles of every kind through, and is restarted.

python -m tests.powercut.recorded FOLDER TRACE SIZES [STORY [WEAKNESS]], with the shim in front of
libc. STORY: of what chance chooses the scenes; empty: all of them, in two days.
"""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from gateway.app import Gateway
from gateway.errors import EntryMismatch, GatewayError
from gateway.units import SystemClock
from tests.powercut import box as boxes
from tests.powercut.collector import MASTER, Collector
from tests.powercut.recorder import Recorder
from tests.powercut.world import LANE, Centre, World, bench_of

DEBIT = 5
"""Which APDU of a save on the reader it is: select, 0015, INITIALIZE, UPDATE, DEBIT."""
TOGETHER, TIMES = 5, 6
"""Rows that are written at the same time."""
SCENES = 4
"""Of a story that chance chooses: a state costs the more, the more rows it has."""
ELSEWHERE = "62010E05"
"""A station of the demo's table where none of these vehicles came from."""


async def main(folder: Path, trace: Path, sizes: str, story: str) -> None:
    recorder, world = Recorder(), World()

    def tell(mark: Mapping[str, Any]) -> None:
        world.hear(mark)
        recorder.mark(mark)

    first, second = _days(story)
    recorder.start(folder, trace)
    async with _open(folder, world, tell, sizes, "one") as (box, booth):
        for scene in first:
            await scene(box, booth)
    async with _open(folder, world, tell, sizes, "two") as (box, booth):
        for scene in second:
            await scene(box, booth)
        rows = await box.store.rows("SELECT hash FROM journal ORDER BY seq")
        recorder.mark({"m": "journal", "hashes": [row["hash"].hex() for row in rows]})
        recorder.end()  # as it stands: the plug, not a shutdown


@asynccontextmanager
async def _open(
    folder: Path, world: World, tell: Any, sizes: str, name: str
) -> AsyncIterator[tuple[Gateway, Collector]]:
    clock = SystemClock()
    centre = Centre(world, tell)
    async with boxes.box_on(folder, clock, centre, sizes=sizes) as box:
        bench = bench_of(box, world, tell, clock)
        lane = box.lanes[LANE]
        running = asyncio.create_task(lane.run())
        sending = asyncio.create_task(box.outbox.run())
        try:
            yield box, Collector(lane, running, bench, tell, name)
        finally:
            for task in (running, sending):
                task.cancel()
            await asyncio.gather(running, sending, return_exceptions=True)


async def _sign_off(box: Gateway, _: Collector) -> None:
    """下班, if a vehicle came at all; the next one opens a shift of its own."""
    if running := box.shifts.shown(LANE):
        await box.shifts.close(running["id"])


async def _noted_together(box: Gateway, _: Collector) -> None:
    """Several at once: they share a write, and a cut may tear it between them."""
    moment = (box.clock.now_ms(), box.clock.monotonic_ms(), box.clock.boot_id, "")
    for _ in range(TIMES):
        entries = (
            lambda draft, n=n: draft.add(LANE, "", moment, "noted", "", json.dumps({"n": n}))
            for n in range(TOGETHER)
        )
        await asyncio.gather(*(box.store.log(entry) for entry in entries))


async def _suspended(_: Gateway, booth: Collector) -> None:
    """One is put aside with its price agreed; another is served; the first comes back."""
    aside = booth.bench.put({"preset": "car"})
    await booth.do("read")
    shot = await booth.onward(until=lambda state: state == "agreed")
    await booth.do("suspend")
    await booth.serve({"preset": "car", "algorithm": "sm4"})
    booth.bench.put({"plate": aside["plate"], "entry_at_ms": aside["entry_at_ms"]})
    await booth.do("resume", passage=shot["passage"]["id"])
    await booth.onward()


async def _cancelled(_: Gateway, booth: Collector) -> None:
    booth.bench.put({"preset": "car"})
    await booth.do("read")
    await booth.onward(until=lambda state: state == "evidenced")
    await booth.do("cancel", reason="司机倒车离开")


async def _wrong_hex(_: Gateway, booth: Collector) -> None:
    booth.bench.put({"preset": "car"})
    await booth.do("read")
    await booth.onward(until=lambda state: state == "priced")
    try:
        await booth.do("confirm_entry", station_hex=ELSEWHERE)
    except EntryMismatch:
        await booth.onward()
        return
    except GatewayError as other:
        raise AssertionError(f"the wrong Hex was refused as {other.code}") from other
    raise AssertionError("the wrong Hex was taken")


def _torn(fault: str) -> "Scene":
    async def scene(box: Gateway, booth: Collector) -> None:
        """The card is pulled at DEBIT and laid back."""
        reader: Any = box.stations[LANE].devices.card
        booth.bench.put({"preset": "car"})
        await booth.do("read")
        await booth.onward(until=lambda state: state == "agreed")
        reader.arm(fault, DEBIT)
        shot = await booth.do("save")
        assert shot["state"] == "doubtful", shot
        await booth.bench.disarm()
        await booth.onward()

    return scene


def _served(**fields: Any) -> "Scene":
    async def scene(_: Gateway, booth: Collector) -> None:
        await booth.serve(fields)

    return scene


async def _card_gone(box: Gateway, booth: Collector) -> None:
    """Doubtful, and the driver keeps his card: people decide."""
    reader: Any = box.stations[LANE].devices.card
    booth.bench.put({"preset": "car"})
    await booth.do("read")
    await booth.onward(until=lambda state: state == "agreed")
    reader.arm("pulled_after", DEBIT)
    await booth.do("save")
    await booth.do("prove")
    await booth.do("hand_over", reason="司机收起了卡")
    await booth.onward()


async def _by_hand(_: Gateway, booth: Collector) -> None:
    booth.bench.put({"preset": "no_entry"})
    shot = await booth.do("read")
    if shot["state"] != "held":
        await booth.do("hand_over", reason="没有入口信息")
    await booth.do(
        "settle_by_hand", means="unpaid", amount_fen=0, reason="军警车队，放行", **MASTER
    )


Scene = Callable[[Gateway, Collector], Awaitable[None]]
_CAR, _TRUCK = _served(preset="car"), _served(preset="truck")
_PAID_AFTER_ALL, _NOT_PAID = _torn("pulled_after"), _torn("pulled_before")
_ORDINARY: tuple[Scene, ...] = (
    _CAR,
    _noted_together,
    _TRUCK,
    _noted_together,
    _served(preset="minimum_fare"),
    _served(preset="zero_fare", card_kind="credit"),
    _served(preset="mismatch"),
    _suspended,
)
_BAD: tuple[Scene, ...] = (
    _noted_together,
    _cancelled,
    _noted_together,
    _wrong_hex,
    _PAID_AFTER_ALL,
    _NOT_PAID,
    _card_gone,
    _by_hand,
    _served(preset="new_energy"),
)


def _days(story: str) -> tuple[Sequence[Scene], Sequence[Scene]]:
    """What happens before a restart, and after it."""
    if not story:
        return [*_ORDINARY, _sign_off], _BAD
    dice = Random(story)
    scenes = dice.sample([*_ORDINARY, *_BAD], SCENES)
    ends = [_sign_off] if dice.random() < 0.5 else []
    half = SCENES // 2
    return [*scenes[:half], *ends], scenes[half:]


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    _, made_in, traced_to, sizes, told, weakness = [*sys.argv, "", ""][:6]
    boxes.press(sizes)
    if weakness:
        boxes.WEAK[weakness]()
    asyncio.run(main(Path(made_in), Path(traced_to), sizes, told))

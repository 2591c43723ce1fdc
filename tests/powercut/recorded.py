"""The recorded program: a real gateway takes vehicles of every kind through, and is restarted.

python -m tests.powercut.recorded FOLDER TRACE [WEAKNESS], with the shim in front of libc.
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
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
ELSEWHERE = "62010E05"
"""A station of the demo's table where none of these vehicles came from."""


async def main(folder: Path, trace: Path) -> None:
    recorder, world = Recorder(), World()

    def tell(mark: Mapping[str, Any]) -> None:
        world.hear(mark)
        recorder.mark(mark)

    recorder.start(folder, trace)
    async with _open(folder, world, tell, "one") as (box, booth):
        await _ordinary_day(booth)
    async with _open(folder, world, tell, "two") as (box, booth):
        await _bad_day(box, booth)
        rows = await box.store.rows("SELECT hash FROM journal ORDER BY seq")
        recorder.mark({"m": "journal", "hashes": [row["hash"].hex() for row in rows]})
        recorder.stop()  # as it stands: the plug, not a shutdown
        os._exit(0)


@asynccontextmanager
async def _open(
    folder: Path, world: World, tell: Any, name: str
) -> AsyncIterator[tuple[Gateway, Collector]]:
    clock = SystemClock()
    centre = Centre(world, tell)
    async with boxes.box_on(folder, clock, centre) as box:
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


async def _ordinary_day(booth: Collector) -> None:
    await booth.serve({"preset": "car"})
    await booth.serve({"preset": "truck"})
    await booth.serve({"preset": "minimum_fare"})
    await booth.serve({"preset": "zero_fare", "card_kind": "credit"})
    await booth.serve({"preset": "mismatch"})
    await _suspended(booth)


async def _suspended(booth: Collector) -> None:
    """One is put aside with its price agreed; another is served; the first comes back."""
    aside = booth.bench.put({"preset": "car"})
    await booth.do("read")
    shot = await booth.onward(until=lambda state: state == "agreed")
    await booth.do("suspend")
    await booth.serve({"preset": "car", "algorithm": "sm4"})
    booth.bench.put({"plate": aside["plate"], "entry_at_ms": aside["entry_at_ms"]})
    await booth.do("resume", passage=shot["passage"]["id"])
    await booth.onward()


async def _bad_day(box: Gateway, booth: Collector) -> None:
    reader: Any = box.stations[LANE].devices.card
    await _cancelled(booth)
    await _wrong_hex(booth)
    await _torn(booth, reader, "pulled_after")  # paid, and the card proves it
    await _torn(booth, reader, "pulled_before")  # not paid: once more
    await _card_gone(booth, reader)
    await _by_hand(booth)
    await booth.serve({"preset": "new_energy"})


async def _cancelled(booth: Collector) -> None:
    booth.bench.put({"preset": "car"})
    await booth.do("read")
    await booth.onward(until=lambda state: state == "evidenced")
    await booth.do("cancel", reason="司机倒车离开")


async def _wrong_hex(booth: Collector) -> None:
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


async def _torn(booth: Collector, reader: Any, fault: str) -> None:
    """The card is pulled at DEBIT and laid back."""
    booth.bench.put({"preset": "car"})
    await booth.do("read")
    await booth.onward(until=lambda state: state == "agreed")
    reader.arm(fault, DEBIT)
    shot = await booth.do("save")
    assert shot["state"] == "doubtful", shot
    await booth.bench.disarm()
    await booth.onward()


async def _card_gone(booth: Collector, reader: Any) -> None:
    """Doubtful, and the driver keeps his card: people decide."""
    booth.bench.put({"preset": "car"})
    await booth.do("read")
    await booth.onward(until=lambda state: state == "agreed")
    reader.arm("pulled_after", DEBIT)
    await booth.do("save")
    await booth.do("prove")
    await booth.do("hand_over", reason="司机收起了卡")
    await booth.onward()


async def _by_hand(booth: Collector) -> None:
    booth.bench.put({"preset": "no_entry"})
    shot = await booth.do("read")
    if shot["state"] != "held":
        await booth.do("hand_over", reason="没有入口信息")
    await booth.do(
        "settle_by_hand", means="unpaid", amount_fen=0, reason="军警车队，放行", **MASTER
    )


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    boxes.press_checkpoints()
    if len(sys.argv) > 3:
        boxes.WEAK[sys.argv[3]]()
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))

"""The centre as a real process, killed while records stream in: each arrives once, in the end."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.heartbeat import Heartbeats
from gateway.sync.outbox import Outbox
from tests.sync.rig import HurriedClock, save, until

RECORDS = 60


async def start(db: Path, port: int) -> tuple[Process, dict[str, Any]]:
    args = ("-m", "gateway.center", "--db", str(db), "--port", str(port), "--ends-with-stdin")
    process = await asyncio.create_subprocess_exec(sys.executable, *args, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return await answer.json()


async def test_a_centre_killed_three_times_holds_every_record_once(
    store: Store, clock: HurriedClock, tmp_path: Path
) -> None:
    db = tmp_path / "center.db"
    process, ready = await start(db, 0)
    url, port = ready["url"], ready["port"]

    async with CenterClient(url, "", clock, timeout_s=5) as client:
        outbox = Outbox(store, client, ["X03"], clock)
        heartbeats = Heartbeats(client, outbox, ["X03"], clock)
        services = [asyncio.create_task(s.run()) for s in (outbox, heartbeats)]
        try:
            for seq in range(1, RECORDS + 1):
                await save(store, seq)
                outbox.poke()
                if seq % 20 == 10:
                    process.kill()
                    await process.wait()
                if seq % 20 == 0:
                    process, _ = await start(db, port)

            async def is_drained() -> bool:
                return outbox.state()["unsent"] == 0 and bool(outbox.state()["online"])

            await until(is_drained, 60)
            lane = await get(f"{url}/v1/lanes/X03")
            rows = (await get(f"{url}/v1/records?limit=500"))["records"]
        finally:
            for task in services:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*services)
            process.kill()
            await process.wait()

    assert (lane["stored"], lane["high_water"], lane["holes"]) == (RECORDS, RECORDS, [])
    assert set(Counter(row["id"] for row in rows).values()) == {1}
    assert lane["last_heartbeat"]["lane"] == "X03"

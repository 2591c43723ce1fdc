"""The rival: the same records, published one by one to a JetStream on this machine, with acks.

One node, its store on this disk, one replica: the least that JetStream can be, and what nats-server
calls an ack, which is not yet on disk. The window is as wide as it was quickest (256). Each message
is the record's line as the lane keeps it, with its id for the broker's own dedup.
"""

import asyncio
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

WINDOW = 256


def rate(lane: Path) -> float | None:
    """Records a second of those in `lane`/bodies (bench/sync.py); None without nats-server."""
    from tests.rig import nats

    if nats.missing():
        return None
    import subprocess

    with nats.running(1) as (node,):
        program = [sys.executable, "-m", "tests.bench.stream", str(lane / "bodies"), node.url]
        done = subprocess.run(program, stdout=subprocess.PIPE, check=True, text=True)
    return float(json.loads(done.stdout))


async def _publish(lines: list[tuple[str, bytes]], url: str) -> float:
    """Seconds until every one is acknowledged."""
    import nats

    line = await nats.connect(url)
    stream = line.jetstream(timeout=30)
    await stream.add_stream(name="RIVAL", subjects=["rival.>"])
    window = asyncio.Semaphore(WINDOW)
    began = time.perf_counter()

    async def one(record_id: str, text: bytes) -> None:
        try:
            await stream.publish("rival.X03", text, headers={"Nats-Msg-Id": record_id})
        finally:
            window.release()

    async with asyncio.TaskGroup() as tasks:
        for record_id, text in lines:
            await window.acquire()
            tasks.create_task(one(record_id, text))
    seconds = time.perf_counter() - began
    told: Any = await stream.stream_info("RIVAL")
    assert told.state.messages == len(lines)
    await line.close()
    return seconds


def _lines(bodies: Path) -> list[tuple[str, bytes]]:
    found = []
    with bodies.open("rb") as file:
        while head := file.readline():
            for text in gzip.decompress(file.read(json.loads(head)["size"])).splitlines():
                found.append((json.loads(text)["id"], text))
    return found


if __name__ == "__main__":
    given = _lines(Path(sys.argv[1]))
    print(json.dumps(len(given) / asyncio.run(_publish(given, sys.argv[2]))))

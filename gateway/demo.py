"""`lane-gateway demo`: gateway, twins, bench and an embedded centre, all on this machine.

The centre is a child process with its own port and database, so that truth can be asked of it;
it ends with this one. With a data folder, chips and books live on between runs.
"""

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from gateway import config
from gateway.app import Gateway, gateway, serve, stop_on_signals
from gateway.config import Consumer, Settings
from gateway.devices import build
from gateway.devices.sim.faults import DemoClock
from gateway.errors import CenterUnavailable, PortTaken, RequestInvalid
from gateway.runtime import log_to
from gateway.units import Clock, SystemClock
from gateway.web import bench as bench_routes

log = logging.getLogger(__name__)

CENTER_TOKEN = "demo-center"  # noqa: S105 - what an outside centre hears; ours takes anybody
PULL_TOKEN = "demo-pull"  # noqa: S105 - the same
RESTART_S = 1.0
REFUSALS_MAX = 8  # the port of a killed demo's centre is free again within moments
PARAMETERS = Path(__file__).parent / "parameters" / "demo"


def main(port: int, data: Path | None, center_port: int, center_url: str | None) -> int:
    """Run until a signal. `data` None: a temporary folder, gone at the end. The exit code."""
    log_to(level=logging.WARNING)
    with ExitStack() as stack:
        if data is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lane-demo-")))
        else:
            folder = data.absolute()
        url = center_url or f"http://127.0.0.1:{center_port}"
        settings = _with_consumer(config.demo(folder, port, url, CENTER_TOKEN))
        center = None if center_url else (folder / "center", center_port)
        asyncio.run(_demo(settings, center))
    return 0


async def _demo(settings: Settings, center: tuple[Path, int] | None) -> None:
    stop, clock = stop_on_signals(), DemoClock(SystemClock())
    async with gateway(settings, clock) as box:
        embedded = EmbeddedCenter(*center, box, clock) if center else None
        lane = next(s for s in settings.lane if s.enabled)
        bench = build.bench(
            box.stations[lane.name].devices,
            box.shelf.current,
            settings.station.hex,
            settings.data / "bench",
            clock,
            center=embedded.misbehave if embedded else None,
            disk=box.store.pretend_full,
        )
        await serve(
            box,
            stop,
            more=[embedded] if embedded else [],
            tables=[bench_routes.routes],
            equip=lambda app: app.__setitem__(bench_routes.BENCH, bench),
            ready=lambda url, lan_url: _welcome(url, lan_url, settings, lane.name),
        )


class EmbeddedCenter:
    """Service: keeps the centre's process alive for as long as this one lives."""

    name = "center"

    def __init__(self, folder: Path, port: int, box: Gateway, clock: Clock) -> None:
        self._folder, self._port, self._box, self._clock = folder, port, box, clock

    async def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        refused = 0
        while True:
            process = await self._spawn()
            try:
                refused = 0 if await self._greet(process, refused) else refused + 1
                await process.wait()
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
            log.warning("the centre's process ended", extra={"code": process.returncode})
            await self._clock.sleep(RESTART_S)

    async def misbehave(self, fault: Mapping[str, Any]) -> None:
        """For the bench: POST /test/faults. Raises: RequestInvalid, CenterUnavailable."""
        url = f"{self._box.settings.center.url}/test/faults"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
                http.post(url, json=dict(fault)) as answer,
            ):
                if answer.status != 200:
                    raise RequestInvalid(f"内置中心不接受这个故障：{answer.status}")
        except (aiohttp.ClientError, TimeoutError) as silent:
            raise CenterUnavailable("内置中心没有应答") from silent

    async def _spawn(self) -> asyncio.subprocess.Process:
        """Its standard input is our pipe: when we are gone, it goes."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.center", "--port", str(self._port), "--allow-faults"),
            *("--db", str(self._folder / "center.db"), "--parameters", str(PARAMETERS)),
            "--ends-with-stdin",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},  # no token: on this machine anyone may ask for truth
        )

    async def _greet(self, process: asyncio.subprocess.Process, refused: int) -> bool:
        """Wait for its ready line; from then on its parameter packages must bear its signature.

        False while its port is still held by a centre that is just ending. Raises: PortTaken.
        """
        assert process.stdout is not None
        line = await process.stdout.readline()
        ready: dict[str, Any] = json.loads(line) if line else {"ready": False}
        if not ready["ready"]:
            if refused < REFUSALS_MAX:
                return False
            raise PortTaken(str(ready.get("detail") or "内置中心没有启动"))
        self._box.trust(ready["public_key"])
        with suppress(CenterUnavailable):
            await self._box.greet_center()
        return True


def _with_consumer(settings: Settings) -> Settings:
    consumer = Consumer(name="demo", token=SecretStr(PULL_TOKEN))
    return settings.model_copy(update={"consumer": (consumer,)})


def _welcome(url: str, lan_url: str, settings: Settings, lane: str) -> None:
    """Where to look and what to do; everything here is true only in the demo."""
    lines = [
        "",
        f"车道页面   {url}/",
        f"中心       {settings.center.url}   批次拉取 {url}/center/v1/batches（令牌 {PULL_TOKEN}）",
        f"手持机     {lan_url}/pair" if lan_url else "手持机     没有开放",
        f"演示工号   收费员 1001 / 1001   站长 9001 / 9001   车道 {lane}",
        "",
        f'1. 放一辆车：curl -X POST {url}/bench/vehicle -d \'{{"preset": "car"}}\'',
        "2. 在页面上登录、上班、读卡，按屏幕走完五步；入口站 Hex 码在第 1 步的回答里（entry_hex）",
        f"3. 看芯片里的真相：curl {url}/bench/vehicle   停止：Ctrl+C",
        "",
    ]
    sys.stdout.write("\n".join(lines))
    sys.stdout.flush()

"""For the technician and for Prometheus: alive, making progress, and by how much.

Healthy means progress, not an open port: a lane that hears nothing and writes nothing is dead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aiohttp import web

from gateway import __version__
from gateway.sync.proof import Proven
from gateway.units import Clock
from gateway.web.faults import answer
from gateway.web.words import LANGUAGES, speaking

COMMIT_MS_MAX = 2_000.0  # a disk this slow is dying
LAG_MS_MAX = 1_000
PAGE_BYTES = 4096
MEANINGS: Mapping[str, str] = {
    "disk_free_bytes": "Free space where tables and photos are.",
    "log_free_bytes": "Free space where the log of money is.",
    "log_spare_bytes": "Room that the log has without asking for more.",
    "tables_reserve_bytes": "Room that is kept for the tables.",
    "disk_vehicles_left": "For how many more vehicles there is room.",
    "disk_faults": "Writes that the disk refused since the start.",
    "disk_write_median_seconds": "Median of the newest writes.",
    "clock_trusted": "1 while the machine's clock is believed.",
    "clock_synchronised": "1 while somebody keeps the machine's clock in step.",
    "clock_ahead_seconds": "Assumed time minus the machine's clock.",
    "shed_level": "How many steps of what is given up for space are in force.",
}


@dataclass(frozen=True, slots=True)
class DeviceSign:
    """One device of one lane, and when it last proved to be alive."""

    lane: str
    device: str
    """reader, psam, obu, camera, scale"""
    state: str
    """ok, degraded, missing, simulated: as in the snapshot"""
    last_sign_ms: int | None
    """Wall clock of the last answer it gave; None: none since the start."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What moves in a gateway that works."""

    last_commit_ms: float
    """How long the newest commit took, with its fsync."""
    loop_lag_ms: int
    """The event loop's latest wake-up of the last minute."""
    journal_seq: int
    """Of the newest row of all, a lane's or not."""
    unsent: int
    oldest_unsent_ms: int | None
    """Wall clock of the oldest record that is owed to the centre."""
    parked: int
    closed_lanes: Mapping[str, str]
    """Enabled lanes that cannot work now, and why, in Chinese."""
    devices: Sequence[DeviceSign]
    disk: str = "ok"
    """disk/states.py: ok, repaired, low, slow, behind, full, spent, read_only, broken."""
    disk_detail: str = ""
    """In Chinese; empty while all is well."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further gauges, by name: of the disk and of the clock."""
    proof: Proven = Proven()
    """How far the newest row without money came, and when one last came all the way."""


class Vitals(Protocol):
    """Where the numbers come from. Must answer at once, whatever state the store is in."""

    def progress(self) -> Progress: ...


Samples = Iterable[tuple[Mapping[str, str], float]]
routes = web.RouteTableDef()
VITALS: web.AppKey[Vitals] = web.AppKey("vitals", Vitals)
CLOCK: web.AppKey[Clock] = web.AppKey("ops_clock", Clock)


@routes.get("/healthz")
async def alive(_: web.Request) -> web.Response:
    """The process turns its loop; no more than that."""
    return answer({"alive": True, "version": __version__})


@routes.get("/readyz")
async def ready(request: web.Request) -> web.Response:
    """200 while lanes can work, else 503 with the reasons; the numbers in both cases."""
    now = request.app[VITALS].progress()
    problems = list(_problems(now))
    told = {"ready": not problems, "problems": problems, "progress": now}
    return answer(told, 503 if problems else 200)


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Prometheus text format 0.0.4. Loopback only: the LAN's door never lets it through."""
    text = "".join(_families(request.app[VITALS].progress(), request.app[CLOCK].now_ms()))
    return web.Response(
        body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


def _problems(now: Progress) -> Iterable[str]:
    for lane, why in now.closed_lanes.items():
        yield f"车道 {lane} 不能收费：{why}"
    if now.last_commit_ms > COMMIT_MS_MAX:
        yield f"磁盘太慢：上次写盘用了 {now.last_commit_ms:.0f} 毫秒"
    if now.loop_lag_ms > LAG_MS_MAX:
        yield f"程序卡顿：{now.loop_lag_ms} 毫秒"
    if now.proof.stopped_at in ("log", "tables"):  # beyond them a lane works without
        where = speaking(LANGUAGES[0])(f"sync.proof.{now.proof.stopped_at}")
        yield f"自检流水停在{where}：{now.proof.detail}"


def _families(now: Progress, at_ms: int) -> Iterable[str]:
    yield _family("build_info", "The running version.", [({"version": __version__}, 1)])
    yield _family("resident_bytes", "Resident memory.", [({}, _resident_bytes())])
    commit_s, lag_s = now.last_commit_ms / 1000, now.loop_lag_ms / 1000
    yield _family("commit_seconds", "How long the newest commit took.", [({}, commit_s)])
    yield _family("loop_lag_seconds", "Latest loop wake-up of a minute.", [({}, lag_s)])
    yield _family("journal_seq", "Number of the newest journal row.", [({}, now.journal_seq)])
    yield _family("records_unsent", "Records owed to the centre.", [({}, now.unsent)])
    oldest_s = 0.0 if now.oldest_unsent_ms is None else _age_s(at_ms, now.oldest_unsent_ms)
    yield _family("oldest_unsent_seconds", "Age of the oldest record owed.", [({}, oldest_s)])
    yield _family("records_parked", "Records the centre refused.", [({}, now.parked)])
    yield from _proof(now.proof)
    closed = [({"lane": lane}, 1) for lane in now.closed_lanes]
    yield _family("disk_state", "1 for the state the disk is in.", [({"state": now.disk}, 1)])
    for name, value in now.numbers.items():
        yield _family(name, MEANINGS[name], [({}, value)])
    yield _family("lane_closed", "1 for each enabled lane that cannot work.", closed)
    lamps = [(_labels(d) | {"state": d.state}, 1) for d in now.devices]
    yield _family("device_state", "1 for the state each device is in.", lamps)
    ages = [
        (_labels(d), _age_s(at_ms, d.last_sign_ms))
        for d in now.devices
        if d.last_sign_ms is not None
    ]
    yield _family("device_silence_seconds", "Since the last proof of life.", ages)


def _proof(now: Proven) -> Iterable[str]:
    ages: Samples = [] if now.age_s is None else [({}, now.age_s)]
    yield _family("proof_age_seconds", "Since a row without money came all the way.", ages)
    stopped: Samples = [({"station": now.stopped_at}, 1)] if now.stopped_at else []
    yield _family("proof_stopped", "1 for where the newest such row stopped.", stopped)


def _family(name: str, meaning: str, samples: Samples) -> str:
    name = f"lane_gateway_{name}"
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.12g}" if inside else f"{name} {value:.12g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _labels(sign: DeviceSign) -> dict[str, str]:
    return {"lane": sign.lane, "device": sign.device}


def _age_s(at_ms: int, then_ms: int) -> float:
    """Never negative: the wall clock may have jumped back."""
    return max(0, at_ms - then_ms) / 1000


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * PAGE_BYTES if statm.exists() else 0

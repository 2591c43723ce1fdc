"""The composition root: builds every part, hands each only what it needs, runs them together."""

import asyncio
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any

from aiohttp import web

from gateway import __version__, keys, tls, trust
from gateway.access import Access, demo_operators
from gateway.config import Center, LaneSection, Settings
from gateway.devices import build
from gateway.devices.etc_card import EtcCard
from gateway.devices.obu import ObuReader
from gateway.devices.psam import Psam
from gateway.disk import place, shed
from gateway.disk.patrol import Patrol
from gateway.disk.watch import DiskWatch
from gateway.errors import (
    CenterUnavailable,
    ConfigInvalid,
    DeviceUnavailable,
    GatewayError,
    ParameterInvalid,
    PortTaken,
    TlsUnavailable,
)
from gateway.evidence import Evidence
from gateway.flow.approvals import Approvals
from gateway.flow.books import Books
from gateway.flow.corrections import Corrections
from gateway.flow.desk import Desk
from gateway.flow.lane import Lane, Sign
from gateway.flow.messages import Problem
from gateway.flow.passage import State
from gateway.flow.perform import Hands, Kit
from gateway.flow.recording import Place
from gateway.flow.shift import Shifts
from gateway.flow.watch import Watch
from gateway.pairing import Pairings
from gateway.params import Operators, Parameters
from gateway.rehearsal.service import Rehearsals
from gateway.runtime import LoopLag, Notifier, Service, Topic, Watchdog, hold, supervise
from gateway.spool.progress import Progress
from gateway.statuslist.archive import Archive
from gateway.store import Store
from gateway.sync.batches import Batches
from gateway.sync.center import CenterClient
from gateway.sync.download import Downloads
from gateway.sync.heartbeat import Box, Heartbeats
from gateway.sync.holdings import Holdings
from gateway.sync.ledger import Ledger
from gateway.sync.lists import StatusLists
from gateway.sync.outbox import Outbox
from gateway.sync.parked import ParkedDesk
from gateway.sync.photos import PhotoPusher
from gateway.sync.proof import Proofs, Trail
from gateway.sync.receipts import Receipts
from gateway.sync.reconcile import Reconciler
from gateway.sync.shelf import ParameterShelf, public_key
from gateway.sync.tables import FareTables
from gateway.timekeeping.keeper import Timekeeper
from gateway.units import Clock, SystemClock, beijing
from gateway.web import (
    approvals,
    carry,
    corrections,
    ops,
    pairing,
    parked,
    pull,
    receipts,
    reconciliation,
)
from gateway.web.app import Parts, create_app
from gateway.web.drafts import Drafts
from gateway.web.exports import Exports, Sticks

log = logging.getLogger(__name__)

E_TRUST = "E-406"
SHOWN_TABLES = ("status_list", "minimum_fares", "stations")
Devices = Callable[[LaneSection, Clock], build.Devices]
DAY_MS = 86_400_000
SETTLE_S, SETTLE_POLL_S = 2.5, 0.02  # a chip answers within 2 s or not at all
SHUTDOWN_S = 2.0  # what is still running then is cut; the journal knows where it was


@dataclass(frozen=True, slots=True)
class Station:
    """One lane with everything that belongs to it alone."""

    lane: Lane
    watch: Watch
    devices: build.Devices


class Gateway:
    """The box: every part, built and wired, not yet running."""

    def __init__(
        self, settings: Settings, clock: Timekeeper, store: Store, devices: Devices = build.devices
    ) -> None:
        self.settings, self.clock, self.store = settings, clock, store
        self._devices = devices
        names = [section.name for section in settings.lane]
        key = settings.center.parameter_key
        archive = Archive(settings.data / "statuslist", lambda: self.shelf.key)
        self.shelf = ParameterShelf(
            store,
            clock,
            settings.parameters.folder,
            public_key(key) if key else None,
            exit_hex=settings.station.hex,
            on_change=self._tell_all,
            copies=settings.data / "parameters",
            lists=archive,
            fares=FareTables(settings.data / "fares", settings.station.hex),
        )
        believed, self._distrust = _believed(settings.center)
        self.client = _client(settings.center, clock, believed)
        self.outbox = Outbox(store, self.client, names, clock, self._tell_all)
        self.evidence = Evidence(
            store, settings.data / "evidence", clock, lambda: self._no_photos()
        )
        kept_ms = settings.evidence.keep_days * DAY_MS
        deleters = {
            shed.HELD: lambda: self.evidence.drop_held(kept_ms),
            shed.SUPPORT: self._drop_what_can_be_made_again,
        }
        self.disk = DiskWatch(store, settings.data, clock, deleters, self._disk_changed)
        self.access = Access(store, lambda: self.shelf.current().operators, clock)
        self.approvals = Approvals(self.access.approve, self._tell_all, clock)
        self.shifts = Shifts(store, clock)
        self.drafts = Drafts()
        self.corrections = Corrections(
            store,
            {section.name: section.lane_id for section in settings.lane},
            self.access.approve,
            self.shelf.current,
            self.shifts,
            self.outbox.noticed,
            clock,
            clock.state,
        )
        self.parked = ParkedDesk(store, self.outbox, self.access.approve, clock)
        self.reconciler = Reconciler(
            store,
            self.client,
            self.outbox,
            names,
            clock,
            lambda: self.signer,
            lambda: self._center_key,
        )
        self.patrol = Patrol(store, settings.data, clock, self._tell_all)
        self.proofs = Proofs(
            store,
            Trail(clock),
            clock,
            every_s=settings.health.proof_every_s,
            refusal=self._no_proof,
        )
        self.heartbeats = Heartbeats(
            self.client, self.outbox, names, clock, self._box_of, trail=self.proofs.trail
        )
        clock.offset_ms, clock.on_change = self._offset_ms, self._tell_all
        self.rehearsals = Rehearsals(
            store, settings.database, self.shelf, self.client, names[0], clock, self._tell_all
        )
        self.lists = StatusLists(archive, self.shelf, self.client, clock)
        self.downloads = Downloads(self.shelf, self.client, clock, lists=self.lists)
        self.batches = Batches(store, names, clock, self.outbox.settled_elsewhere)
        self.holdings = Holdings(store, names)
        self.lag = LoopLag(clock)
        self.certificate: tls.Identity | None = None
        self.signer: keys.Signer | None = None
        """Of the key that this box signs its exports with."""
        self._center_key = bytes.fromhex(key) if key else None
        self.receipts = Receipts(
            store, lambda: self._center_key, clock, self.outbox.settled_elsewhere
        )
        self.tray = receipts.Tray(self.receipts, settings.data / "incoming")
        self.exports = Exports(settings.data, clock, self._no_export)
        self.sticks = Sticks(settings.export.media)
        self.stations = {section.name: self._station(section) for section in settings.lane}
        self.lanes: Mapping[str, Lane] = {n: s.lane for n, s in self.stations.items()}

    def services(self) -> list[Service]:
        """All that runs for as long as the box does."""
        working = [s for s in self.stations.values() if s.lane.is_enabled]
        services: list[Service] = [s.lane for s in working]
        services += [s.watch for s in working]
        services += [self.store, self.disk, self.patrol, self.clock]
        for station in working:
            if station.devices.scale is not None:
                services.append(_Named(f"scale {station.lane.lane}", station.devices.scale.run))
        return [
            *services,
            self.outbox,
            PhotoPusher(self.store, self.client, self.evidence.path, self._owes_money, self.clock),
            self.heartbeats,
            self.proofs,
            self.shelf,
            self.downloads,
            self.lists,
            self.rehearsals,
            self.batches,
            self.reconciler,
            self.lag,
        ]

    def trust(self, public_hex: str) -> None:
        """From now on parameter packages and receipts must bear this centre's signature."""
        self.shelf.trust(public_key(public_hex))
        self._center_key = bytes.fromhex(public_hex)

    def adopt(self, lanes: Iterable[str]) -> None:
        """Lanes whose records are here, named by the configuration or not: all are owed."""
        found = list(lanes)
        self.outbox.adopt(found)
        for part in (self.reconciler, self.batches, self.holdings, self.heartbeats):
            part.lanes += [lane for lane in found if lane not in part.lanes]

    async def greet_center(self) -> None:
        """The centre is there, as of now: do not wait for the next round of every loop."""
        for lane in self.lanes:
            await self.heartbeats.beat(lane)
        await self.downloads.fetch()
        self.outbox.poke()

    def parts(self) -> Parts:
        return Parts(
            store=self.store,
            clock=self.clock,
            access=self.access,
            shifts=self.shifts,
            lanes=self.lanes,
            evidence=self.evidence,
            sync=self.outbox,
            shelf=self.shelf,
            drafts=self.drafts,
        )

    def progress(self) -> ops.Progress:
        """What moves, for /readyz and /metrics. Asks nobody."""
        sync, now_ms = self.outbox.state(), self.clock.now_ms()
        working = {n: s for n, s in self.stations.items() if s.lane.is_enabled}
        return ops.Progress(
            last_commit_ms=self.store.last_commit_ms,
            loop_lag_ms=self.lag.worst_ms,
            journal_seq=self.store.newest_seq,
            unsent=sync["unsent"],
            oldest_unsent_ms=sync["oldest_unsent_ms"],
            parked=sync["parked"],
            closed_lanes={
                n: s.lane.closed_because for n, s in working.items() if s.lane.closed_because
            },
            devices=[
                ops.DeviceSign(n, key, lamp["state"], _wall(now_ms, station.watch.proofs()[key]))
                for n, station in working.items()
                for key, lamp in station.watch.lamps().items()
            ],
            disk=self.disk.verdict.state,
            disk_detail=self.disk.verdict.detail,
            numbers={**self.disk.numbers(), **self.clock.numbers()},
            proof=self.proofs.trail.told(),
        )

    async def close(self) -> None:
        await self.exports.close()
        await self.sticks.close()
        await self.client.close()
        for station in self.stations.values():
            await station.devices.close()
        self.disk.close()
        await self.evidence.close()
        self.access.close()

    def _owes_money(self) -> bool:
        return self.outbox.has_money_to_send

    def _box_lamps(self) -> dict[str, Any]:
        """What all lanes share."""
        return {"disk": self._disk_lamp(), "clock": self.clock.lamp()}

    def _no_photos(self) -> str:
        return "磁盘已满，剩下的空间只给流水" if self.disk.shed.is_given_up(shed.PHOTOS) else ""

    def _no_export(self) -> str:
        return self.disk.shed.text if self.disk.shed.is_given_up(shed.SUPPORT) else ""

    def _no_proof(self) -> str:
        is_short = self.disk.shed.is_given_up(shed.SUPPORT)
        return "磁盘空间不够，自检流水先不做" if is_short else ""

    async def _drop_what_can_be_made_again(self) -> int:
        return await self.evidence.drop_leftovers() + await self.exports.give_up()

    def _disk_changed(self) -> None:
        for station in self.stations.values():
            if station.devices.camera is not None:
                station.devices.camera.is_sparing = self.disk.shed.is_given_up(shed.SMALLER)
        self._tell_all()

    def _no_new(self) -> Problem | None:
        """Why no lane may begin a passage: the disk."""
        now = self.disk.verdict
        return None if now.may_begin else Problem(now.code, now.detail, now.action)

    def _notices(self) -> list[dict[str, str]]:
        """What people should know and what stops nothing."""
        disk = self.disk.verdict
        said = [(disk.code, disk.detail, disk.action)] if disk.code and disk.may_begin else []
        said += filter(None, (self.clock.notice(), self.shelf.notice(), self._distrust))
        return [dict(zip(("code", "detail", "action"), told, strict=True)) for told in said]

    def _offset_ms(self) -> int | None:
        return self.heartbeats.clock_offset_ms

    def _tell_all(self) -> None:
        for station in getattr(self, "stations", {}).values():
            station.lane.changes.publish()

    def _station(self, section: LaneSection) -> Station:
        settings, clock = self.settings, self.clock
        built = self._devices(section, clock)
        exit_ = settings.station
        place = Place(
            section.name,
            section.lane_id,
            section.lane_no,
            exit_.hex,
            exit_.name,
            section.is_training,
        )
        psam = Psam(built.psam)
        obu = ObuReader(built.obu, psam) if built.obu else None
        kit = Kit(EtcCard(built.card), psam, obu, built.camera, built.scale)
        changes = Topic()
        links = {"reader": built.card, "psam": built.psam, "obu": built.obu}
        watch = Watch(
            section.name, links, built.camera, built.scale, changes, clock, lambda: psam.trouble
        )
        lane = Lane(
            Sign(place, section.shown, section.enabled),
            Books(
                self.store,
                place,
                lambda: self.shelf.current().operators,
                self.shifts.number_of,
                self.clock.state,
            ),
            Hands(
                kit,
                place,
                self.store,
                self.evidence,
                self.client,
                lambda: self._tables_of(section.name),
                lambda: self.shelf.age_s("status_list"),
                clock,
                lambda: self.disk.shed.is_given_up(shed.SECOND),
            ),
            Desk(
                lambda: self._tables_of(section.name),
                self.evidence,
                built.scale,
                self.access.approve,
                self.approvals,
                section.name,
                clock,
            ),
            self.approvals,
            self.shifts,
            lambda: self._tables_of(section.name),
            lambda: self._surroundings(section.name, watch),
            self.outbox.noticed,
            changes,
            clock,
            self._no_new,
        )
        return Station(lane, watch, built)

    def _tables_of(self, lane: str) -> Parameters:
        """Those in force; during a passage those it began with, so that none sees two versions."""
        passage = self.stations[lane].lane.passage
        if passage.state in (State.IDLE, State.SAVED):
            return self.shelf.current()
        return self.shelf.of(passage.parameters)

    def _disk_lamp(self) -> dict[str, Any]:
        """What the disk does now, and what was found on it behind the selling."""
        lamp, found = self.disk.lamp(), self.patrol.text
        if not found:
            return lamp
        state = "degraded" if lamp["state"] == "ok" else lamp["state"]
        return {**lamp, "state": state, "text": "；".join(filter(None, (lamp["text"], found)))}

    def _surroundings(self, lane: str, watch: Watch) -> dict[str, Any]:
        """What a snapshot says besides the passage."""
        versions = self.shelf.current().versions
        return {
            "devices": {**watch.lamps(), **self._box_lamps()},
            "notices": self._notices(),
            "sync": self.outbox.state(lane),
            "parameters": {
                name: {"version": versions[name], "age_s": self.shelf.age_s(name)}
                for name in SHOWN_TABLES
            },
        }

    def _box_of(self, lane: str) -> Box:
        station, devices = self.stations.get(lane), {"lane": "closed"}  # no configuration names it
        if station is not None:
            own = {**station.watch.lamps(), **station.lane.standing.lamps()}
            devices = {key: lamp["state"] for key, lamp in {**self._box_lamps(), **own}.items()}
        left = self.certificate and self.certificate.leaf_expires - beijing(self.clock.now_ms())
        return Box(
            versions={"lane_gateway": __version__, **self.shelf.current().versions},
            rejected=self.shelf.rejected(),
            disk_free_bytes=disk_usage(self.settings.data).free,
            devices=devices,
            certificate_days_left=left.days if left else None,
            lane_key=self.signer.public_hex if self.signer else "",
        )


class _Named:
    """A device's own loop as a service."""

    def __init__(self, name: str, run: Callable[[], Any]) -> None:
        self.name, self._run = name, run

    async def run(self) -> None:
        await self._run()


@asynccontextmanager
async def gateway(
    settings: Settings, clock: Clock, devices: Devices = build.devices
) -> AsyncIterator[Gateway]:
    """Everything built and read back, nothing running yet. One process per data folder.

    `devices`: a lane's section of the configuration → its devices.
    Raises: ConfigInvalid, if the folder cannot be had or another process has it;
        StoreUnavailable; ParameterInvalid.
    """
    async with AsyncExitStack() as stack:
        stack.callback(os.close, hold(settings.data))
        place.prepare(settings.data, settings.spool.folder)
        keeper = Timekeeper(clock)
        block = place.block_of(settings.data, settings.spool.block_bytes)
        progress = Progress(Notifier.from_environment().starting)
        store = await Store.open(settings.database, keeper, block, progress)
        stack.push_async_callback(store.close)
        await keeper.begin(store)
        box = Gateway(settings, keeper, store, devices)
        box.signer = _key_of(settings.data)
        stack.push_async_callback(box.close)
        await _load_tables(box)
        await _list_photos(box, progress)
        for lane in box.lanes.values():
            await lane.recover()
        box.adopt(await Ledger(store).lanes())
        await box.outbox.refresh()
        progress.end()
        yield box


def _believed(center: Center) -> tuple[ssl.SSLContext | None, tuple[str, str, str] | None]:
    """Whom to believe on the lines outwards; a notice for people, if that cannot be read. The lane
    sells all the same."""
    try:
        return trust.context(center.ca, center.certificate), None
    except OSError as bad:
        log.error("no certificates for the centre", extra={"why": str(bad)})
        why = "文件不存在" if isinstance(bad, FileNotFoundError) else "读不出，或者不是证书"
        told = f"到中心的证书文件不能用：{why}；流水先存本机"
        return trust.nobody(), (
            E_TRUST,
            told,
            "可以继续收费；请维护人员核对 [center] ca、certificate",
        )


def _client(center: Center, clock: Clock, believed: ssl.SSLContext | None) -> CenterClient:
    """Raises: ConfigInvalid, if the way that was chosen is not installed."""
    token = center.token.get_secret_value() if center.token else ""
    more: dict[str, Any] = {"fare_timeout_s": center.fare_timeout_s, "tls": believed}
    if center.transport == "http":
        return CenterClient(center.url, token, clock, **more)
    try:
        from gateway.sync.stream import StreamClient
    except ImportError as missing:
        raise ConfigInvalid(
            f'transport = "nats" 需要的软件包没有安装：{missing.name}',
            "请安装：pip install -e '.[nats]'",
        ) from missing
    return StreamClient(center.url, center.nats, token, clock, **more)


def _key_of(data: Path) -> keys.Signer | None:
    """The box's key, made at the first start; None if the disk does not take it. It sells all the
    same: only exports and signed statements must wait."""
    try:
        return keys.prepare(data)
    except OSError as no:
        log.error("no signing key", extra={"why": str(no)})
        return None


async def _load_tables(box: Gateway) -> None:
    """What is here; a box without a folder of its own asks the centre at its first start.

    Raises: ParameterInvalid, if a table is missing after all.
    """
    try:
        await box.shelf.load()
    except ParameterInvalid as missing:
        log.warning("the centre is asked for tables", extra={"why": missing.detail})
        with suppress(CenterUnavailable):
            await box.downloads.fetch()
        box.shelf.current()


async def _list_photos(box: Gateway, progress: Progress) -> None:
    """Rows for photos that lost theirs: after a repair for all, else for the newest passages'.

    Raises: StoreUnavailable.
    """
    if not box.store.may_lack_rows:
        await box.evidence.recover()
        return
    progress.begin("正在重新登记照片")
    await box.evidence.restore(progress.step)
    with suppress(OSError):  # then the next start does it once more
        box.store.lacks_none()


async def serve(
    box: Gateway,
    stop: asyncio.Event,
    *,
    more: Sequence[Service] = (),
    tables: Sequence[web.RouteTableDef] = (),
    equip: Callable[[web.Application], None] = lambda _: None,
    ready: Callable[[str, str], None] = lambda _, __: None,
) -> None:
    """Open the listeners and run all services until `stop`, or until one of them breaks.

    `tables` and `equip`: more routes for the booth's listener and what they need.
    `ready` hears the booth's address and the handhelds' (or "") once pages are served.
    """
    notifier = Notifier.from_environment()
    async with AsyncExitStack() as stack:
        lan = _Lan(box)
        app = _app(box, lan, tables, [], is_loopback=True)
        equip(app)
        listen = box.settings.listen
        door = _bind(listen.host, listen.port)
        await _open(stack, app, door, None)
        port = door.getsockname()[1]
        services = [*box.services(), *more, *await lan.open(stack)]
        marks = [_turns(lane) for lane in box.lanes.values() if lane.is_enabled]
        services.append(Watchdog(notifier, box.clock, marks))
        ready(f"http://{listen.host}:{port}", lan.authority and f"https://{lan.authority}")
        notifier.ready("车道开放")
        warming = asyncio.ensure_future(_warm_up(box))  # in its own process; pages come first
        try:
            await _run_all(services, box, stop)
        finally:
            notifier.stopping()
            warming.cancel()


async def _run_all(services: Sequence[Service], box: Gateway, stop: asyncio.Event) -> None:
    clock = box.clock
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(supervise(s, clock, _on_fault), name=s.name) for s in services]
        await stop.wait()
        await _settled(box.lanes.values(), clock)
        for task in running:
            task.cancel()


async def _settled(lanes: Iterable[Lane], clock: Clock) -> None:
    """A debit under way is finished and journaled: its card may be gone at the next start."""
    until_ms = clock.monotonic_ms() + round(SETTLE_S * 1000)
    while any(lane.is_working for lane in lanes) and clock.monotonic_ms() < until_ms:
        await clock.sleep(SETTLE_POLL_S)


def _on_fault(name: str, fault: GatewayError) -> None:
    """The lamps see for themselves; the log has the story."""


def _turns(lane: Lane) -> Callable[[], int]:
    return lambda: lane.turns


class _Lan:
    """The lane network's side: TLS, pairing, paired handhelds. Its troubles never stop the lane."""

    def __init__(self, box: Gateway) -> None:
        self._box, settings = box, box.settings
        self.identity: tls.Identity | None = None
        self._door: socket.socket | None = None
        if settings.lan:
            names = (settings.lan.address, *settings.lan.names)
            self._names = tuple(dict.fromkeys(names))
            try:
                folder, now = settings.data / "tls", beijing(box.clock.now_ms())
                self.identity = tls.prepare(folder, self._names, now)
                self._door = _bind(settings.lan.host, settings.lan.port)
            except (TlsUnavailable, PortTaken) as fault:
                log.error("handhelds stay out", extra={"why": fault.detail})
        box.certificate = self.identity
        fingerprint = self.identity.ca_sha256 if self.identity else ""
        self.pairings = Pairings(box.store, box.clock, fingerprint)

    def equip(self, app: web.Application) -> None:
        app[pairing.PAIRINGS] = self.pairings
        lan = self._box.settings.lan
        if self.identity and self._door and lan:
            app[pairing.LAN] = pairing.Lan(self.authority, self.identity.ca_pem)

    @property
    def authority(self) -> str:
        """Where handhelds find us, host:port; empty if nowhere."""
        lan = self._box.settings.lan
        return f"{lan.address}:{self._door.getsockname()[1]}" if lan and self._door else ""

    async def open(self, stack: AsyncExitStack) -> list[Service]:
        if not (self.identity and self._door):
            return []
        try:
            context = self.identity.context()
        except TlsUnavailable as fault:
            log.error("handhelds stay out", extra={"why": fault.detail})
            return []
        guard = pairing.lan_guard(self.pairings)
        app = _app(self._box, self, [], [guard], is_loopback=False)
        await _open(stack, app, self._door, context)
        folder = self._box.settings.data / "tls"
        return [tls.Renewal(folder, self._names, context, self._box.clock)]


def _app(
    box: Gateway,
    lan: _Lan,
    tables: Sequence[web.RouteTableDef],
    guards: Sequence[Any],
    *,
    is_loopback: bool,
) -> web.Application:
    all_tables = [
        approvals.routes,
        corrections.routes,
        parked.routes,
        reconciliation.routes,
        receipts.routes,
        carry.routes,
        pairing.routes,
        pull.routes,
        ops.routes,
        *tables,
    ]
    app = create_app(box.parts(), all_tables, guards, is_loopback=is_loopback)
    lan.equip(app)
    app[pull.PULL] = pull.Pull(box.batches, box.holdings, box.evidence.path)
    app[pull.CONSUMERS] = {
        pull.token_hash(consumer.token.get_secret_value()): consumer.name
        for consumer in box.settings.consumer
        if consumer.token
    }
    app[approvals.APPROVALS] = box.approvals
    app[corrections.CORRECTIONS] = box.corrections
    app[parked.PARKED] = box.parked
    app[reconciliation.RECONCILER] = box.reconciler
    app[receipts.RECEIPTS] = box.tray
    app[carry.EXPORTS], app[carry.STICKS] = box.exports, box.sticks
    app[ops.VITALS], app[ops.CLOCK] = box, box.clock
    return app


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises: PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as taken:
        raise PortTaken(f"{host} 的端口 {port} 不能使用：{taken.strerror}") from taken


async def _open(
    stack: AsyncExitStack, app: web.Application, door: socket.socket, context: Any
) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, door, ssl_context=context).start()


def _wall(now_ms: int, age_ms: int | None) -> int | None:
    return None if age_ms is None else now_ms - age_ms


def stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _say_open(url: str, lan_url: str) -> None:
    log.info("open", extra={"url": url, "lan_url": lan_url})


async def _warm_up(box: Gateway) -> None:
    """Start what the first vehicle should not have to wait for."""
    for station in box.stations.values():
        if station.lane.is_enabled:
            try:
                await build.warm_up(station.devices.camera)
            except DeviceUnavailable as fault:
                log.warning("camera not ready", extra={"why": fault.detail})


def refuse_demo_operators(operators: Operators) -> None:
    """Raises: ConfigInvalid, if anybody could sign in with a password that is in our README."""
    if weak := demo_operators(operators):
        raise ConfigInvalid(
            f"操作员表里有演示账号 {'、'.join(weak)}，正式运行不接受", "请换上本站的操作员参数表"
        )


def run(settings: Settings) -> int:
    """`lane-gateway run`: until a signal. Returns the exit code."""
    asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    stop = stop_on_signals()
    async with gateway(settings, SystemClock()) as box:
        refuse_demo_operators(box.shelf.current().operators)
        await serve(box, stop, ready=_say_open)

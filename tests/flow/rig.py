"""One lane, whole, without a web: real rules, store, codecs and chips' dialogue; twins for devices.

`Plug` counts every touch of the outside world (each commit, each APDU) and pulls itself at the
chosen one, before or after it happened. The chips live on: they have no plug.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from gateway.access import Who
from gateway.devices.etc_card import EtcCard
from gateway.devices.etc_files import GantryTotals, TollInfo
from gateway.devices.obu import ObuReader
from gateway.devices.ports import Answer, Frame, Load, PlateReading
from gateway.devices.psam import Psam
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.link import SimLink
from gateway.devices.sim.obu import SimObu
from gateway.devices.sim.psam import SimPsam
from gateway.errors import CenterUnavailable, MasterRefused
from gateway.evidence import Evidence
from gateway.flow.approvals import Approvals
from gateway.flow.books import Books
from gateway.flow.commands import COMMAND
from gateway.flow.desk import Desk
from gateway.flow.lane import Lane, Sign
from gateway.flow.perform import Hands, Kit
from gateway.flow.recording import Place
from gateway.flow.shift import Shifts
from gateway.params import Operator, Parameters, read_package
from gateway.records import FareAnswer, FareRequest
from gateway.runtime import Topic
from gateway.store import Entry, Store, Work

T = TypeVar("T")
EXIT_HEX, ENTRY_HEX = "62010B31", "62010A12"
PLACE = Place("X03", "G00306200100202010030", 3, EXIT_HEX, "兰州南")
COLLECTOR = Who("1001", "演示收费员", "collector", "booth")
NOW_MS = 1_900_000_000_000
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300" + "01" * 64
    + "ffc0000b080010001001011100ffc4001f0000010501010101010100000000000000000102030405060708090a0b"
    "ffc400b5100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c1"
    "1552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a63646566"
    "6768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3"
    "c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbd2"
    "ffd9"
)  # fmt: skip


class HeldClock:
    """A clock that stands, but never the same millisecond twice."""

    boot_id = "test-boot"

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms - NOW_MS + 1_000_000

    async def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


class PlugPulled(BaseException):
    """The box is dark."""


@dataclass
class Plug:
    at: int = 0
    after: bool = False
    touched: int = 0
    log: list[str] = field(default_factory=list)

    def before(self, what: str) -> bool:
        self.touched += 1
        self.log.append(what)
        if self.touched == self.at and not self.after:
            raise PlugPulled(what)
        return self.touched == self.at

    async def touch(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        due = self.before(what)
        result = await act()
        if due:
            raise PlugPulled(what)
        return result


class PluggedStore(Store):
    plug: Plug

    async def write(self, work: Work[T]) -> T:
        return await self.plug.touch("commit", lambda: super(PluggedStore, self).write(work))

    async def log(self, entry: Entry[T], *, looks: bool = False) -> T:
        return await self.plug.touch(
            "commit", lambda: super(PluggedStore, self).log(entry, looks=looks)
        )

    def forget_what_is_behind(self) -> None:
        """What a power cut does to the tables: whatever had not followed the log is not there."""
        self._writer.copies.behind, self._writer.copies.later = [], []


class PluggedLink(SimLink):
    plug: Plug

    async def send(self, command: bytes) -> Answer:
        name = f"{self.name} {command[:2].hex()}"
        return await self.plug.touch(name, lambda: super(PluggedLink, self).send(command))


class StillCamera:
    name = "相机"

    def __init__(self, clock: HeldClock) -> None:
        self.reading: PlateReading | None = PlateReading("甘A12345", 0, (0.99,) * 7)
        self.fault: Exception | None = None
        self._clock = clock

    async def snap(self) -> Frame:
        if self.fault:
            raise self.fault
        return Frame(JPEG, self._clock.now_ms(), self.reading)

    async def close(self) -> None: ...


class StillScale:
    name = "称台"

    def __init__(self, clock: HeldClock) -> None:
        self.weight_kg, self.is_stable = 0, True
        self._clock = clock

    async def load(self) -> Load:
        return Load(self.weight_kg, self.is_stable, self._clock.now_ms())

    async def run(self) -> None: ...

    async def close(self) -> None: ...


class ScriptedFares:
    """Province and ministry: what they answer, or that they are down."""

    def __init__(self) -> None:
        self.answers: dict[int, FareAnswer | Exception] = {}
        self.asked: list[FareRequest] = []
        self.deadline_s = 10.0

    async def fare(self, request: FareRequest) -> FareAnswer:
        self.asked.append(request)
        answer = self.answers.get(request.kind, CenterUnavailable("没有网络"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def demo_parameters() -> Parameters:
    import gateway

    folder = Path(gateway.__file__).parent / "parameters" / "demo"
    packages = [read_package(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    return Parameters.of({package.name: package for package in packages})


def entry(station_hex: str = ENTRY_HEX, **changes: Any) -> TollInfo:
    values: dict[str, Any] = {
        "station_hex": station_hex,
        "lane_no": 3,
        "at_s": NOW_MS // 1000 - 3600,
        "vehicle_type": 1,
        "status": 3,
        "gantry_hex": "62A103",
        "gantry_at_s": NOW_MS // 1000 - 600,
        "plate": "甘A12345",
        "plate_colour": 0,
        "axle_count": 2,
        "weight_kg": 0,
        "vehicle_status": 255,
        "accumulated_fen": 0,
    }
    return TollInfo(**(values | changes))


@dataclass
class World:
    """Everything outside the box: chips, eyes, the centre. Survives every restart."""

    parameters: Parameters = field(default_factory=demo_parameters)
    clock: HeldClock = field(default_factory=HeldClock)
    fares: ScriptedFares = field(default_factory=ScriptedFares)
    card: SimUserCard = field(default_factory=lambda: SimUserCard.issue(entry=entry()))
    psam: SimPsam = field(default_factory=SimPsam.issue)
    obu: SimObu | None = None
    plug: Plug = field(default_factory=Plug)
    reader: PluggedLink = field(default_factory=lambda: PluggedLink("读卡器"))

    def __post_init__(self) -> None:
        self.slot, self.antenna = PluggedLink("PSAM"), PluggedLink("OBU")
        self.camera, self.scale = StillCamera(self.clock), StillScale(self.clock)
        self.reader.insert(self.card)
        self.slot.insert(self.psam)
        if self.obu:
            self.antenna.insert(self.obu)
        for link in (self.reader, self.slot, self.antenna):
            link.plug = self.plug


class Box:
    """One life of the gateway's core, from power-on to power-off."""

    def __init__(self, world: World, store: PluggedStore, lane: Lane) -> None:
        self.world, self.store, self.lane = world, store, lane
        self._life, self._keys = token_hex(8), 0

    @classmethod
    async def power_on(cls, world: World, folder: Path) -> "Box":
        folder.mkdir(exist_ok=True)
        store = await PluggedStore.open(folder / "lane.db")
        store.plug = world.plug
        evidence = Evidence(store, folder / "evidence", world.clock)
        psam = Psam(world.slot)
        kit = Kit(
            EtcCard(world.reader), psam, ObuReader(world.antenna, psam), world.camera, world.scale
        )

        def parameters() -> Parameters:
            return world.parameters

        approvals = Approvals(approve, lambda: None, world.clock)
        shifts = Shifts(store, world.clock)
        lane = Lane(
            Sign(PLACE, "X03 出口", True),
            Books(store, PLACE, lambda: world.parameters.operators, shifts.number_of),
            Hands(kit, PLACE, store, evidence, world.fares, parameters, lambda: 0, world.clock),
            Desk(parameters, evidence, world.scale, approve, approvals, "X03", world.clock),
            approvals,
            shifts,
            parameters,
            lambda: {"devices": {}, "sync": {}},
            lambda lane, at_ms: None,
            Topic(),
            world.clock,
        )
        box = cls(world, store, lane)
        box._evidence, box.approvals = evidence, approvals
        try:
            await lane.recover()
            await lane._finish()
        except BaseException:
            await box.power_off(is_cut=True)
            raise
        return box

    async def power_off(self, *, is_cut: bool = False) -> None:
        if is_cut:
            self.store.forget_what_is_behind()
        await self._evidence.close()
        await Store.close(self.store)

    async def do(self, command: str, **body: Any) -> dict[str, Any]:
        """One command as the web would pass it on, served at once."""
        import asyncio

        from gateway.flow.books import key_of
        from gateway.flow.lane import Asked

        self._keys += 1
        parsed = COMMAND.validate_python({"command": command, **body})
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        key = key_of(f"{self._life}-{self._keys}", parsed.model_dump(mode="json"), "1001")
        return await self.lane._ask(Asked(parsed, COLLECTOR, key, self.lane.rev, answered))

    async def records(self) -> list[dict[str, Any]]:
        """Of vehicles that were served."""
        return [line for line in await self.lines() if not line["isStub"]]

    async def lines(self) -> list[dict[str, Any]]:
        """All records, the stubs of cancelled passages too."""
        rows = await self.store.rows("SELECT line FROM record ORDER BY seq")
        return [json.loads(row["line"]) for row in rows]


async def approve(number: str, password: str) -> Operator:
    if (number, password) != ("9001", "9001"):
        raise MasterRefused("站长工号或密码不对，还可以试 2 次")
    return Operator(number="9001", name="演示站长", role="master", password_hash="x")


async def drive_through(box: Box) -> None:
    """Bring a car from wherever it is to SAVED, as a collector at the screen would."""
    steps = 0
    while (state := box.lane.passage.state.value) != "saved":
        steps += 1
        assert steps < 20, f"stuck in {state}: {box.lane.passage.problem}"
        match state:
            case "idle":
                await box.do("read")
            case "checked":
                await box.do("submit_plate", plate="甘A12345", colour=0, source="lpr")
            case "evidenced":
                await box.do("classify", vehicle_type=1, vehicle_class=0)
            case "classified":
                await box.do("quote")
            case "unpriced":
                await box.do("minimum_fare", operator="9001", password="9001")
            case "priced":
                await box.do("confirm_entry", station_hex=ENTRY_HEX)
            case "agreed":
                await box.do("save")
            case "doubtful":
                await box.do("prove")
            case other:
                found = box.lane.passage.findings
                raise AssertionError(f"nobody knows what to do in {other}: {found}")


def damage(folder: Path) -> list[Any]:
    from gateway.flow.journal import verify

    return verify(folder)


def journal_events(folder: Path) -> list[tuple[str, str]]:
    db = sqlite3.connect(folder / "lane.db")
    try:
        return list(db.execute("SELECT event, state FROM journal ORDER BY seq"))
    finally:
        db.close()


__all__ = ["GantryTotals"]

"""No configuration owns what is owed: a legal change leaves the queue as it is, byte for byte."""

import asyncio
import copy
import hashlib
import itertools
import shutil
import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from gateway import config
from gateway.app import gateway
from gateway.devices import build
from gateway.flow.commands import COMMAND
from gateway.store import Store
from gateway.units import Clock, SystemClock
from tests.flow.rig import COLLECTOR
from tests.still_clock import StillClock
from tests.sync.rig import SAVED_MS, record

FOLDER = Path(config.__file__).parent
TABLES = FOLDER / "parameters" / "demo"
QUEUE = {
    "record": "SELECT * FROM record ORDER BY lane, seq",
    "delivery": "SELECT * FROM delivery ORDER BY lane, seq",
    "batch": "SELECT * FROM batch ORDER BY batch",
    "consumer": "SELECT * FROM consumer ORDER BY name",
    "evidence": "SELECT * FROM evidence ORDER BY sha256",
}
Told = dict[str, Any]
Change = Callable[[Told], Any]


class One(NamedTuple):
    """One setting gets another legal value."""

    path: tuple[str, ...]
    """Of the section and the key; of one kind of device `("lane", "scale", "serial", "url")`."""
    value: Any
    """ABSENT: the key is taken out."""

    @property
    def slot(self) -> tuple[str, ...]:
        """Two that touch the same cannot be made at once."""
        kinds = {"pcsc", "opencv", "serial", "sim", "none"}
        return tuple(itertools.takewhile(lambda part: part not in kinds, self.path))


ABSENT = object()
SAMPLES: dict[tuple[str, ...], Any] = {
    ("listen", "host"): "127.0.0.9",
    ("lan", "host"): "192.0.2.1",
    ("lan", "names"): ["lane.test"],
    ("station", "hex"): "62010B32",
    ("station", "id"): "G0030620010021",
    ("station", "name"): "兰州南新",
    ("lane", "name"): "X09",
    ("lane", "title"): "九道",
    ("lane", "lane_id"): "G00306200100202010090",
    ("lane", "card", "pcsc", "reader"): "One",
    ("lane", "psam", "pcsc", "reader"): "Two",
    ("lane", "obu", "pcsc", "reader"): "Three",
    ("lane", "camera", "opencv", "url"): "/dev/video9",
    ("lane", "scale", "serial", "url"): "/dev/ttyS9",
    ("center", "url"): "http://127.0.0.1:9",
    ("center", "nats"): ["nats://127.0.0.1:9", "tls://127.0.0.1:10"],
    ("center", "token"): "another-token",
    ("center", "parameter_key"): "ab" * 32,
    ("center", "ca"): "/nowhere/ca.pem",
    ("center", "certificate"): "/nowhere/lane.pem",
    ("consumer", "name"): "other",
    ("consumer", "token"): "a-token-of-enough-length-0123456789",
    ("parameters", "folder"): str(TABLES),
    ("export", "media"): "/mnt",
}
"""A legal value of each setting whose limits do not name one. A new setting wants one here."""
BY_HAND = {("data",), ("spool", "folder")}
"""Whoever changes these moves a folder: see the tests at the end."""


def every_change(model: type[config.Section], at: tuple[str, ...] = ()) -> Iterator[One]:
    """Of each setting of the model each limit, each word, each kind of device, and none."""
    for name, field in model.model_fields.items():
        path = (*at, name)
        if not field.is_required() and path not in BY_HAND:
            yield One(path, ABSENT)
        sections = list(_sections(field.annotation))
        for section in sections:
            kind = _kind(section) if len(sections) > 1 else ()
            yield from every_change(section, path + kind)
        if not sections and path not in BY_HAND:
            yield from (One(path, value) for value in _values(path, field))


def _sections(annotation: Any) -> Iterator[type[config.Section]]:
    if isinstance(annotation, type) and issubclass(annotation, config.Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _kind(section: type[config.Section]) -> tuple[str, ...]:
    return get_args(section.model_fields["driver"].annotation)


def _values(path: tuple[str, ...], field: FieldInfo) -> list[Any]:
    limits = [
        getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "le")
        if hasattr(limit, name)
    ]
    if limits:
        return limits
    parts = [field.annotation, *get_args(field.annotation)]
    if words := [word for part in parts if get_origin(part) is Literal for word in get_args(part)]:
        return words
    if field.annotation is bool:
        return [True, False]
    assert path in SAMPLES, f"say a legal value of {'.'.join(path)} in SAMPLES"
    return [SAMPLES[path]]


def rounds(changes: Iterable[One]) -> list[list[One]]:
    """As few configurations as take all of them."""
    packed: list[list[One]] = []
    for one in changes:
        fitting = (r for r in packed if not any(_touch(one.slot, other.slot) for other in r))
        if (found := next(fitting, None)) is not None:
            found.append(one)
        else:
            packed.append([one])
    return packed


def _touch(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def made(changes: Iterable[One]) -> Change:
    def change(told: Told) -> None:
        told["lane"][1]["enabled"] = True
        told["consumer"] = [{"name": "demo", "token": SAMPLES["consumer", "token"]}]
        for path, value in changes:
            *above, name = path
            section = _section(told, above)
            if value is ABSENT:
                section.pop(name, None)
            else:
                section[name] = value
        station = told["station"]["id"]
        for lane in told["lane"]:
            lane["lane_id"] = station + lane["lane_id"][len(station) :]
        if told["center"].get("transport") == "nats":
            told["center"].setdefault("nats", SAMPLES["center", "nats"])

    return change


def _section(told: Told, above: list[str]) -> Told:
    """The one that has the key; a device of this kind is made, with all that it needs."""
    section, path = told, list[str]()
    for part in above:
        path.append(part)
        if part in ("lane", "consumer"):
            section = section[part][0]
        elif path[0] == "lane" and len(path) == 3:
            needed = {p[3]: v for p, v in SAMPLES.items() if p[:3] == tuple(path) and len(p) == 4}
            section |= {"driver": part, **needed}
            for other in section.keys() - needed.keys() - {"driver"}:
                del section[other]
        else:
            section = section.setdefault(part, {})
    return section


ROUNDS = rounds(
    one for one in every_change(config.Settings) if one.value != "nats" or find_spec("nats")
)


def _enable(told: Told, on: int, off: int | None = None) -> None:
    told["lane"][on]["enabled"] = True
    if off is not None:
        told["lane"][off]["enabled"] = False


CHANGES: dict[str, Change] = {
    "nothing": lambda told: None,
    "a lane disabled": lambda told: _enable(told, 1, 0),
    "a lane taken out": lambda told: (_enable(told, 1), told["lane"].pop(0)),
    "lanes in another order": lambda told: told["lane"].reverse(),
    **{f"each setting, round {n}": made(some) for n, some in enumerate(ROUNDS, 1)},
}


def settings(folder: Path, change: Change) -> config.Settings:
    told = tomllib.loads((FOLDER / "demo.toml").read_text("utf-8"))
    told = copy.deepcopy(told)
    told["data"] = str(folder / "data")
    told["parameters"] = {"folder": str(TABLES)}
    change(told)
    return config.Settings.model_validate(told)


def queue(folder: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(folder / "data" / config.DATABASE)) as db:
        return {name: db.execute(sql).fetchall() for name, sql in QUEUE.items()}


async def logged(store: Store, lane: str, seq: int) -> None:
    """One record as the flow leaves it: in the log, from which the tables follow."""
    one = record(seq, lane)
    at_ms, passage_id = SAVED_MS + seq, f"{lane}-{seq}"
    told = [at_ms, "1001", 1, "甘A12345", one.card_id, one.fee, "saved", "saved"]
    extra = {"passage": told, "record": [one.id, at_ms]}
    moment = at_ms, seq, "boot", "1001"
    line = one.model_dump_json(by_alias=True)
    await store.log(
        lambda draft: draft.add(lane, passage_id, moment, "saved", "saved", "{}", extra, line)
    )


async def filled(folder: Path) -> None:
    """Records of two lanes: some delivered, one refused, one owed again whole, one sealed."""
    async with gateway(settings(folder, CHANGES["nothing"]), SystemClock(), build.devices) as box:
        for seq in range(1, 7):
            await logged(box.store, "X03", seq)
        await logged(box.store, "X04", 1)

        def work(db: sqlite3.Connection) -> None:
            row = "INSERT INTO delivery VALUES ('X03', ?, ?, ?, 'push', 1, ?)"
            db.execute(row, (1, "accepted", "", 0))
            db.execute(row, (2, "refused", "卡号不对", 0))
            db.execute(row, (3, "refused", "卡号不对", 2))
            db.execute("INSERT INTO evidence VALUES (?, 9, 1, 'camera')", ("ab" * 32,))
            db.execute("INSERT INTO consumer VALUES ('demo', 0, 1)")
            for file in sorted(TABLES.glob("*.json")):
                raw = file.read_bytes()
                told = (file.stem, "1", hashlib.sha256(raw).hexdigest(), 0, 0, "staged", None, raw)
                db.execute("INSERT INTO parameter VALUES (?, ?, ?, ?, ?, ?, ?, ?)", told)

        await box.store.write(work)
        await box.batches.seal_due()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lived")
    asyncio.run(filled(folder))
    assert [len(rows) for rows in queue(folder).values()] == [7, 3, 2, 1, 1]
    return folder


@pytest.fixture
def folder(lived: Path, tmp_path: Path) -> Path:
    shutil.copytree(lived, tmp_path, dirs_exist_ok=True)
    return tmp_path


async def look(changed: config.Settings) -> None:
    """A start with this configuration owes what was owed, and does what a box does by itself."""
    async with gateway(changed, SystemClock(), build.devices) as box:
        assert box.outbox.state()["unsent"] == 4
        assert box.outbox.state()["parked"] == 2
        await box.batches.seal_due()


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_of_the_configuration_leaves_the_queue_as_it_is(
    name: str, folder: Path
) -> None:
    before = queue(folder)
    await look(settings(folder, CHANGES[name]))
    assert queue(folder) == before


async def test_a_lane_that_was_taken_out_is_still_sealed_shown_and_heard_of(
    tmp_path: Path,
) -> None:
    async with gateway(settings(tmp_path, CHANGES["nothing"]), SystemClock()) as box:
        await logged(box.store, "X03", 1)
        await logged(box.store, "X04", 1)
    async with gateway(settings(tmp_path, CHANGES["a lane taken out"]), SystemClock()) as box:
        await box.batches.seal_due()
        assert {one["lane"] for one in await box.batches.manifests(0, 10)} == {"X03", "X04"}
        assert list(box.holdings.lanes) == list(box.heartbeats.lanes) == ["X04", "X03"]
        assert await box.holdings.lines("X03", 1, 9)
        told = box.heartbeats._compose("X03", SAVED_MS)
        assert (told.backlog.count, told.devices) == (1, {"lane": "closed"})
        await box.outbox.heard("X03", 50, box.outbox.marks("X03"))
        raised = await box.store.rows("SELECT lane FROM journal WHERE event = 'lane_raised'")
        assert not raised, "what another box saves there is not lost here"


def _renamed(told: Told) -> None:
    told["lane"][0]["name"] = "X3A"


def _swapped(told: Told) -> None:
    one, other = told["lane"]
    one["lane_id"], other["lane_id"] = other["lane_id"], one["lane_id"]


async def sell(changed: config.Settings, clock: Clock) -> None:
    """Each lane reads a card and lets it go again: a stub, with an id as any record has."""
    devices = partial(build.devices, is_instant=True)
    async with gateway(changed, clock, devices) as box:
        for name, lane in box.lanes.items():
            built, station = box.stations[name].devices, box.settings.station
            build.bench(built, box.shelf.current, station.hex, None, clock).put({"preset": "car"})
            running = asyncio.create_task(lane.run())
            for said in ({"command": "read"}, {"command": "cancel", "reason": "演示"}):
                command, key = COMMAND.validate_python(said), f"{lane.rev}"
                await lane.command(command, COLLECTOR, key, lane.rev)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_lane_that_is_called_or_numbered_otherwise_goes_on_selling(tmp_path: Path) -> None:
    """All within one hour: ids count on behind each other, whichever lane makes them."""
    both, clock = made([]), StillClock()
    clock.ms = SAVED_MS
    for change in (both, _renamed, _swapped, both):
        changed = settings(tmp_path, lambda told, more=change: (both(told), more(told)))
        await sell(changed, clock)
    ids = [row[2] for row in queue(tmp_path)["record"]]
    assert sorted(one[-6:] for one in ids) == [f"{n:06d}" for n in range(1, 5) for _ in "ab"]
    for file in (tmp_path / "data").glob(f"{config.DATABASE}*"):
        file.unlink()
    await sell(settings(tmp_path, both), clock)
    assert set(ids) < {row[2] for row in queue(tmp_path)["record"]}


def test_each_setting_and_each_kind_of_device_is_changed_in_some_round() -> None:
    changed = {one.path for some in ROUNDS for one in some}
    assert {(name,) for name in config.Settings.model_fields} <= {
        path[:1] for path in changed | BY_HAND
    }
    assert {("lane", "scale", "serial", "baud"), ("center", "fare_timeout_s")} <= changed
    for n in range(len(ROUNDS)):
        one = settings(Path("/nowhere"), CHANGES[f"each setting, round {n + 1}"])
        assert one != settings(Path("/nowhere"), CHANGES["nothing"])


async def test_another_data_folder_is_another_box_and_the_old_one_keeps_what_it_has(
    folder: Path,
) -> None:
    before = queue(folder)
    async with gateway(settings(folder / "other", made([])), SystemClock(), build.devices) as box:
        assert box.outbox.state()["unsent"] == 0
    assert queue(folder) == before
    (folder / "other" / "data").rename(folder / "aside")
    (folder / "data").rename(folder / "other" / "data")
    await look(settings(folder / "other", made([])))
    assert queue(folder / "other") == before


async def test_the_log_moved_to_another_partition_by_hand_keeps_what_is_owed(folder: Path) -> None:
    before, there = queue(folder), folder / "partition" / "spool"
    there.parent.mkdir()
    (folder / "data" / "spool").rename(there)

    def moved(told: Told) -> None:
        told["spool"] = {**told["spool"], "folder": str(there)}

    await look(settings(folder, moved))
    assert queue(folder) == before

"""What a power cut does not touch: the chips in their cards, what the centre holds, who was told.

The recorded program says it in marks, in their place among its file calls; here they are put
together again, so that a box started on an old disk finds the cards as they were at that moment.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from gateway.app import Gateway
from gateway.devices import build
from gateway.devices.sim import bench as bench_module
from gateway.devices.sim.bench import Bench
from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.drawer import Drawer
from gateway.devices.sim.memory import ChipMemory
from gateway.sync.center import Line, Verdict, Verdicts
from gateway.units import Clock

Tell = Callable[[Mapping[str, Any]], None]
LANE = "X03"


@dataclass(slots=True)
class World:
    """Everything outside the box at one moment, and everything it had promised by then."""

    chips: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → what its memory holds."""
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What stands on the lane, and which card belongs to which plate."""
    centre: dict[str, str] = field(default_factory=dict)
    """Record id → SHA-256 of the line that the centre accepted."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """Commands that were answered, and how."""
    _digest: bytes = b""

    # The parts below only tell; whoever builds them lets the world hear what they say.

    @property
    def digest(self) -> bytes:
        """Names all of it: equal worlds, equal digests."""
        if not self._digest:
            told = json.dumps([self.chips, self.notes, self.centre, self.answers], sort_keys=True)
            self._digest = hashlib.blake2b(told.encode(), digest_size=16).digest()
        return self._digest

    def digest_or(self, known: bytes | None) -> bytes:
        """The same, if it was worked out for this moment before."""
        self._digest = self._digest or known or b""
        return self.digest

    def hear(self, mark: Mapping[str, Any]) -> None:
        self._digest = b""
        match mark["m"]:
            case "chip":
                self.chips[mark["name"]] = mark["state"]
            case "note":
                self.notes[mark["name"]] = mark["state"]
            case "centre":
                self.centre[mark["id"]] = mark["sha256"]
            case "answer":
                self.answers.append(dict(mark))

    def copy(self) -> "World":
        return World(copy(self.chips), copy(self.notes), copy(self.centre), copy(self.answers))


class _Memory(ChipMemory):
    """A chip's memory outside the box: it needs no disk of ours, and tells of each change."""

    def __init__(self, name: str, world: World, tell: Tell) -> None:
        super().__init__()
        self._name, self._world, self._tell_all = name, world, tell

    @property
    def is_kept(self) -> bool:
        return True

    def load(self) -> dict[str, Any] | None:
        return self._world.chips.get(self._name)

    def save(self, state: dict[str, Any]) -> None:
        self._tell_all({"m": "chip", "name": self._name, "state": _as_stored(state)})


class Chips(Drawer):
    """The bench's drawer: all its cards, as the world has them."""

    def __init__(self, world: World, tell: Tell) -> None:
        super().__init__(None)
        self._world, self._tell_all = world, tell

    def memory(self, *name: str) -> ChipMemory:
        return _Memory("/".join(name), self._world, self._tell_all)

    def load(self, *name: str) -> dict[str, Any] | None:
        return self._world.notes.get("/".join(name))

    def save(self, note: dict[str, Any], *name: str) -> None:
        self._tell_all({"m": "note", "name": "/".join(name), "state": _as_stored(note)})

    def cards(self) -> Iterator[SimUserCard]:
        for name in sorted(self._world.chips):
            kind, _, number = name.partition("/")
            if kind == "cards" and (card := self.card(number)):
                yield card


def _as_stored(state: dict[str, Any]) -> dict[str, Any]:
    """A copy that no later change reaches."""
    stored: dict[str, Any] = json.loads(json.dumps(state))
    return stored


def bench_of(box: Gateway, world: World, tell: Tell, clock: Clock) -> Bench:
    """The lane's bench, over the world's cards: what stood on the lane stands there again."""
    with patch.object(bench_module, "Drawer", lambda _: Chips(world, tell)):
        devices = box.stations[LANE].devices
        return build.bench(devices, box.shelf.current, box.settings.station.hex, None, clock)


class Centre:
    """The centre's memory, as the outbox's client would speak to it. Keeps what it accepted."""

    def __init__(self, world: World, tell: Tell) -> None:
        self._world, self._tell = world, tell
        self.complaints: list[str] = []

    async def submit(self, lane: str, lines: Sequence[Line]) -> Verdicts:
        verdicts = tuple(self._judge(line) for line in lines)
        return Verdicts(verdicts, high_water=None)

    def _judge(self, line: Line) -> Verdict:
        sha256 = hashlib.sha256(line.raw).hexdigest()
        held = self._world.centre.get(line.id)
        if held is None:
            self._tell({"m": "centre", "id": line.id, "sha256": sha256})
            return Verdict(line.seq, line.id, "accepted")
        if held != sha256:
            self.complaints.append(f"record {line.seq} was sent twice with different bytes")
        return Verdict(line.seq, line.id, "duplicate")

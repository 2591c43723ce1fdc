"""One recorded life, and the places where it may be cut."""

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from tests.powercut.disk import ALL_KINDS, CERTAIN, KINDS, SYNCS, Disk, Event, Image
from tests.powercut.world import World

LATER_PLACES, HANDFUL, NEIGHBOURS = 8_000, 400, 16
ROUNDS_MAX = 100_000


class Place(NamedTuple):
    """One cut: after how many calls, and what arrived of the rest. `round` names the dice."""

    cut: int
    kind: str
    round: int

    def __str__(self) -> str:
        return f"{self.cut}:{self.kind}:{self.round}"


class Recording:
    """Its calls, and what disk and world were when it began."""

    def __init__(self, events: Sequence[Event], image: Image, world: World) -> None:
        self.events, self._image, self._world = events, image, world
        self._marks = {
            number: json.loads(event.data)
            for number, event in enumerate(events)
            if event.kind == "M"
        }
        told = (mark for mark in self._marks.values() if mark["m"] == "journal")
        self.hashes: list[str] = next((mark["hashes"] for mark in told), [])

        self._worlds: dict[int, bytes] = {}
        """Digest of the world as it is behind each mark."""
        self._named: set[tuple[tuple[int, ...], bytes]] = set()
        self.repeated = 0
        """Places whose disk and world were those of another place."""

    @property
    def marks(self) -> Sequence[dict[str, Any]]:
        return list(self._marks.values())

    def states(
        self, places: Sequence[Place], seed: str, *, is_each_once: bool = False
    ) -> Iterator[tuple[Place, Image, World]]:
        """The disks and worlds of these places, in the order of their cuts.

        `is_each_once`: those that are seen to be alike are left out, now and at the next call.

        Both are lent: the next state changes them.
        """
        disk, world, done, newest = Disk(self._image), self._world.copy(), 0, -1
        for place in sorted(places):
            for number in range(done, place.cut):
                if mark := self._marks.get(number):
                    world.hear(mark)
                    newest = number
                else:
                    disk.do(self.events[number])
            done = place.cut
            self._worlds[newest] = world.digest_or(self._worlds.get(newest))
            dice = Random(f"{seed} {place}")
            arrived = ALL_KINDS[place.kind](disk.pending, dice)
            name = disk.name(arrived)
            if is_each_once and name and (name, world.digest) in self._named:
                self.repeated += 1
                continue
            if is_each_once and name:
                self._named.add((name, world.digest))
            yield place, disk.image(arrived), world


def boundaries(events: Sequence[Event]) -> list[int]:
    """Right before and right after every sync."""
    syncs = [number for number, event in enumerate(events) if event.kind in SYNCS]
    return sorted({cut for number in syncs for cut in (number, number + 1)})


def first_round(events: Sequence[Event], kinds: Sequence[str] = tuple(KINDS)) -> list[Place]:
    """Every sync boundary with every kind of loss."""
    return [Place(cut, kind, 0) for cut in boundaries(events) for kind in kinds]


def later_round(
    events: Sequence[Event], number: int, dice: Random, kinds: Sequence[str]
) -> list[Place]:
    """Anywhere in a box at work, most of all where chance has a say."""
    if number > 1:
        kinds = [kind for kind in kinds if kind not in CERTAIN]
    cuts = range(_at_work(events), len(events) + 1)
    return [Place(dice.choice(cuts), dice.choice(kinds), number) for _ in range(LATER_PLACES)]


def _at_work(events: Sequence[Event]) -> int:
    """The making of its files takes hundreds of calls in each story; then the first word falls."""
    return next((number for number, event in enumerate(events) if event.kind == "M"), 0)


def rounds(
    events: Sequence[Event], seed: str, mine: int, of: int, kinds: Sequence[str]
) -> Iterator[list[Place]]:
    """One process's part of all cuts, in handfuls from all over the recording."""
    for number in range(ROUNDS_MAX):
        dice = Random(f"{seed} round {number}")
        places = later_round(events, number, dice, kinds) if number else first_round(events, kinds)
        # Neighbouring cuts leave the same disks: they belong to the same process.
        places = [place for place in places if place.cut // NEIGHBOURS % of == mine]
        dice.shuffle(places)
        for begin in range(0, len(places), HANDFUL):
            yield places[begin : begin + HANDFUL]

"""Each invariant holds of a box that worked, and says so when one thing about it is untrue."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.devices.sim.card import SimUserCard
from gateway.spool import seals
from tests.powercut.campaign import record, workshop
from tests.powercut.disk import read_trace
from tests.powercut.recording import Recording
from tests.powercut.world import Chips, World
from tests.rig import invariants
from tests.rig.invariants import Check, Scene


class Worked(NamedTuple):
    """A box after a day, pulled from its plug, settled since; and the world around it."""

    folder: Path
    world: World
    hashes: Sequence[str]


@pytest.fixture(scope="module")
def worked() -> Iterator[Worked]:
    with workshop() as folder:
        recorded = record(folder)
        recording = Recording(read_trace(recorded.trace), {}, World())
        world = World()
        for mark in recording.marks:
            world.hear(mark)
        yield Worked(folder / "box", world, recording.hashes)


@pytest.fixture
def scene(worked: Worked, tmp_path: Path) -> Iterator[Scene]:
    """A copy that a test may spoil."""
    folder = tmp_path / "box"
    shutil.copytree(worked.folder, folder)
    with closing(sqlite3.connect(folder / "lane.db", isolation_level=None)) as db:
        seals.equip(db)
        db.row_factory = sqlite3.Row
        world = worked.world.copy()
        world.centre = dict(worked.world.centre)
        yield Scene(db, folder, world, worked.hashes)


def cards(scene: Scene) -> list[SimUserCard]:
    assert isinstance(scene.world, World)
    return list(Chips(scene.world, lambda _: None).cards())


def lose_a_photo(scene: Scene) -> None:
    next(scene.folder.glob("evidence/??/*.jpg")).unlink()


def forget_the_centre(scene: Scene) -> None:
    scene.world.centre.clear()


def write(sql: str) -> Callable[[Scene], None]:
    return lambda scene: scene.db.execute(sql) and None


LAST = "(SELECT max(seq) FROM journal)"
INCIDENT = json.dumps({"what": "something", "aside": ""})
UNTRUE: list[tuple[Check, str, Callable[[Scene], None]]] = [
    (invariants.history, "is not the one", write(
        f"UPDATE journal SET hash = x'00' WHERE seq = {LAST}")),
    (invariants.history, "the journal ends at", write("DELETE FROM journal WHERE seq > 9")),
    (invariants.kept, "is not the one", write("UPDATE journal SET hash = x'00' WHERE seq = 7")),
    (invariants.kept, "rows that somebody", write("DELETE FROM journal WHERE seq = 7")),
    (invariants.saved, "is not there as shown", write(
        "UPDATE record SET chain = 'X' WHERE seq = 2")),
    (invariants.keys, "its key is not known", write("DELETE FROM command WHERE key = 'one-3'")),
    (invariants.photos, "a photo of", lose_a_photo),
    (invariants.photos, "photos were shown", write("DELETE FROM evidence")),
    (invariants.delivered, "the centre lacks it", forget_the_centre),
    (invariants.delivered, "no longer has", write("DELETE FROM record WHERE seq = 2")),
    (invariants.quiet, "mended", write(
        "INSERT INTO journal (seq, lane, passage_id, at_ms, mono_ms, boot_id, operator, event,"
        f" state, body, hash) SELECT {LAST} + 1, '', '', 0, 0, '', '', 'incident', '',"
        f" '{INCIDENT}', x'00'")),
    (invariants.whole, "journal verify", write("UPDATE journal SET body = '{}' WHERE seq = 5")),
    (invariants.sequence, "a hole", write("DELETE FROM record WHERE seq = 2")),
    (invariants.upward, "passage", write("UPDATE journal SET state = 'saved' WHERE seq = 5")),
    (invariants.versions, "other tables", write(
        "UPDATE record SET line = json_set(line, '$.paramVersions', json('{}')) WHERE seq = 1")),
    (invariants.derived, "its journal says", write(
        "UPDATE passage SET state = 'agreed', ended = NULL, record_id = NULL")),
    (invariants.shifts, "was signed off as", write("UPDATE record SET fee_fen = fee_fen + 1")),
    (invariants.arrived, "the centre", forget_the_centre),
    (lambda s: invariants.money(s.db, cards(s)), "no journal row announced", write(
        "DELETE FROM journal WHERE event = 'DebitPrepared'")),
    (lambda s: invariants.money(s.db, cards(s)), "no record says so", write(
        "DELETE FROM record WHERE kind = 'paid'")),
    (lambda s: invariants.money(s.db, cards(s)), "debits for one passage", write(
        "UPDATE journal SET passage_id = 'one' WHERE event = 'DebitPrepared'")),
    (lambda s: invariants.money(s.db, cards(s)), "disagrees with its card", write(
        "UPDATE record SET line = json_set(line, '$.fee', 1) WHERE kind = 'paid'")),
]  # fmt: skip


@pytest.mark.parametrize(("check", "says", "spoil"), UNTRUE, ids=[said for _, said, _ in UNTRUE])
def test_an_invariant_says_when_it_is_broken(
    scene: Scene, check: Check, says: str, spoil: Callable[[Scene], None]
) -> None:
    spoil(scene)

    assert any(says in said for said in check(scene)), list(check(scene))


def test_all_hold_of_a_box_that_worked(scene: Scene) -> None:
    assert invariants.on_opening(scene) == []
    assert invariants.long_after(scene) == []
    assert list(invariants.money(scene.db, cards(scene))) == []

"""Every file of a used folder damaged in every way, then a start.

What is money must be whole again, or was never touched; of everything else nothing may be wrong:
it is as it was, or it is gone and the box says so.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from gateway import tls
from gateway.app import Gateway
from gateway.spool import copies, segment
from gateway.spool.segment import HEAD_SIZE
from gateway.sync import shelf
from gateway.sync.center import ManifestEntry
from gateway.units import SystemClock, beijing
from tests.disk import forks
from tests.disk.forks import Told
from tests.disk.story import at_work, be_quick, packed, unpacked
from tests.powercut.life import live
from tests.powercut.world import World
from tests.rig.preload import ROOT

NAMES = ("127.0.0.1", "lane.local")
SOFT = ("delivery", "consumer", "sync_mark", "evidence", "session", "handheld")
SMALL = 4096
"""Bytes of a file of which each byte is flipped; of a larger one, so many as FLIPS says."""
FLIPS = {"lane.db": 500, "lane.db-wal": 500, ".seg": 250, ".jpg": 24}
ZEROS = {512: 60, 4096: 30}
"""So many pages of each size are blanked, of those that hold anything."""
IGNORED = ("lock", "lane.db-shm", "reserve")
"""Hold nothing."""
MOMENTS = ("closed", "killed")
LIMIT_S = 600.0
PACKAGES = ROOT / "gateway" / "parameters" / "demo"
TABLE, OLDER, NEWER = "policy", "20251119001", "20251120001"
"""A package that the centre sent, in its two versions."""


class Case(NamedTuple):
    moment: str
    """closed: stopped in peace; killed: its last commits are still in SQLite's own log."""
    file: str
    way: str
    at: int = 0

    @property
    def name(self) -> str:
        return f"{self.moment}:{self.file}:{self.way}:{self.at}"

    @property
    def sort(self) -> str:
        """One of each is the least that a sample must have."""
        return f"{_kind(self.file)}, {self.way.split()[0]}"


class Trial:
    """`folder` is kept between two runs of the same trial."""

    def __init__(self, folder: Path) -> None:
        be_quick()
        shelf.read_package = _cached(shelf.read_package)
        self._folder, self._world = folder, World()
        self._hashes: list[str] = []
        self._soft: dict[str, dict[str, Any]] = {}
        self._before: dict[str, Any] = {}

    def prepare(self) -> Told:
        return packed(asyncio.run(prepare(self._folder)))

    def ready(self, prepared: Told) -> None:
        self._world = unpacked(prepared)
        with closing(_origin(self._folder / "closed")) as db:
            self._hashes, self._soft = _hashes(db), _soft(db)
        self._before = {moment: _digests(self._folder / moment) for moment in MOMENTS}

    def plan(self) -> list[Case]:
        return list(cases(self._folder))

    def attempt(self, case: Case, slot: int) -> Told:
        box = forks.fresh(self._folder, slot) / "box"
        shutil.rmtree(box, ignore_errors=True)
        shutil.copytree(self._folder / case.moment, box)
        spoil(box, case, self._folder / "old")
        told, wrong = asyncio.run(self._judge(box, case))
        return {
            "violations": wrong,
            "by way": {case.way.split()[0]: 1},
            "by file": {_kind(case.file): 1},
            "came of it": {told: 1},
        }

    async def _judge(self, box: Path, case: Case) -> tuple[str, list[str]]:
        """What people were told, and what is wrong all the same."""
        tls.prepare(box / "tls", NAMES, beijing(SystemClock().now_ms())).context()
        chance = Random(case.at)
        life = await live(box, self._world.copy(), self._hashes, chance, may_mend=True)
        said = [*_incidents(box), *(str(p.relative_to(box)) for p in _aside(box))]
        wrong = [one for one in life.violations if not _is_lost_photo(one, case)]
        wrong += _soft_changes(self._soft, box, case, said)
        wrong += _changed(self._before[case.moment], _digests(box), said)
        wrong += _older_tables(box)
        return "said so" if said else "nothing to say", wrong


# ---- the folder ------------------------------------------------------------------------------


async def prepare(folder: Path) -> World:
    """`old`, `killed` and `closed`: one box at three moments; what the world knew at the last."""
    world, box_folder = World(), folder / "live"
    async with at_work(box_folder, world, "one") as (box, booth, _):
        tls.prepare(box_folder / "tls", NAMES, beijing(SystemClock().now_ms()))
        await _stage(box, OLDER)
        await booth.serve({"preset": "car"})
        await box.outbox.drain()
    shutil.copytree(box_folder, folder / "old")
    async with at_work(box_folder, world, "two") as (box, booth, _):
        await _stage(box, NEWER)
        copies.CHECKPOINT_COMMITS = 10**9  # so that SQLite's own log holds what the file does not
        for preset in ("truck", "minimum_fare", "car"):
            await booth.serve({"preset": preset})
            await box.store.write(_marks(preset))
        await box.batches.seal_due()
        await box.outbox.drain()
        await box.store.settle()
        shutil.copytree(box_folder, folder / "killed")
        assert (folder / "killed" / "lane.db-wal").stat().st_size
    shutil.copytree(box_folder, folder / "closed")
    return world


async def _stage(box: Gateway, version: str) -> None:
    """A package of the centre's, on the shelf and beside the database."""
    policy = json.loads((PACKAGES / f"{TABLE}.json").read_text("utf-8"))
    policy |= {
        "version": version,
        "effective_from": f"{version[:4]}-11-{version[6:8]}T00:00:00+08:00",
    }
    raw = json.dumps(policy).encode()
    entry = ManifestEntry(
        name=TABLE,
        version=version,
        sha256=hashlib.sha256(raw).hexdigest(),
        size=len(raw),
        effective_from=policy["effective_from"],
    )
    await box.shelf.stage(entry, raw)


def _marks(name: str) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT OR REPLACE INTO consumer (name, cursor, at_ms) VALUES ('one', 1, 7)")
        db.execute(
            "INSERT INTO session (token_hash, operator, owner, created_ms) VALUES (?, '1001',"
            " 'booth', 7)",
            (f"hash of {name}",),
        )
        db.execute(
            "INSERT INTO handheld (id, name, credential_hash, paired_ms, paired_by)"
            " VALUES (?, '手持机', ?, 7, '9001')",
            (f"of {name}", f"secret of {name}"),
        )

    return work


# ---- what is done to it ----------------------------------------------------------------------


def cases(folder: Path) -> Iterator[Case]:
    """All ways for all files. What is alike at both moments is flipped at one of them."""
    for moment in MOMENTS:
        for path in sorted((folder / moment).rglob("*")):
            name = str(path.relative_to(folder / moment))
            if not path.is_file() or name.endswith(IGNORED):
                continue
            raw, old = path.read_bytes(), folder / "old" / name
            yield Case(moment, name, "deleted")
            if old.exists() and old.read_bytes() != raw:
                yield Case(moment, name, "old copy")
            yield from _blanked(moment, name, raw)
            yield from _cut(moment, name, raw)
            other = folder / MOMENTS[moment == MOMENTS[0]] / name
            is_alike = not name.endswith(".db") and other.exists() and other.read_bytes() == raw
            yield from _flipped(moment, name, raw, is_alike=is_alike)
        files = sorted(path.name for path in (folder / moment / "spool").glob("*.seg"))
        for a, b in combinations(files, 2):
            yield Case(moment, f"spool/{a}", f"swapped with {b}")


def _blanked(moment: str, name: str, raw: bytes) -> Iterator[Case]:
    for size, most in ZEROS.items():
        pages = [at for at in range(0, len(raw), size) if any(raw[at : at + size])]
        yield from (Case(moment, name, f"zeroed {size}", at) for at in _some(pages, most, name))


def _cut(moment: str, name: str, raw: bytes) -> Iterator[Case]:
    lengths = [0, 1, 99, 511, 512, 4095, 4096, len(raw) // 2, len(raw) - 1]
    lengths += _some(range(len(raw)), 10, name)
    yield from (Case(moment, name, "cut", at) for at in sorted(set(lengths)) if at < len(raw))


def _flipped(moment: str, name: str, raw: bytes, *, is_alike: bool) -> Iterator[Case]:
    used = _used(name, raw)
    most = next((n for end, n in FLIPS.items() if name.endswith(end)), SMALL)
    for at in used if len(used) <= most else _some(used, most, name):
        chance = zlib.crc32(f"{name} {at}".encode())
        if not is_alike or moment == MOMENTS[chance >> 8 & 1]:
            yield Case(moment, name, "flipped", at * 8 + chance % 8)


def _used(name: str, raw: bytes) -> list[int]:
    """Bytes worth flipping: of a file of the log its head and all rows with their filling."""
    if not name.endswith(".seg"):
        return list(range(len(raw)))
    head = segment.read_head(raw)
    ends = [at + f.size for at, f in segment.frames(memoryview(raw), head)] if head else []
    return [*range(HEAD_SIZE), *range(HEAD_SIZE, max(ends, default=HEAD_SIZE))] if head else []


def _some(what: Sequence[int], most: int, name: str) -> list[int]:
    return sorted(Random(name).sample(what, min(most, len(what))))


def spoil(box: Path, case: Case, old: Path) -> None:
    path = box / case.file
    if case.way == "deleted":
        path.unlink()
    elif case.way == "old copy":
        shutil.copyfile(old / case.file, path)
    elif case.way == "cut":
        os.truncate(path, case.at)
    elif case.way.startswith("swapped"):
        other, aside = path.with_name(case.way.split()[-1]), path.with_name("aside")
        path.rename(aside), other.rename(path), aside.rename(other)
    else:
        raw = bytearray(path.read_bytes())
        if case.way == "flipped":
            raw[case.at // 8] ^= 1 << case.at % 8
        else:
            size = int(case.way.split()[1])
            raw[case.at : case.at + size] = bytes(len(raw[case.at : case.at + size]))
        path.write_bytes(raw)


# ---- and what comes of it --------------------------------------------------------------------


def _is_lost_photo(said: str, case: Case) -> bool:
    """A photo has one copy: the box can say that it is spoilt, and does when it is looked at."""
    return case.file.endswith(".jpg") and "photo" in said


def _soft_changes(
    before: dict[str, dict[str, Any]], box: Path, case: Case, said: list[str]
) -> Iterator[str]:
    """A row is as it was, or it is gone and that was told; never another."""
    with closing(sqlite3.connect(box / "lane.db")) as db:
        after = _soft(db)
    for table in SOFT:
        new = {key: row for key, row in after[table].items() if key in before[table]}
        changed = [k for k, row in new.items() if row[:2] != before[table][k][:2]]
        gone = before[table].keys() - after[table].keys()
        if changed and table not in ("sync_mark", "delivery"):
            yield f"{len(changed)} rows of {table} are others"
        # The end of SQLite's own log after a crash: damaged and torn look alike.
        if gone and not said and not case.file.endswith("-wal"):
            yield f"{len(gone)} rows of {table} are gone, and nobody was told"


def _soft(db: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    return {
        table: {str(row[:2] if table == "delivery" else row[0]): row
                for row in db.execute(f"SELECT * FROM {table}")}
        for table in SOFT
    }  # fmt: skip


def _origin(box: Path) -> sqlite3.Connection:
    """Of a box that was stopped: nothing is made beside it by looking."""
    return sqlite3.connect(f"file:{box / 'lane.db'}?immutable=1", uri=True)


def _incidents(box: Path) -> list[str]:
    with closing(sqlite3.connect(box / "lane.db")) as db:
        rows = db.execute("SELECT body FROM journal WHERE event = 'incident'").fetchall()
    return [json.loads(body)["what"] for (body,) in rows]


def _aside(box: Path) -> list[Path]:
    aside = ("**/quarantine/*", "**/*.broken-*", "**/*.bad*")
    return [path for pattern in aside for path in box.glob(pattern)]


def _hashes(db: sqlite3.Connection) -> list[str]:
    rows = db.execute("SELECT hash FROM journal ORDER BY seq").fetchall()
    return [row_hash.hex() for (row_hash,) in rows]


def _digests(box: Path) -> dict[str, str]:
    """Of what this box is known by."""
    names = ("tls/authority.pem", "keys/lane.pem", "keys/lane.pub")
    return {name: hashlib.sha256((box / name).read_bytes()).hexdigest() for name in names}


def _changed(before: dict[str, str], after: dict[str, str], said: list[str]) -> Iterator[str]:
    """Another key or authority than before, and nobody was told."""
    for name, digest in before.items():
        if after.get(name) != digest and not said:
            yield f"{name} is another one, and nobody was told"


def _older_tables(box: Path) -> Iterator[str]:
    """A package has two copies: damage to one of them costs nothing."""
    with closing(sqlite3.connect(box / "lane.db")) as db:
        (body,) = db.execute(
            "SELECT body FROM journal WHERE event = 'ReadRequested' ORDER BY seq DESC LIMIT 1"
        ).fetchone()
    if (used := json.loads(body)["parameters"][TABLE]) != NEWER:
        yield f"{TABLE} {used} is in force"


def _kind(file: str) -> str:
    return "photo" if file.endswith(".jpg") else Path(file).suffix.lstrip(".") or file


def _cached(real: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    known: dict[bytes, Any] = {}

    def read(raw: bytes) -> Any:
        digest = hashlib.sha256(raw).digest()
        if digest not in known:
            known[digest] = real(raw)
        return known[digest]

    return read

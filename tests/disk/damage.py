"""Every file of a used folder damaged in every way, then a start: python -m tests.disk.damage … .

What is money must be whole again, or was never touched; of everything else nothing may be wrong:
it is as it was, or it is gone and the box says so.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from gateway import tls
from gateway.spool import segment
from gateway.spool.segment import HEAD_SIZE
from gateway.sync import shelf
from gateway.units import SystemClock, beijing
from tests.disk.story import at_work, be_quick
from tests.powercut.life import live
from tests.powercut.world import World

NAMES = ("127.0.0.1", "lane.local")
SOFT = ("delivery", "consumer", "sync_mark", "evidence", "session", "handheld")
FLIPS = {"lane.db": 400, "lane.db-wal": 200, ".seg": 400, ".jpg": 12, ".pem": 400, ".json": 60}
"""Flipped bits to choose from of one file, by the end of its name."""
IGNORED = ("lock", "lane.db-shm", "reserve")
"""Hold nothing."""


class Case(NamedTuple):
    folder: str
    """closed: stopped in peace; killed: its last commits are still in SQLite's own log."""
    file: str
    way: str
    at: int = 0

    @property
    def name(self) -> str:
        return f"{self.folder}:{self.file}:{self.way}:{self.at}"


@dataclass(slots=True)
class Tally:
    states: int = 0
    by_way: Counter[str] = field(default_factory=Counter)
    by_file: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def said(self) -> str:
        counts = {name: getattr(self, name) for name in ("by_way", "by_file", "told")}
        return json.dumps(
            {"states": self.states, "violations": self.violations, **counts}, ensure_ascii=False
        )


# ---- the folder ------------------------------------------------------------------------------


async def prepare(folder: Path) -> World:
    """`old`, `killed` and `closed`: one box at three moments; what the world knew at the last."""
    world, box_folder = World(), folder / "live"
    async with at_work(box_folder, world, "one") as (box, booth, _):
        tls.prepare(box_folder / "tls", NAMES, beijing(SystemClock().now_ms()))
        await booth.serve({"preset": "car"})
        await box.outbox.drain()
    shutil.copytree(box_folder, folder / "old")
    async with at_work(box_folder, world, "two") as (box, booth, _):
        for preset in ("truck", "minimum_fare", "car"):
            await booth.serve({"preset": preset})
            await box.store.write(_marks(preset))
        await box.batches.seal_due()
        await box.outbox.drain()
        await box.store.settle()
        shutil.copytree(box_folder, folder / "killed")
    shutil.copytree(box_folder, folder / "closed")
    return world


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


def cases(folder: Path, chance: Random) -> list[Case]:
    """All ways for all files, in an order of chance; whole kinds before more flips of one."""
    found: list[Case] = []
    for moment in ("closed", "killed"):
        for path in sorted((folder / moment).rglob("*")):
            name = str(path.relative_to(folder / moment))
            if path.is_file() and not name.endswith(IGNORED):
                found += _ways(moment, name, path, folder / "old" / name, chance)
        files = [p.name for p in sorted((folder / moment / "spool").glob("*.seg"))]
        found += [
            Case(moment, f"spool/{a}", f"swapped with {b}") for a in files for b in files if a < b
        ]
    chance.shuffle(found)
    return found


def _ways(moment: str, name: str, path: Path, old: Path, chance: Random) -> Iterator[Case]:
    raw = path.read_bytes()
    yield Case(moment, name, "deleted")
    if old.exists() and old.read_bytes() != raw:
        yield Case(moment, name, "old copy")
    used = _used(name, raw)
    for size in (512, 4096):
        pages = [at for at in range(0, len(raw), size) if any(raw[at : at + size])]
        yield from (Case(moment, name, f"zeroed {size}", at) for at in _some(pages, 30, chance))
    lengths = [0, 1, 99, 511, 512, 4095, 4096, len(raw) // 2, len(raw) - 1]
    lengths += [chance.randrange(len(raw)) for _ in range(10)] if raw else []
    yield from (
        Case(moment, name, "cut", at) for at in sorted({n for n in lengths if n < len(raw)})
    )
    count = next((n for end, n in FLIPS.items() if name.endswith(end)), 60)
    bits = [chance.choice(used) * 8 + chance.randrange(8) for _ in range(count)] if used else []
    yield from (Case(moment, name, "flipped", bit) for bit in bits)


def _used(name: str, raw: bytes) -> list[int]:
    """Bytes worth flipping: of a file of the log its head and all rows with their filling."""
    if not name.endswith(".seg"):
        return list(range(len(raw)))
    head = segment.read_head(raw)
    ends = [at + f.size for at, f in segment.frames(memoryview(raw), head)] if head else []
    return [*range(HEAD_SIZE), *range(HEAD_SIZE, max(ends, default=HEAD_SIZE))] if head else []


def _some(what: list[int], count: int, chance: Random) -> list[int]:
    return sorted(chance.sample(what, min(count, len(what))))


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


async def judge(folder: Path, case: Case, world: World, tally: Tally) -> None:
    box = folder / "box"
    shutil.rmtree(box, ignore_errors=True)
    shutil.copytree(folder / case.folder, box)
    spoil(box, case, folder / "old")
    before = _digests(folder / case.folder)
    hashes = _hashes(folder / "closed")
    tally.states += 1
    tally.by_way[case.way.split()[0]] += 1
    tally.by_file[_kind(case.file)] += 1
    try:
        found = tls.prepare(box / "tls", NAMES, beijing(SystemClock().now_ms()))
        found.context()
        life = await live(box, world.copy(), hashes, Random(case.at), may_mend=True)
    except Exception as bug:  # noqa: BLE001 - whatever it is, it is a finding
        tally.violations.append(f"{case.name}: died of {bug!r}")
        return
    said = [*_incidents(box), *(str(p.relative_to(box)) for p in _aside(box))]
    tally.told["said so" if said else "nothing to say"] += 1
    wrong = [one for one in life.violations if not _is_lost_photo(one, case, box)]
    wrong += _soft_changes(folder / "closed", box, case, said)
    if case.file.startswith("tls") and not said and _digests(box, "tls") != before["tls"]:
        wrong.append("another certificate, and nobody was told")
    tally.violations += [f"{case.name}: {one}" for one in wrong]


def _is_lost_photo(said: str, case: Case, box: Path) -> bool:
    """A photo has one copy: the box can say that it is spoilt, and does when it is looked at."""
    return case.file.endswith(".jpg") and "photo" in said and not (box / "nothing").exists()


def _soft_changes(origin: Path, box: Path, case: Case, said: list[str]) -> Iterator[str]:
    """A row is as it was, or it is gone and that was told; never another."""
    before, after = _soft(origin), _soft(box)
    for table in SOFT:
        new = {key: row for key, row in after[table].items() if key in before[table]}
        changed = [k for k, row in new.items() if row[:2] != before[table][k][:2]]
        gone = before[table].keys() - after[table].keys()
        if changed and table not in ("sync_mark", "delivery"):
            yield f"{len(changed)} rows of {table} are others"
        # The end of SQLite's own log after a crash: damaged and torn look alike.
        if gone and not said and not case.file.endswith("-wal"):
            yield f"{len(gone)} rows of {table} are gone, and nobody was told"


def _soft(box: Path) -> dict[str, dict[str, Any]]:
    with closing(sqlite3.connect(box / "lane.db")) as db:
        return {
            table: {str(row[:2] if table == "delivery" else row[0]): row
                    for row in db.execute(f"SELECT * FROM {table}")}
            for table in SOFT
        }  # fmt: skip


def _incidents(box: Path) -> list[str]:
    with closing(sqlite3.connect(box / "lane.db")) as db:
        rows = db.execute("SELECT body FROM journal WHERE event = 'incident'").fetchall()
    return [json.loads(body)["what"] for (body,) in rows]


def _aside(box: Path) -> list[Path]:
    return [*box.glob("**/quarantine/*"), *box.glob("**/*.broken-*")]


def _hashes(box: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{box / 'lane.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT hash FROM journal ORDER BY seq").fetchall()
    return [row_hash.hex() for (row_hash,) in rows]


def _digests(box: Path, below: str = "") -> dict[str, Any]:
    files = {
        str(p.relative_to(box)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted((box / below).rglob("*"))
        if p.is_file()
    }
    return files if below else {**files, "tls": _digests(box, "tls")}


def _kind(file: str) -> str:
    return "photo" if file.endswith(".jpg") else Path(file).suffix.lstrip(".") or file


async def main(folder: Path, seconds: float, seed: str, share: int, of: int) -> Tally:
    be_quick()
    shelf.read_package = _cached(shelf.read_package)
    deadline, tally = time.monotonic() + seconds, Tally()
    world = await prepare(folder)
    for number, case in enumerate(cases(folder, Random(seed))):
        if number % of == share:
            if time.monotonic() > deadline:
                break
            await judge(folder, case, world, tally)
    return tally


def _cached(real: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    known: dict[bytes, Any] = {}

    def read(raw: bytes) -> Any:
        digest = hashlib.sha256(raw).digest()
        if digest not in known:
            known[digest] = real(raw)
        return known[digest]

    return read


async def _only(folder: Path, name: str) -> Tally:
    be_quick()
    tally, world = Tally(), await prepare(folder)
    moment, file, way, at = name.split(":")
    await judge(folder, Case(moment, file, way, int(at)), world, tally)
    return tally


if __name__ == "__main__":
    where = Path(sys.argv[1])
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    if len(sys.argv) == 3:
        print(asyncio.run(_only(where, sys.argv[2])).said())
    else:
        spent, dice, mine, all_ = sys.argv[2:]
        print(asyncio.run(main(where, float(spent), dice, int(mine), int(all_))).said())

"""The status list at national size: ours beside SQLite and, where it is at hand, LMDB.

    python -m tests.bench statuslist --entries 50000000 --dir /var/tmp

Each candidate takes the same entries from the same package in a process of its own, then one delta
while a thread looks numbers up, then warm and cold look-ups, half of numbers that are not listed.
Cold means that the file's pages were dropped just before each look-up. Full load: from the bytes
as they come over the line (a stream of chunks) to the first answer, checked, synced, renamed.
LMDB is no dependency; `pip install --target DIR lmdb` and PYTHONPATH=DIR let it take part.
"""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.statuslist.archive import Archive
from gateway.statuslist.form import CARD, KEY_BYTES, OBU, STATE
from gateway.statuslist.reader import ListFile
from gateway.statuslist.writer import Writer
from tests.bench.figure import Figure, p50, p99

GOAL_WARM_US, GOAL_COLD_MS, GOAL_BYTES = 50.0, 5.0, 24.0
GOAL_DELTA_S, GOAL_FULL_S, GOAL_RESIDENT_MB = 1.0, 120.0, 50.0
DELTA = 50_000
WARM, COLD = 20_000, 400
CHUNK = 256 * 1024
LMDB: dict[str, Any] = {"subdir": False, "map_size": 16 << 30, "readahead": False}
NOW = datetime(2025, 11, 21, tzinfo=UTC)
REASONS = {1: "卡挂失", 2: "无卡挂起", 3: "无卡注销", 4: "账户透支"}
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OBU_BASE, CARD_BASE = 6201_0000_0000_0000, 1101_0000_0000_0000_0000


def number_of(place: int) -> tuple[int, int]:
    """Kind and number of the n-th entry: three cards to one OBU, gaps between, no pattern."""
    spread = place * 7_919 + (place * 2_654_435_761 >> 7) % 7_919
    if place % 4 == 3:
        return OBU, OBU_BASE + spread
    return CARD, CARD_BASE + spread * 97


def key(kind: int, number: int) -> bytes:
    return bytes.fromhex(f"{number:020d}")


def rows(kind: int, count: int, step: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Key and state, in order."""
    state = STATE.pack(1, 1_763_700_000)
    for place in range(0, count, step):
        if (place % 4 == 3) is (kind == OBU):
            yield key(*number_of(place)), state


def write(path: Path, count: int, version: str, base: str = "", step: int = 1) -> None:
    """A package as a centre would publish it."""
    with Writer(path, version, base, NOW) as out:
        for kind in (CARD, OBU):
            some = bytearray()
            for one, state in rows(kind, count, step):
                some += one + state
                if len(some) > 1_000_000:
                    out.add(kind, bytes(some))
                    some.clear()
            out.add(kind, bytes(some))
        out.close(REASONS, KEY.sign)


class Candidate(Protocol):
    def load(self, chunks: Iterator[bytes]) -> None: ...
    def delta(self, path: Path) -> None: ...
    def find(self, kind: int, one: bytes) -> bool: ...
    def drop(self) -> None: ...
    def bytes(self) -> int: ...


class Ours:
    def __init__(self, folder: Path) -> None:
        self._archive = Archive(folder / "ours", lambda: KEY.public_key())
        self._archive.load(_now_ms())

    def load(self, chunks: Iterator[bytes]) -> None:
        half = self._archive.room("f")
        with half.open("wb", buffering=1024 * 1024) as file:
            for chunk in chunks:
                file.write(chunk)
        self._archive.take(half, _now_ms())

    def delta(self, path: Path) -> None:
        half = self._archive.room("d")
        shutil.copyfile(path, half)
        self._archive.take(half, _now_ms())

    def find(self, kind: int, one: bytes) -> bool:
        serving = self._archive.serving
        assert serving is not None
        return serving.state_of(kind, one) is not None

    def drop(self) -> None:
        assert self._archive.serving is not None
        self._archive.serving.drop_pages()

    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self._archive.folder.iterdir())


class _Parsed:
    """What a structure other than ours must do with the package first: take it apart."""

    def __init__(self, folder: Path) -> None:
        self._package = folder / "package.list"

    def entries(self, chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
        with self._package.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        yield from _entries(self._package)
        self._package.unlink()


class Sqlite(_Parsed):
    """WITHOUT ROWID, one sorted bulk insert; a delta is one transaction in WAL, synced."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._path = folder / "list.db"
        self._local = threading.local()

    def load(self, chunks: Iterator[bytes]) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("CREATE TABLE l (k BLOB PRIMARY KEY, s BLOB NOT NULL) WITHOUT ROWID")
            db.execute("BEGIN")
            db.executemany("INSERT INTO l VALUES (?, ?)", self.entries(chunks))
            db.execute("COMMIT")
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        with closing(sqlite3.connect(self._path)) as db:
            db.execute("PRAGMA journal_mode = WAL")

    def delta(self, path: Path) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN")
            db.executemany("INSERT OR REPLACE INTO l VALUES (?, ?)", _entries(path))
            db.execute("COMMIT")

    def find(self, kind: int, one: bytes) -> bool:
        db = getattr(self._local, "db", None) or sqlite3.connect(self._path)
        self._local.db = db
        row = db.execute("SELECT s FROM l WHERE k = ?", (bytes([kind]) + one,)).fetchone()
        return row is not None

    def drop(self) -> None:
        if db := getattr(self._local, "db", None):
            db.close()
            self._local.db = None
        _drop(self._path)

    def bytes(self) -> int:
        return self._path.stat().st_size


class Lmdb(_Parsed):
    """Sorted append; a delta is one synced transaction."""

    def __init__(self, folder: Path) -> None:
        import lmdb

        super().__init__(folder)
        self._path = folder / "list.mdb"
        self._env: Any = lmdb.open(str(self._path), **LMDB)

    def load(self, chunks: Iterator[bytes]) -> None:
        entries = self.entries(chunks)
        is_over = False
        while not is_over:  # one transaction of all would keep every dirty page in memory
            with self._env.begin(write=True) as txn:
                for place, (one, state) in enumerate(entries):
                    txn.put(one, state, append=True)
                    if place == 1_000_000:
                        break
                else:
                    is_over = True
        self._env.sync(True)

    def delta(self, path: Path) -> None:
        with self._env.begin(write=True) as txn:
            for one, state in _entries(path):
                txn.put(one, state)

    def find(self, kind: int, one: bytes) -> bool:
        with self._env.begin() as txn:
            return txn.get(bytes([kind]) + one) is not None

    def drop(self) -> None:
        """Mapped pages stay unless unmapped: opened anew."""
        import lmdb

        self._env.close()
        _drop(self._path)
        self._env = lmdb.open(str(self._path), **LMDB)

    def bytes(self) -> int:
        return self._path.stat().st_blocks * 512


CANDIDATES: dict[str, Callable[[Path], Candidate]] = {"ours": Ours, "sqlite": Sqlite, "lmdb": Lmdb}


def measure(folder: Path, entries: int, names: list[str] | None = None) -> list[Figure]:
    """All candidates at hand, one after another; each is a process of its own."""
    write(folder / "full.list", entries, "1")
    write(folder / "delta.list", entries, "2", "1", step=max(1, entries // DELTA) | 1)
    seen: dict[str, dict[str, float]] = {}
    for name in names or list(CANDIDATES):
        own = folder / name
        own.mkdir()
        command = [sys.executable, "-m", "tests.bench.statuslist", name, str(folder), str(entries)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        shutil.rmtree(own)
        if done.returncode == 0:
            seen[name] = json.loads(done.stdout)
    return _figures(seen, entries)


def _figures(seen: dict[str, dict[str, float]], entries: int) -> list[Figure]:
    goals = {
        "look-up, warm, p50": ("warm50_us", "µs", None),
        "look-up, warm, p99": ("warm99_us", "µs", GOAL_WARM_US),
        "look-up, warm, p99, best of three": ("own99_us", "µs", GOAL_WARM_US),
        "look-up, cold, p50": ("cold50_ms", "ms", None),
        "look-up, cold, p99": ("cold99_ms", "ms", GOAL_COLD_MS),
        "disk per entry": ("per_entry", "bytes", GOAL_BYTES),
        f"delta of {DELTA}": ("delta_s", "s", GOAL_DELTA_S),
        "  look-ups meanwhile, p99": ("during99_us", "µs", None),
        "  look-ups meanwhile, worst": ("during_max_us", "µs", None),
        "full load": ("full_s", "s", GOAL_FULL_S),
        "resident, page cache apart": ("resident_mb", "MB", GOAL_RESIDENT_MB),
        "a start with it": ("start_ms", "ms", None),
    }
    figures = []
    for name, (field, unit, goal) in goals.items():
        if field not in seen.get("ours", {}):
            continue
        ours = seen["ours"][field]
        notes = [
            f"{other} {told[field]:.2f} {unit} (× {ours / told[field]:.2f})"
            for other, told in seen.items()
            if other != "ours" and told.get(field)
        ]
        title = f"status list of {entries}: {name}"
        figures.append(Figure(title, ours, unit, goal, "; ".join(notes)))
    return figures


def _one(name: str, folder: Path, entries: int) -> dict[str, float]:
    candidate = CANDIDATES[name](folder / name)
    began = time.perf_counter()
    candidate.load(_chunks(folder / "full.list"))
    candidate.find(*_asked(random.Random(1), entries))
    full_s = time.perf_counter() - began
    per_entry = candidate.bytes() / entries
    delta_s, during = _delta(candidate, folder / "delta.list", entries)
    (warm, own), cold = _warm(candidate, entries), _cold(candidate, entries)
    told = {
        "full_s": full_s,
        "per_entry": per_entry,
        "delta_s": delta_s,
        "during99_us": p99(during) * 1e6,
        "during_max_us": max(during) * 1e6,
        "warm50_us": p50(warm) * 1e6,
        "warm99_us": p99(warm) * 1e6,
        "own99_us": p99(own) * 1e6,
        "cold50_ms": p50(cold) * 1e3,
        "cold99_ms": p99(cold) * 1e3,
        "resident_mb": _resident_mb() - BEFORE_MB,
    }
    if isinstance(candidate, Ours):
        began = time.perf_counter()
        again = Ours(folder / name)
        assert again.find(*_asked(random.Random(1), entries))
        told["start_ms"] = (time.perf_counter() - began) * 1e3
    return told


def _delta(candidate: Candidate, path: Path, entries: int) -> tuple[float, list[float]]:
    """Seconds of the delta, and of each look-up that a thread made meanwhile."""
    is_over, took = threading.Event(), list[float]()

    def look() -> None:
        chance = random.Random(2)
        while not is_over.is_set():
            took.append(_timed(candidate, chance, entries))
            time.sleep(0.0005)

    looking = threading.Thread(target=look)
    looking.start()
    began = time.perf_counter()
    candidate.delta(path)
    delta_s = time.perf_counter() - began
    is_over.set()
    looking.join()
    return delta_s, took


def _warm(candidate: Candidate, entries: int) -> tuple[list[float], list[float]]:
    """Seconds of each look-up as it came; and of each number the best of three, which is the
    structure's own time where the machine has other work."""
    rounds = []
    for _ in range(4):  # from the second time over the same numbers everything is in memory
        chance = random.Random(3)
        rounds.append([_timed(candidate, chance, entries) for _ in range(WARM)])
    return rounds[-1], [min(three) for three in zip(*rounds[1:], strict=True)]


def _cold(candidate: Candidate, entries: int) -> list[float]:
    chance, took = random.Random(4), []
    for _ in range(COLD):
        candidate.drop()
        took.append(_timed(candidate, chance, entries))
    return took


def _timed(candidate: Candidate, chance: random.Random, entries: int) -> float:
    """One look-up; every other one is of a number between two that are listed."""
    is_there = chance.random() < 0.5
    kind, one = _asked(chance, entries) if is_there else _absent(chance, entries)
    began = time.perf_counter()
    found = candidate.find(kind, one)
    took = time.perf_counter() - began
    assert found is is_there
    return took


def _asked(chance: random.Random, entries: int) -> tuple[int, bytes]:
    kind, number = number_of(chance.randrange(entries))
    return kind, key(kind, number)


def _absent(chance: random.Random, entries: int) -> tuple[int, bytes]:
    """A hex digit makes it nobody's; its place is between numbers that are listed."""
    kind, number = number_of(chance.randrange(entries))
    return kind, bytes.fromhex(f"{number:020d}"[:-1] + "A")


def _entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    opened = ListFile.open(path, KEY.public_key())
    for kind in (CARD, OBU):
        first = bytes([kind])
        for row in opened.rows(kind):
            yield first + row[:KEY_BYTES], row[KEY_BYTES:]


def _chunks(path: Path) -> Iterator[bytes]:
    """As they come over the line, their sum taken as our fetching does."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
            yield chunk
    _drop(path)


def _drop(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    anon = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(anon.split()[1]) / 1024


def _now_ms() -> int:
    return round(NOW.timestamp() * 1000) + 1


BEFORE_MB = _resident_mb()

if __name__ == "__main__":
    print(json.dumps(_one(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))

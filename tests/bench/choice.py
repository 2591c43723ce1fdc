"""Which copy should be the log, and what should "saved" wait for? python -m tests.bench.choice

Four ways to make one real step durable, one after the other in turns, in one thread, on the same
disk; then again with every sync slowed to 5 ms (slow.c). Written down in the README, Decisions.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gateway.spool import database, tables
from gateway.spool.frame import GENESIS, Row, chained, pack, text_of
from gateway.spool.log import Spool
from tests.bench.figure import p50, p99

ROUNDS, WARM_UP = 300, 30
BODY = '{"plate":"甘A12345","colour":0,"source":"lpr","photo":null,"at_ms":1700000000000}'
BOOT = "boot-id-of-36-characters-it-is-one-x"
EXTRA = (
    '{{"key":["{0:032x}","{0:064x}"],"passage":[1700000000000,"1001",1,"甘A12345",'
    '"62012045220000123456",null,"evidenced",null]}}'
)


def row(seq: int) -> Row:
    passage = f"X03-20261122{seq // 11:06d}"
    return Row(seq, "X03", passage, 1_700_000_000_000 + seq, seq, BOOT,
               "1001", "PlateSubmitted", "evidenced", BODY, EXTRA.format(seq))  # fmt: skip


class Ways:
    def __init__(self, folder: Path) -> None:
        self._db = {name: _db(folder / f"{name}.db") for name in ("one", "two", "three")}
        self._heads = dict.fromkeys(self._db, GENESIS)
        self._spools = {name: Spool.open(folder / f"spool-{name}") for name in ("one", "three")}
        self._follower = os.open(folder / "follower", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._raw = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.behind: list[tuple[Row, bytes]] = []

    def log_then_tables(self, seq: int) -> None:
        """One sync, of the log. The tables follow unsynced, later (timed apart)."""
        told = row(seq)
        (row_hash,) = self._spools["one"].append([told])
        self.behind.append((told, row_hash))

    def tables_follow(self) -> None:
        db = self._db["one"]
        db.execute("BEGIN IMMEDIATE")
        for told, row_hash in self.behind:
            tables.follow(db, told, row_hash)
        db.execute("COMMIT")
        self.behind.clear()

    def tables_then_log(self, seq: int) -> None:
        """One sync, of SQLite's WAL. The log is appended unsynced."""
        told = row(seq)
        self._commit("two", told)
        os.write(self._follower, pack(seq, seq - 1, self._heads["two"], text_of(told), 512))

    def both(self, seq: int) -> None:
        """Two syncs, one after the other."""
        told = row(seq)
        self._spools["three"].append([told])
        self._commit("three", told)

    def raw(self, seq: int) -> None:
        """The same bytes appended and synced by hand."""
        text = text_of(row(seq))
        os.write(self._raw, pack(seq, seq - 1, GENESIS, text, 512))
        os.fdatasync(self._raw)

    def _commit(self, name: str, told: Row) -> None:
        db = self._db[name]
        self._heads[name] = chained(self._heads[name], text_of(told))
        db.execute("BEGIN IMMEDIATE")
        tables.follow(db, told, self._heads[name])
        db.execute("COMMIT")


def _db(path: Path) -> sqlite3.Connection:
    db = database.connect(path)
    if path.name == "one.db":
        db.execute("PRAGMA synchronous=NORMAL")
    return db


def measure(folder: Path) -> dict[str, list[float]]:
    ways = Ways(folder)
    timed: dict[str, list[float]] = {"tables follow, per step": []}
    works: dict[str, Callable[[int], None]] = {
        "raw append + fdatasync": ways.raw,
        "log synced, tables follow": ways.log_then_tables,
        "tables synced, log follows": ways.tables_then_log,
        "both synced": ways.both,
    }
    for seq in range(1, ROUNDS + WARM_UP + 1):
        for name, work in works.items():
            took_ms = _timed(lambda work=work, seq=seq: work(seq))  # type: ignore[misc]
            if seq > WARM_UP:
                timed.setdefault(name, []).append(took_ms)
        if len(ways.behind) == 11:  # a passage
            took_ms = _timed(ways.tables_follow)
            timed["tables follow, per step"].append(took_ms / 11)
    return timed


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def told(timed: dict[str, list[float]]) -> str:
    raw = p50(timed["raw append + fdatasync"])
    return "\n".join(
        f"{name:28} p50 {p50(v):7.3f} ms  p99 {p99(v):7.3f} ms  ÷ raw {p50(v) / raw:5.2f}"
        for name, v in timed.items()
    )


def main() -> None:
    if "--child" in sys.argv:
        with tempfile.TemporaryDirectory(dir=sys.argv[-1]) as folder:
            print(told(measure(Path(folder))))
        return
    where = sys.argv[1] if len(sys.argv) > 1 else "."
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "slow.so"
        source = Path(__file__).with_name("slow.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source, "-ldl"], check=True)
        for slow_ms in (0, 5):
            print(f"--- every sync {'as it is' if not slow_ms else f'slowed by {slow_ms} ms'}")
            environ = {**os.environ, "LD_PRELOAD": str(shim), "SLOW_SYNC_US": f"{slow_ms * 1000}"}
            command = [sys.executable, "-m", "tests.bench.choice", "--child", where]
            subprocess.run(command, check=True, env=environ if slow_ms else None)


if __name__ == "__main__":
    main()

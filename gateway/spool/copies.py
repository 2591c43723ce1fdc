"""The two copies of money kept alike: the log, and the tables that follow it. One thread.

Start-up is verify, salvage, set aside, go on: a damaged file is moved to the quarantine, made anew
from the other copy, and the journal says so. A failed write is followed by a look at what is
really there, never by a guess.
"""

import errno
import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.spool import repair, tables
from gateway.spool.database import connect, hash_at, is_damage, is_our_sql, trouble
from gateway.spool.draft import Draft, Work
from gateway.spool.frame import Row
from gateway.spool.health import Health, errno_of
from gateway.spool.log import Spool
from gateway.spool.repair import Repair
from gateway.spool.reserve import RESERVE, Reserve
from gateway.spool.segment import sync_folder
from gateway.spool.tables import LaneHead
from gateway.units import Clock

log = logging.getLogger(__name__)

SPOOL = "spool"  # folder of the log beside the database; may be a link to another disk
SLICE = 512  # rows that follow in one transaction
CHECKPOINT_COMMITS = 64  # some 400 pages of SQLite's own log; it would wait for 1 000
CHECKED_AT_START = 16 * 1024 * 1024  # bytes; a larger database is checked behind the selling


class Copies:
    """`log` is the truth and `tables` follow it. Every method runs in the writer's thread."""

    spool: Spool

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self.health, self.reserve = Health(), Reserve(path.parent / RESERVE)
        self._db: sqlite3.Connection | None = None
        self._is_synced = True
        self.lanes: dict[str, LaneHead] = {}
        self.behind: list[tuple[Row, bytes]] = []
        """On disk in the log, not yet in the tables."""
        self.later: list[Work[None]] = []
        """To be done when the tables follow next."""
        self.later_done = 0
        self.repairs: list[Repair] = []
        self._reported: list[Repair] = []
        self.generation = 0
        """Of the database file: one more whenever it was replaced."""
        self.may_grow = True
        self._is_limited = False
        self.commits = 0
        """Since the last checkpoint."""

    def close(self) -> None:
        with suppress(StoreUnavailable):
            self.follow()
        self.spool.close()
        if self._db is not None:
            self._db.close()

    def add(self, rows: Sequence[Row], lanes: dict[str, LaneHead]) -> None:
        """Put rows into the log; the tables follow later. Raises: OSError."""
        if rows:
            hashes = self.spool.append(rows)
            self.behind += zip(rows, hashes, strict=True)
        self.lanes = lanes

    def look_again(self) -> None:
        """After a failed write: what is really there counts. Raises: OSError."""
        known = self.spool.seq
        self.spool.look_again()
        if self.spool.seq > known:
            self.behind += self.spool.rows(known)
            try:
                self.lanes = tables.lane_heads(self.up_to_date())
            except StoreUnavailable as no:
                raise OSError(5, no.detail) from no

    # ---- the tables ----

    def up_to_date(self) -> sqlite3.Connection:
        self.follow()
        return self.handle()

    def follow(self) -> None:
        """Bring the tables up to the log. Raises: StoreUnavailable; nothing is lost then."""
        try:
            self._follow()
            self.health.tables_said(0)
        except (sqlite3.Error, OSError) as broken:
            self.abandon()
            if self.finds_room(broken):
                self.follow()
                return
            self.health.tables_said(errno_of(broken))
            if not is_damage(broken):
                log.error("the tables cannot follow", extra={"reason": str(broken)})
                raise StoreUnavailable(f"磁盘不能写：{broken}") from broken
            self.heal(str(broken))

    def finds_room(self, broken: BaseException) -> bool:
        """The disk is full, and a piece of the tables' reserve was let go: try once more."""
        return errno_of(broken) == errno.ENOSPC and self.may_grow and self.reserve.release()

    def _follow(self) -> None:
        while self.behind or self.later:
            db = self.handle()
            self.sync(db, is_synced=False)
            db.execute("BEGIN IMMEDIATE")
            piece = self.behind[:SLICE]
            for row, row_hash in piece:
                tables.follow(db, row, row_hash)
            later = self.later if len(piece) == len(self.behind) else []
            for work in later:
                work(db)
            db.execute("COMMIT")
            del self.behind[: len(piece)]
            self.later_done += len(later)
            self.later = self.later[len(later) :]
            self.commits += 1

    def tidy(self) -> None:
        """Move SQLite's pages into the file after the answers were given, not before.

        SQLite would do it inside some later commit, and whoever waits for that one would pay.
        """
        if self._db is None or self.commits < CHECKPOINT_COMMITS:
            return
        self.commits = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as broken:  # nothing is lost: the log still has it all
            log.error("checkpoint failed", extra={"reason": str(broken)})
            self.abandon()

    # ---- the handle ----

    def handle(self) -> sqlite3.Connection:
        """The connection, opened anew after a failure. Raises: sqlite3.Error, StoreUnavailable."""
        if self._db is None or self._is_limited == self.may_grow:
            self.abandon()
            self._db = connect(self._path)
            self._is_synced = True
            self._is_limited = not self.may_grow
            if self._is_limited:
                pages = self._db.execute("PRAGMA page_count").fetchone()[0]
                self._db.execute(f"PRAGMA max_page_count={pages}")
            self.behind = list(self.spool.rows(tables.head(self._db)[0]))
        return self._db

    def sync(self, db: sqlite3.Connection, *, is_synced: bool) -> None:
        """What follows from the log waits for no sync of its own; everything else does."""
        if is_synced != self._is_synced:
            db.execute(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")
            self._is_synced = is_synced

    def abandon(self) -> None:
        """After a failed write the handle is distrusted: close it, the next work opens anew."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.rollback()
            with suppress(sqlite3.Error):
                db.close()

    # ---- verify, salvage, set aside, go on ----

    def open(self) -> None:
        """Make log and tables agree. Raises: sqlite3.Error, OSError, StoreUnavailable."""
        data = self._path.parent
        is_there = self._path.exists()
        self.spool = Spool.open(data / SPOOL)
        said = self._look_at_tables() if is_there else ""
        if self.spool.damaged:
            self.repairs += repair.mend_log(self.spool, data, self._db)
            self.spool.close()
            self.spool = Spool.open(data / SPOOL)
        if said or (not is_there and self.spool.seq):
            self._rebuild(said or "数据库文件不见了")
        elif self._db is None:
            self._db = connect(self._path)
        self._agree()
        self.follow()
        self.lanes = tables.lane_heads(self.handle())
        self._report()

    def _look_at_tables(self) -> str:
        """Why the database cannot be used as it is; empty if it can."""
        try:
            self._db = connect(self._path)
            if self._path.stat().st_size <= CHECKED_AT_START:
                return trouble(self._db)
            tables.head(self._db)
        except sqlite3.Error as broken:
            self.abandon()
            if not is_damage(broken) and not is_our_sql(broken):
                raise
            return str(broken)
        return ""

    def _agree(self) -> None:
        """The two copies end alike, or one goes on where the other ends; else the log is right."""
        db = self.handle()
        seq, row_hash = tables.head(db)
        if seq > self.spool.seq:
            common = hash_at(db, self.spool.seq)
            if common == self.spool.hash:
                self._extend_log(db)
                return
        elif seq == 0 or next(self.spool.rows(seq - 1))[1] == row_hash:
            self.behind = list(self.spool.rows(seq))
            return
        self._rebuild("数据库和流水日志不一致，以流水日志为准")

    def _extend_log(self, db: sqlite3.Connection) -> None:
        """The log lost its end, or all of it: the database still has those rows."""
        first, piece = self.spool.seq + 1, list[Row]()
        for told in tables.rows(db, self.spool.seq):
            if not told.is_sound:
                break
            piece.append(told.row)
            if len(piece) == SLICE:
                self.spool.append(piece)
                piece = []
        if piece:
            self.spool.append(piece)
        what = f"流水日志缺第 {first} 条以后，已用数据库补到第 {self.spool.seq} 条"
        self.repairs.append(Repair(what, ""))
        self.behind = []

    def heal(self, why: str) -> None:
        """A read or a write says the file is damaged. Raises: StoreUnavailable."""
        try:
            said = trouble(self._db) if self._db is not None else why
            if not said:
                return
            self._rebuild(said)
            self.follow()
            self._report()
        except (sqlite3.Error, OSError) as broken:
            raise StoreUnavailable(f"数据库坏了，重建不成：{broken}") from broken

    def _rebuild(self, why: str) -> None:
        """A new database from the log; the old one is set aside, its other tables salvaged."""
        log.error("the database is rebuilt", extra={"reason": why, "rows": self.spool.seq})
        self.abandon()
        data, path = self._path.parent, self._path
        if path.exists():
            aside = repair.set_aside(data, path, *(Path(f"{path}-{s}") for s in ("wal", "shm")))
        else:
            aside = repair.newest_aside(data, path.name)
        half = path.with_name(f"{path.name}.rebuilding")
        for left in (half, Path(f"{half}-wal"), Path(f"{half}-shm")):
            left.unlink(missing_ok=True)
        db = connect(half)
        self.behind = []
        count = _fill(db, self.spool.rows())
        salvaged = repair.salvage(data / aside, db) if aside else 0
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        half.rename(path)
        sync_folder(data)
        self.generation += 1
        what = f"数据库损坏（{why}），已由流水日志重建 {count} 条，另救回 {salvaged} 行"
        self.repairs.append(Repair(what, aside))

    def _report(self) -> None:
        """Each repair is a row of the journal. Told once: what is set aside names it."""
        told = [r for r in self.repairs if r not in self._reported]
        self._reported = [*self._reported, *told]
        if not told:
            return
        moment = (self._clock.now_ms(), self._clock.monotonic_ms(), self._clock.boot_id, "")
        draft = Draft(self.spool.seq + 1, dict(self.lanes), self.up_to_date)
        for found in told:
            body = json.dumps({"what": found.what, "aside": found.aside}, ensure_ascii=False)
            draft.add("", "", moment, "incident", "", body)
        with suppress(OSError):
            hashes = self.spool.append(draft.rows)
            self.behind += zip(draft.rows, hashes, strict=True)


def _fill(db: sqlite3.Connection, rows: Iterable[tuple[Row, bytes]]) -> int:
    count = 0
    db.execute("BEGIN")
    for row, row_hash in rows:
        tables.follow(db, row, row_hash)
        count += 1
        if count % repair.ROWS_A_COMMIT == 0:
            db.execute("COMMIT")
            db.execute("BEGIN")
    db.execute("COMMIT")
    return count

"""The two copies of money kept alike: the log, and the tables that follow it. One thread.

Start-up is verify, salvage, set aside, go on: a damaged file is moved to the quarantine, made anew
from the other copy, and the journal says so. A failed write is followed by a look at what is
really there, never by a guess.
"""

import errno
import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from gateway.durable import sync_folder, write_synced
from gateway.errors import StoreUnavailable
from gateway.spool import repair, seals, tables
from gateway.spool.database import (
    connect,
    first_look,
    hash_at,
    is_damage,
    is_marked_read_only,
    is_our_sql,
    is_wrong,
    trouble,
)
from gateway.spool.draft import Draft, Work
from gateway.spool.frame import Row
from gateway.spool.health import Health, errno_of, words
from gateway.spool.log import BLOCK, CHECKED_AT_START, Gone, Spool
from gateway.spool.progress import Progress, Step
from gateway.spool.repair import Repair
from gateway.spool.reserve import RESERVE, Reserve
from gateway.spool.tables import LaneHead
from gateway.units import Clock

log = logging.getLogger(__name__)

SPOOL = "spool"  # folder of the log beside the database; may be a link to another disk
SUSPECT = "check-at-start"  # file beside it: the next start checks everything, however large
LACKING = (
    "rows-may-be-lacking"  # file beside it: what does not follow from the log is to be made anew
)
SLICE = 512  # rows that follow in one transaction
AHEAD_MAX = 4 * SLICE  # rows in memory that the tables do not have; more are read from the log
LATER_MAX = 256  # works that can be lost, while the tables cannot follow
CHECKPOINT_COMMITS = 64  # some 400 pages of SQLite's own log; it would wait for 1 000


class Copies:
    """`log` is the truth and `tables` follow it. Every method runs in the writer's thread."""

    spool: Spool

    def __init__(
        self, path: Path, clock: Clock, block: int = BLOCK, progress: Progress | None = None
    ) -> None:
        self._path, self._clock, self._block = path, clock, block
        self._progress = progress or Progress()
        self.health, self.reserve = Health(), Reserve(path.parent / RESERVE)
        self._db: sqlite3.Connection | None = None
        self._is_synced = True
        self.lanes: dict[str, LaneHead] = {}
        self.followed = 0
        """The newest row that the tables have."""
        self._ahead: deque[tuple[Row, bytes]] = deque()
        """The rows behind that one, without a hole, as far as they are kept in memory."""
        self.later: list[Work[None]] = []
        """To be done when the tables follow next."""
        self.later_done = 0
        self.repairs: list[Repair] = []
        self._told = 0
        """So many of them are in the journal."""
        self._rebuilt_at = -1
        """Where the tables ended when they were rebuilt last."""
        self.generation = 0
        """Of the database file: one more whenever it was replaced."""
        self.may_grow = True
        self._is_limited = False
        self.commits = 0
        """Since the last checkpoint."""

    def close(self) -> None:
        with suppress(StoreUnavailable):
            self.follow()
            self.tell()
            self.follow()
        self.spool.close()
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()

    @property
    def is_behind(self) -> bool:
        """The log has rows that the tables lack."""
        return self.followed < self.spool.seq

    # ---- the log ----

    def add(self, rows: Sequence[Row], texts: Sequence[bytes], lanes: dict[str, LaneHead]) -> None:
        """Put rows into the log; the tables follow later. Raises: OSError."""
        if rows:
            hashes = self.spool.append(rows, texts)
            self._remember(zip(rows, hashes, strict=True))
        self.lanes = lanes

    def look_again(self) -> None:
        """After a failed write: what is really there counts. Raises: OSError."""
        known = self.spool.seq
        try:
            self.spool.look_again()
        except Gone:
            self._restore_log()
        for row, row_hash in self.spool.rows(known) if self.spool.seq > known else ():
            self._remember([(row, row_hash)])
            self.lanes = tables.lanes_after(self.lanes, row)

    def tell(self) -> None:
        """Write into the journal what was mended since. What the disk refuses is told later."""
        found = self.repairs[self._told :]
        if not found or self.spool.is_stale:
            return
        moment = (self._clock.now_ms(), self._clock.monotonic_ms(), self._clock.boot_id, "")
        draft = Draft(self.spool.seq + 1, dict(self.lanes), self.up_to_date)
        for one in found:
            body = json.dumps({"what": one.what, "aside": one.aside}, ensure_ascii=False)
            draft.add("", "", moment, "incident", "", body)
        with suppress(OSError):
            self.add(draft.rows, draft.texts, draft.lanes)
            self._told += len(found)

    def _remember(self, rows: Iterable[tuple[Row, bytes]]) -> None:
        for row, row_hash in rows:
            is_next = row.seq == self.followed + len(self._ahead) + 1
            if is_next and len(self._ahead) < AHEAD_MAX:
                self._ahead.append((row, row_hash))

    def _restore_log(self) -> None:
        """It lost rows that it had: the tables, and what is kept in memory, still have them."""
        try:
            db = self.up_to_date()
        except StoreUnavailable as no:
            raise OSError(errno.EIO, no.detail) from no
        self._open_log(db, self.followed)
        self._extend_log(db)

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
            log.error("the tables cannot follow", extra={"reason": str(broken)})
            if not is_wrong(broken) or self._rebuilt_at == self.followed:
                raise StoreUnavailable(words(broken)) from broken
            self.heal(str(broken))

    def finds_room(self, broken: BaseException) -> bool:
        """The disk is full, and a piece of the tables' reserve was let go: try once more."""
        return errno_of(broken) == errno.ENOSPC and self.may_grow and self.reserve.release()

    def _follow(self) -> None:
        while self.is_behind or self.later:
            db = self.handle()
            self.sync(db, is_synced=False)
            piece, later = self._piece(), self.later
            db.execute("BEGIN IMMEDIATE")
            heard = list[Repair]()
            for row, row_hash in piece:
                self._progress.step()
                if said := tables.follow(db, row, row_hash):
                    heard.append(Repair(said, ""))
            last = piece[-1][0].seq if piece else self.followed
            if last < self.spool.seq:
                later = []
            for work in later:
                work(db)
            db.execute("COMMIT")
            self.repairs += heard
            self.followed = last
            for _ in piece:
                self._ahead.popleft()
            self.later_done += len(later)
            self.later = self.later[len(later) :]
            self.commits += 1

    def _piece(self) -> list[tuple[Row, bytes]]:
        """The next rows for the tables. Raises: OSError."""
        if self.is_behind and not self._ahead:
            self._ahead.extend(islice(self.spool.rows(self.followed), SLICE))
            if not self._ahead:
                raise OSError(errno.EIO, f"rows from {self.followed + 1} on cannot be read")
        return list(islice(self._ahead, SLICE))

    def put_off(self, works: Iterable[Work[None]]) -> None:
        self.later += works
        if (more := len(self.later) - LATER_MAX) > 0:
            self.later_done += more
            self.later = self.later[more:]

    def tidy(self) -> None:
        """Move SQLite's pages into the file after the answers were given, not before.

        SQLite would do it inside some later commit, and whoever waits for that one would pay.
        """
        self.spool.keep_reserve()
        if self._db is None or self.commits < CHECKPOINT_COMMITS:
            return
        self.commits = 0
        self._checkpoint()

    def _checkpoint(self) -> None:
        """On a full disk with room of the reserve: or SQLite's own log would grow over it all."""
        try:
            self.handle().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except (sqlite3.Error, StoreUnavailable) as broken:  # nothing is lost: the log has it all
            self.abandon()
            if self.finds_room(broken):
                self._checkpoint()
                return
            log.error("checkpoint failed", extra={"reason": str(broken)})

    # ---- what a repair may cost ----

    @property
    def may_lack_rows(self) -> bool:
        return (self._path.parent / LACKING).exists()

    def lacks_none(self) -> None:
        (self._path.parent / LACKING).unlink(missing_ok=True)

    def _will_lack_rows(self) -> None:
        """Before they are gone: a start that is cut off behind this is not the last to know."""
        write_synced(self._path.parent / LACKING, b"")
        sync_folder(self._path.parent)

    # ---- the handle ----

    def handle(self) -> sqlite3.Connection:
        """The connection, opened anew after a failure. Raises: sqlite3.Error, StoreUnavailable."""
        if self._db is None or self._is_limited == self.may_grow:
            self.abandon()
            db = connect(self._path)
            if not self.may_grow:
                pages = db.execute("PRAGMA page_count").fetchone()[0]
                db.execute(f"PRAGMA max_page_count={pages}")
            self._take(db)
        assert self._db is not None
        return self._db

    def _take(self, db: sqlite3.Connection) -> None:
        """What a failed commit left or not: the tables themselves say how far they came."""
        self.followed = tables.head(db)[0]
        while self._ahead and self._ahead[0][0].seq <= self.followed:
            self._ahead.popleft()
        if self._ahead and self._ahead[0][0].seq != self.followed + 1:
            self._ahead.clear()
        self._db, self._is_synced, self._is_limited = db, True, not self.may_grow

    def synced(self) -> None:
        """A synced commit returned that wrote something: what followed before is on disk, too."""
        self.spool.followed = self.followed

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
        begun = time.monotonic()
        self._progress.begin("正在打开流水")
        self._finish_rebuilding()
        is_there = self._path.exists()
        said = self._look_at_tables() if is_there else ""
        known = tables.head(self._db)[0] if self._db and not said else 0
        self._open_log(self._db, known)
        if said or (not is_there and self.spool.seq):
            self._rebuild(said or "数据库文件不见了")
        elif self._db is None:
            self._take(connect(self._path))
        self._agree()
        self.follow()
        self.lanes = tables.lane_heads(self.handle())
        self.tell()
        self.follow()
        (self._path.parent / SUSPECT).unlink(missing_ok=True)
        log.info("store open", extra={"took_s": round(time.monotonic() - begun, 3)})

    def _open_log(self, db: sqlite3.Connection | None, known: int) -> None:
        folder, suspect = self._path.parent / SPOOL, self._is_suspect
        open_ = partial(
            Spool.open, folder, self._block, is_checked=suspect, step=self._progress.step
        )
        self._progress.begin("正在检查流水日志")
        self.spool = open_(known=known)
        if self.spool.damaged:
            self._progress.begin("正在修复流水日志")
            self.repairs += repair.mend_log(self.spool, db)
            self.spool.close()
            self.spool = open_()

    @property
    def _is_suspect(self) -> bool:
        return (self._path.parent / SUSPECT).exists()

    def _look_at_tables(self) -> str:
        """Why the database cannot be used as it is; empty if it can."""
        try:
            if said := first_look(self._path):
                return said
            db = connect(self._path)
            self._take(db)
            size = self._path.stat().st_size
            if self._is_suspect or size <= CHECKED_AT_START:
                self._progress.begin("正在检查数据库", silent_bytes=size)
                return trouble(db, self._progress.step) or self._unseal(db)
        except ValueError as garbled:  # text that is none, not even good enough to be told of
            self.abandon()
            return f"文件里的文字读不出：{garbled}"
        except sqlite3.Error as broken:
            self.abandon()
            is_ours = is_our_sql(broken) or is_marked_read_only(broken, self._path)
            if not is_damage(broken) and not is_ours:
                raise
            return str(broken)
        return ""

    def _unseal(self, db: sqlite3.Connection) -> str:
        """Take out rows of the other tables that are not what they were. Always empty."""
        if not (found := list(seals.broken(db, self._progress.step))):
            return ""
        aside = repair.keep_aside(self._path.parent, "rows.json", seals.told(found))
        self._will_lack_rows()
        self._progress.begin("正在取出被改过的行")
        seals.take_out(db, found, self._progress.step)
        names = "、".join(sorted({bad.table for bad in found}))
        what = f"数据库里 {len(found)} 行（{names}）被改过，已取出，按没有处理"
        self.repairs.append(Repair(what, aside))
        return ""

    def _agree(self) -> None:
        """The two copies end alike, or one goes on where the other ends; else the log is right."""
        db = self.handle()
        seq, row_hash = tables.head(db)
        if seq > self.spool.seq:
            if hash_at(db, self.spool.seq) == self.spool.hash:
                self._extend_log(db)
                return
        elif seq == 0 or self._hash_in_log(seq) == row_hash:
            if seq < (least := self.spool.followed):
                self._will_lack_rows()
                what = f"数据库停在第 {seq} 条，应至少到第 {least} 条：是旧的副本"
                self.repairs.append(Repair(f"{what}，流水已补齐，请核对手持机和待传", ""))
                self.spool.followed = seq
            return
        self._rebuild("数据库和流水日志不一致，以流水日志为准")

    def _hash_in_log(self, seq: int) -> bytes:
        """Of that row. The newest is known: after a proper stop no file is read for it."""
        if seq == self.spool.seq:
            return self.spool.hash
        return next(self.spool.rows(seq - 1), (None, b""))[1]

    def _extend_log(self, db: sqlite3.Connection) -> None:
        """The log lost its end, or all of it: the database still has those rows."""
        first, piece = self.spool.seq + 1, list[Row]()
        for told in tables.rows(db, self.spool.seq):
            if not told.is_sound:
                break
            self._progress.step()
            piece.append(told.row)
            if len(piece) == SLICE:
                self.spool.append(piece)
                piece = []
        if piece:
            self.spool.append(piece)
        if self.spool.seq >= first:
            what = f"流水日志缺第 {first} 条以后，已用数据库补到第 {self.spool.seq} 条"
            self.repairs.append(Repair(what, ""))

    def heal(self, why: str) -> None:
        """A read or a write says the file is damaged. Raises: StoreUnavailable.

        A large one is healed by the next start: the lane sells on the log meanwhile.
        """
        try:
            if self._path.exists() and self._path.stat().st_size > CHECKED_AT_START:
                (self._path.parent / SUSPECT).touch()
                raise StoreUnavailable(
                    f"数据库坏了：{why}", "不影响收费。请在空闲时重启网关，自动修复"
                )
            self.abandon()
            if said := self._look_at_tables() or (why if self.is_behind else ""):
                self._rebuild(said)
                self.follow()
        except (sqlite3.Error, OSError) as broken:
            self.abandon()
            raise StoreUnavailable(f"数据库坏了，重建不成：{broken}") from broken

    def _finish_rebuilding(self) -> None:
        """A power cut between setting the old database aside and putting the new one in its place;
        or somebody took the database away.

        A log of SQLite's own that is left behind belongs to a file that is gone. SQLite would read
        it into whatever gets that name next, so it never may be there then.
        """
        path, half = self._path, self._half
        if path.exists():
            return
        if left := [log_ for log_ in _own_logs(path) if log_.exists()]:
            repair.set_aside(path.parent, *left)
        if half.exists() and not any(log_.exists() for log_ in _own_logs(half)):
            half.rename(path)  # whole: it was closed before the old one was moved
            sync_folder(path.parent)

    @property
    def _half(self) -> Path:
        """Where a new database is made."""
        return self._path.with_name(f"{self._path.name}.rebuilding")

    def _rebuild(self, why: str) -> None:
        """A new database from the log; the old one is set aside, its other tables salvaged."""
        log.error("the database is rebuilt", extra={"reason": why, "rows": self.spool.seq})
        self._rebuilt_at = self.followed
        self.abandon()
        self._will_lack_rows()
        data, path = self._path.parent, self._path
        half = self._half
        for left in (half, *_own_logs(half)):
            left.unlink(missing_ok=True)
        earlier = repair.newest_aside(data, path.name)
        source = path if path.exists() else data / earlier if earlier else None
        db = connect(half)
        try:
            self._progress.begin("正在由流水日志重建数据库")
            count, heard = _fill(db, self.spool.rows(), self._progress.step)
            self._progress.begin("正在从坏的数据库里取出其余的行")
            salvaged = repair.salvage(source, db, self._progress.step) if source else 0
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
        aside = earlier
        if path.exists():
            aside = repair.set_aside(data, path, *_own_logs(path))
        half.rename(path)
        sync_folder(data)
        self.generation += 1
        self._take(connect(path))
        self.synced()
        what = f"数据库损坏（{why}），已由流水日志重建 {count} 条，另救回 {salvaged} 行"
        self.repairs += [Repair(what, aside), *(Repair(said, "") for said in heard)]


def _own_logs(path: Path) -> tuple[Path, Path]:
    """What SQLite keeps beside a database of that name while it is open."""
    return Path(f"{path}-wal"), Path(f"{path}-shm")


def _fill(
    db: sqlite3.Connection, rows: Iterable[tuple[Row, bytes]], step: Step
) -> tuple[int, list[str]]:
    """How many, and what people must hear of them."""
    count, heard = 0, list[str]()
    db.execute("BEGIN")
    for row, row_hash in rows:
        step()
        if said := tables.follow(db, row, row_hash):
            heard.append(said)
        count += 1
        if count % repair.ROWS_A_COMMIT == 0:
            db.execute("COMMIT")
            db.execute("BEGIN")
    db.execute("COMMIT")
    return count, heard

"""From what the disk says to one state with its words. Pure. RULES is the whole story, worst first.

Codes E-3xx: ui.md §2.7. `left`: for how many more vehicles there is room.
"""

import errno
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

MB = 1024 * 1024
SOFT_BYTES, HARD_BYTES = 1024 * MB, 64 * MB
"""Free space below which things that are not money are given up: about a day of a busy lane with
its photos (2 500 × 0.4 MB); and below which only money is written at all. Of a small disk a tenth
and a fiftieth."""
PASSAGE_BYTES = 400_000  # with its photo
LAST = 20  # passages' room kept for those that have begun
SLOW_MS, SLOW_MEDIAN_MS = 2_000, 500


class State(StrEnum):
    """Where the disk stands."""

    OK = "ok"
    REPAIRED = "repaired"
    LOW = "low"
    SLOW = "slow"
    BEHIND = "behind"
    FULL = "full"
    SPENT = "spent"
    READ_ONLY = "read_only"
    BROKEN = "broken"


class Volume(NamedTuple):
    """One file system."""

    free_bytes: int
    size_bytes: int
    is_read_only: bool = False

    @property
    def soft_bytes(self) -> int:
        return min(SOFT_BYTES, self.size_bytes // 10)

    @property
    def hard_bytes(self) -> int:
        return min(HARD_BYTES, self.size_bytes // 50)


class Facts(NamedTuple):
    """What the disk said last. `data` holds tables and photos, `log` the log."""

    data: Volume
    log: Volume
    is_shared: bool
    """Both are the same file system."""
    block: int
    spare_bytes: int
    """Room that the log has without asking for more."""
    log_errno: int = 0
    tables_errno: int = 0
    io_faults: int = 0
    """Writes of this life that the disk broke off (EIO)."""
    waiting_ms: float = 0.0
    median_ms: float = 0.0
    repairs: int = 0
    """Damaged files that were mended at this start."""


class Verdict(NamedTuple):
    """What people are told. `lamp`: ok, degraded or missing."""

    state: State
    code: str
    lamp: str
    text: str
    detail: str
    action: str
    left: int
    may_begin: bool
    """Whether a new passage may start. One that has begun is always finished."""


class Rule(NamedTuple):
    state: State
    is_so: Callable[[Facts], bool]
    code: str
    lamp: str
    may_begin: bool
    text: str
    detail: str
    action: str


def log_passage_bytes(block: int) -> int:
    """A usual one is 11 or 12 rows: 9.2 KB in blocks of 512, 49 KB in blocks of 4096 (seen)."""
    return max(19 * 512, 12 * block)


def vehicles_left(facts: Facts) -> int:
    """Room for so many more: what the log has, and with photos what is free above the hard line."""
    own = 0 if facts.is_shared else facts.log.free_bytes
    logged = (facts.spare_bytes + own) // log_passage_bytes(facts.block) - LAST
    free = max(0, facts.data.free_bytes - facts.data.hard_bytes) if facts.is_shared else 0
    return max(0, logged) + free // PASSAGE_BYTES


def judge(facts: Facts) -> Verdict:
    """The worst that is so."""
    rule = next(rule for rule in RULES if rule.is_so(facts))
    left = vehicles_left(facts)
    known = {
        "left": left,
        "free_gb": f"{facts.data.free_bytes / 1e9:.2f}",
        "ms": round(max(facts.waiting_ms, facts.median_ms)),
    }
    text, detail = rule.text.format(**known), rule.detail.format(**known)
    return Verdict(
        rule.state, rule.code, rule.lamp, text, detail, rule.action, left, rule.may_begin
    )


def _is_broken(f: Facts) -> bool:
    return f.log_errno not in (0, errno.ENOSPC, errno.EROFS)


def _is_read_only(f: Facts) -> bool:
    return f.log_errno == errno.EROFS or f.log.is_read_only


def _is_spent(f: Facts) -> bool:
    if f.log_errno == errno.ENOSPC:
        return True
    is_short = f.spare_bytes // log_passage_bytes(f.block) < LAST
    return is_short and f.log.free_bytes < f.log.hard_bytes


def _is_full(f: Facts) -> bool:
    return f.data.free_bytes < f.data.hard_bytes or f.log.free_bytes < f.log.hard_bytes


def _is_low(f: Facts) -> bool:
    return f.data.free_bytes < f.data.soft_bytes or f.log.free_bytes < f.log.soft_bytes


RULES: tuple[Rule, ...] = (
    Rule(
        State.BROKEN, _is_broken, "E-308", "missing", False,
        "读写出错，不能开始新的一笔",
        "磁盘读写出错，流水写不进去",
        "不要放行没有办完的车；请改用别的车道，马上打电话换盘，不要断电、不要删文件",
    ),
    Rule(
        State.READ_ONLY, _is_read_only, "E-307", "missing", False,
        "变成只读，不能开始新的一笔",
        "磁盘变成只读，流水写不进去",
        "不要放行没有办完的车；请改用别的车道，打电话请维护人员检查磁盘后重启",
    ),
    Rule(
        State.SPENT, _is_spent, "E-306", "missing", False,
        "预留空间用完，不再开始新的一笔",
        "磁盘满了，预留的空间也快用完，不再开始新的一笔",
        "已经开始的一笔可以办完；请改用别的车道，请维护人员马上清理磁盘",
    ),
    Rule(
        State.FULL, _is_full, "E-305", "degraded", True,
        "已满，正用预留空间，约够 {left} 辆，不再存照片",
        "磁盘满了，正在用预留的空间，大约还能办 {left} 辆，照片不再保存",
        "可以继续收费；请马上通知维护人员清理磁盘，用完后本车道会停",
    ),
    Rule(
        State.BEHIND, lambda f: f.tables_errno != 0, "E-310", "degraded", True,
        "账本写不进去，历史和上传停在之前",
        "流水正常，但账本（数据库）写不进去，历史、合计和上传停在之前",
        "可以继续收费，已保存的不会丢；请通知维护人员检查磁盘",
    ),
    Rule(
        State.SLOW, lambda f: f.waiting_ms > SLOW_MS or f.median_ms > SLOW_MEDIAN_MS,
        "E-309", "degraded", True,
        "太慢，写一次 {ms} 毫秒",
        "磁盘太慢，写一次要 {ms} 毫秒，每一步都会慢",
        "请等屏幕变化再按，不要重复按；请通知维护人员检查磁盘",
    ),
    Rule(
        State.LOW, _is_low, "E-304", "degraded", True,
        "快满了，还能存约 {left} 笔",
        "磁盘快满了，剩 {free_gb} GB，还能存约 {left} 笔",
        "可以继续收费；请通知维护人员清理磁盘",
    ),
    Rule(
        State.REPAIRED, lambda f: f.repairs > 0 or f.io_faults > 0, "E-311", "degraded", True,
        "出过错，已修好",
        "磁盘上的文件坏过，已经自动修好，坏的文件留在 quarantine 里",
        "可以继续收费；请通知维护人员查看流水里的 incident，尽快检查磁盘",
    ),
    Rule(State.OK, lambda _: True, "", "ok", True, "", "", ""),
)  # fmt: skip

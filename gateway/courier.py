"""The commands around a file that is carried by hand: what is done, and what is said about it."""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

from gateway import audit, keys
from gateway.audit import ExportTold, KindTold
from gateway.errors import FolderHeld
from gateway.parcel import Parcel
from gateway.spool.health import words
from gateway.units import SystemClock, yuan

FAILED, LATER = 1, 2
KINDS = {
    ("paid", "etc_card"): "从卡上扣款",
    ("by_hand", "cash"): "人工收现金",
    ("by_hand", "mobile"): "人工收移动支付",
    ("unpaid", "none"): "未收费放行",
    ("cancelled", "none"): "取消（空流水）",
}
BY_API = """网关正在这个数据文件夹上运行，不必停它，请站长登录后交给它：
  curl -c c.txt -H 'Content-Type: application/json' \\
       -d '{{"operator": "工号", "password": "密码"}}' http://127.0.0.1:8080/api/session
  curl -b c.txt --data-binary @{file} -H 'Content-Type: application/x-tar' \\
       http://127.0.0.1:8080/api/receipts"""


def export(
    data: Path,
    out: Path,
    since: str | None,
    until: str | None,
    *,
    with_photos: bool,
    is_forced: bool,
) -> int:
    """journal export. Raises: GatewayError."""
    from gateway.export import export as write
    from gateway.export import span

    of = span(since, until)
    try:
        told = write(data, out, of, with_photos=with_photos, is_forced=is_forced)
    except OSError as broken:
        return _fail(f"{out} 写不了：{words(broken)}")
    _tell(told)
    _say(f"{out}，本机公钥 {told.key}")
    return 0


def verify(file: Path, key: str | None) -> int:
    """journal verify of an export, without the box. Raises: GatewayError."""
    if key is None:
        return _fail("核对导出文件须写明 --key：车道网关的公钥", LATER)
    parcel = Parcel.open(file, keys.read_public(key), audit.EXPORT)
    _tell(audit.examine(parcel))
    _say("签名、哈希链、记录和合计都对")
    return 0


def book(file: Path, db: Path, key: str, out: Path, dsn: str = "") -> int:
    """center import. Raises: GatewayError."""
    from gateway.center.carry import take
    from gateway.center.database import DatabaseAway

    public = keys.read_public(key)
    try:
        lanes = take(file, db, public, out, SystemClock(), dsn)
    except (OSError, sqlite3.Error) as broken:
        return _fail(f"{db} 或 {out} 写不了：{broken}")
    except DatabaseAway as away:
        return _fail(f"PostgreSQL 没有应答：{away}", LATER)
    for lane in lanes:
        _say(f"{lane.lane}：{_counts(lane.said)}；连续到第 {lane.high_water} 条")
    _say(f"回执 {out}")
    return 0


def take_back(data: Path, file: Path, center_key: str) -> int:
    """journal import-receipt, on a box that does not run. Raises: GatewayError."""
    from gateway.runtime import hold

    public = keys.read_public(center_key)
    if not any((data / name).exists() for name in ("lane.db", "spool")):
        return _fail(f"{data} 不是网关的数据文件夹")
    try:
        held = hold(data)
    except FolderHeld:
        return _fail(BY_API.format(file=file), LATER)
    try:
        return asyncio.run(_take_back(data, file, public))
    finally:
        os.close(held)


async def _take_back(data: Path, file: Path, public: bytes) -> int:
    from gateway.store import Store
    from gateway.sync.receipts import Receipts

    clock = SystemClock()
    store = await Store.open(data / "lane.db", clock)
    try:
        taken = await Receipts(store, lambda: public, clock).take(file)
    finally:
        await store.close()
    if taken.was_known:
        _say(f"第 {taken.number} 号回执已经导入过，没有改动")
    else:
        said = _counts(taken.said)
        _say(f"第 {taken.number} 号回执已导入：{said}；新落定 {taken.settled} 条")
    return 0


def _tell(told: ExportTold) -> None:
    journal = told.journal
    _say(f"流水第 {journal.first_seq} 到 {journal.last_seq} 条，链头 {journal.head_hash}")
    for lane in told.lanes:
        span = f"第 {lane.first_seq} 到 {lane.last_seq} 条"
        _say(f"{lane.lane} 记录{span}：{lane.vehicles} 辆，合计 {yuan(lane.sum_fen)} 元")
        for kind in lane.kinds:
            _say(f"  {kind.count:>6} 条 {yuan(kind.sum_fen):>12} 元  {_name(kind)}")
    if told.photos:
        _say(f"照片 {told.photos} 张")
    for sha256 in told.photos_missing:
        _say(f"缺照片 {sha256}")
    for what in told.damaged:
        _say(f"导出时本机已损坏：{what}")


def _name(kind: KindTold) -> str:
    name = KINDS.get((kind.kind, kind.means), f"扣款存疑（{kind.means}）")
    return f"更正：{name}" if kind.correction else name


def _counts(said: dict[str, int]) -> str:
    names = {"accepted": "新收", "duplicate": "已有", "refused": "退回", "retry": "稍后"}
    return "，".join(f"{word} {said[name]} 条" for name, word in names.items() if said.get(name))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _fail(text: str, code: int = FAILED) -> int:
    sys.stderr.write(f"{text}\n")
    return code

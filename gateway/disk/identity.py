"""Is this the log that the tables follow? A number of its own, kept in both folders, says so.

A partition that is not mounted looks like a log that was never begun. One begun there would be a
second truth, thrown away as soon as the first one is mounted again, with all that was sold in
between. Only a log that can be elsewhere has a number: behind a link, or on its own file system.
"""

import logging
import os
import sqlite3
import uuid
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

from gateway.config import DATABASE
from gateway.durable import replace
from gateway.errors import ConfigInvalid
from gateway.runtime import hold
from gateway.spool import tables
from gateway.spool.look import reading
from gateway.spool.verify import frames_of, newest_of
from gateway.store import SPOOL

log = logging.getLogger(__name__)

THEIRS = "identity"  # in the log's folder
OURS = "log-identity"  # in the data folder
NEW = "new\n"  # instead of a number: somebody said that the log's place is another one now

Content = Literal["same", "behind", "nothing", "empty", "other"]
"""same: the log has all that the tables have. behind: its beginning. nothing: neither has a row.
empty: the tables have rows, the log none. other: each has rows that the other has not."""
_PROVEN: dict[tuple[str, str], frozenset[Content]] = {
    # number in the data folder, in the log's folder: what must be in them; else "same"
    ("number", "unreadable"): frozenset({"same", "nothing"}),
    ("missing", "number"): frozenset({"same", "nothing"}),
    ("unreadable", "number"): frozenset({"same", "nothing"}),
}
_FIRST: frozenset[Content] = frozenset({"same", "behind", "nothing"})
"""Neither has a number: a first start, or a folder from before there were any."""
_SAID: frozenset[Content] = _FIRST | {"empty"}
"""After `expect_new`."""


class Mark(NamedTuple):
    """What was found in one place."""

    kind: Literal["number", "missing", "unreadable", "new"]
    number: str = ""


def settle(data: Path) -> None:
    """At a start, before the log is touched: its number is ours, or it is proven that it may be.

    Of a number that one of both lost, the other's is written there again, once the rows prove
    that they belong together. Raises: ConfigInvalid.
    """
    number = prove(data)
    for path in (data / SPOOL / THEIRS, data / OURS) if number else ():
        if _read(path).number != number:
            _write(path, number)


def prove(data: Path) -> str:
    """The number that both must have; empty if none is needed. Changes nothing.

    Raises: ConfigInvalid, if the log is not there, or is another's.
    """
    ours, theirs = _read(data / OURS), _read(data / SPOOL / THEIRS)
    if ours.kind == "missing" and not _is_apart(data):
        return ""
    if ours.kind == theirs.kind == "number":
        if ours.number != theirs.number:
            raise _refusal(data, "里是另外一份流水日志，可能挂错了分区")
        return ours.number
    if content_of(data) not in _allowed(ours, theirs):
        raise _refusal(data, "里没有本机的流水日志，它所在的分区可能没有挂上")
    return ours.number or theirs.number or uuid.uuid4().hex


def expect_new(data: Path) -> None:
    """The next start takes the log's folder as it finds it, unless rows contradict the tables'.

    Raises: ConfigInvalid, if there is no gateway's data; FolderHeld, while it runs; OSError.
    """
    if not (data / DATABASE).exists():
        raise ConfigInvalid(
            f"{data} 里没有网关的数据", "请写数据文件夹，例如 /var/lib/lane-gateway"
        )
    held = hold(data)
    try:
        replace(data / OURS, NEW.encode())
        owner = data.stat()
        os.chown(data / OURS, owner.st_uid, owner.st_gid)  # said by root, read by the service
    finally:
        os.close(held)


def content_of(data: Path) -> Content:
    """How what is in the log and in the tables fits together. Raises: OSError."""
    folder = data / SPOOL
    newest = newest_of(folder) if folder.is_dir() else None
    if not (data / DATABASE).exists():
        return "same" if newest else "nothing"
    try:
        with reading(data / DATABASE) as db:
            seq, row_hash = tables.head(db)
            if newest is None:
                return "empty" if seq else "nothing"
            if newest.seq < seq:
                known = db.execute("SELECT hash FROM journal WHERE seq = ?", (newest.seq,))
                return "behind" if known.fetchone() == (newest.hash,) else "other"
    except sqlite3.Error:  # the log, if there is one, makes it anew
        return "same" if newest else "empty"
    told = next(frames_of(folder, seq - 1), None)
    is_same = seq == 0 or (told is not None and told.frame.hash == row_hash)
    return "same" if is_same else "other"


def _allowed(ours: Mark, theirs: Mark) -> frozenset[Content]:
    if ours.kind == "new":
        return _SAID
    if "number" not in (ours.kind, theirs.kind):
        return _FIRST
    return _PROVEN.get((ours.kind, theirs.kind), frozenset({"same"}))


def _is_apart(data: Path) -> bool:
    link = data / SPOOL
    return link.is_symlink() or (link.exists() and link.stat().st_dev != data.stat().st_dev)


def _refusal(data: Path, why: str) -> ConfigInvalid:
    folder = (data / SPOOL).resolve()
    return ConfigInvalid(
        f"{folder} {why}",
        "请挂上原来的分区后再启动，不要删除文件。"
        f"确实换了新的分区，请先执行 lane-gateway journal new-log {data}",
    )


def _read(path: Path) -> Mark:
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return Mark("missing")
    except (OSError, ValueError):
        return Mark("unreadable")
    if text == NEW:
        return Mark("new")
    number = text[:32]
    return Mark("number", number) if text == _text(number) else Mark("unreadable")


def _text(number: str) -> str:
    """With a checksum: a flipped bit is no other log."""
    return f"{number} {zlib.crc32(number.encode()):08x}\n"


def _write(path: Path, number: str) -> None:
    """A disk that does not take it closes no lane; the next start tries again."""
    try:
        replace(path, _text(number).encode())
    except OSError as no:
        log.error("the log's number is not written", extra={"why": str(no), "file": path.name})

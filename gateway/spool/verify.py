"""Is every row still what it was, in both copies, and do they agree? Reads only."""

import multiprocessing
import sqlite3
import sys
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from gateway.spool import derived, seals, segment, tables
from gateway.spool.frame import GENESIS, Frame
from gateway.spool.look import reading


class Damage(NamedTuple):
    """One place where a file does not agree with itself, or with the other copy."""

    file: str
    row: int
    what: str


class Chain(NamedTuple):
    """One file of the log, walked: it begins behind `previous` and ends at `seq` with `hash`."""

    path: Path
    first_seq: int
    previous: bytes
    seq: int
    hash: bytes
    verdict: str


class Walked(NamedTuple):
    """A row of the log, and the hash it stands on."""

    previous: bytes
    frame: Frame


def log_damage(folder: Path, processes: int = 1) -> list[Damage]:
    """Walk every file of the log and the joints between them."""
    damages, seq, last = list[Damage](), 0, GENESIS
    for chain in chains(folder, processes):
        name = str(chain.path)
        if chain.verdict == "headless":
            damages.append(Damage(name, seq + 1, "文件头读不出"))
            continue
        if (chain.first_seq, chain.previous) != (seq + 1, last):
            damages.append(
                Damage(name, chain.first_seq, f"和前一个文件接不上（应从第 {seq + 1} 条起）")
            )
        if chain.verdict == "damaged":
            damages.append(Damage(name, chain.seq + 1, "从这一条起读不出或被改过"))
        seq, last = chain.seq, chain.hash
    return damages


def chains(folder: Path, processes: int = 1) -> Iterator[Chain]:
    """Each file that is or was in use, in order.

    `processes`: that walk files at the same time. They are forked: 1 in a program with threads.
    """
    read = {path: segment.read_head(_head_of(path)) for path in _paths(folder)}
    used = sorted((p for p, h in read.items() if h or not _is_spare(p)), key=_order(read))
    heads = [read[path] for path in used]
    ends = [next((h.first_seq for h in heads[n + 1 :] if h), None) for n in range(len(used))]
    if processes == 1:
        yield from map(walk, used, heads, ends)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(_walk, zip(used, heads, ends, strict=True))


def _order(read: dict[Path, segment.Head | None]) -> Callable[[Path], tuple[int, Path]]:
    """What the heads say, not the names; a file without one comes last."""

    def order(path: Path) -> tuple[int, Path]:
        head = read[path]
        return (head.first_seq if head else sys.maxsize), path

    return order


def _walk(given: tuple[Path, segment.Head | None, int | None]) -> Chain:
    return walk(*given)


def walk(path: Path, head: segment.Head | None, below: int | None) -> Chain:
    """One file. `below`: the first row of the next one."""
    if head is None:
        return Chain(path, 0, GENESIS, 0, GENESIS, "headless")
    found = segment.scan(memoryview(path.read_bytes()), head, below)
    return Chain(path, head.first_seq, head.previous, found.seq, found.hash, found.verdict)


def table_damage(path: Path, folder: Path) -> Iterator[Damage]:
    """Walk the database's own chains, and hold each row against the log's."""
    name = str(path)
    try:
        with reading(path) as db:
            db.execute("BEGIN")  # one moment, though the box goes on writing
            for what in db.execute("PRAGMA integrity_check(5)"):
                if what[0] != "ok":
                    yield Damage(name, 0, f"文件结构坏了：{what[0]}")
            yield from _journal_damage(db, name, folder)
            yield from _record_damage(db, name)
            yield from (Damage(name, 0, what) for what in derived.wrong(db))
            if seals.is_there(db):
                yield from (
                    Damage(name, 0, f"{bad.table} 里有一行被改过") for bad in seals.broken(db)
                )
    except (sqlite3.Error, ValueError, OSError) as broken:
        yield Damage(name, 0, f"文件读不出：{broken}")


def _journal_damage(db: sqlite3.Connection, name: str, folder: Path) -> Iterator[Damage]:
    seq = 0
    for told, frame in zip_longest(tables.rows(db), frames_of(folder)):
        if told is None:
            return  # the tables follow later; what is missing comes from the log
        row = told.row.seq
        if row != seq + 1:
            yield Damage(name, row, f"流水缺第 {seq + 1} 条")
        if not told.is_sound:
            yield Damage(name, row, "流水的哈希链断了：本条或上一条被改过")
        elif frame is None:
            yield Damage(name, row, "流水日志里没有这一条")
        elif (frame.frame.seq, frame.frame.hash) != (row, told.hash):
            yield Damage(name, row, "和流水日志里的不是同一条")
        seq = row


def frames_of(folder: Path, after: int = 0) -> Iterator[Walked]:
    """Every row of the log behind `after` that stands in an unbroken run, oldest first."""
    read = ((path, segment.read_head(_head_of(path))) for path in _paths(folder))
    used = sorted(((p, h) for p, h in read if h), key=lambda one: (one[1].first_seq, one[0]))
    for number, (path, head) in enumerate(used):
        below = used[number + 1][1].first_seq if number + 1 < len(used) else None
        if below is not None and below <= after + 1:
            continue
        previous = head.previous
        for _, frame in segment.frames(memoryview(path.read_bytes()), head, below):
            if frame.seq > after:
                yield Walked(previous, frame)
            previous = frame.hash


def newest_of(folder: Path) -> Frame | None:
    """The last row that can be read; None for a log without any. Raises: OSError."""
    read = ((path, segment.read_head(_head_of(path))) for path in _paths(folder))
    used = sorted(((h.first_seq, p, h) for p, h in read if h), reverse=True)
    for _, path, head in used:
        for _, newest in reversed(list(segment.frames(memoryview(path.read_bytes()), head))):
            return newest
    return None


def _record_damage(db: sqlite3.Connection, name: str) -> Iterator[Damage]:
    chains: dict[str, tuple[int, str]] = {}
    raised = tables.raised(db)
    query = "SELECT lane, seq, line, chain FROM record ORDER BY lane, seq"
    for lane, seq, line, chain in db.execute(query):
        last_seq, last_chain = chains.get(lane, (0, ""))
        if seq != last_seq + 1 and (lane, seq - 1) not in raised:
            yield Damage(name, seq, f"车道 {lane} 的记录缺第 {last_seq + 1} 条")
        if tables.record_chain(last_chain, line) != chain:
            yield Damage(name, seq, f"车道 {lane} 第 {seq} 条记录的哈希链断了")
        chains[lane] = (seq, chain)


def _paths(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    return [segment.path_of(folder, number) for number in segment.numbers(folder)]


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(segment.HEAD_SIZE)


def _is_spare(path: Path) -> bool:
    return segment.is_blank(_head_of(path)) and segment.is_blank(path.read_bytes())

"""A store that was used: rows of money in both copies, and rows in the other tables."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway.spool.draft import Draft
from gateway.spool.tables import LaneHead, record_chain
from gateway.store import Store
from tests.still_clock import StillClock

LANE = "X03"
MONEY = ("journal", "passage", "record", "command", "shift")
SOFT = ("delivery", "sync_mark", "session", "handheld", "consumer")


def passage(
    number: int, filling: int = 200, lane: str = LANE, record_id: str = ""
) -> Callable[[Draft], int]:
    """Two steps: it begins, and it ends with a record; each with its command's key."""

    def entry(draft: Draft) -> int:
        moment = (1_700_000_000_000 + number, number, "boot", "1001")
        id_, key = f"P{number:04d}", f"key-{number}"
        told: list[Any] = [moment[0], "1001", 1, "甘A12345", "c", 500, "reading", None]
        extra = {"key": [key, "print"], "passage": told}
        draft.add(lane, id_, moment, "ReadRequested", "reading", "{}", extra)
        last = draft.lanes.get(lane, LaneHead())
        record = {
            "seq": last.seq + 1, "outcome": "paid", "means": "etc_card", "fee": 500,
            "cardId": "c", "prevChain": last.chain, "filling": "x" * filling,
        }  # fmt: skip
        line, id_of_record = json.dumps(record), record_id or f"R{number:04d}"
        done = [*told[:6], "saved", "saved"]
        extra = {"key": [f"{key}-2", "print"], "passage": done, "record": [id_of_record, moment[0]]}
        draft.add(lane, id_, moment, "SaveRequested", "saved", "{}", extra, line)
        draft.lanes[lane] = LaneHead(last.seq + 1, record_chain(last.chain, line), id_of_record)
        return last.seq + 1

    return entry


def shift_opened(draft: Draft) -> None:
    told = {"id": 1, "operator": "1001", "shift": 1, "opened_ms": 5}
    draft.add(LANE, "", (5, 5, "boot", "1001"), "shift_opened", extra={"shift": told})


def soft(number: int) -> Callable[[sqlite3.Connection], None]:
    """A mark in each of the other tables."""

    def work(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO delivery (lane, seq, verdict, via, at_ms) VALUES (?, ?, 'accepted',"
            " 'push', 7)",
            (LANE, number),
        )
        mark = (f"mark {number}", json.dumps({"n": number}), 7)
        db.execute("INSERT INTO sync_mark (name, value, at_ms) VALUES (?, ?, ?)", mark)
        who = (f"hash {number}", "1001", "booth", 7)
        db.execute(
            "INSERT INTO session (token_hash, operator, owner, created_ms) VALUES (?,?,?,?)", who
        )
        handheld = (f"h{number}", "手持机", f"secret {number}", 7, "9001")
        db.execute(
            "INSERT INTO handheld (id, name, credential_hash, paired_ms, paired_by)"
            " VALUES (?,?,?,?,?)",
            handheld,
        )
        db.execute(
            "INSERT OR REPLACE INTO consumer (name, cursor, at_ms) VALUES ('one', ?, 7)", (number,)
        )

    return work


async def fill(data: Path, passages: int, filling: int = 200, first: int = 1) -> None:
    """A life of a store: a shift, passages, marks; closed in peace."""
    store = await Store.open(data / "lane.db", StillClock())
    if first == 1:
        await store.log(shift_opened)
    for number in range(first, first + passages):
        await store.log(passage(number, filling))
        await store.write(soft(number))
    await store.close()


def content(data: Path, tables: tuple[str, ...] = MONEY) -> dict[str, list[Any]]:
    """What the tables say, incidents left out."""
    with closing(sqlite3.connect(data / "lane.db")) as db:
        found = {
            name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables
        }
    if "journal" in found:
        found["journal"] = [row for row in found["journal"] if row[7] != "incident"]
    return found


def incidents(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / "lane.db")) as db:
        rows = db.execute("SELECT body FROM journal WHERE event = 'incident'").fetchall()
    return [json.loads(body)["what"] for (body,) in rows]

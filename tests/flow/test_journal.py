"""The journal: what is changed, taken out or put in is found; a contradiction closes the lane."""

import sqlite3
from pathlib import Path

import pytest

from gateway.errors import JournalMismatch, NotFound
from gateway.flow import journal
from gateway.spool import frame, segment
from gateway.store import SPOOL, Store
from tests.flow.rig import Box, World, damage, drive_through


@pytest.fixture
async def driven(tmp_path: Path) -> Path:
    """A folder in which one car was driven through."""
    box = await Box.power_on(World(), tmp_path)
    await drive_through(box)
    await box.power_off()
    return tmp_path


def change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "lane.db") as db:
        db.execute(statement)
    db.close()


async def test_an_untouched_journal_is_whole(driven: Path) -> None:
    assert damage(driven) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET body = replace(body, '甘', '陕') WHERE seq = 3",
        "UPDATE journal SET at_ms = at_ms + 1 WHERE seq = 1",
        "UPDATE journal SET operator = '9999' WHERE seq = 5",
        "UPDATE journal SET state = 'agreed' WHERE seq = 2",
        "DELETE FROM journal WHERE seq = 4",
        "UPDATE journal SET hash = zeroblob(32) WHERE seq = 6",
        "UPDATE record SET line = replace(line, '\"fee\":', '\"fee\":1')",
        "UPDATE record SET chain = 'AB'",
        "UPDATE record SET seq = 2",
    ],
)
async def test_every_later_change_is_found(driven: Path, statement: str) -> None:
    change(driven, statement)
    assert damage(driven)


async def test_a_page_of_zeros_is_found(driven: Path) -> None:
    path = driven / "lane.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'journal'").fetchone()
    db.close()
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = bytes(4096)
    path.write_bytes(raw)
    assert damage(driven)


async def test_a_changed_database_is_set_aside_and_made_anew_from_the_log(driven: Path) -> None:
    change(driven, "UPDATE record SET line = replace(line, '\"fee\":', '\"fee\":1')")
    box = await Box.power_on(World(), driven)
    assert box.lane.snapshot()["last"]["amount_fen"] < 100_000
    (incident,) = await box.store.rows("SELECT body FROM journal WHERE event = 'incident'")
    assert "哈希链" in incident["body"]
    await drive_through(box)
    await box.power_off()
    assert damage(driven) == []
    assert len(list((driven / "quarantine").glob("0001-lane.db"))) == 1


async def test_a_row_that_contradicts_the_rules_closes_the_lane_and_says_so(driven: Path) -> None:
    store = await Store.open(driven / "lane.db")
    moment = journal.Moment(1, 1, "boot", "1001")
    body = '{"passage_id":"X03-P","operator":"1001","shift_id":1,"owner":"booth","at_ms":1}'
    await store.log(lambda draft: draft.add("X03", "X03-P", moment, "ReadRequested", "held", body))
    await store.close()
    box = await Box.power_on(World(), driven)
    shot = box.lane.snapshot()
    assert shot["problem"]["code"] == "journal.mismatch"
    assert shot["allowed"] == []
    await box.power_off()


async def test_replay_names_the_row_that_cannot_be(driven: Path) -> None:
    store = await Store.open(driven / "lane.db")
    rows = [dict(row) for row in await store.rows("SELECT * FROM journal ORDER BY seq")]
    await store.close()
    assert journal.replay(rows).passage.state == "saved"
    with pytest.raises(JournalMismatch, match="第 4 条"):
        journal.replay(rows[:2] + rows[3:])


async def test_the_story_of_a_passage_is_all_its_rows(driven: Path) -> None:
    store = await Store.open(driven / "lane.db")
    (row,) = await store.rows("SELECT id FROM passage")
    await store.close()
    events = [row["event"] for row in journal.story(driven, row["id"])]
    assert events[0] == "ReadRequested"
    assert events[-3:] == ["SaveRequested", "DebitPrepared", "DebitConfirmed"]
    with pytest.raises(NotFound):
        journal.story(driven, "X03-nobody")


async def test_a_row_forged_alike_in_both_copies_breaks_the_chain_behind_it(driven: Path) -> None:
    """Even with its own hash and checksum made to fit: the next row stands on the old one."""
    path = segment.path_of(driven / SPOOL, 1)
    raw = path.read_bytes()
    head = segment.read_head(raw)
    assert head is not None
    before, forged = b"", bytearray(raw)
    for at, found in segment.frames(memoryview(raw), head):
        if found.seq == 4:
            row = found.row._replace(operator="9999")
            text = frame.text_of(row)
            row_hash = frame.chained(before, text)
            packed = frame.pack(4, found.durable, row_hash, text, head.block)
            assert len(packed) == found.size
            forged[at : at + found.size] = packed
        before = found.hash
    path.write_bytes(bytes(forged))
    with sqlite3.connect(driven / "lane.db") as db:
        db.execute("UPDATE journal SET operator = '9999', hash = ? WHERE seq = 4", (row_hash,))
    db.close()
    assert damage(driven)

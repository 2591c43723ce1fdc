"""The safeguards, how each is taken away, and which tests are asked.

`old` must stand in the file exactly once: a safeguard that moved is found out, not skipped.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """What pytest is given; ordinary tests, none made for this list alone."""


CRASH = "tests/flow/test_crash.py"
TEARS = "tests/flow/test_tears.py"
DEBIT = "tests/flow/test_debit.py"
LANE = "tests/flow/test_lane.py"
STORE = "tests/test_store.py"
JOURNAL = "tests/flow/test_journal.py"
SPOOL = "tests/spool"
CUTS = "tests/powercut/test_weak.py"

CATALOGUE = (
    # ---- what is on disk is on disk ----
    Mutation(
        "a photo is not synced",
        "gateway/evidence.py",
        "        os.fsync(file.fileno())\n",
        "",
        ("tests/test_evidence.py", CUTS),
    ),
    Mutation(
        "the photo's folder is not synced",
        "gateway/evidence.py",
        "            _sync_folder(path.parent)\n",
        "",
        ("tests/test_evidence.py", CUTS),
    ),
    # ---- the log ----
    Mutation(
        "a row is not chained to the one before",
        "gateway/spool/frame.py",
        "    return hashlib.sha256(previous + text).digest()",
        "    return hashlib.sha256(text).digest()",
        (JOURNAL, SPOOL),
    ),
    Mutation(
        "the hash of a row in the log is not checked",
        "gateway/spool/segment.py",
        " or chained(previous, frame.text) != frame.hash:",
        ":",
        (SPOOL,),
    ),
    Mutation(
        "the checksum of a frame is not checked",
        "gateway/spool/frame.py",
        "    if zlib.crc32(raw[at + _CHECKED_FROM : end]) != crc or any(raw[end : at + size]):\n"
        "        return None\n",
        "",
        (SPOOL,),
    ),
    Mutation(
        "the hash of a row in the tables is not checked",
        "gateway/spool/tables.py",
        "        return self.hash == self.expected",
        "        return True",
        (JOURNAL, SPOOL),
    ),
    Mutation(
        "a row does not say what was durable before it",
        "gateway/spool/log.py",
        "pack(row.seq, self.seq, last, text, BLOCK)",
        "pack(row.seq, 0, last, text, BLOCK)",
        (SPOOL,),
    ),
    Mutation(
        "a damaged database is deleted, not set aside",
        "gateway/spool/repair.py",
        "            file.replace(target)",
        "            file.unlink()",
        (STORE, JOURNAL, SPOOL),
    ),
    Mutation(
        "the tables do not catch up at the start",
        "gateway/spool/copies.py",
        "            self.behind = list(self.spool.rows(seq))\n            return",
        "            return",
        (CRASH, SPOOL),
    ),
    # ---- uniqueness ----
    Mutation(
        "two shifts may be open on one lane",
        "gateway/schema/0001_init.sql",
        "CREATE UNIQUE INDEX shift_one_open",
        "CREATE INDEX shift_one_open",
        ("tests/flow/test_shift.py", SPOOL),
    ),
    Mutation(
        "the centre takes a record twice",
        "gateway/center/tables.py",
        "UNIQUE",
        "",
        ("tests/center", "tests/sync"),
    ),
    # ---- the story ----
    Mutation(
        "acts first, then writes it down",
        "gateway/flow/lane.py",
        "        moment = self._moment(asked.who.operator if asked else before.operator)\n",
        "        moment = self._moment(asked.who.operator if asked else before.operator)\n"
        "        for early in step.effects:\n"
        "            await self._hands.answer(early, step.passage)\n",
        (CRASH, LANE),
    ),
    Mutation(
        "an unanswered debit is sent again after a restart",
        "gateway/flow/messages.py",
        "    after_restart = AfterRestart.PROVE\n",
        "    after_restart = AfterRestart.REDO\n",
        (CRASH, LANE),
    ),
    Mutation(
        "an unanswered debit is forgotten after a restart",
        "gateway/flow/messages.py",
        "    after_restart = AfterRestart.PROVE\n",
        "    after_restart = AfterRestart.DROP\n",
        (CRASH, LANE),
    ),
    Mutation(
        "a command's key is not kept",
        "gateway/flow/books.py",
        '            extra: dict[str, Any] = {"key": [key.key, key.fingerprint]} if key else {}',
        "            extra: dict[str, Any] = {}",
        (LANE, "tests/flow/test_books.py"),
    ),
    Mutation(
        "a stale screen is obeyed",
        "gateway/flow/lane.py",
        "        if asked.rev != self.rev:",
        "        if asked.rev > self.rev:",
        (LANE,),
    ),
    Mutation(
        "another screen may command the passage",
        "gateway/flow/lane.py",
        "        if self.passage.state not in (State.IDLE, State.SAVED) and owner != asked.who.owner:",
        "        if False:",
        (LANE, "tests/flow/test_approvals.py", "tests/web/test_lane.py"),
    ),
)

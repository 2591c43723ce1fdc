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
UNIQUE = "tests/test_unique.py"

CATALOGUE = (
    # ---- what is on disk is on disk ----
    Mutation(
        "a photo is not synced",
        "gateway/evidence.py",
        "        os.fsync(file.fileno())\n",
        "",
        ("tests/test_evidence.py",),
    ),
    Mutation(
        "the photo's folder is not synced",
        "gateway/evidence.py",
        "            _sync_folder(path.parent)\n",
        "",
        ("tests/test_evidence.py",),
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
        '    if zlib.crc32(whole[_CHECKED_FROM:end]) != crc or whole[end:].strip(b"\\0"):\n'
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
        "pack(row.seq, self.seq, last,",
        "pack(row.seq, 0, last,",
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
        "        self.followed = tables.head(db)[0]\n",
        "        self.followed = self.spool.seq if hasattr(self, 'spool') else 0\n",
        (CRASH, SPOOL),
    ),
    Mutation(
        "what is wrong with the tables is not looked for",
        "gateway/spool/copies.py",
        "                return trouble(db) or self._unseal(db)\n",
        "                return self._unseal(db)\n",
        (JOURNAL, SPOOL),
    ),
    # ---- uniqueness ----
    Mutation(
        "two shifts may be open on one lane",
        "gateway/schema/0001_init.sql",
        "CREATE UNIQUE INDEX shift_one_open",
        "CREATE INDEX shift_one_open",
        (UNIQUE,),
    ),
    Mutation(
        "the box may hold a record's id twice",
        "gateway/schema/0002_corrections.sql",
        "    id          TEXT NOT NULL UNIQUE,",
        "    id          TEXT NOT NULL,",
        (UNIQUE,),
    ),
    Mutation(
        "a passage may have two records that correct nothing",
        "gateway/schema/0002_corrections.sql",
        "CREATE UNIQUE INDEX record_passage",
        "CREATE INDEX record_passage",
        (UNIQUE,),
    ),
    Mutation(
        "the centre may hold a record's id twice",
        "gateway/center/schema.sql",
        "    id          TEXT NOT NULL UNIQUE,",
        "    id          TEXT NOT NULL,",
        (UNIQUE,),
    ),
    Mutation(
        "the centre may hold a slot twice",
        "gateway/center/schema.sql",
        "    received_ms INTEGER NOT NULL,\n    UNIQUE (lane, seq)\n",
        "    received_ms INTEGER NOT NULL\n",
        (UNIQUE,),
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
        "        if self.passage.state not in (State.IDLE, State.SAVED)"
        " and owner != asked.who.owner:",
        "        if False:",
        (LANE, "tests/flow/test_approvals.py", "tests/web/test_lane.py"),
    ),
    Mutation(
        "a passage whose outcome is unknown may be cancelled",
        "gateway/flow/rules.py",
        "for _state in (S.REFUSED, S.HELD, *BEFORE_THE_MONEY):",
        "for _state in (S.REFUSED, S.HELD, S.DOUBTFUL, S.DISPUTED, *BEFORE_THE_MONEY):",
        ("tests/flow", "tests/test_readme.py"),
    ),
    Mutation(
        "a debit that was prepared is sent without being written down",
        "gateway/flow/rules.py",
        "    (S.PREPARING,  DebitPrepared):       Rule(S.DEBITING,   take_the_money),",
        "    (S.PREPARING,  DebitPrepared):       Rule(S.AGREED,     take_the_money),",
        ("tests/flow/test_debit.py", CRASH, LANE),
    ),
    Mutation(
        "a card's refusal is believed without asking its counter",
        "gateway/flow/perform.py",
        "        if p.earlier and p.earlier.card_seq != ticket.card_seq:",
        "        if False:",
        ("tests/flow/test_garbage.py",),
    ),
)

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
DURABLE = "tests/test_durable.py"

CATALOGUE = (
    # ---- what is on disk is on disk ----
    Mutation(
        "a file is not synced before it is named",
        "gateway/durable.py",
        "        os.fsync(file.fileno())\n",
        "",
        ("tests/test_evidence.py", DURABLE),
    ),
    Mutation(
        "a folder is not synced",
        "gateway/durable.py",
        "        os.fsync(fd)\n",
        "        pass\n",
        ("tests/test_evidence.py", DURABLE),
    ),
    Mutation(
        "a photo is not synced",
        "gateway/evidence.py",
        "            write_synced(incoming, jpeg)\n",
        "            incoming.write_bytes(jpeg)\n",
        ("tests/test_evidence.py",),
    ),
    Mutation(
        "the photo's folder is not synced",
        "gateway/evidence.py",
        "            sync_folder(path.parent)\n",
        "",
        ("tests/test_evidence.py",),
    ),
    Mutation(
        "the signing key is not synced",
        "gateway/keys.py",
        "            replace(path, wanted, mode)",
        "            path.write_bytes(wanted)",
        (DURABLE, "tests/test_keys.py"),
    ),
    Mutation(
        "certificates are not synced",
        "gateway/tls.py",
        "    replace(file, made.pem(ca), 0o600)",
        "    file.write_bytes(made.pem(ca))",
        (DURABLE, "tests/test_tls.py"),
    ),
    Mutation(
        "a parameter package is not synced",
        "gateway/sync/packages.py",
        "        replace(path, raw)",
        "        path.write_bytes(raw)",
        (DURABLE, "tests/sync/test_packages.py"),
    ),
    Mutation(
        "a write to the log does not wait for the disk",
        "gateway/spool/segment.py",
        "_SYNCED = os.O_RDWR | os.O_DSYNC",
        "_SYNCED = os.O_RDWR",
        (DURABLE, SPOOL),
    ),
    Mutation(
        "a spare file of the log is not synced",
        "gateway/spool/segment.py",
        "        os.fsync(fd)\n",
        "",
        (DURABLE, SPOOL),
    ),
    Mutation(
        "a spare file's name is not synced",
        "gateway/spool/segment.py",
        "    sync_folder(folder)\n",
        "",
        (DURABLE, SPOOL),
    ),
    Mutation(
        "a key is believed against its public half",
        "gateway/keys.py",
        "    if said and signer.public_pem not in said:",
        "    if False:",
        ("tests/test_keys.py",),
    ),
    # ---- room and refusals ----
    Mutation(
        "the tables' reserve is never given back",
        "gateway/spool/copies.py",
        "and self.may_grow and self.reserve.release()",
        "and False",
        ("tests/disktrouble", SPOOL),
    ),
    Mutation(
        "the log keeps no reserve",
        "gateway/spool/log.py",
        "            while len(self._spares()) * SEGMENT_BYTES < reserve_bytes(self.block):",
        "            while False:",
        (SPOOL,),
    ),
    Mutation(
        "after a failed write the log is written on as if it had not been",
        "gateway/spool/log.py",
        "        self._is_stale = True  # until the disk has said yes\n",
        "",
        (SPOOL,),
    ),
    Mutation(
        "a refused step is not looked for on the disk",
        "gateway/flow/lane.py",
        "            self._is_adrift = True\n            raise\n        self.rev = done.seq\n",
        "            raise\n        self.rev = done.seq\n",
        (LANE, "tests/flow/test_standing.py"),
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
        "                return trouble(db, self._progress.step) or self._unseal(db)\n",
        "                return self._unseal(db)\n",
        (JOURNAL, SPOOL),
    ),
    Mutation(
        "a row's seal is there, whatever it says",
        "gateway/spool/seals.py",
        "            if kept != checksum(*values):",
        "            if kept is None:",
        (SPOOL, STORE),
    ),
    Mutation(
        "a record in the tables may differ from the one in the log",
        "gateway/spool/derived.py",
        "        if row != expected:",
        "        if False:",
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
        "a lane may hold a record's id twice",
        "gateway/schema/0007_twins.sql",
        "    UNIQUE (id, lane)",
        "    CHECK (seq > 0)",
        (UNIQUE,),
    ),
    Mutation(
        "a passage may have two records that correct nothing",
        "gateway/schema/0007_twins.sql",
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
        "a command sent twice is done twice",
        "gateway/flow/lane.py",
        "        if was_done:\n            return before or self.snapshot()\n",
        "",
        (LANE,),
    ),
    Mutation(
        "a command sent again has another answer",
        "gateway/flow/lane.py",
        "            return before or self.snapshot()\n",
        "            return self.snapshot()\n",
        (LANE,),
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
        (LANE, "tests/web/test_lane.py"),
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
    Mutation(
        "a refused MAC2 is told as a good one",
        "gateway/flow/debit.py",
        'else "refused"',
        'else "verified"',
        (DEBIT, "tests/flow/test_psam_states.py"),
    ),
    Mutation(
        "a PSAM's no to MAC2 is not heard",
        "gateway/devices/psam.py",
        "                return False\n",
        "                return True\n",
        ("tests/devices/test_psam.py", DEBIT),
    ),
    # ---- delivery ----
    Mutation(
        "a record is sent off before the centre's word",
        "gateway/sync/ledger.py",
        "for verdict in verdicts if verdict.verdict == word]",
        'for verdict in verdicts if verdict.verdict in (word, "retry")]',
        ("tests/sync/test_outbox.py",),
    ),
    Mutation(
        "a record that the centre did not mention is taken for accepted",
        "gateway/sync/center.py",
        'Verdict(line.seq, line.id, "retry") for line',
        'Verdict(line.seq, line.id, "accepted") for line',
        ("tests/sync/test_outbox.py",),
    ),
    Mutation(
        "a record that was taken is sent again for ever",
        "gateway/sync/ledger.py",
        "  AND (d.seq IS NULL OR ",
        "  AND (TRUE OR ",
        ("tests/sync/test_outbox.py",),
    ),
)

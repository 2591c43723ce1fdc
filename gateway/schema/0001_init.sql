-- One table, one writer package: the owner stands in each table's comment.
-- Applied in one transaction; PRAGMA user_version then holds this file's number.

-- spool: every event, in order, with the state it led to. Rows are never changed. This table and
-- passage, record, command and shift follow from the log (spool/tables.py), where the truth is.
-- hash = SHA-256(prev_hash ‖ the row as JSON, its record's line included); see spool/frame.py.
CREATE TABLE journal (
    seq         INTEGER PRIMARY KEY,
    lane        TEXT NOT NULL,
    passage_id  TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    mono_ms     INTEGER NOT NULL,
    boot_id     TEXT NOT NULL,
    operator    TEXT NOT NULL,
    event       TEXT NOT NULL,
    state       TEXT NOT NULL,
    body        TEXT NOT NULL,
    extra       TEXT NOT NULL DEFAULT '',   -- what else the row means for the tables below
    hash        BLOB NOT NULL
) STRICT;
CREATE INDEX journal_passage ON journal (passage_id, seq);
CREATE INDEX journal_lane ON journal (lane, seq);

-- spool: where each passage stands; derived from the journal, written in the same commit.
CREATE TABLE passage (
    id          TEXT PRIMARY KEY,
    lane        TEXT NOT NULL,
    state       TEXT NOT NULL,
    opened_ms   INTEGER NOT NULL,
    changed_ms  INTEGER NOT NULL,
    operator    TEXT NOT NULL,
    shift_id    INTEGER NOT NULL,
    plate       TEXT NOT NULL DEFAULT '',
    card_id     TEXT NOT NULL DEFAULT '',
    amount_fen  INTEGER,
    ended       TEXT,              -- NULL while open; saved, cancelled, unreadable
    record_id   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX passage_open ON passage (lane) WHERE ended IS NULL;
CREATE INDEX passage_time ON passage (opened_ms);

-- spool: what this lane owes the centre. Frozen: `line` is the exact NDJSON line of every sending.
-- seq is per lane and has no holes. chain = SHA-256(previous chain ‖ line without its chain).
CREATE TABLE record (
    lane        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    passage_id  TEXT NOT NULL UNIQUE,
    shift_id    INTEGER NOT NULL,
    kind        TEXT NOT NULL,     -- paid, doubtful, by_hand, unpaid
    means       TEXT NOT NULL,     -- etc_card, cash, mobile, none
    fee_fen     INTEGER NOT NULL,
    card_id     TEXT NOT NULL,
    saved_ms    INTEGER NOT NULL,
    line        TEXT NOT NULL,
    chain       TEXT NOT NULL,
    PRIMARY KEY (lane, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_card ON record (card_id, saved_ms);
CREATE INDEX record_shift ON record (shift_id);

-- spool: commands that were carried out, so that a repeat is answered and not repeated.
CREATE TABLE command (
    lane        TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    status      INTEGER,           -- NULL until answered
    answer      BLOB,              -- JSON, deflated
    PRIMARY KEY (lane, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX command_age ON command (at_ms);

-- spool: 上班 下班.
CREATE TABLE shift (
    id          INTEGER PRIMARY KEY,
    lane        TEXT NOT NULL,
    operator    TEXT NOT NULL,
    shift       INTEGER NOT NULL,  -- 1 早 2 中 3 晚
    opened_ms   INTEGER NOT NULL,
    closed_ms   INTEGER,
    totals      TEXT               -- as signed off
) STRICT;
CREATE UNIQUE INDEX shift_one_open ON shift (lane) WHERE closed_ms IS NULL;

-- sync: what became of each record. No row = still owed.
CREATE TABLE delivery (
    lane        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    verdict     TEXT NOT NULL,     -- accepted, duplicate, refused
    reason      TEXT,
    via         TEXT NOT NULL,     -- push, or the consumer's name
    at_ms       INTEGER NOT NULL,
    stub_sent   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, seq)
) STRICT, WITHOUT ROWID;

-- sync: sealed, immutable batches for pull.
CREATE TABLE batch (
    batch       INTEGER PRIMARY KEY,
    lane        TEXT NOT NULL,
    first_seq   INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    sum_fen     INTEGER NOT NULL,
    sha256      TEXT NOT NULL,     -- of the gzip bytes
    prev_sha256 TEXT NOT NULL,
    sealed_ms   INTEGER NOT NULL,
    body        BLOB NOT NULL
) STRICT;

-- sync: how far each consumer of the batches has come.
CREATE TABLE consumer (
    name        TEXT PRIMARY KEY,
    cursor      INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- sync: the centre's high water per lane and other marks of the sync, name → JSON.
CREATE TABLE sync_mark (
    name        TEXT PRIMARY KEY,
    value       TEXT NOT NULL,
    at_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- sync: parameter packages at hand. The active one of a name is the newest effective valid one.
CREATE TABLE parameter (
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    effective_from_ms INTEGER NOT NULL,
    fetched_ms  INTEGER NOT NULL,
    state       TEXT NOT NULL,     -- staged, rejected
    reason      TEXT,
    body        BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

-- evidence: photos at hand, bytes in evidence/ by sha256.
CREATE TABLE evidence (
    sha256      TEXT PRIMARY KEY,
    size        INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    source      TEXT NOT NULL      -- camera, handheld
) STRICT, WITHOUT ROWID;

-- sync: photos that the centre holds.
CREATE TABLE evidence_delivery (
    sha256      TEXT PRIMARY KEY,
    at_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- access: signed-in browsers; only the hash of the cookie is kept.
CREATE TABLE session (
    token_hash  TEXT PRIMARY KEY,
    operator    TEXT NOT NULL,
    owner       TEXT NOT NULL,     -- booth, or the handheld's id
    created_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- access: paired handhelds, each with its own revocable credential.
CREATE TABLE handheld (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    credential_hash TEXT NOT NULL UNIQUE,
    paired_ms   INTEGER NOT NULL,
    paired_by   TEXT NOT NULL,
    last_seen_ms INTEGER,
    revoked_ms  INTEGER
) STRICT, WITHOUT ROWID;

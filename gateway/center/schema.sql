-- The reference centre's own file. Nothing is ever deleted; ids and slots are unique for ever.

CREATE TABLE IF NOT EXISTS record (
    n           INTEGER PRIMARY KEY,     -- order of arrival
    lane        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    is_stub     INTEGER NOT NULL,        -- 1 = only the slot of a refused record
    line        BLOB NOT NULL,           -- as it came
    received_ms INTEGER NOT NULL,
    UNIQUE (lane, seq)
) STRICT;

-- Records that are not simply a vehicle served: stubs of cancelled passages, and corrections.
-- A record is corrected at most once; a further correction is one of the newest.
CREATE TABLE IF NOT EXISTS special (
    id          TEXT PRIMARY KEY,
    lane        TEXT NOT NULL,
    kind        TEXT NOT NULL,           -- cancelled, correction
    corrects    TEXT UNIQUE,             -- NULL for a cancelled one
    adjust_fee  INTEGER NOT NULL         -- what the correction adds to the money
) STRICT, WITHOUT ROWID;

-- Receipts given for exports that were carried here (journal import-receipt).
CREATE TABLE IF NOT EXISTS receipt (
    number      INTEGER PRIMARY KEY,
    made_ms     INTEGER NOT NULL,
    export      TEXT NOT NULL            -- SHA-256 of the export's manifest
) STRICT;

-- Everything up to high_water is held, stubs included.
CREATE TABLE IF NOT EXISTS lane (
    name        TEXT PRIMARY KEY,
    high_water  INTEGER NOT NULL DEFAULT 0,
    heartbeat_ms INTEGER,
    heartbeat   TEXT
) STRICT, WITHOUT ROWID;

-- What was said about lines that were not taken, for people.
CREATE TABLE IF NOT EXISTS refusal (
    n           INTEGER PRIMARY KEY,
    lane        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT NOT NULL,
    reason      TEXT NOT NULL,
    line        BLOB NOT NULL,
    received_ms INTEGER NOT NULL
) STRICT;

-- Reconciliations: what a lane signed, and what was held then. All of them, for ever.
CREATE TABLE IF NOT EXISTS reconciliation (
    n           INTEGER PRIMARY KEY,
    lane        TEXT NOT NULL,
    of          TEXT NOT NULL,           -- shift, day
    name        TEXT NOT NULL,
    statement   TEXT NOT NULL,           -- JSON; signed in canonical form (gateway/tally.py)
    lane_key    TEXT NOT NULL,
    signature   TEXT NOT NULL,
    ours        TEXT NOT NULL,
    agrees      INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS reconciliation_lane ON reconciliation (lane, n);

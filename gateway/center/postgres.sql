-- The reference centre's tables in PostgreSQL: schema.sql once more, in its types.

CREATE TABLE IF NOT EXISTS record (
    n           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of arrival
    lane        TEXT NOT NULL,
    seq         BIGINT NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    is_stub     BIGINT NOT NULL,         -- 1 = only the slot of a refused record
    line        BYTEA NOT NULL,          -- as it came
    received_ms BIGINT NOT NULL,
    UNIQUE (lane, seq)
);

-- Records that are not simply a vehicle served: stubs of cancelled passages, and corrections.
-- A record is corrected at most once; a further correction is one of the newest.
CREATE TABLE IF NOT EXISTS special (
    id          TEXT PRIMARY KEY,
    lane        TEXT NOT NULL,
    kind        TEXT NOT NULL,           -- cancelled, correction
    corrects    TEXT UNIQUE,             -- NULL for a cancelled one
    adjust_fee  BIGINT NOT NULL          -- what the correction adds to the money
);

-- Receipts given for exports that were carried here (journal import-receipt).
CREATE TABLE IF NOT EXISTS receipt (
    number      BIGINT PRIMARY KEY,
    made_ms     BIGINT NOT NULL,
    export      TEXT NOT NULL            -- SHA-256 of the export's manifest
);

-- Everything up to high_water is held, stubs included.
CREATE TABLE IF NOT EXISTS lane (
    name        TEXT PRIMARY KEY,
    high_water  BIGINT NOT NULL DEFAULT 0,
    heartbeat_ms BIGINT,
    heartbeat   TEXT
);

-- What was said about lines that were not taken, for people.
CREATE TABLE IF NOT EXISTS refusal (
    n           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane        TEXT NOT NULL,
    seq         BIGINT NOT NULL,
    id          TEXT NOT NULL,
    reason      TEXT NOT NULL,
    line        BYTEA NOT NULL,
    received_ms BIGINT NOT NULL
);

-- Reconciliations: what a lane signed, and what was held then. All of them, for ever.
CREATE TABLE IF NOT EXISTS reconciliation (
    n           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane        TEXT NOT NULL,
    of          TEXT NOT NULL,           -- shift, day
    name        TEXT NOT NULL,
    statement   TEXT NOT NULL,           -- JSON; signed in canonical form (gateway/tally.py)
    lane_key    TEXT NOT NULL,
    signature   TEXT NOT NULL,
    ours        TEXT NOT NULL,
    agrees      BIGINT NOT NULL,
    at_ms       BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS reconciliation_lane ON reconciliation (lane, n);

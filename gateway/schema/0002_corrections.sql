-- A passage may have more than one record: the first, and corrections, each of the newest before it.
-- passage_id is unique among first records; a record is corrected at most once.
CREATE TABLE record_new (
    lane        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    passage_id  TEXT NOT NULL,
    shift_id    INTEGER NOT NULL,  -- a correction belongs to the shift of what it corrects
    kind        TEXT NOT NULL,     -- paid, doubtful, by_hand, unpaid, cancelled (a stub)
    means       TEXT NOT NULL,     -- etc_card, cash, mobile, none
    fee_fen     INTEGER NOT NULL,
    card_id     TEXT NOT NULL,
    saved_ms    INTEGER NOT NULL,
    line        TEXT NOT NULL,
    chain       TEXT NOT NULL,
    corrects    TEXT,              -- NULL for a first record
    adjust_fen  INTEGER,           -- its fee minus the corrected one's; NULL for a first record
    PRIMARY KEY (lane, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO record_new (lane, seq, id, passage_id, shift_id, kind, means, fee_fen, card_id,
    saved_ms, line, chain)
SELECT lane, seq, id, passage_id, shift_id, kind, means, fee_fen, card_id, saved_ms, line, chain
FROM record;
DROP TABLE record;
ALTER TABLE record_new RENAME TO record;
CREATE UNIQUE INDEX record_passage ON record (passage_id) WHERE corrects IS NULL;
CREATE UNIQUE INDEX record_corrects ON record (corrects) WHERE corrects IS NOT NULL;
CREATE INDEX record_chain ON record (passage_id, seq) WHERE corrects IS NOT NULL;
CREATE INDEX record_card ON record (card_id, saved_ms);
CREATE INDEX record_shift ON record (shift_id);

-- A lane never has an id twice. Two lanes may: a lane that was renamed within the hour once began its
-- ids again. What is in the log is owed, so both stand; the centre says which one it will not take.
CREATE TABLE record_new (
    lane        TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT NOT NULL,
    passage_id  TEXT NOT NULL,
    shift_id    INTEGER NOT NULL,  -- a correction belongs to the shift of what it corrects
    kind        TEXT NOT NULL,     -- paid, doubtful, by_hand, unpaid, cancelled (a stub)
    means       TEXT NOT NULL,     -- etc_card, cash, mobile, none
    fee_fen     INTEGER NOT NULL,
    card_id     TEXT NOT NULL,
    saved_ms    INTEGER NOT NULL,
    line        TEXT NOT NULL,
    chain       TEXT NOT NULL,
    corrects    TEXT,              -- NULL for a first record; an id of the same lane
    adjust_fen  INTEGER,           -- its fee minus the corrected one's; NULL for a first record
    PRIMARY KEY (lane, seq),
    UNIQUE (id, lane)
) STRICT, WITHOUT ROWID;
INSERT INTO record_new SELECT * FROM record;
DROP TABLE record;
ALTER TABLE record_new RENAME TO record;
CREATE UNIQUE INDEX record_passage ON record (passage_id) WHERE corrects IS NULL;
CREATE UNIQUE INDEX record_corrects ON record (corrects, lane) WHERE corrects IS NOT NULL;
CREATE INDEX record_chain ON record (passage_id, seq) WHERE corrects IS NOT NULL;
CREATE INDEX record_card ON record (card_id, saved_ms);
CREATE INDEX record_shift ON record (shift_id);

-- sync: what a consumer has judged of the batches behind its cursor; gone once the cursor is past.
CREATE TABLE judged (
    consumer    TEXT NOT NULL,
    batch       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,  -- of the record; 0 = all of the batch
    PRIMARY KEY (consumer, batch, seq)
) STRICT, WITHOUT ROWID;

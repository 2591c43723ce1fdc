-- What is asked every few seconds is found, however many rows there are.
CREATE INDEX batch_lane ON batch (lane, last_seq);
CREATE INDEX evidence_time ON evidence (at_ms, sha256, size);

-- The few records that the centre refused, found without reading what became of all others.
CREATE INDEX delivery_refused ON delivery (lane, seq) WHERE verdict = 'refused';

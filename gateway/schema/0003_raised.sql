-- Found at once at each start: lanes whose records go on behind what the centre already holds.
CREATE INDEX journal_raised ON journal (lane) WHERE event = 'lane_raised';

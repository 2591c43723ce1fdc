"""Conservation: whatever the line and the centre do, each record is there exactly once."""

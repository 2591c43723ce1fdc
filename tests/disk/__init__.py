"""The disk says no, or says something else than what was written: errors returned, media damage."""

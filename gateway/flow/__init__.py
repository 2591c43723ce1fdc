"""One vehicle from card to record. May not import a driver, the web or the sync."""

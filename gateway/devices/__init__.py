"""What the lane can touch: ports, drivers and their twins. Bytes become words here; no rule lives here."""

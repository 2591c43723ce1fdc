"""What the lane can touch: ports, drivers, twins. Bytes become words; no rule lives here."""

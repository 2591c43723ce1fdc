"""The HTTP faces of the box: collector, centre, maintenance, bench. Holds no truth."""

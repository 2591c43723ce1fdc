"""The reference centre, a program of its own with its own database: imports no part of the lane."""

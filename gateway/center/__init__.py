"""The reference centre: a program of its own, with its own database. Imports no part of the lane."""

"""The log of money: every step in order, CRC-framed and hash-chained, in preallocated files.

It is the truth; the database follows it and can be rebuilt from it (tables.py), and it can be
rebuilt from the database. Knows rows, blocks and syncs; no rules, no lanes' states.
"""

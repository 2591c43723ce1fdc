"""The status list at national size: 50 million numbers, one asked at each passage.

Why a sorted file of our own and not SQLite or LMDB (`python -m tests.bench statuslist` measures all
three): the centre's file is the look-up structure, so a full load is a copy and a check instead of
50 million insertions; every answer is proved by its block's own sum, where the others answer "not
listed" from a damaged page without a word; and a read error is an error of one look-up, where a
mapped file (LMDB) would end the program. Format: docs/statuslist.md.
"""

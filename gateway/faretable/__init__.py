"""A minimum-fare table of national size: compiled to a file by a child, asked row by row.

As one JSON document of 160 000 rows it cost 18 s of the event loop and 740 MB; the child reads it
as a stream, checks each row as the small table's are checked, and writes a SQLite file in which
each row has its own sum. The gateway's own process holds nothing of it but the last rows asked for.
"""

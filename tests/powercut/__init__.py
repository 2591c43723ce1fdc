"""Power cuts, proved: every disk that a cut could leave is built, recovered and judged.

`python -m tests.powercut [--states N] [--seed S] [--stories K] [--programs P] …` (`--help`).

A real gateway takes vehicles through (`recorded`) while `shim.c` writes down everything it does to
its folder. `disk` rebuilds what a disk may hold of that at any moment. On each such disk the
gateway's own recovery runs on real files and is judged (`opening`, tests/rig/invariants.py). Many
disks come to the same money: for each different one the whole gateway is started on the disk, with
the chips as they were then, and lives on (`life`). A sample of recoveries and lives is recorded and
cut in turn. `programs` starts processes with listeners and asks them over HTTP.

What is counted: states are different disks that were recovered and judged, in each story by
itself: no two stories have a disk in common that holds a row, for every row has its moment and its
passage's own id. Contents are different outcomes of that; lives and programs are starts on them.

Every disk is laid out, opened by SQLite and recovered by the gateway's own code. What is remembered
between disks (`memory`): what the frames of a file of the log say, by its bytes; what the tables'
own proof and their seals say, by all pages as SQLite reads them on that disk; and the judgement,
with the row that is written after it (`Opening._found`), by those pages, all files of the log, the
photos and the world as recovery left them. `python -m tests.powercut.replay … --plain` remembers
nothing.
"""

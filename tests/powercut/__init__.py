"""Power cuts, proved: every disk that a cut could leave is built, recovered and judged.

`python -m tests.powercut [--states N] [--seed S] [--stories K] [--programs P] …` (`--help`).

A real gateway takes vehicles through (`recorded`) while `shim.c` writes down everything it does to
its folder. `disk` rebuilds what a disk may hold of that at any moment. On each such disk the
gateway's own recovery runs on real files and is judged (`opening`, tests/rig/invariants.py). Many
disks come to the same money: for each different one the whole gateway is started on the disk, with
the chips as they were then, and lives on (`life`). A sample of recoveries and lives is recorded and
cut in turn. `programs` starts processes with listeners and asks them over HTTP.

What is counted: states are different disks that were recovered and judged; contents are different
outcomes of that; lives and programs are starts on them. `memory` remembers pure functions of
equal bytes between states; `python -m tests.powercut.replay … --plain` does without.
"""

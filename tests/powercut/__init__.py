"""Power cuts, proved: every disk that a cut could leave is built, started and checked.

`python -m tests.powercut [--states N] [--seed S]`. A real gateway takes vehicles through while
`shim.c` writes down everything it does to its folder; `disk` rebuilds what a disk may hold of
that at any moment; `life` starts the gateway on it with the chips as they were; `invariants` says
what must be true then (reliability.md §0 and T0).
"""

"""Worlds, one after the other, and what they add up to."""

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.conserve.idle import IdleLoop
from tests.conserve.way import Way
from tests.conserve.world import Run, run

LANES = 25  # schedules in one world
HTTP = Way()


def tried(seed: int, way: Way = HTTP, lanes: int = LANES) -> Run:
    """One world in a folder of its own."""
    logging.disable(logging.CRITICAL)  # thousands of faults, each with a line
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lane-conserve-") as folder,
            asyncio.Runner(loop_factory=lambda: IdleLoop(way.speed)) as runner,
        ):
            return runner.run(run(seed, lanes, Path(folder), way))
    finally:
        logging.disable(logging.NOTSET)


def wrongs(runs: Sequence[Run]) -> list[str]:
    """Each violation, and how to see it again."""
    return [
        f"{what}   (again: python -m tests.conserve --seed {told.seed} --worlds 1{_how(told.way)})"
        for told in runs
        for what in told.wrong
    ]


def happened(runs: Sequence[Run]) -> Counter[str]:
    return sum((told.happened for told in runs), Counter[str]())


def _how(way: Way) -> str:
    transport = f" --transport nats --nodes {way.nodes}" if way.transport == "nats" else ""
    return f" --database postgres{transport}" if way.dsn else transport

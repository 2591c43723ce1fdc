"""Shims that stand before libc: built by the system's compiler, loaded before everything else."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def build(source: Path, folder: Path) -> Path:
    """The compiled shim. Raises: FileNotFoundError without gcc, CalledProcessError."""
    shim = folder / f"{source.stem}.so"
    program = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", shim, source, "-ldl"]
    subprocess.run([*program, "-lpthread"], check=True, timeout=60)
    return shim


def command(shim: Path, module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `subprocess` needs to run one of our modules with the shim in front of libc."""
    return {
        "args": [sys.executable, "-W", "ignore", "-m", module, *arguments],
        "cwd": ROOT,
        "env": {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(ROOT)},
    }

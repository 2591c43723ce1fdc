"""The recorder `shim.c`: built by the system's compiler, loaded before everything else."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("shim.c")
ROOT = SOURCE.parents[2]


def build(folder: Path) -> Path:
    """The compiled shim. Raises: FileNotFoundError without gcc, CalledProcessError."""
    shim = folder / "shim.so"
    program = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", shim, SOURCE, "-ldl"]
    subprocess.run([*program, "-lpthread"], check=True, timeout=60)
    return shim


def command(shim: Path, module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `subprocess` needs to run one of our modules with the shim in front of libc."""
    return {
        "args": [sys.executable, "-W", "ignore", "-m", f"tests.powercut.{module}", *arguments],
        "cwd": ROOT,
        "env": {**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(ROOT)},
    }


class Recorder:
    """This process's own file calls, below one folder at a time."""

    def __init__(self) -> None:
        """Raises: AttributeError, if the shim is not loaded."""
        self._shim = ctypes.CDLL(None)
        self._shim.powercut_start.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        self._shim.powercut_mark.argtypes = (ctypes.c_char_p, ctypes.c_size_t)

    def start(self, folder: Path, trace: Path, prepare: Callable[[], None] = lambda: None) -> None:
        """Write down from now on, after `prepare`. `folder`: a real path, may not exist yet."""
        prepare()
        assert self._shim.powercut_start(os.fsencode(folder), os.fsencode(trace)) == 0, trace

    def stop(self) -> None:
        self._shim.powercut_stop()

    def mark(self, said: Mapping[str, Any]) -> None:
        """Put what was just promised, or what a chip now holds, in its place among the calls."""
        text = json.dumps(said, ensure_ascii=False).encode()
        self._shim.powercut_mark(text, len(text))

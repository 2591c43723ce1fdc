"""The recorder `shim.c`, and how this process is told to write down what it does."""

import ctypes
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.rig import preload

SOURCE = Path(__file__).with_name("shim.c")


def build(folder: Path) -> Path:
    """As `preload.build`."""
    return preload.build(SOURCE, folder)


def command(shim: Path, module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """As `preload.command`, of a module of ours."""
    return preload.command(shim, f"tests.powercut.{module}", arguments)


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

    def end(self) -> NoReturn:
        """This process is over, as it stands, and nothing was done that is not written down."""
        self._shim.powercut_end()
        raise AssertionError("the process went on")

    def mark(self, said: Mapping[str, Any]) -> None:
        """Put what was just promised, or what a chip now holds, in its place among the calls."""
        text = json.dumps(said, ensure_ascii=False).encode()
        self._shim.powercut_mark(text, len(text))

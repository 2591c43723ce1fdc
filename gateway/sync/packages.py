"""A second copy of the parameter packages: files beside the database, named by their content.

A database that lost its rows, or a row that lost its bytes, costs no table then. Blocks; used in a
thread. Knows bytes and names, not what is in them.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gateway.durable import replace, sync_folder

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z_]+-([0-9a-f]{64})\.json")
ASIDE = "quarantine"


class Packages:
    """One folder; its only writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, table: str, raw: bytes) -> str:
        """Durable when this returns; the file's name. Raises: OSError."""
        path = self._folder / f"{table}-{hashlib.sha256(raw).hexdigest()}.json"
        if path.exists() and path.read_bytes() == raw:
            return path.name
        self._folder.mkdir(mode=0o700, exist_ok=True)
        replace(path, raw)
        sync_folder(self._folder.parent)
        return path.name

    def all(self) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each file that is what its name says; others are set aside."""
        for path in sorted(self._folder.glob("*.json")):
            if found := NAME.fullmatch(path.name):
                with suppress(OSError):
                    raw = path.read_bytes()
                    if hashlib.sha256(raw).hexdigest() == found[1]:
                        yield path.name, raw
                        continue
            self._set_aside(path)

    def forget(self, names: Iterable[str]) -> None:
        """Raises: OSError."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def _set_aside(self, path: Path) -> None:
        log.error("a parameter file is damaged", extra={"file": path.name})
        with suppress(OSError):
            aside = self._folder / ASIDE
            aside.mkdir(exist_ok=True)
            path.replace(aside / path.name)

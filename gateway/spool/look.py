"""Looking into the database without leaving a trace: for auditors, and for whoever is not its
owner. Nothing is created beside it, and a disk that cannot be written is no obstacle.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """The database, read only, with what SQLite's own log has. Raises: sqlite3.Error.

    Without that log nothing is under way, and SQLite is told so: it would make one. With it, on a
    disk that cannot be written, SQLite could not look into it: then copies are looked at.
    """
    wal = Path(f"{database}-wal")
    if not wal.exists():
        with _opened(database, "mode=ro&immutable=1") as db:
            yield db
    elif os.access(database.parent, os.W_OK):
        with _opened(database, "mode=ro") as db:
            yield db
    else:
        with tempfile.TemporaryDirectory(prefix="lane-look-") as folder:
            for file in (database, wal):
                shutil.copyfile(file, Path(folder) / file.name)
            with _opened(Path(folder) / database.name, "mode=rw") as db:
                yield db


@contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as db:
        yield db

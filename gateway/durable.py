"""Files that are on disk when these return. Knows bytes and names, nothing of what is in them."""

import os
from pathlib import Path

EVERYONE = 0o666
"""Before the umask, as `open` has it."""


def write_synced(path: Path, body: bytes, mode: int = EVERYONE) -> None:
    """Make or overwrite; the bytes are on disk then, the name is not. Raises: OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, body: bytes, mode: int = EVERYONE) -> None:
    """Whole or not at all, also when the power is cut. Raises: OSError."""
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)  # left by a power cut, perhaps with other rights
    write_synced(half, body, mode)
    half.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in it are on disk then. Raises: OSError."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

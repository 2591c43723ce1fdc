"""Small disks that are really full, really read-only, really slow. Needs root and a kernel."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MB = 1024 * 1024


@pytest.fixture(autouse=True)
def _small_log_files() -> None:
    """Here the log's files and reserves have their real sizes."""


class SmallDisk:
    """A file system in a file, mounted at `path`."""

    def __init__(self, image: Path, path: Path) -> None:
        self.image, self.path = image, path

    @property
    def device(self) -> str:
        told = run("findmnt", "-n", "-o", "SOURCE", str(self.path))
        return Path(told.strip()).name

    @property
    def free_bytes(self) -> int:
        told = os.statvfs(self.path)
        return told.f_bavail * told.f_frsize

    def fill(self, leave_bytes: int = 0) -> Path:
        """Somebody else's file takes all there is but so much."""
        ballast = self.path / "ballast"
        with ballast.open("ab", buffering=0) as file:
            for piece in (MB, 64 * 1024, 4096, 512):
                try:
                    while self.free_bytes > leave_bytes + piece:
                        os.write(file.fileno(), bytes(piece))
                        os.fsync(file.fileno())
                except OSError:
                    continue
        return ballast

    def make_read_only(self) -> None:
        """What ext4 does after an error that it cannot trust."""
        Path(f"/sys/fs/ext4/{self.device}/trigger_fs_error").write_text("1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """size in MB → a mounted ext4. Skips, loudly, where mounting is not permitted."""
    mounted: list[Path] = []

    def make(size_mb: int) -> SmallDisk:
        image, path = tmp_path / f"{len(mounted)}.img", tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        with image.open("wb") as file:
            file.truncate(size_mb * MB)
        try:
            run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
            run("mount", "-o", "loop,errors=remount-ro", str(image), str(path))
        except (OSError, subprocess.CalledProcessError) as no:
            if "CI" in os.environ:
                raise
            pytest.skip(f"NOT TRIED: a small disk cannot be mounted here ({no})")
        mounted.append(path)
        return SmallDisk(image, path)

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=False, timeout=30)


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout

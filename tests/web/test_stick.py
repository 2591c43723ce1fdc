"""A file to a stick: real small file systems, full, write-protected, pulled in the middle."""

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.disk import stick
from gateway.disk.stick import StickFault

KB = 1024
Mount = Callable[[str], Path]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
def plug(media: Path) -> Iterator[Mount]:
    """name → a stick of 1 MB, mounted. Skips, loudly, where mounting is not permitted."""
    plugged: list[Path] = []

    def mount(name: str) -> Path:
        path = media / name
        path.mkdir()
        try:
            run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path))
        except (OSError, subprocess.CalledProcessError) as no:
            if "CI" in os.environ:
                raise
            pytest.skip(f"NOT TRIED: nothing can be mounted here ({no})")
        plugged.append(path)
        return path

    yield mount
    for path in plugged:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True, timeout=30)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "lane-export-20251118-093000.tar"
    file.write_bytes(os.urandom(300 * KB))
    return file


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def refused(export: Path, folder: Path) -> str:
    with pytest.raises(StickFault) as no:
        stick.copy(export, folder)
    return no.value.fault


def test_what_is_mounted_below_is_a_stick_and_a_plain_folder_is_none(
    media: Path, plug: Mount
) -> None:
    (media / "left-over").mkdir()
    assert stick.mounted(media) == []
    plug("USB-sdb1")
    plug("MY STICK")
    assert [path.name for path in stick.mounted(media)] == ["MY STICK", "USB-sdb1"]


def test_a_file_is_whole_on_the_stick_and_nothing_else_is(export: Path, plug: Mount) -> None:
    folder, heard = plug("A"), list[int]()
    told = stick.copy(export, folder, heard.append)
    assert told == hashlib.sha256(export.read_bytes()).hexdigest()
    assert (folder / export.name).read_bytes() == export.read_bytes()
    assert [path.name for path in folder.iterdir()] == [export.name]
    assert (heard, heard[-1]) == (sorted(heard), 2 * 300 * KB)


def test_the_same_again_takes_the_place_of_the_first(export: Path, plug: Mount) -> None:
    folder = plug("A")
    stick.copy(export, folder)
    export.write_bytes(b"newer")
    stick.copy(export, folder)
    assert (folder / export.name).read_bytes() == b"newer"


def test_what_a_pulled_stick_kept_half_written_goes_and_nothing_else(
    export: Path, plug: Mount
) -> None:
    folder = plug("A")
    (folder / ".lane-export-20260101-000000.tar.part").write_bytes(bytes(900 * KB))
    (folder / ".theirs.part").write_bytes(b"theirs")
    stick.copy(export, folder)
    assert {path.name for path in folder.iterdir()} == {export.name, ".theirs.part"}


def test_a_full_stick_is_said_before_anything_is_written(export: Path, plug: Mount) -> None:
    folder = plug("A")
    (folder / "theirs").write_bytes(bytes(900 * KB))
    assert refused(export, folder) == "full"
    assert [path.name for path in folder.iterdir()] == ["theirs"]


def test_a_stick_that_fills_meanwhile_keeps_no_half_of_it(export: Path, plug: Mount) -> None:
    folder = plug("A")

    def fill(done: int) -> None:
        with (folder / "theirs").open("ab", buffering=0) as theirs, suppress(OSError):
            while True:
                theirs.write(bytes(4 * KB))

    export.write_bytes(os.urandom(700 * KB))
    real, stick.PIECE = stick.PIECE, 64 * KB
    try:
        with pytest.raises(StickFault, match="full"):
            stick.copy(export, folder, lambda done: fill(done) if done == 128 * KB else None)
    finally:
        stick.PIECE = real
    assert [path.name for path in folder.iterdir()] == ["theirs"]


def test_a_write_protected_stick_is_said_to_be_one(export: Path, plug: Mount) -> None:
    folder = plug("A")
    run("mount", "-o", "remount,ro", str(folder))
    assert refused(export, folder) == "read_only"


def test_a_stick_pulled_meanwhile_is_gone_and_our_own_disk_gets_nothing(
    export: Path, plug: Mount
) -> None:
    folder = plug("A")

    def pull(done: int) -> None:
        if done == 300 * KB:
            run("umount", "-l", str(folder))

    with pytest.raises(StickFault, match="gone"):
        stick.copy(export, folder, pull)
    assert list(folder.iterdir()) == []
    assert refused(export, folder) == "gone", "a folder of our own disk is no stick"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.EIO, "gone"),
        (errno.ENODEV, "gone"),
        (errno.EFBIG, "too_big"),
        (errno.EACCES, "read_only"),
    ],
)
def test_what_the_stick_says_when_it_is_synced(
    export: Path, plug: Mount, monkeypatch: pytest.MonkeyPatch, number: int, fault: str
) -> None:
    folder = plug("A")

    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    assert refused(export, folder) == fault
    assert list(folder.iterdir()) == []


def test_a_stick_that_gives_back_other_bytes_is_not_believed(
    export: Path, plug: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = plug("A"), os.fsync

    def rots(fd: int) -> None:
        real(fd)
        half = folder / f".{export.name}.part"
        if half.exists():
            with half.open("r+b") as file:
                file.seek(1000)
                file.write(b"rotten")

    monkeypatch.setattr(os, "fsync", rots)
    assert refused(export, folder) == "differs"
    assert list(folder.iterdir()) == []


def test_an_export_that_was_given_up_meanwhile_is_not_blamed_on_the_stick(
    export: Path, plug: Mount
) -> None:
    export.unlink()
    assert refused(export, plug("A")) == "no_file"


def test_the_table_of_mounts_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    table, media = tmp_path / "mountinfo", Path("/media")
    rows = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        "40 22 0:30 / /media/auto rw - autofs systemd-1 rw,fd=31",
        "41 22 8:17 / /media/MY\\040STICK rw,nosuid shared:7 - vfat /dev/sdb1 rw",
        "42 22 8:33 / /media/me/B rw - exfat /dev/sdc1 rw",
        "43 22 8:49 / /mnt/C rw - vfat /dev/sdd1 rw",
    ]
    table.write_text("\n".join(rows) + "\n")
    assert stick.mounted(media, table) == [media / "MY STICK", media / "me" / "B"]

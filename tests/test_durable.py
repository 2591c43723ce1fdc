"""What is on disk when these return, by the order of the calls that make it so."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from gateway import durable, keys, tls
from gateway.center.tables import public_hex, signing_key
from gateway.spool import segment
from gateway.sync.packages import Packages
from gateway.units import SystemClock, beijing


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(what, the file's name) of each sync and rename, in order."""
    made: list[tuple[str, str]] = []
    real_fsync, real_replace, real_rename = os.fsync, Path.replace, Path.rename

    def fsync(fd: int) -> None:
        real_fsync(fd)
        made.append(("synced", Path(f"/proc/self/fd/{fd}").readlink().name))

    def replace(path: Path, target: Any) -> Path:
        made.append(("named", Path(target).name))
        return real_replace(path, target)

    def rename(path: Path, target: Any) -> Path:
        made.append(("named", Path(target).name))
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "rename", rename)
    return made


def whole(name: str, folder: Path) -> list[tuple[str, str]]:
    """Bytes first, then the name, then the folder that holds the name."""
    return [("synced", f"{name}.new"), ("named", name), ("synced", folder.name)]


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    (tmp_path / "file.new").write_bytes(b"left by a power cut")
    (tmp_path / "file.new").chmod(0o644)
    durable.replace(file, b"new", 0o600)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)
    assert calls == whole("file", tmp_path)


def test_a_key_is_on_disk_before_anybody_is_told_of_it(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    keys.prepare(tmp_path)
    folder = tmp_path / "keys"
    assert calls == whole("lane.pem", folder) + whole("lane.pub", folder)


def test_the_centres_key_is_on_disk_before_any_lane_trusts_it(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    made = signing_key(tmp_path / "key.pem")
    assert calls == whole("key.pub", tmp_path) + whole("key.pem", tmp_path)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert public_hex(signing_key(tmp_path / "key.pem")) == public_hex(made)


def test_certificates_are_on_disk_before_a_handheld_sees_them(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    tls.prepare(tmp_path / "tls", ["127.0.0.1"], beijing(SystemClock().now_ms()))
    folder = tmp_path / "tls"
    assert calls == whole("authority.pem", folder) + whole("leaf.pem", folder)


def test_a_package_is_on_disk_and_so_is_its_folder(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    name = Packages(tmp_path / "parameters").keep("policy", b"{}")
    assert calls == [*whole(name, tmp_path / "parameters"), ("synced", tmp_path.name)]


def test_a_spare_file_of_the_log_has_its_blocks_and_its_name_on_disk(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    segment.create(tmp_path, 1, 8192)
    assert calls == [("synced", "000001.new"), ("named", "000001.seg"), ("synced", tmp_path.name)]


@pytest.mark.parametrize("size", [8192, 8192 + 100])
def test_a_write_to_the_log_waits_for_the_disk(tmp_path: Path, size: int) -> None:
    """Past the cache and not: a file of an odd length can only be written through it."""
    segment.create(tmp_path, 1, size)
    with segment.Writing(segment.path_of(tmp_path, 1)) as writing:
        writing.put(bytes(512), 0)
        writing.put(bytes(size % 512), size // 512 * 512)
        assert fcntl.fcntl(writing._fd, fcntl.F_GETFL) & os.O_DSYNC

"""A log on a partition of its own: one that is not mounted is noticed before anything is sold."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.disk import identity, place
from gateway.disk.identity import OURS, THEIRS
from gateway.errors import ConfigInvalid, FolderHeld
from gateway.flow import journal
from gateway.runtime import hold
from gateway.store import Store
from tests.spool.used import fill, passage
from tests.still_clock import StillClock

PASSAGES = 4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spool.log.SEGMENT_BYTES", 20 * 1024)
    monkeypatch.setattr("gateway.spool.log.RESERVE_BYTES", 20 * 1024)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def used(data: Path, partition: Path) -> Path:
    """A box that sold a few; its log on the other partition."""
    place.prepare(data, partition)
    asyncio.run(fill(data, PASSAGES))
    assert text(data / OURS) == text(partition / THEIRS) != ""
    return data


def text(path: Path) -> str:
    return path.read_text("ascii")


def unmount(partition: Path) -> Path:
    """The bare mount point stays; where the partition's files are now."""
    aside = partition.with_name("unmounted")
    partition.rename(aside)
    partition.mkdir()
    return aside


async def sold(data: Path, partition: Path, number: int) -> int:
    """A start, one more vehicle, a stop; its record's number."""
    place.prepare(data, partition)
    store = await Store.open(data / "lane.db", StillClock())
    seq = await store.log(passage(number))
    await store.close()
    return seq


async def test_a_log_that_is_not_mounted_is_not_begun_anew(used: Path, partition: Path) -> None:
    old = (used / "lane.db").read_bytes()
    assert await sold(used, partition, 90) == PASSAGES + 1
    (used / "lane.db").write_bytes(old)  # a power cut took what the tables had not synced
    aside = unmount(partition)
    with pytest.raises(ConfigInvalid, match="没有挂上") as refused:
        place.prepare(used, partition)
    assert "journal new-log" in refused.value.action
    assert list(partition.iterdir()) == []
    partition.rmdir()
    aside.rename(partition)
    assert await sold(used, partition, 91) == PASSAGES + 2
    assert journal.verify(used) == []


def test_an_older_box_whose_log_is_not_mounted_is_not_closed_out(
    used: Path, partition: Path
) -> None:
    (used / OURS).unlink()
    (partition / THEIRS).unlink()
    unmount(partition)
    with pytest.raises(ConfigInvalid, match="没有挂上"):
        place.prepare(used, partition)


async def test_an_older_box_gets_its_number_once(used: Path, partition: Path) -> None:
    (used / OURS).unlink()
    (partition / THEIRS).unlink()
    assert await sold(used, partition, 90) == PASSAGES + 1
    assert text(used / OURS) == text(partition / THEIRS)


def test_another_boxs_log_is_refused(used: Path, partition: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    place.prepare(other, tmp_path / "its")
    asyncio.run(fill(other, 2))
    partition.rename(tmp_path / "aside")
    (tmp_path / "its").rename(partition)
    with pytest.raises(ConfigInvalid, match="另外一份"):
        place.prepare(used, partition)
    (partition / THEIRS).unlink()
    with pytest.raises(ConfigInvalid, match="没有本机"):
        place.prepare(used, partition)


Spoil = Callable[[Path], object]
WAYS: dict[str, Spoil] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": lambda path: path.write_bytes(b"?" + path.read_bytes()[1:]),
    "zeroed": lambda path: path.write_bytes(bytes(len(path.read_bytes()))),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 8),
    "the word for a new one": lambda path: path.write_text(identity.NEW),
}


@pytest.mark.parametrize("where", [OURS, THEIRS])
@pytest.mark.parametrize("way", WAYS)
async def test_one_damaged_number_is_made_again_from_the_other(
    used: Path, partition: Path, where: str, way: str
) -> None:
    path = {OURS: used, THEIRS: partition}[where] / where
    before = text(path)
    WAYS[way](path)
    assert await sold(used, partition, 90) == PASSAGES + 1
    assert text(used / OURS) == text(partition / THEIRS) == before


@pytest.mark.parametrize("where", [OURS, THEIRS])
async def test_a_number_is_made_again_though_the_tables_are_damaged(
    used: Path, partition: Path, where: str
) -> None:
    ({OURS: used, THEIRS: partition}[where] / where).unlink()
    (used / "lane.db").write_bytes(b"nothing" * 1000)
    assert await sold(used, partition, 90) == PASSAGES + 1
    assert text(used / OURS) == text(partition / THEIRS)


async def test_a_new_data_disk_takes_its_tables_from_the_log(
    used: Path, partition: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert await sold(fresh, partition, 90) == PASSAGES + 1
    assert text(fresh / OURS) == text(partition / THEIRS)


CUTS: dict[str, Callable[[Path, Path], object]] = {
    "before the folder": lambda data, log: None,
    "before the link": lambda data, log: log.mkdir(),
    "before a number": lambda data, log: (log.mkdir(), (data / "spool").symlink_to(log)),
    "in the first number": lambda data, log: (
        CUTS["before a number"](data, log),
        (log / f"{THEIRS}.new").write_bytes(b"\0"),
    ),
    "between the two": lambda data, log: (
        place.prepare(data, log),
        (data / OURS).unlink(),
    ),
}


@pytest.mark.parametrize("cut", CUTS)
async def test_a_first_start_that_was_cut_is_taken_up(
    data: Path, partition: Path, cut: str
) -> None:
    CUTS[cut](data, partition)
    assert await sold(data, partition, 1) == 1
    assert text(data / OURS) == text(partition / THEIRS)


def test_a_link_is_not_made_to_a_folder_that_a_power_cut_may_take(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[Path]()
    monkeypatch.setattr(place, "sync_folder", synced.append)
    place.prepare(data, tmp_path / "mount" / "log")
    assert synced == [tmp_path / "mount", tmp_path, data]


async def test_a_new_partition_is_taken_after_somebody_said_so(used: Path, partition: Path) -> None:
    unmount(partition)
    assert main(["journal", "new-log", str(used)]) == 0
    assert await sold(used, partition, 90) == PASSAGES + 1
    assert text(used / OURS) == text(partition / THEIRS) != identity.NEW
    assert journal.verify(used) == []
    aside = partition.with_name("unmounted")
    shutil.rmtree(partition)
    aside.rename(partition)
    with pytest.raises(ConfigInvalid, match="另外一份"):  # the old one, mounted after all
        place.prepare(used, partition)


def test_a_log_that_contradicts_the_tables_is_not_taken_by_anybodys_word(
    used: Path, partition: Path
) -> None:
    unmount(partition)
    identity.expect_new(used)
    (used / "spool").unlink()
    twin = used.with_name("twin")
    twin.mkdir()
    (twin / "spool").symlink_to(partition)
    asyncio.run(fill(twin, 2, filling=7))
    with pytest.raises(ConfigInvalid):
        place.prepare(used, partition)


def test_nobody_says_so_while_the_gateway_runs_or_of_no_box(used: Path, tmp_path: Path) -> None:
    (used / "lock").touch()
    held = hold(used)
    with pytest.raises(FolderHeld):
        identity.expect_new(used)
    assert text(used / OURS) != identity.NEW
    with pytest.raises(ConfigInvalid):
        identity.expect_new(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    os.close(held)


def test_a_log_beside_its_tables_needs_no_number(data: Path) -> None:
    place.prepare(data, None)
    asyncio.run(fill(data, 1))
    place.prepare(data, None)
    assert not (data / OURS).exists()
    assert not (data / "spool" / THEIRS).exists()


def test_a_disk_that_takes_no_number_closes_no_lane(
    used: Path, partition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (used / OURS).unlink()
    monkeypatch.setattr(identity, "replace", full)
    place.prepare(used, partition)

"""The log on a real disk: appended, rolled over, torn, refused; what was answered for stays."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.spool import log as log_module
from gateway.spool import segment
from gateway.spool.frame import GENESIS, Row
from gateway.spool.log import Gone, Spool, Stale
from gateway.spool.segment import HEAD_SIZE, Writing
from tests.spool.rows import filled, hashes, row

SMALL = 16 * 1024


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", SMALL)
    monkeypatch.setattr(log_module, "RESERVE_BYTES", SMALL)
    return tmp_path / "spool"


def told(spool: Spool, after: int = 0) -> list[tuple[Row, bytes]]:
    return list(spool.rows(after))


def opened(folder: Path, **given: int) -> Spool:
    spool = Spool.open(folder, **given)
    spool.close()
    return spool


def used(folder: Path) -> list[Path]:
    paths = (segment.path_of(folder, number) for number in segment.numbers(folder))
    return [path for path in paths if segment.read_head(path.read_bytes())]


class Pwrite:
    """os.pwrite that fails as often as it is told, for files whose name is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real, self.left, self.kept, self.name = os.pwrite, 0, 0, ""
        self.number = errno.EIO
        monkeypatch.setattr("os.pwrite", self)

    def fail(self, times: int, *, kept: int = 0, name: str = "", number: int = errno.EIO) -> None:
        """`kept`: bytes of each write that reach the disk all the same."""
        self.left, self.kept, self.name, self.number = times, kept, name, number

    def __call__(self, fd: int, data: memoryview, at: int) -> int:
        if self.left and _name_of(fd).endswith(self.name):
            self.left -= 1
            if self.kept:
                plain = os.open(_name_of(fd), os.O_WRONLY)
                self.real(plain, bytes(data)[: self.kept], at)
                os.close(plain)
            raise OSError(self.number, os.strerror(self.number))
        return self.real(fd, data, at)


def _name_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


@pytest.fixture
def pwrite(monkeypatch: pytest.MonkeyPatch) -> Pwrite:
    return Pwrite(monkeypatch)


# ---- as it should be ----


def test_what_append_returned_from_is_found_by_the_next_one(folder: Path) -> None:
    wanted = filled(folder, 5)
    spool = opened(folder)
    assert (spool.seq, spool.hash) == (5, wanted[-1])
    assert told(spool) == [(row(seq), wanted[seq - 1]) for seq in range(1, 6)]
    assert told(spool, after=4) == [(row(5), wanted[4])]
    assert wanted == hashes(5)


def test_rows_of_one_write_are_one_group(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool.open(folder)
    spool.append([row(1)])
    writes = []
    real = os.pwrite
    monkeypatch.setattr(
        "os.pwrite", lambda fd, data, at: writes.append(len(data)) or real(fd, data, at)
    )
    spool.append([row(2), row(3), row(4)])
    assert writes == [3 * log_module.BLOCK]
    assert [one.seq for one, _ in told(spool)] == [1, 2, 3, 4]
    spool.close()


def test_full_files_are_followed_by_the_next_and_the_reserve_is_made_whole(folder: Path) -> None:
    filled(folder, 60)
    assert len(used(folder)) == 3
    spool = opened(folder)
    assert [one.seq for one, _ in told(spool)] == list(range(1, 61))
    assert spool.spare_bytes >= SMALL
    assert len(segment.numbers(folder)) == 4


def test_a_row_larger_than_a_file_gets_a_file_of_its_size(folder: Path) -> None:
    large = "".join(map(chr, range(0x4E00, 0x4E00 + 12_000)))
    spool = Spool.open(folder)
    spool.append([row(1)])
    spool.append([row(2)._replace(body=large)])
    spool.close()
    assert [one.seq for one, _ in told(opened(folder))] == [1, 2]


def test_another_block_size_begins_the_next_file(folder: Path) -> None:
    filled(folder, 3)
    spool = Spool.open(folder, 4096)
    spool.append([row(4)])
    spool.append([row(5)])
    spool.close()
    sizes = [segment.read_head(path.read_bytes()).block for path in used(folder)]  # type: ignore[union-attr]
    assert sizes == [512, 4096]
    assert [one.seq for one, _ in told(opened(folder))] == [1, 2, 3, 4, 5]


# ---- power cuts ----


@pytest.mark.parametrize("rows", [1, 4, 24])
def test_a_torn_tail_of_any_length_leaves_what_was_answered_for(folder: Path, rows: int) -> None:
    """24 rows fill the first file to its end: the torn write is that of a new file's head."""
    wanted = filled(folder, rows)
    number = len(used(folder))
    spool = Spool.open(folder)
    before = {n: segment.path_of(folder, n).read_bytes() for n in segment.numbers(folder)}
    spool.append([row(rows + 1, 900)])
    spool.close()
    changed = next(n for n in before if segment.path_of(folder, n).read_bytes() != before[n])
    path, after = segment.path_of(folder, changed), segment.path_of(folder, changed).read_bytes()
    start = next(n for n in range(len(after)) if after[n] != before[changed][n]) // 512 * 512
    for length in [*range(1, 40), *range(40, len(after.rstrip(b"\0")) - start, 13)]:
        path.write_bytes(after[: start + length] + before[changed][start + length :])
        if path.read_bytes() == after:
            continue
        found = opened(folder)
        assert (found.seq, found.hash, found.damaged) == (rows, wanted[-1], []), length
        blank, headed = before[changed], after[:HEAD_SIZE] + before[changed][HEAD_SIZE:]
        assert path.read_bytes() in (blank, headed), "the torn bytes are blank again"
    assert number <= changed


def test_after_a_torn_head_the_same_file_is_put_to_use(folder: Path) -> None:
    filled(folder, 24)
    spare = segment.path_of(folder, segment.numbers(folder)[-1])
    spare.write_bytes(b"LGSEG1\0\0 torn".ljust(SMALL, b"\0"))
    spool = Spool.open(folder)
    spool.append([row(25)])
    spool.close()
    assert spare in used(folder)
    assert opened(folder).seq == 25


# ---- a disk that says no ----


def test_a_write_that_failed_and_left_nothing_is_made_again(folder: Path, pwrite: Pwrite) -> None:
    filled(folder, 3)
    spool = Spool.open(folder)
    pwrite.fail(1)
    with pytest.raises(OSError, match="error"):
        spool.append([row(4)])
    with pytest.raises(Stale):
        spool.append([row(4)])
    spool.look_again()
    assert spool.seq == 3
    spool.append([row(4)])
    spool.close()
    assert opened(folder).seq == 4


def test_a_write_that_failed_and_is_there_counts(folder: Path, pwrite: Pwrite) -> None:
    wanted = filled(folder, 3)
    spool = Spool.open(folder)
    pwrite.fail(1, kept=4096)
    with pytest.raises(OSError, match="error"):
        spool.append([row(4)])
    spool.look_again()
    assert (spool.seq, spool.hash) == (4, hashes(4)[-1])
    assert wanted == hashes(3)
    spool.append([row(5)])
    spool.close()
    assert [one.seq for one, _ in told(opened(folder))] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kept", [0, 300, 4096], ids=["nothing", "torn", "all"])
@pytest.mark.parametrize("begun", [3, 0], ids=["in use", "first"])
def test_a_file_that_takes_no_more_is_left_behind(
    folder: Path, pwrite: Pwrite, kept: int, begun: int
) -> None:
    filled(folder, begun)
    spool = Spool.open(folder)
    pwrite.fail(999, kept=kept, name="000001.seg")
    with pytest.raises(OSError, match="error"):
        spool.append([row(begun + 1)])
    spool.look_again()
    spool.append([row(begun + 1)])
    spool.append([row(begun + 2)])
    spool.close()
    pwrite.fail(0)
    found = opened(folder)
    assert [one.seq for one, _ in told(found)] == list(range(1, begun + 3))
    assert found.hash == hashes(begun + 2)[-1]
    assert found.damaged == []


def test_a_spare_that_takes_no_write_is_passed_over(folder: Path, pwrite: Pwrite) -> None:
    filled(folder, 24)
    spool = Spool.open(folder)
    pwrite.fail(999, name="000002.seg")
    with pytest.raises(OSError, match="error"):
        spool.append([row(25)])
    spool.look_again()
    spool.append([row(25)])
    spool.close()
    pwrite.fail(0)
    found = opened(folder)
    assert (found.seq, found.damaged) == (25, [])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_everything_for_long_is_written_again_when_it_can(
    folder: Path, pwrite: Pwrite, number: int
) -> None:
    filled(folder, 3)
    spool = Spool.open(folder)
    pwrite.fail(10_000, number=number)
    with pytest.raises(OSError, match=os.strerror(number)):
        spool.append([row(4)])
    for _ in range(5):
        spool.look_again()
        with pytest.raises(OSError, match=os.strerror(number)):
            spool.append([row(4)])
    pwrite.fail(0)
    spool.look_again()
    spool.append([row(4)])
    spool.close()
    assert [one.seq for one, _ in told(opened(folder))] == [1, 2, 3, 4]


def test_no_block_that_was_answered_for_is_written_to_again(
    folder: Path, pwrite: Pwrite, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(folder, 3)
    spool = Spool.open(folder)
    pwrite.fail(1, kept=100)
    with pytest.raises(OSError, match="error"):
        spool.append([row(4)])
    touched = []
    monkeypatch.setattr(
        "os.pwrite", lambda fd, data, at: touched.append(at) or pwrite.real(fd, data, at)
    )
    spool.look_again()
    spool.append([row(4)])
    spool.close()
    assert touched
    assert min(touched) >= HEAD_SIZE + 3 * 512


def test_rows_that_vanish_under_us_are_not_written_over(folder: Path, pwrite: Pwrite) -> None:
    filled(folder, 3)
    spool = Spool.open(folder)
    pwrite.fail(1)
    with pytest.raises(OSError, match="error"):
        spool.append([row(4)])
    path = segment.path_of(folder, 1)
    raw = path.read_bytes()
    path.write_bytes(raw[: HEAD_SIZE + 512].ljust(len(raw), b"\0"))
    for _ in range(2):
        with pytest.raises(Gone):
            spool.look_again()
        assert spool.seq == 3
    spool.close()


def test_full_is_said_and_over_when_there_is_room(folder: Path) -> None:
    spool = Spool.open(folder)
    spool.is_full = True
    with pytest.raises(OSError, match="no block left"):
        spool.append([row(1)])
    spool.is_full = False
    spool.append([row(1)])
    spool.close()


def test_without_room_for_a_spare_the_last_file_is_still_filled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool.open(folder)
    if spool._filling:
        spool._filling.join()

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segment, "create", no_room)
    files = len(segment.numbers(folder))
    for seq in range(1, files * 24 + 1):
        spool.append([row(seq)])
    with pytest.raises(OSError, match="No space"):
        spool.append([row(spool.seq + 1)])
    spool.close()
    assert opened(folder).seq == files * 24


# ---- damage ----


def damage(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


Spoil = Callable[[Path], None]
WAYS: dict[str, Spoil] = {
    "a row": lambda path: damage(path, HEAD_SIZE + 600),
    "the head": lambda path: damage(path, 20),
    "deleted": lambda path: path.unlink(),
    "cut short": lambda path: os.truncate(path, HEAD_SIZE + 700),
    "cut in the head": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(SMALL)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_damage_in_any_file_is_found_at_the_start(folder: Path, way: str, number: int) -> None:
    wanted = filled(folder, 60)
    WAYS[way](segment.path_of(folder, number))
    found = opened(folder, known=60)
    assert found.damaged or found.seq < 60
    assert found.hash == wanted[found.seq - 1] if found.seq else found.hash == GENESIS


def test_two_files_swapped_are_no_damage(folder: Path) -> None:
    filled(folder, 60)
    one, two, other = (segment.path_of(folder, 1), segment.path_of(folder, 3), folder / "other")
    one.rename(other), two.rename(one), other.rename(two)
    found = opened(folder)
    assert (found.seq, found.damaged) == (60, [])
    assert [one.seq for one, _ in told(found)] == list(range(1, 61))


def test_a_file_replaced_by_a_copy_of_another_is_found(folder: Path) -> None:
    filled(folder, 60)
    segment.path_of(folder, 2).write_bytes(segment.path_of(folder, 1).read_bytes())
    assert opened(folder).damaged


def test_old_files_of_a_long_log_are_walked_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "CHECKED_AT_START", SMALL)
    filled(folder, 100)
    damage(segment.path_of(folder, 1), HEAD_SIZE + 600)
    assert opened(folder).damaged == []
    assert opened(folder, is_checked=True).damaged


def test_the_rows_themselves_say_what_was_on_disk_before_them(tmp_path: Path) -> None:
    """No tables to ask: what is missing before a good row was there, and is not torn but lost."""
    filled(tmp_path / "spool", 5)
    path = segment.path_of(tmp_path / "spool", 1)
    raw = bytearray(path.read_bytes())
    walk = segment.frames(memoryview(bytes(raw)), _head_of(raw))
    found = {frame.seq: at for at, frame in walk}
    raw[found[3] + 70] ^= 1
    path.write_bytes(bytes(raw))
    spool = Spool.open(tmp_path / "spool")
    assert [bad.number for bad in spool.damaged] == [1]
    spool.close()


def _head_of(raw: bytearray) -> segment.Head:
    head = segment.read_head(raw)
    assert head is not None
    return head


def test_room_is_told_while_another_thread_lets_the_file_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is watched from its own thread: what it reads twice may be gone between."""
    filled(tmp_path / "spool", 3)

    class Dropping(Spool):
        reads = 0

        @property
        def _writing(self) -> Writing | None:
            self.reads += 1
            return self._kept if self.reads % 2 else None

        @_writing.setter
        def _writing(self, writing: Writing | None) -> None:
            self._kept = writing

    spool = Dropping.open(tmp_path / "spool")
    spool._kept = Writing(segment.path_of(tmp_path / "spool", 1))
    spool.reads = 0
    assert spool.spare_bytes > 0
    spool._kept.close()
    spool._kept = None
    spool.close()

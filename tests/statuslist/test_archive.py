"""A folder of lists: the newest whole one serves, through deltas, restarts, damage and rubbish."""

import errno
import os
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import ParameterInvalid
from gateway.params import ListDamaged
from gateway.statuslist import archive as archives
from gateway.statuslist.archive import DELTAS_MAX, Archive
from gateway.statuslist.form import BLOCK_BYTES
from gateway.statuslist.writer import Row, write_list
from tests.statuslist.test_files import AT_S, KEY, REASONS, some_rows

START = datetime(2025, 11, 21, tzinfo=UTC)
NOW_MS = round((START + timedelta(days=1)).timestamp() * 1000)
CARD = "62012045220000009001"


def stamp(minutes: int) -> str:
    return f"{START + timedelta(minutes=minutes):%Y%m%d%H%M}"


class Centre:
    """Makes lists as a centre would, and knows what is true."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.truth = folder, dict[str, tuple[int, ...]]()

    def full(self, minutes: int, rows: list[Row] | None = None) -> Path:
        if rows is not None:
            self.truth = {number: types for number, types, _ in rows}
        now = [(number, types, AT_S) for number, types in self.truth.items() if types]
        return self._write(minutes, now, "")

    def delta(self, minutes: int, changes: dict[str, tuple[int, ...]], base: int) -> Path:
        self.truth |= changes
        return self._write(minutes, [(n, t, AT_S) for n, t in changes.items()], stamp(base))

    def _write(self, minutes: int, rows: list[Row], base: str) -> Path:
        path = self.folder / f"{base}-{stamp(minutes)}.list"
        at = START + timedelta(minutes=minutes)
        write_list(path, rows, stamp(minutes), at, REASONS, KEY.sign, base=base)
        return path


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre(tmp_path / "centre")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "statuslist"


def opened(folder: Path, now_ms: int = NOW_MS) -> Archive:
    archive = Archive(folder, KEY.public_key)
    archive.load(now_ms)
    return archive


def take(archive: Archive, path: Path, now_ms: int = NOW_MS) -> None:
    part = archive.room("fetched")
    part.write_bytes(path.read_bytes())
    archive.take(part, now_ms)
    while archive.join(now_ms):
        pass


def agrees(archive: Archive, centre: Centre, *others: str) -> bool:
    serving = archive.serving
    assert serving is not None
    for number, types in [*centre.truth.items(), *((one, ()) for one in others)]:
        hit = serving.find(number)
        if (hit is not None) != bool(types) or (hit and hit.type != min(types)):
            return False
    return True


def test_a_full_list_and_its_deltas_answer_as_one(centre: Centre, folder: Path) -> None:
    archive = opened(folder)
    assert archive.serving is None
    take(archive, centre.full(0, some_rows(3000)))
    chance, base = random.Random(3), 0
    for minutes in range(5, 65, 5):
        known = chance.sample(sorted(centre.truth), 40)
        fresh = [f"{chance.randrange(10**20):020d}" for _ in range(40)]
        changes = {n: chance.choice([(), (1,), (4,)]) for n in known + fresh}
        take(archive, centre.delta(minutes, changes, base))
        base = minutes
        assert archive.serving is not None
        assert archive.serving.head.version == stamp(minutes)
        assert len(archive.serving.deltas) <= DELTAS_MAX
    assert agrees(archive, centre, "3" * 20, "A" * 16)
    assert len(list(folder.iterdir())) == len(archive.serving.parts)

    again = opened(folder)  # a restart
    assert again.serving is not None
    assert again.serving.head.version == stamp(60)
    assert agrees(again, centre)


def test_a_new_full_list_takes_over_and_the_old_files_go(centre: Centre, folder: Path) -> None:
    archive = opened(folder)
    take(archive, centre.full(0, some_rows(300)))
    take(archive, centre.delta(5, {CARD: (1,)}, 0))
    before = archive.serving
    assert before is not None
    take(archive, centre.full(10))
    assert [path.name for path in folder.iterdir()] == [f"full-{stamp(10)}.list"]
    assert agrees(archive, centre)
    assert before.find(CARD) is not None  # who still looks in the old one gets his answer


def test_the_same_version_in_one_file_replaces_the_deltas(centre: Centre, folder: Path) -> None:
    archive = opened(folder)
    take(archive, centre.full(0, some_rows(300)))
    take(archive, centre.delta(5, {CARD: (1,)}, 0))
    take(archive, centre.full(5))
    assert archive.serving is not None
    assert archive.serving.deltas == ()
    assert agrees(archive, centre)


def test_a_list_for_later_waits_for_its_time(centre: Centre, folder: Path) -> None:
    archive = opened(folder)
    take(archive, centre.full(0, some_rows(300)))
    later = NOW_MS + 3_600_000
    minutes = 25 * 60
    take(archive, centre.full(minutes, [(CARD, (1,), AT_S)]))
    assert archive.serving is not None
    assert archive.serving.head.version == stamp(0)
    assert archive.newest is not None
    assert archive.newest.version == stamp(minutes)
    again = opened(folder)
    assert again.choose(NOW_MS) is False
    assert again.choose(later) is True
    assert again.serving is not None
    assert again.serving.head.version == stamp(minutes)
    assert len(list(folder.iterdir())) == 1


def spoilt(path: Path, at: int) -> Path:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)
    return path


def test_what_is_wrong_changes_nothing_and_says_why(centre: Centre, folder: Path) -> None:
    archive = opened(folder)
    take(archive, centre.full(0, some_rows(300)))
    take(archive, centre.delta(5, {CARD: (1,)}, 0))
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    forged = folder.parent / "forged.list"
    at = START + timedelta(minutes=10)
    write_list(forged, [(CARD, (4,), 1)], stamp(10), at, REASONS, stranger.sign, base=stamp(5))
    unsigned = folder.parent / "unsigned.list"
    write_list(unsigned, [(CARD, (4,), 1)], stamp(10), at, REASONS, base=stamp(5))
    truncated = centre.full(20, some_rows(900))
    truncated.write_bytes(truncated.read_bytes()[:-1])
    centre.truth = {}
    wrong = {
        forged: "签名不对",
        unsigned: "签名不对",
        truncated: "长度不符",
        spoilt(centre.delta(15, {"1" * 20: (1,)}, 5), BLOCK_BYTES + 100): "损坏",
        spoilt(centre.full(25, some_rows(300)), 50): "文件头损坏",
        centre.delta(30, {CARD: ()}, 10): "不在本机",
        centre.full(0, some_rows(30)): "不比本机的",
        centre.delta(4, {CARD: ()}, 0): "不比本机的",
    }
    names = sorted(path.name for path in folder.iterdir())
    for path, why in wrong.items():
        with pytest.raises(ParameterInvalid, match=why):
            take(archive, path)
        assert sorted(one.name for one in folder.iterdir()) == names
        assert archive.serving is not None
        assert archive.serving.head.version == stamp(5)
        hit = archive.serving.find(CARD)
        assert hit is not None
        assert hit.type == 1


def test_a_damaged_block_answers_nothing_the_rest_does_and_a_fresh_copy_heals(
    centre: Centre, folder: Path
) -> None:
    archive = opened(folder)
    whole = centre.full(0, some_rows(3000))
    take(archive, whole)
    assert archive.is_damaged is False
    (path,) = folder.iterdir()
    spoilt(path, BLOCK_BYTES * 2 + 200)
    answers = {"true": 0, "none": 0}
    assert archive.serving is not None
    for number in centre.truth:
        try:
            assert archive.serving.find(number) is not None
            answers["true"] += 1
        except ListDamaged:
            answers["none"] += 1
    assert 0 < answers["none"] <= 255 < answers["true"]
    assert archive.is_damaged is True
    take(archive, whole)
    assert archive.is_damaged is False
    assert agrees(archive, centre)


def test_scrubbing_finds_damage_that_nobody_asked_for(centre: Centre, folder: Path) -> None:
    archive = opened(folder)
    take(archive, centre.full(0, some_rows(3000)))
    assert sum(archive.scrub()) > 0
    assert archive.is_damaged is False
    (path,) = folder.iterdir()
    spoilt(path, BLOCK_BYTES * 9 + 300)
    assert sum(archive.scrub()) > 0
    assert archive.is_damaged is True


def test_rubbish_in_the_folder_does_not_keep_the_list_from_serving(
    centre: Centre, folder: Path
) -> None:
    take(opened(folder), centre.full(0, some_rows(300)))
    (folder / "full-9.list").write_bytes(b"")
    (folder / "delta-1-2.list").write_bytes(random.Random(1).randbytes(9000))
    (folder / "x.new").write_bytes(b"half")
    archive = opened(folder)
    assert archive.serving is not None
    assert archive.serving.head.version == stamp(0)
    assert len(list(folder.iterdir())) == 1


def test_large_files_are_checked_and_joined_by_a_child_of_their_own(
    centre: Centre, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = opened(folder)
    take(archive, centre.full(0, some_rows(300)))
    for minutes in (5, 10, 15):
        take(archive, centre.delta(minutes, {CARD: (1,), "5" * 20: ()}, minutes - 5))
    monkeypatch.setattr(archives, "AT_ONCE_BYTES", 0)
    with pytest.raises(ListDamaged, match="第 0 块损坏"):
        take(archive, spoilt(centre.full(16), BLOCK_BYTES + 100))
    take(archive, centre.delta(20, {CARD: (4,)}, 15))
    assert agrees(archive, centre)
    assert archive.serving is not None
    assert len(archive.serving.deltas) == DELTAS_MAX


def test_look_ups_go_on_while_lists_change_under_them(centre: Centre, folder: Path) -> None:
    """No look-up ever sees half a switch: the listed card is listed in every version."""
    archive = opened(folder)
    rows = [*some_rows(3000), (CARD, (1,), AT_S)]
    take(archive, centre.full(0, rows))
    is_over, faults, asked = threading.Event(), list[str](), [0]

    def look() -> None:
        while not is_over.is_set():
            serving = archive.serving
            asked[0] += 1
            if serving is None or serving.find(CARD) is None or serving.find("7" * 20):
                faults.append("a wrong answer")

    looking = threading.Thread(target=look)
    looking.start()
    for minutes in range(5, 55, 5):
        take(archive, centre.delta(minutes, {CARD: (4,), "8" * 20: (1,)}, minutes - 5))
        if minutes % 20 == 0:
            take(archive, centre.full(minutes))
    is_over.set()
    looking.join()
    assert faults == []
    assert asked[0] > 10


def test_a_disk_that_lets_no_file_go_keeps_no_list_from_serving(
    centre: Centre, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(folder, lambda: None)
    archive.load(NOW_MS)
    archive.take(centre.full(0, some_rows(5)).rename(archive.room("one")), NOW_MS)

    newer = centre.full(1, some_rows(6)).rename(archive.room("two"))

    def refused(path: Path, **_: bool) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    head = archive.take(newer, NOW_MS)
    assert archive.serving is not None
    assert archive.serving.head == head

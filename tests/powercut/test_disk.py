"""The model of the disk: what a sync makes sure of, and what a cut may leave."""

from pathlib import Path
from random import Random

from tests.powercut.disk import (
    KINDS,
    Disk,
    Event,
    Image,
    Written,
    digest,
    lay_out,
    look_at,
    neighbour,
)


def call(kind: str, path: str, data: bytes = b"", offset: int = 0) -> Event:
    return Event(kind, path, data, offset)


def disk_after(*events: Event, start: Image | None = None) -> Disk:
    disk = Disk(start)
    for event in events:
        disk.do(event)
    return disk


MADE = (call("C", "/a"), call("W", "/a", b"one"))


def test_a_file_without_any_sync_may_be_gone_or_there() -> None:
    disk = disk_after(*MADE)

    assert disk.image([]) == {}
    assert disk.image(disk.pending) == {"/a": b"one"}


def test_a_synced_file_whose_folder_was_not_synced_may_have_no_name() -> None:
    assert disk_after(*MADE, call("S", "/a")).image([]) == {}


def test_a_synced_name_without_its_bytes_is_an_empty_file() -> None:
    assert disk_after(*MADE, call("S", "")).image([]) == {"/a": b""}


def test_file_and_folder_synced_nothing_is_pending() -> None:
    disk = disk_after(*MADE, call("S", "/a"), call("S", ""))

    assert disk.pending == []
    assert disk.image([]) == {"/a": b"one"}


def test_writes_arrive_in_any_order_but_a_later_one_wins_if_both_do() -> None:
    disk = disk_after(call("W", "/a", b"1"), call("W", "/a", b"2", 1), start={"/a": b""})

    assert disk.image(disk.pending[1:]) == {"/a": b"\0002"}
    assert disk.image(disk.pending) == {"/a": b"12"}


def test_a_cut_to_length_may_be_lost_too() -> None:
    disk = disk_after(call("T", "/a", offset=1), start={"/a": b"long"})

    assert disk.image([]) == {"/a": b"long"}
    assert disk.image(disk.pending) == {"/a": b"l"}


def test_a_move_happens_whole_or_not_at_all() -> None:
    disk = disk_after(call("R", "/a", b"/b"), start={"/a": b"x"})

    assert disk.image([]) == {"/a": b"x"}
    assert disk.image(disk.pending) == {"/b": b"x"}


def test_a_move_that_is_durable_does_not_bring_the_old_name_back() -> None:
    start: Image = {"/in": None, "/out": None}
    made = (call("C", "/in/a"), call("W", "/in/a", b"x"), call("S", "/in/a"))
    disk = disk_after(*made, call("R", "/in/a", b"/out/a"), call("S", "/out"), start=start)

    assert disk.image([]) == disk.image(disk.pending) == {**start, "/out/a": b"x"}


def test_a_file_in_a_folder_that_never_arrived_is_not_there() -> None:
    disk = disk_after(call("D", "/d"), call("C", "/d/a"), call("S", "/d"))

    assert disk.image([]) == {}
    assert disk.image(disk.pending) == {"/d": None, "/d/a": b""}


def test_a_taken_name_may_come_back_with_its_old_bytes() -> None:
    disk = disk_after(call("U", "/a"), call("C", "/a"), start={"/a": b"old"})

    assert disk.image([]) == {"/a": b"old"}
    assert disk.image(disk.pending[:1]) == {}
    assert disk.image(disk.pending) == {"/a": b""}


def test_a_torn_write_keeps_or_loses_whole_sectors_of_the_disk() -> None:
    disk = disk_after(call("W", "/a", b"n" * 4096, 24), start={"/a": b"o" * 8192})
    seen = set()
    for number in range(200):
        body = disk.image(KINDS["torn512"](disk.pending, Random(number)))["/a"]
        assert body is not None
        borders = [at for at in range(1, 8192) if body[at] != body[at - 1]]
        assert all(at % 512 == 0 or at in (24, 4120) for at in borders)
        seen.add(bytes(body))
    assert len(seen) > 50


def test_garbage_stays_within_one_sector_of_what_was_being_written() -> None:
    disk = disk_after(call("W", "/a", b"n" * 2048, 100), start={"/a": b"o" * 4096})
    for number in range(50):
        body = disk.image(KINDS["garbage"](disk.pending, Random(number)))["/a"]
        assert body is not None
        odd = [at for at in range(4096) if body[at] not in b"no"]
        assert odd
        assert min(odd) >= 100
        assert max(odd) < 2148
        assert min(odd) // 512 == max(odd) // 512


def test_a_write_that_waits_for_the_disk_makes_itself_durable_and_nothing_else() -> None:
    start: Image = {"/a": b"........"}
    disk = disk_after(call("W", "/a", b"1"), call("W", "/a", b"2", 4), start=start)

    disk.do(call("Y", "/a", offset=4))

    assert disk.image([]) == {"/a": b"....2..."}
    assert disk.image(disk.pending) == {"/a": b"1...2..."}


def test_what_waited_for_the_same_bytes_goes_with_it_and_never_comes_after() -> None:
    disk = disk_after(call("W", "/a", b"11"), call("W", "/a", b"2"), start={"/a": b".."})

    disk.do(call("Y", "/a"))

    assert disk.pending == []
    assert disk.image([]) == {"/a": b"21"}


def test_between_such_a_write_and_its_return_it_may_be_torn() -> None:
    disk = disk_after(call("W", "/a", b"n" * 1024), start={"/a": b"o" * 1024})
    seen = {
        bytes(disk.image(KINDS["torn512"](disk.pending, Random(n)))["/a"] or b"") for n in range(99)
    }

    assert seen == {a * 512 + b * 512 for a in (b"n", b"o") for b in (b"n", b"o")}


def test_a_spoilt_page_takes_synced_bytes_with_it_and_no_others() -> None:
    disk = disk_after(call("W", "/a", b"n" * 512, 4096 + 512), start={"/a": b"o" * 12288})
    for number in range(50):
        body = disk.image(neighbour(disk.pending, Random(number)))["/a"]
        assert body is not None
        assert body[4096:8192].count(b"o") < 64
        assert body[:4096] == body[8192:] == b"o" * 4096


def test_a_digest_follows_what_is_written() -> None:
    disk = disk_after(start={"/a": b"old"})
    before = digest(disk.image([]))
    disk.do(call("W", "/a", b"new"))

    assert digest(disk.image([])) == before
    assert digest(disk.image(disk.pending)) == digest({"/a": b"new"})
    disk.do(call("S", "/a"))
    assert digest(disk.image([])) == digest({"/a": b"new"})


def test_equal_names_are_equal_images() -> None:
    calls = (*MADE, call("W", "/a", b"two", 3), call("S", "/a"), call("W", "/a", b"3"))
    images: dict[tuple[int, ...], Image] = {}
    disk = Disk()
    for event in calls:
        disk.do(event)
        for count in range(len(disk.pending) + 1):
            arrived = disk.pending[:count]
            name = disk.name(arrived)
            assert name is not None
            image = {path: bytes(body or b"") for path, body in disk.image(arrived).items()}
            assert images.setdefault(name, dict(image)) == image
    assert len(images) == 7
    assert disk.name([Written(disk.pending[-1].node, 0, b"3")]) is None


def test_an_image_survives_being_laid_out_and_looked_at(tmp_path: Path) -> None:
    image: Image = {"/d": None, "/d/a": b"x", "/b": b""}
    lay_out(image, tmp_path / "box")

    assert look_at(tmp_path / "box") == image
    assert digest(image) != digest({**image, "/b": b"\0"})

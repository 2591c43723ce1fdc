"""One file of the log: what a power cut tore is told from what was lost since."""

from pathlib import Path

import pytest

from gateway.spool import segment
from gateway.spool.frame import GENESIS, chained, pack, text_of
from gateway.spool.segment import HEAD_SIZE, Head, Writing
from tests.spool.rows import row

BLOCK = 512
ROWS = 6


def content(rows: int = ROWS, size: int = 20, blank: int = 16 * BLOCK) -> bytearray:
    """A file with that many rows; each knows that the one before was on disk."""
    data, last = bytearray(segment.pack_head(Head(BLOCK, 1, GENESIS))), GENESIS
    for seq in range(1, rows + 1):
        text = text_of(row(seq, size))
        last = chained(last, text)
        data += pack(seq, seq - 1, last, text, BLOCK)
    return data + bytes(blank)


def scanned(raw: bytes | bytearray, below: int | None = None, known: int = 0) -> segment.Scan:
    head = segment.read_head(raw)
    assert head
    return segment.scan(memoryview(raw), head, below, known)


def end_of(rows: int) -> int:
    return HEAD_SIZE + rows * BLOCK


def test_a_whole_file_ends_with_its_last_row() -> None:
    found = scanned(content())
    assert (found.seq, found.end, found.verdict) == (ROWS, end_of(ROWS), "whole")


def test_an_unfinished_last_row_was_torn_at_any_length() -> None:
    raw = content(size=900)
    frame = next(f for _, f in segment.frames(memoryview(raw), Head(BLOCK, 1, GENESIS)))
    start = HEAD_SIZE + (ROWS - 1) * frame.size
    for kept in range(1, frame.size - 1):
        cut = raw[: start + kept] + bytes(len(raw) - start - kept)
        found = scanned(cut)
        is_blank = segment.is_blank(cut[start:])
        is_whole = cut == raw  # the frame's own filling is zeros
        wanted = "whole" if is_blank or is_whole else "torn"
        assert (found.seq, found.verdict) == (ROWS - (not is_whole), wanted), kept


@pytest.mark.parametrize("seq", range(1, ROWS))
def test_a_row_that_a_later_one_knew_to_be_on_disk_is_damage(seq: int) -> None:
    raw = content()
    raw[end_of(seq - 1) + 100] ^= 1
    found = scanned(raw)
    assert (found.seq, found.verdict) == (seq - 1, "damaged")


def test_the_last_row_is_damage_if_somebody_has_it_and_torn_if_nobody() -> None:
    raw = content()
    raw[end_of(ROWS - 1) + 100] ^= 1
    assert scanned(raw, known=ROWS).verdict == "damaged"
    assert scanned(raw, known=ROWS - 1).verdict == "torn"


def test_rows_cut_off_before_the_next_files_first_are_damage() -> None:
    raw = content()
    assert scanned(raw, below=ROWS + 1).verdict == "whole"
    assert scanned(raw, below=ROWS).seq == ROWS - 1  # what stands behind never counted
    raw[end_of(ROWS - 1) :] = bytes(len(raw) - end_of(ROWS - 1))
    assert scanned(raw, below=ROWS + 1).verdict == "damaged"


def test_what_stood_behind_a_torn_write_does_not_count() -> None:
    """Two rows in one write, the first torn: the second is there, and was never answered for."""
    raw = content(ROWS - 2, blank=0)
    last = scanned(raw).hash
    for seq in (ROWS - 1, ROWS):
        text = text_of(row(seq))
        last = chained(last, text)
        raw += pack(seq, ROWS - 2, last, text, BLOCK)
    raw[end_of(ROWS - 2) + 3] ^= 255
    assert (scanned(raw).seq, scanned(raw).verdict) == (ROWS - 2, "torn")


def test_each_flipped_bit_of_a_head_makes_it_none() -> None:
    raw = bytearray(segment.pack_head(Head(BLOCK, 41, bytes(range(32)))))
    assert segment.read_head(raw) == Head(BLOCK, 41, bytes(range(32)))
    for bit in [*range(60 * 8), *range(60 * 8, HEAD_SIZE * 8, 97)]:
        raw[bit // 8] ^= 1 << bit % 8
        assert segment.read_head(raw) is None, f"bit {bit}"
        raw[bit // 8] ^= 1 << bit % 8


def test_a_disk_that_takes_a_part_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment.create(tmp_path, 1, 64 * 1024)
    monkeypatch.setattr("os.pwrite", lambda fd, data, at: 512)
    with Writing(segment.path_of(tmp_path, 1)) as writing, pytest.raises(OSError, match="1024"):
        writing.put(bytes(1024), 0)


def test_a_file_of_an_odd_length_is_written_without_going_past_the_cache(tmp_path: Path) -> None:
    path = segment.path_of(tmp_path, 1)
    path.write_bytes(bytes(1000))
    with Writing(path) as writing:
        writing.put(b"x" * 700, 300)
    assert path.read_bytes() == bytes(300) + b"x" * 700


def test_a_spare_file_that_cannot_be_made_gives_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.write", lambda fd, data: len(data) - 1)
    with pytest.raises(OSError, match="space"):
        segment.create(tmp_path, 1, 64 * 1024)
    assert list(tmp_path.iterdir()) == []


def test_a_row_whose_checksum_fits_but_that_stands_on_no_other_is_not_taken() -> None:
    raw = content()
    text = text_of(row(4)._replace(operator="9999"))
    forged = pack(4, 3, chained(GENESIS, text), text, BLOCK)
    raw[end_of(3) : end_of(4)] = forged
    found = scanned(raw)
    assert (found.seq, found.verdict) == (3, "damaged")

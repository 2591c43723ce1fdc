"""One row on disk: what is written is read again, and not one bit of it can change unnoticed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.spool import frame
from gateway.spool.frame import GENESIS, Row, chained, pack, text_of, unpack
from tests.spool.rows import row

BLOCK = 512


def packed(one: Row, durable: int = 0, block: int = BLOCK, followed: int = 0) -> bytes:
    text = text_of(one)
    return pack(one.seq, durable, chained(GENESIS, text), text, block, followed)


@pytest.mark.parametrize("size", [0, 1, 100, 383, 384, 385, 2_000, 20_000])
@pytest.mark.parametrize("block", [512, 4096])
def test_a_row_is_read_as_it_was_written(size: int, block: int) -> None:
    one = row(7, size)
    raw = packed(one, durable=6, block=block, followed=3)
    found = unpack(memoryview(raw), 0, block)
    assert found is not None
    assert (found.row, found.seq, found.durable, found.followed) == (one, 7, 6, 3)
    assert found.size == len(raw)
    assert len(raw) % block == 0


@pytest.mark.parametrize("size", [20, 900], ids=["plain", "deflated"])
def test_each_single_flipped_bit_is_noticed_padding_too(size: int) -> None:
    raw = bytearray(packed(row(5, 20)._replace(body='{"a": "' + "车" * size + '"}'), durable=4))
    for bit in range(len(raw) * 8):
        raw[bit // 8] ^= 1 << bit % 8
        assert unpack(memoryview(raw), 0, BLOCK) is None, f"bit {bit}"
        raw[bit // 8] ^= 1 << bit % 8
    assert unpack(memoryview(raw), 0, BLOCK)


def test_a_frame_cut_short_anywhere_is_none() -> None:
    raw = packed(row(5, 900))
    for length in range(len(raw)):
        assert unpack(memoryview(raw)[:length], 0, BLOCK) is None


def test_a_long_row_that_deflates_takes_fewer_blocks() -> None:
    one = row(1)._replace(body='{"a": "' + "甘" * 3_000 + '"}')
    assert len(packed(one)) < len(text_of(one)) // 2


def test_a_row_far_ahead_of_the_tables_says_that_nobody_knows() -> None:
    one = row(100_000)
    found = unpack(memoryview(packed(one, followed=10)), 0, BLOCK)
    assert found is not None
    assert found.followed == 0


def test_a_row_that_nobody_could_read_again_is_not_packed() -> None:
    with pytest.raises(AssertionError):
        pack(1, 0, GENESIS, bytes(frame.DATA_MAX + 1), BLOCK)


words = st.text(max_size=300)
numbers = st.integers(0, 2**62)


@settings(max_examples=200)
@given(
    st.builds(
        Row, seq=numbers, lane=words, passage_id=words, at_ms=numbers, mono_ms=numbers,
        boot_id=words, operator=words, event=words, state=words, body=words, extra=words,
        line=words,
    ),
    st.sampled_from([512, 4096]),
    st.integers(0, 7),
)  # fmt: skip
def test_whatever_a_row_says_comes_back(one: Row, block: int, blocks_before: int) -> None:
    raw = bytes(block * blocks_before) + packed(one, block=block) + b"something else"
    found = unpack(memoryview(raw), block * blocks_before, block)
    assert found is not None
    assert found.row == one
    assert chained(GENESIS, found.text) == found.hash

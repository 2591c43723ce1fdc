"""XK3190-A9 frames: the published ones, both spellings, cut anywhere, between any noise."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.devices.framing import LENGTH, A9Decoder, check_digits, decode_a9
from gateway.devices.sim.scale import encode_a9

LOADED = bytes.fromhex("02 2B 30 31 38 33 35 30 30 31 34 03")
NEGATIVE = bytes.fromhex("02 2D 30 30 30 30 32 30 30 31 46 03")
NEGATIVE_NIBBLES = bytes.fromhex("02 2D 30 30 30 30 32 30 30 31 3F 03")
ZERO = bytes.fromhex("02 2B 30 30 30 30 30 30 30 31 42 03")
ZERO_NIBBLES = bytes.fromhex("02 2B 30 30 30 30 30 30 30 31 3B 03")

weights = st.integers(-9_999, 99_999)
frames = st.builds(encode_a9, weights, st.integers(0, 1), st.booleans())


@pytest.mark.parametrize(
    ("frame", "weight_kg"),
    [(LOADED, 18_350), (NEGATIVE, -20), (NEGATIVE_NIBBLES, -20), (ZERO, 0), (ZERO_NIBBLES, 0)],
)
def test_published_frames_are_understood(frame: bytes, weight_kg: int) -> None:
    assert decode_a9(frame) == weight_kg
    assert A9Decoder().feed(frame) == [weight_kg]


def test_twin_sends_the_published_frames() -> None:
    assert encode_a9(18_350) == encode_a9(18_350, is_nibbles=True) == LOADED
    assert (encode_a9(-20), encode_a9(-20, is_nibbles=True)) == (NEGATIVE, NEGATIVE_NIBBLES)
    assert (encode_a9(0), encode_a9(0, is_nibbles=True)) == (ZERO, ZERO_NIBBLES)


@pytest.mark.parametrize(
    ("text", "weight_kg"),
    [
        (b"+0183500", 18_350),
        (b"+0183501", 1_835),
        (b"+0183541", 1_835),
        (b"+0183551", 1_836),
        (b"-0183551", -1_836),
        (b"+1234562", 1_235),
        (b"+1234563", 123),
        (b"+1234564", 12),
        (b"+9999990", 999_999),
    ],
)
def test_decimal_places_are_rounded_to_kilograms(text: bytes, weight_kg: int) -> None:
    assert decode_a9(b"\x02" + text + check_digits(text)[0] + b"\x03") == weight_kg


@pytest.mark.parametrize(
    "text", [b"+0183505", b" 0183500", b"+01835x0", b"+01835\xb20", b"+018350/", b"+018350:"]
)
def test_frame_with_a_true_check_and_wrong_fields_is_none(text: bytes) -> None:
    assert decode_a9(b"\x02" + text + check_digits(text)[0] + b"\x03") is None


@pytest.mark.parametrize("place", range(LENGTH))
@pytest.mark.parametrize("flip", [0x01, 0x04, 0x10, 0x80])
def test_any_flipped_bit_makes_it_no_frame(place: int, flip: int) -> None:
    broken = bytearray(LOADED)
    broken[place] ^= flip
    assert decode_a9(bytes(broken)) is None


@given(st.lists(frames, max_size=8), st.data())
def test_frames_cut_anywhere_are_all_found(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    decoder = A9Decoder()
    found: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == [decode_a9(frame) for frame in sent]
    assert decoder.garbled_count == 0


@given(st.binary(max_size=40).filter(lambda noise: b"\x02" not in noise), frames, frames)
def test_noise_between_frames_costs_only_itself(noise: bytes, one: bytes, two: bytes) -> None:
    decoder = A9Decoder()
    assert decoder.feed(noise + one + noise + two) == [decode_a9(one), decode_a9(two)]
    assert decoder.garbled_count == 2 * len(noise)


@given(st.binary(max_size=60), frames)
@example(LOADED[:5], LOADED)
@example(LOADED[:-1], LOADED)
@example(b"\x02" * 11, LOADED)
@example(b"\x02+", NEGATIVE)
def test_after_any_bytes_the_second_whole_frame_is_found(junk: bytes, frame: bytes) -> None:
    """A false start may swallow nothing: it is skipped byte by byte."""
    decoder = A9Decoder()
    found = decoder.feed(junk)
    found += decoder.feed(frame) + decoder.feed(frame)
    assert found[-2:] == [decode_a9(frame)] * 2


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_memory_stays_below_one_frame(chunks: list[bytes]) -> None:
    decoder = A9Decoder()
    for chunk in chunks:
        decoder.feed(chunk)
        assert len(decoder._rest) < LENGTH


def test_weight_that_does_not_fit_the_display_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode_a9(1_000_000)

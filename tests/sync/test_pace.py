"""How much goes into one body follows the line."""

from gateway.sync.pace import BYTES_FIRST, BYTES_MAX, BYTES_MIN, LINES_MAX, TARGET_S, Pace


def test_a_quick_line_gets_ever_larger_bodies_up_to_the_bound() -> None:
    pace = Pace()
    for _ in range(20):
        pace.took(pace.lines, pace.bytes, 0.02)
    assert pace.bytes == BYTES_MAX
    assert pace.lines <= LINES_MAX


def test_a_slow_line_gets_what_it_carries_within_the_target() -> None:
    pace, bytes_a_second = Pace(), 40_000
    for _ in range(10):
        pace.took(pace.lines, pace.bytes, pace.bytes / bytes_a_second)
    assert abs(pace.bytes - bytes_a_second * TARGET_S) < 1000


def test_however_bad_the_line_some_lines_go() -> None:
    pace = Pace()
    for _ in range(30):
        pace.failed()
        pace.took(1, 1500, 30.0)
    assert pace.bytes == BYTES_MIN
    assert pace.lines >= 1


def test_a_single_record_says_nothing_about_what_a_quick_line_can_carry() -> None:
    pace = Pace()
    for _ in range(10):
        pace.took(1, 1500, 0.1)
    assert pace.bytes == BYTES_FIRST


def test_a_body_that_is_stumbled_over_is_halved_and_grows_only_with_whole_ones() -> None:
    pace = Pace()
    pace.stumbled(40)
    assert pace.lines == 20
    pace.took(1, 1500, 0.01)
    assert pace.lines == 20
    pace.took(20, 30_000, 0.01)
    assert pace.lines == 40

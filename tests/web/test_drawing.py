"""A passage's journal as a picture: every row has its mark, in order, inside the frame."""

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from gateway.web.drawing import LEAST_PX, MACHINE, WIDTH, drawn, summary
from gateway.web.words import speaking
from tests.web.ui.fixtures import _journal

SAY = speaking("zh-CN")


def centres(svg: str) -> list[float]:
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}circle")
    return [float(each.get("cx", "")) for each in found]


def test_each_row_has_a_mark_and_the_longest_wait_is_the_widest() -> None:
    xs = centres(drawn(_journal(), SAY))
    assert len(xs) == len(_journal())
    assert xs == sorted(xs)
    assert xs[-1] <= WIDTH
    gaps = [b - a for a, b in pairwise(xs)]
    assert min(gaps) >= LEAST_PX - 1
    assert gaps.index(max(gaps)) == 4, "the one put aside"


def test_what_people_and_machines_took_is_told_apart() -> None:
    assert summary(_journal(), SAY) == "人 18.4 s；设备、网关 2.5 s；挂起 5:00"


@pytest.mark.parametrize("rows", [0, 1, 2, 80])
def test_any_number_of_rows_is_a_picture(rows: int) -> None:
    entries = [{"event": "ReadRequested", "at_ms": 7 - n} for n in range(rows)]  # clock set back
    svg = drawn(entries, SAY)
    assert len(centres(svg)) == max(1, rows)
    assert max(centres(svg)) <= WIDTH


def test_every_machine_event_is_one_of_the_flows() -> None:
    from gateway.flow import messages

    assert all(issubclass(getattr(messages, name), messages.Event) for name in MACHINE)


def test_words_are_escaped() -> None:
    def say(key: str, **_: Any) -> str:
        return f"<{key}>"

    assert not re.search(r"<waited", drawn(_journal(), say))

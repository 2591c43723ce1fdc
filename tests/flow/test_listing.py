"""A status list on a disk: a passage asks it in a thread, and does not wait for a dead disk."""

import threading
from pathlib import Path

import pytest

from gateway.flow import perform
from gateway.params import Listed
from tests.flow.rig import Box, World, demo_parameters


class DiskList:
    """A list that answers when the disk lets it."""

    def __init__(self) -> None:
        self.turns, self.asked, self.threads = threading.Event(), 0, set[int]()

    def find(self, number: str) -> Listed | None:
        self.asked += 1
        self.threads.add(threading.get_ident())
        assert self.turns.wait(30)
        return Listed(number=number, type=1, reason="卡挂失", listed_at="2025-11-21 00:00")


def world_with(listing: DiskList) -> World:
    return World(parameters=demo_parameters().model_copy(update={"status_list": listing}))


def codes(shot: dict) -> set[int]:  # type: ignore[type-arg]
    return {found["code"] for found in shot["passage"]["findings"]}


async def test_a_large_list_is_asked_beside_the_loop(tmp_path: Path) -> None:
    listing = DiskList()
    listing.turns.set()
    box = await Box.power_on(world_with(listing), tmp_path / "box")
    shot = await box.do("read")
    assert 24 in codes(shot)
    assert 149 not in codes(shot)
    assert threading.get_ident() not in listing.threads
    await box.power_off()


async def test_a_dead_disk_costs_a_warning_and_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perform, "LIST_S_MAX", 0.05)
    listing = DiskList()
    box = await Box.power_on(world_with(listing), tmp_path / "box")
    assert codes(await box.do("read")) >= {149}
    await box.do("cancel", reason="换车")
    assert codes(await box.do("read")) >= {149}
    assert listing.asked == 1  # nobody asks a second time while the first question hangs
    listing.turns.set()
    await box.do("cancel", reason="换车")
    assert box.lane._hands._asking is not None
    await box.lane._hands._asking  # the hanging question has come back
    assert 24 in codes(await box.do("read"))
    await box.power_off()

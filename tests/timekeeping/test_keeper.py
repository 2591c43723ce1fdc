"""gateway/timekeeping: whatever the machine's clock does, time goes on and never back by itself."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store import Store
from gateway.timekeeping import kernel
from gateway.timekeeping.keeper import Timekeeper
from gateway.timekeeping.timeline import HOLD_MS_MAX, Floor, Mode, Timeline
from gateway.units import RELEASED_MS, SystemClock, beijing, iso
from tests.timekeeping.clocks import (
    DAY_MS,
    FREE,
    HOUR_MS,
    KEPT,
    T0_MS,
    YEARS_10_MS,
    Machine,
)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


async def keeper_of(machine: Machine, store: Store) -> Timekeeper:
    keeper = Timekeeper(machine, lambda: machine.quality)
    await keeper.begin(store)
    return keeper


async def journaled(keeper: Timekeeper, store: Store) -> list[dict[str, Any]]:
    keeper.look()
    await keeper.tell()
    rows = await store.rows("SELECT body FROM journal WHERE event = 'clock_changed' ORDER BY seq")
    return [json.loads(row["body"]) for row in rows]


async def write_row(keeper: Timekeeper, store: Store) -> int:
    moment = (keeper.now_ms(), keeper.monotonic_ms(), keeper.boot_id, "")
    await store.log(lambda draft: draft.add("", "", moment, "seen"))
    return moment[0]


async def test_a_clock_that_behaves_is_simply_read(machine: Machine, store: Store) -> None:
    keeper = await keeper_of(machine, store)
    for _ in range(5):
        machine.pass_ms(700)
        assert keeper.now_ms() == machine.wall_ms
    assert keeper.is_trusted
    assert keeper.state().ahead_ms == 0
    assert await journaled(keeper, store) == []


async def test_an_hour_forward_is_taken_and_journaled(machine: Machine, store: Store) -> None:
    keeper = await keeper_of(machine, store)
    machine.jump(HOUR_MS)
    assert keeper.now_ms() == T0_MS + HOUR_MS
    (change,) = await journaled(keeper, store)
    assert (change["from_ms"], change["to_ms"]) == (T0_MS, T0_MS + HOUR_MS)
    assert (change["source"], change["quality"]["is_synchronised"]) == ("rtc", False)


async def test_an_hour_back_is_crawled_until_the_clock_catches_up(
    machine: Machine, store: Store
) -> None:
    keeper = await keeper_of(machine, store)
    machine.jump(-HOUR_MS)
    last, seen = keeper.now_ms(), 0
    assert last == T0_MS
    assert keeper.state().ahead_ms == HOUR_MS
    while keeper.state().ahead_ms:
        machine.pass_ms(60_000)
        now = keeper.now_ms()
        assert now > last
        last, seen = now, seen + 1
    assert last == machine.wall_ms
    assert 118 < seen < 123
    assert keeper.is_trusted
    assert [c["mode"] for c in await journaled(keeper, store)] == ["hold", "follow"]


@pytest.mark.parametrize("ms", [YEARS_10_MS, -YEARS_10_MS, -3 * HOUR_MS, 2 * DAY_MS])
async def test_a_leap_that_nobody_vouches_for_is_not_believed(
    machine: Machine, store: Store, ms: int
) -> None:
    keeper = await keeper_of(machine, store)
    machine.jump(ms)
    machine.pass_ms(5_000)
    assert keeper.now_ms() == T0_MS + 5_000
    machine.pass_ms(9_000)
    assert keeper.now_ms() == T0_MS + 14_000
    assert not keeper.is_trusted
    code, detail, action = keeper.notice() or ("", "", "")
    assert code == "E-404"
    assert iso(machine.wall_ms) in detail
    assert action
    assert keeper.lamp()["state"] == "degraded"
    (change,) = await journaled(keeper, store)
    assert change["wall_ms"] == T0_MS + ms + 5_000
    machine.jump(-ms)
    machine.pass_ms(1_000)
    assert keeper.now_ms() == machine.wall_ms
    assert keeper.is_trusted
    assert keeper.notice() is None
    assert len(await journaled(keeper, store)) == 2


@pytest.mark.parametrize("ms", [YEARS_10_MS, -YEARS_10_MS, 2 * DAY_MS])
async def test_a_synchronised_clock_is_believed_wherever_it_goes(
    machine: Machine, store: Store, ms: int
) -> None:
    machine.wall_ms += YEARS_10_MS  # so that ten years back is still after the release
    keeper = await keeper_of(machine, store)
    machine.quality = KEPT
    machine.jump(ms)
    assert keeper.now_ms() == machine.wall_ms
    (change,) = await journaled(keeper, store)
    assert change["to_ms"] - change["from_ms"] == ms


async def test_what_was_not_believed_is_believed_once_it_is_synchronised(
    machine: Machine, store: Store
) -> None:
    keeper = await keeper_of(machine, store)
    machine.jump(10 * DAY_MS)
    keeper.now_ms()
    assert not keeper.is_trusted
    machine.quality = KEPT
    keeper.look()
    assert keeper.is_trusted
    assert keeper.now_ms() == machine.wall_ms
    assert keeper.state().source == "ntp"


# ---- starts ----


async def test_a_start_in_1970_goes_on_behind_the_last_journaled_time(
    machine: Machine, store: Store
) -> None:
    keeper = await keeper_of(machine, store)
    machine.pass_ms(60_000)
    last = await write_row(keeper, store)
    machine.reboot("boot-2", 12_000)
    keeper = await keeper_of(machine, store)
    machine.pass_ms(3_000)
    assert keeper.now_ms() == last + 3_000
    assert not keeper.is_trusted
    (change,) = await journaled(keeper, store)
    assert (change["from_ms"], change["to_ms"], change["wall_ms"]) == (last, last, 12_000)
    # Then somebody sets it: a day later than the box thinks at most, or synchronised.
    machine.wall_ms = last + 20 * HOUR_MS
    assert keeper.now_ms() == last + 20 * HOUR_MS
    assert keeper.is_trusted


async def test_the_very_first_start_in_1970_is_after_the_release(
    machine: Machine, store: Store
) -> None:
    machine.wall_ms = 5_000
    keeper = await keeper_of(machine, store)
    assert keeper.now_ms() == RELEASED_MS
    assert beijing(keeper.now_ms()).year >= 2025
    assert not keeper.is_trusted


@pytest.mark.parametrize(
    ("behind_ms", "mode"),
    [(10_000, Mode.HOLD), (HOLD_MS_MAX, Mode.HOLD), (HOLD_MS_MAX + 1, Mode.RUN)],
)
async def test_a_start_behind_the_last_journaled_time_writes_nothing_earlier(
    machine: Machine, store: Store, behind_ms: int, mode: Mode
) -> None:
    last = await write_row(await keeper_of(machine, store), store)
    machine.reboot("boot-2", last - behind_ms)
    keeper = await keeper_of(machine, store)
    assert keeper.now_ms() >= last
    assert keeper._line.mode is mode


async def test_a_restart_within_the_same_boot_goes_on_by_the_monotonic_clock(
    machine: Machine, store: Store
) -> None:
    keeper = await keeper_of(machine, store)
    machine.jump(YEARS_10_MS)
    last = await write_row(keeper, store)
    machine.pass_ms(30_000)
    keeper = await keeper_of(machine, store)
    assert keeper.now_ms() == last + 30_000
    assert not keeper.is_trusted


async def test_a_box_switched_off_for_weeks_simply_reads_its_clock(
    machine: Machine, store: Store
) -> None:
    last = await write_row(await keeper_of(machine, store), store)
    machine.reboot("boot-2", last + 60 * DAY_MS)
    keeper = await keeper_of(machine, store)
    assert keeper.now_ms() == machine.wall_ms
    assert keeper.is_trusted


async def test_a_clock_that_comes_up_years_ahead_is_not_believed(
    machine: Machine, store: Store
) -> None:
    last = await write_row(await keeper_of(machine, store), store)
    machine.reboot("boot-2", last + YEARS_10_MS)
    keeper = await keeper_of(machine, store)
    assert keeper.now_ms() == last
    assert not keeper.is_trusted


async def test_an_incident_written_before_the_clock_was_judged_is_no_floor(
    machine: Machine, store: Store
) -> None:
    keeper = await keeper_of(machine, store)
    last = await write_row(keeper, store)
    await store.log(lambda draft: draft.add("", "", (7, 7, "boot-2", ""), "incident"))
    machine.reboot("boot-2", 9_000)
    assert (await keeper_of(machine, store)).now_ms() >= last


async def test_a_change_that_the_disk_did_not_take_is_journaled_later(
    machine: Machine, store: Store
) -> None:
    keeper = await keeper_of(machine, store)
    store.pretend_full(True)
    machine.jump(HOUR_MS)
    keeper.look()
    await keeper.tell()
    store.pretend_full(False)
    assert len(await journaled(keeper, store)) == 1


# ---- always ----

steps = st.lists(
    st.tuples(
        st.integers(0, 4 * HOUR_MS),
        st.sampled_from([0, 0, 0, 1_500, -1_500, HOUR_MS, -HOUR_MS, YEARS_10_MS, -YEARS_10_MS])
        | st.integers(-YEARS_10_MS, YEARS_10_MS),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_time_never_goes_back_while_nobody_keeps_the_clock(
    moves: list[tuple[int, int]],
) -> None:
    machine, line = Machine(), Timeline(lambda: FREE)
    line.begin(machine.wall_ms, machine.mono_ms, machine.boot_id, None)
    last = line.at(machine.wall_ms, machine.mono_ms)
    for passed_ms, jumped_ms in moves:
        machine.pass_ms(passed_ms)
        machine.jump(jumped_ms)
        now = line.at(machine.wall_ms, machine.mono_ms)
        assert now >= last
        assert now - last <= passed_ms + DAY_MS + 2_000
        assert line.ahead_ms == now - machine.wall_ms
        last = now


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(0, 2 * YEARS_10_MS))
def test_no_life_begins_before_the_last_one_ended(
    moves: list[tuple[int, int]], wall_ms: int
) -> None:
    machine, line = Machine(), Timeline(lambda: FREE)
    line.begin(machine.wall_ms, machine.mono_ms, machine.boot_id, None)
    last = line.at(machine.wall_ms, machine.mono_ms)
    for passed_ms, jumped_ms in moves:
        machine.pass_ms(passed_ms)
        machine.jump(jumped_ms)
        last = line.at(machine.wall_ms, machine.mono_ms)
    floor = Floor(last, machine.mono_ms, machine.boot_id)
    for boot_id in (machine.boot_id, "boot-2"):
        following = Timeline(lambda: FREE)
        following.begin(wall_ms, machine.mono_ms + 1, boot_id, floor)
        assert following.at(wall_ms, machine.mono_ms + 1) >= last


# ---- the kernel ----


def test_the_kernel_says_how_good_its_clock_is() -> None:
    now = kernel.quality(SystemClock())
    assert now.source in ("ntp", "rtc", "manual")
    assert now.is_synchronised == (now.source == "ntp")
    if now.is_synchronised:
        assert 0 <= (now.error_ms or 0) < 16_000


def test_a_clock_before_the_release_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_error_us", lambda: None)
    assert kernel.quality(Machine(wall_ms=1_000)).source == "unset"

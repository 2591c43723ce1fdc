import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from gateway.access import LOCK_MS, STRANGERS_MAX, Access
from gateway.errors import MasterRefused, OperatorLocked, PasswordWrong
from gateway.params import Operator, Operators
from gateway.store import Store

HASHER = PasswordHasher(memory_cost=64, time_cost=1, parallelism=1)
COLLECTOR = Operator(
    number="1001", name="收费员甲", role="collector", password_hash=HASHER.hash("c-word")
)
MASTER = Operator(number="9001", name="站长甲", role="master", password_hash=HASHER.hash("m-word"))


class Clock:
    boot_id = "boot"
    wall_ms = 1_700_000_000_000
    mono_ms = 5_000

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.mono_ms

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


class People:
    def __init__(self) -> None:
        self.table = Operators(rows=(COLLECTOR, MASTER))

    def __call__(self) -> Operators:
        return self.table


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


@pytest.fixture
async def access(store: Store, people: People, clock: Clock) -> AsyncIterator[Access]:
    access = Access(store, people, clock)
    yield access
    access.close()


async def test_the_right_password_opens_a_session_that_names_its_person(access: Access) -> None:
    token, who = await access.sign_in("1001", "c-word", "booth")
    assert (who.operator, who.name, who.role) == ("1001", "收费员甲", "collector")
    assert await access.who(token, "booth") == who


async def test_only_the_hash_of_a_token_is_on_disk(access: Access, store: Store) -> None:
    token, _ = await access.sign_in("1001", "c-word", "booth")
    (row,) = await store.rows("SELECT * FROM session")
    assert token not in "".join(map(str, tuple(row)))
    assert await access.who(row["token_hash"], "booth") is None


async def test_a_session_survives_a_restart(
    access: Access, store: Store, people: People, clock: Clock
) -> None:
    token, who = await access.sign_in("1001", "c-word", "booth")
    again = Access(store, people, clock)
    assert await again.who(token, "booth") == who
    again.close()


async def test_a_signed_out_token_is_dead_here_and_after_a_restart(
    access: Access, store: Store, people: People, clock: Clock
) -> None:
    token, _ = await access.sign_in("1001", "c-word", "booth")
    await access.sign_out(token)
    assert await access.who(token, "booth") is None
    again = Access(store, people, clock)
    assert await again.who(token, "booth") is None
    again.close()


async def test_a_token_of_one_screen_is_worth_nothing_at_another(access: Access) -> None:
    token, _ = await access.sign_in("1001", "c-word", "handheld:1")
    assert await access.who(token, "booth") is None


async def test_a_revoked_screen_loses_its_sessions_and_no_other(access: Access) -> None:
    lost, _ = await access.sign_in("1001", "c-word", "handheld:1")
    kept, _ = await access.sign_in("1001", "c-word", "booth")
    await access.end_sessions_of("handheld:1")
    assert await access.who(lost, "handheld:1") is None
    assert await access.who(kept, "booth") is not None


async def test_a_person_taken_off_the_table_is_signed_out(access: Access, people: People) -> None:
    token, _ = await access.sign_in("1001", "c-word", "booth")
    people.table = Operators(rows=(MASTER,))
    assert await access.who(token, "booth") is None


async def test_a_forgotten_session_ends_after_a_day(
    access: Access, store: Store, people: People, clock: Clock
) -> None:
    token, _ = await access.sign_in("1001", "c-word", "booth")
    clock.wall_ms += 25 * 3_600_000
    assert await access.who(token, "booth") is None
    again = Access(store, people, clock)
    assert await again.who(token, "booth") is None
    assert not await store.rows("SELECT * FROM session")
    again.close()


async def test_wrong_passwords_are_counted_down_and_then_locked(
    access: Access, clock: Clock
) -> None:
    for left in (4, 3, 2, 1):
        with pytest.raises(PasswordWrong, match=f"还可以试 {left} 次"):
            await access.sign_in("1001", "wrong", "booth")
    with pytest.raises(OperatorLocked, match="06:18 后可再试"):  # 22:13:20 UTC + 5 min, Beijing
        await access.sign_in("1001", "wrong", "booth")
    with pytest.raises(OperatorLocked):
        await access.sign_in("1001", "c-word", "booth")


async def test_the_lock_ends_by_the_monotonic_clock_whatever_the_wall_says(
    access: Access, clock: Clock
) -> None:
    for _ in range(5):
        with pytest.raises((PasswordWrong, OperatorLocked)):
            await access.sign_in("1001", "wrong", "booth")
    clock.wall_ms += 10 * LOCK_MS
    with pytest.raises(OperatorLocked):
        await access.sign_in("1001", "c-word", "booth")
    clock.mono_ms += LOCK_MS
    await access.sign_in("1001", "c-word", "booth")


async def test_after_a_lock_the_count_begins_anew(access: Access, clock: Clock) -> None:
    for _ in range(5):
        with pytest.raises((PasswordWrong, OperatorLocked)):
            await access.sign_in("1001", "wrong", "booth")
    clock.mono_ms += LOCK_MS
    with pytest.raises(PasswordWrong, match="还可以试 4 次"):
        await access.sign_in("1001", "wrong", "booth")


async def test_a_right_password_in_between_clears_the_count(access: Access) -> None:
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(PasswordWrong):
                await access.sign_in("1001", "wrong", "booth")
        await access.sign_in("1001", "c-word", "booth")


async def test_many_tries_at_once_get_no_more_than_five(access: Access) -> None:
    tries = [access.sign_in("1001", "wrong", "booth") for _ in range(12)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, PasswordWrong) for answer in answers) == 4
    assert sum(isinstance(answer, OperatorLocked) for answer in answers) == 8


async def test_hanging_up_does_not_make_a_try_free(access: Access) -> None:
    for _ in range(5):
        task = asyncio.create_task(access.sign_in("1001", "wrong", "booth"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(OperatorLocked):
        await access.sign_in("1001", "c-word", "booth")


async def test_an_unknown_number_answers_like_a_known_one(access: Access) -> None:
    with pytest.raises(PasswordWrong) as unknown:
        await access.sign_in("4444", "c-word", "booth")
    with pytest.raises(PasswordWrong) as known:
        await access.sign_in("1001", "wrong", "booth")
    assert unknown.value.detail == known.value.detail


async def test_an_unknown_number_costs_the_work_of_a_known_one(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def counting(expected: str, password: str) -> bool:
        checked.append(expected)
        return True

    monkeypatch.setattr("gateway.access._verify", counting)
    with pytest.raises(PasswordWrong):  # even though somebody's password would fit
        await access.sign_in("4444", "c-word", "booth")
    assert len(checked) == 1


async def test_invented_numbers_push_no_real_lock_out(access: Access, store: Store) -> None:
    for _ in range(5):
        with pytest.raises((PasswordWrong, OperatorLocked)):
            await access.sign_in("9001", "wrong", "booth")
    for number in range(10_000, 10_000 + STRANGERS_MAX + 20):
        with pytest.raises(PasswordWrong):
            await access.sign_in(str(number), "x", "booth")
    with pytest.raises(OperatorLocked):
        await access.approve("9001", "m-word")
    assert len(access._tries) <= STRANGERS_MAX + 1


async def test_a_damaged_hash_lets_nobody_in(access: Access, people: People) -> None:
    people.table = Operators(rows=(COLLECTOR.model_copy(update={"password_hash": "$argon2id$"}),))
    with pytest.raises(PasswordWrong):
        await access.sign_in("1001", "c-word", "booth")


async def test_a_master_approves_and_nobody_else(access: Access) -> None:
    assert (await access.approve("9001", "m-word")).number == "9001"
    with pytest.raises(MasterRefused, match="不是站长"):
        await access.approve("1001", "c-word")
    with pytest.raises(MasterRefused, match="站长工号或密码不对，还可以试 4 次"):
        await access.approve("9001", "wrong")


async def test_passwords_are_checked_in_a_thread_of_their_own(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def noting(expected: str, password: str) -> bool:
        seen.append(threading.current_thread().name)
        return True

    monkeypatch.setattr("gateway.access._verify", noting)
    await access.sign_in("1001", "c-word", "booth")
    assert seen[0].startswith("password")

"""The second copy of what the centre sent: no damage to the database costs a table."""

from pathlib import Path

import pytest

from gateway.store import Store
from gateway.sync.download import Downloads, ParameterShelf, public_key
from gateway.sync.packages import ASIDE, Packages
from tests.sync.rig import DEMO, HurriedClock, Truth
from tests.sync.test_download import document, hours, publish, published, truth

__all__ = ["published", "truth"]  # fixtures

NEWER = "2025-12-01T00:00:00+08:00"


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "parameters"


@pytest.fixture
async def shelf(store: Store, clock: HurriedClock, truth: Truth, copies: Path) -> ParameterShelf:
    return await fresh(store, clock, truth, copies)


async def fresh(
    store: Store, clock: HurriedClock, truth: Truth, copies: Path, folder: Path | None = DEMO
) -> ParameterShelf:
    key = public_key(truth.public_key)
    shelf = ParameterShelf(store, clock, folder, key, exit_hex="62010B31", copies=copies)
    await shelf.load()
    return shelf


@pytest.fixture
async def fetched(
    shelf: ParameterShelf, client: object, clock: HurriedClock, published: Path
) -> ParameterShelf:
    publish(published, document("policy", "2", NEWER, status_list_stale_hours=5))
    await Downloads(shelf, client, clock).fetch()  # type: ignore[arg-type]
    assert hours(shelf) == 5
    return shelf


async def test_a_package_whose_rows_are_lost_is_still_in_force(
    fetched: ParameterShelf, store: Store, clock: HurriedClock, truth: Truth, copies: Path
) -> None:
    await store.write(lambda db: db.execute("DELETE FROM parameter") and None)
    assert hours(await fresh(store, clock, truth, copies)) == 5


async def test_a_row_that_is_not_what_was_fetched_is_left_out_for_the_second_copy(
    fetched: ParameterShelf, store: Store, clock: HurriedClock, truth: Truth, copies: Path
) -> None:
    change = "UPDATE parameter SET body = CAST(replace(body, '5', '6') AS BLOB)"
    await store.write(lambda db: db.execute(change) and None)
    assert hours(await fresh(store, clock, truth, copies)) == 5


async def test_a_damaged_second_copy_is_set_aside_and_the_row_serves(
    fetched: ParameterShelf, store: Store, clock: HurriedClock, truth: Truth, copies: Path
) -> None:
    (path,) = copies.glob("policy-*.json")
    path.write_bytes(path.read_bytes().replace(b"5", b"6"))
    assert hours(await fresh(store, clock, truth, copies)) == 5
    assert [one.name for one in (copies / ASIDE).iterdir()] == [path.name]


async def test_without_both_the_installed_tables_serve(
    fetched: ParameterShelf, store: Store, clock: HurriedClock, truth: Truth, copies: Path
) -> None:
    await store.write(lambda db: db.execute("DELETE FROM parameter") and None)
    for path in copies.glob("*.json"):
        path.unlink()
    assert hours(await fresh(store, clock, truth, copies)) == 72


def test_each_flipped_bit_of_a_copy_is_noticed(tmp_path: Path) -> None:
    kept = Packages(tmp_path / "kept")
    path = tmp_path / "kept" / kept.keep("policy", b'{"a": 5}')
    raw = bytearray(path.read_bytes())
    for bit in range(len(raw) * 8):
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        assert list(kept.all()) == []
        raw[bit // 8] ^= 1 << bit % 8
    kept.keep("policy", b'{"a": 5}')
    assert [found for _, found in kept.all()] == [b'{"a": 5}']


def test_what_is_forgotten_is_gone_and_the_rest_is_there(tmp_path: Path) -> None:
    kept = Packages(tmp_path / "kept")
    old, new = kept.keep("policy", b"1"), kept.keep("policy", b"2")
    kept.forget([old])
    assert list(kept.all()) == [(new, b"2")]

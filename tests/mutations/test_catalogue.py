"""The list is true: each safeguard stands where it says, once, and the tests it asks are there."""

from pathlib import Path

import pytest

from tests.mutations.catalogue import CATALOGUE, Mutation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", CATALOGUE, ids=lambda mutation: mutation.name)
def test_each_safeguard_is_where_the_list_says(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text("utf-8").count(mutation.old) == 1
    assert mutation.new != mutation.old
    assert all((ROOT / test).exists() for test in mutation.tests)


def test_no_safeguard_is_named_twice() -> None:
    assert len({mutation.name for mutation in CATALOGUE}) == len(CATALOGUE)

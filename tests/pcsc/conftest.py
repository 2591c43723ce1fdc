"""One pcscd with three virtual readers for each file of tests here."""

import os
from collections.abc import Iterator

import pytest

from tests.rig.vpcd import Rig, missing, running


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running() as rig:
        yield rig

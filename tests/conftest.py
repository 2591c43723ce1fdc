"""For every test: files of the log are small, so that thousands of boxes are made quickly. What a
run leaves behind, 20 GB of boxes, goes with its end, unless something failed."""

import shutil

import pytest

from gateway.spool import log

SMALL_BYTES = 128 * 1024


@pytest.fixture(autouse=True)
def _small_log_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SEGMENT_BYTES", SMALL_BYTES)
    monkeypatch.setattr(log, "RESERVE_BYTES", SMALL_BYTES)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Not before: a box that a test pulled the plug of may still be writing into its folder."""
    factory = getattr(session.config, "_tmp_path_factory", None)  # none, if xdist only hands out
    if factory and exitstatus == 0 and not hasattr(session.config, "workerinput"):
        shutil.rmtree(factory.getbasetemp(), ignore_errors=True)

"""For every test: files of the log are small, so that thousands of boxes are made quickly."""

import pytest

from gateway.spool import log

SMALL_BYTES = 128 * 1024


@pytest.fixture(autouse=True)
def _small_log_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SEGMENT_BYTES", SMALL_BYTES)
    monkeypatch.setattr(log, "RESERVE_BYTES", SMALL_BYTES)

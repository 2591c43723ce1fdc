"""The page's files: counted, compared with the released ones, named to whoever asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.web.page import LOCK, digests, read_lock, shown
from tests.tools.lock_ui import WEB, text
from tests.web.rig import Listener, listening


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path) as running:
        yield running


def test_the_list_of_released_files_is_up_to_date() -> None:
    """Else: python -m tests.tools.lock_ui"""
    assert (WEB / LOCK).read_text("utf-8") == text()


async def test_a_page_learns_what_it_is_made_of(listener: Listener) -> None:
    told = await (await listener.browser().get("/api/ui")).json()
    assert told["wrong"] == []
    assert told["files"] == len(digests(WEB / "static"))
    assert len(told["sha256"]) == 64


def test_a_file_torn_by_a_cut_is_named(tmp_path: Path) -> None:
    static = tmp_path / "static"
    static.mkdir()
    for name in ("app.js", "ui.css", "index.html"):
        (static / name).write_text(name)
    lines = [f"{digest}  {name}\n" for name, digest in digests(static).items()]
    (tmp_path / LOCK).write_text("".join(lines))
    assert shown(static).wrong == []
    whole = shown(static).sha256
    (static / "app.js").write_text("")
    (static / "ui.css").unlink()
    (static / "more.js").write_text("1")
    shown.cache_clear()
    assert shown(static).wrong == ["app.js", "more.js", "ui.css"]
    assert shown(static).sha256 != whole
    assert set(read_lock(tmp_path / LOCK)) == {"app.js", "ui.css", "index.html"}

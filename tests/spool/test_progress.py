"""A long repair is heard of while it moves, and only then."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.app import gateway
from gateway.config import demo
from gateway.spool import progress as progress_module
from gateway.spool.copies import SUSPECT
from gateway.spool.progress import EVERY_S, HANG_S, Progress
from gateway.store import Store
from gateway.units import SystemClock
from tests.spool.used import fill
from tests.still_clock import StillClock

PASSAGES = 60


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is told of, however quick."""
    monkeypatch.setattr(progress_module, "EVERY_S", 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    asyncio.run(fill(tmp_path / "data", PASSAGES))
    return tmp_path / "data"


class Watch:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_many_steps_are_one_word_and_no_step_is_none() -> None:
    said, watch = list[tuple[str, float]](), Watch()
    progress = Progress(lambda *told: said.append(told), watch)
    progress.begin("重建", silent_bytes=100_000_000)
    assert said == [("重建", HANG_S + 10)]
    for _ in range(1000):
        progress.step()
    watch.now_s += 3600  # it hangs: nobody speaks for it
    assert len(said) == 1
    progress.step()
    assert said[1:] == [("重建：1001", HANG_S)]
    watch.now_s += EVERY_S
    progress.end()
    progress.step()
    assert len(said) == 2


async def heard(data: Path) -> list[str]:
    said = list[str]()
    progress = Progress(lambda what, _: said.append(what))
    store = await Store.open(data / "lane.db", StillClock(), progress=progress)
    await store.close()
    return said


@pytest.mark.usefixtures("always")
async def test_a_rebuild_tells_each_row_it_has_made_and_each_it_has_saved(data: Path) -> None:
    raw = bytearray((data / "lane.db").read_bytes())
    raw[4096 * 3 : 4096 * 4] = bytes(4096)
    (data / "lane.db").write_bytes(raw)
    said = await heard(data)
    assert f"正在由流水日志重建数据库：{2 * PASSAGES + 1}" in said
    assert any(text.startswith("正在从坏的数据库里取出其余的行：") for text in said)


@pytest.mark.usefixtures("always")
async def test_a_start_that_looks_at_everything_tells_how_far_it_has_come(data: Path) -> None:
    (data / SUSPECT).touch()
    assert f"正在检查数据库：{2 * PASSAGES + 1}" in await heard(data)


@pytest.mark.usefixtures("always")
async def test_a_log_that_was_lost_is_made_again_step_by_step(data: Path) -> None:
    for path in (data / "spool").iterdir():
        path.unlink()
    assert any(text.endswith(f"：{2 * PASSAGES + 1}") for text in await heard(data))


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", heard.getsockname())
        yield heard


async def test_systemd_is_asked_to_wait_before_the_box_is_open(
    tmp_path: Path, systemd: socket.socket
) -> None:
    async with gateway(demo(tmp_path, 0, "http://127.0.0.1:9", "t"), SystemClock()):
        said = systemd.recv(4096).decode()
    assert said == f"EXTEND_TIMEOUT_USEC={round(HANG_S * 1_000_000)}\nSTATUS=正在打开流水"

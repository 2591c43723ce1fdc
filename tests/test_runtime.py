"""gateway/runtime.py: services come back, changes wake, systemd hears, secrets stay in."""

import asyncio
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import DeviceUnavailable, GatewayError, JournalMismatch
from gateway.runtime import (
    JsonLines,
    LoopLag,
    Notifier,
    ServiceEnded,
    Topic,
    Watchdog,
    mask,
    supervise,
)
from tests.still_clock import StillClock


class Flaky:
    name = "scale"

    def __init__(self, clock: StillClock, healthy_ms: list[int], last: Exception | None) -> None:
        self.clock, self.healthy_ms, self.last = clock, healthy_ms, last

    async def run(self) -> None:
        if self.healthy_ms:
            self.clock.ms += self.healthy_ms.pop(0)
            raise DeviceUnavailable("线断了")
        if self.last is not None:
            raise self.last


async def test_a_retryable_fault_is_retried_further_and_further_apart() -> None:
    clock = StillClock()
    heard: list[tuple[str, GatewayError]] = []
    service = Flaky(clock, [0] * 7, JournalMismatch("停"))
    with pytest.raises(JournalMismatch):
        await supervise(service, clock, lambda *fault: heard.append(fault))
    assert clock.slept == [1, 2, 4, 8, 16, 30, 30]
    assert [name for name, _ in heard] == ["scale"] * 7


async def test_a_healthy_minute_starts_the_back_off_over() -> None:
    clock = StillClock()
    service = Flaky(clock, [0, 0, 0, 60_000, 0], JournalMismatch("停"))
    with pytest.raises(JournalMismatch):
        await supervise(service, clock, lambda *_: None)
    assert clock.slept == [1, 2, 4, 1, 2]


async def test_a_service_that_returns_is_a_fault_and_not_a_silent_death() -> None:
    clock = StillClock()
    with pytest.raises(ServiceEnded, match="scale"):
        await supervise(Flaky(clock, [], None), clock, lambda *_: None)


async def test_a_bug_is_not_retried() -> None:
    clock = StillClock()
    with pytest.raises(ZeroDivisionError):
        await supervise(Flaky(clock, [], ZeroDivisionError()), clock, lambda *_: None)
    assert clock.slept == []


async def test_a_topic_wakes_all_who_wait_and_joins_several_changes() -> None:
    topic = Topic()
    waiting = [asyncio.create_task(topic.wait(0)) for _ in range(3)]
    await asyncio.sleep(0)
    topic.publish()
    topic.publish()
    assert await asyncio.gather(*waiting) == [2, 2, 2]
    assert await topic.wait(1) == 2  # missed while busy elsewhere: no lost wake-up
    late = asyncio.create_task(topic.wait(2))
    await asyncio.sleep(0)
    assert not late.done()
    topic.publish()
    assert await late == 3


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(2)
        yield heard


def test_systemd_hears_ready_status_and_beats(systemd: socket.socket) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready("X03 出口")
    notifier.status("离线，欠 3 条")
    notifier.beat()
    notifier.stopping()
    heard = [systemd.recv(4096).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=X03 出口", "STATUS=离线，欠 3 条", "WATCHDOG=1", "STOPPING=1"]


def test_a_long_start_asks_systemd_for_more_time(systemd: socket.socket) -> None:
    Notifier(systemd.getsockname()).starting("正在重建：5", 60.0)
    assert systemd.recv(4096).decode() == "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=正在重建：5"


def test_an_abstract_socket_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0lane-gateway-{os.getpid()}")
        heard.settimeout(2)
        Notifier(f"@lane-gateway-{os.getpid()}").beat()
        assert heard.recv(100) == b"WATCHDOG=1"


def test_the_watchdog_interval_counts_only_for_this_process() -> None:
    asked = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000"}
    assert Notifier.from_environment(asked).watchdog_s == 30
    assert Notifier.from_environment(asked | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 30
    assert Notifier.from_environment(asked | {"WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment({}).watchdog_s is None


def test_without_systemd_or_with_a_vanished_one_nothing_breaks(tmp_path: Path) -> None:
    Notifier(None).beat()
    Notifier(str(tmp_path / "nobody")).beat()


async def test_a_wedged_lane_is_not_fed(systemd: socket.socket) -> None:
    turns = {"X03": 0, "X04": 0}
    clock = StillClock()
    notifier = Notifier(systemd.getsockname(), watchdog_s=30)
    marks = [lambda: turns["X03"], lambda: turns["X04"]]
    beats = 0

    async def beats_after_one_more_round() -> int:
        nonlocal beats
        rounds = len(clock.slept)
        async with asyncio.timeout(2):
            while len(clock.slept) == rounds:
                await asyncio.sleep(0)
        systemd.setblocking(False)
        try:
            while systemd.recv(100):
                beats += 1
        except BlockingIOError:
            return beats

    class Stepped(StillClock):
        async def sleep(self, seconds: float) -> None:
            await gate.acquire()
            clock.slept.append(seconds)

    gate = asyncio.Semaphore(0)
    task = asyncio.create_task(Watchdog(notifier, Stepped(), marks).run())
    try:
        gate.release()
        assert await beats_after_one_more_round() == 1
        turns["X03"] += 1  # X04 stands still
        gate.release()
        assert await beats_after_one_more_round() == 1
        turns["X03"] += 1
        turns["X04"] += 1
        gate.release()
        assert await beats_after_one_more_round() == 2
        assert set(clock.slept) == {10.0}
    finally:
        task.cancel()


async def test_a_blocked_loop_is_seen() -> None:
    lag = LoopLag(StillClock(late_s=0.25))
    task = asyncio.create_task(lag.run())
    async with asyncio.timeout(2):
        while not lag.worst_ms:
            await asyncio.sleep(0)
    task.cancel()
    assert lag.worst_ms == 250


def logged(**extra: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("gateway.flow.lane")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("passage paid", extra=extra)
    logger.removeHandler(handler)
    return stream.getvalue()


def test_what_a_program_dies_of_is_one_json_object_too() -> None:
    code = "from gateway.runtime import log_to; log_to(); raise ValueError('6201204522000000')"
    told = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    (line,) = told.stderr.splitlines()
    assert told.returncode == 1
    assert json.loads(line)["level"] == "critical"
    assert "ValueError: 6201****0000" in json.loads(line)["trace"]


def test_a_log_line_is_one_json_object() -> None:
    text = logged(passage_id="P\n0017", fare_fen=1500, ok=True, none=None)
    assert text.count("\n") == 1
    line = json.loads(text)
    assert line["level"] == "info"
    assert line["msg"] == "passage paid"
    assert line["in"] == "gateway.flow.lane"
    assert line["fare_fen"] == 1500
    assert line["passage_id"] == "P\n0017"
    assert line["at"].endswith("+08:00")


def test_secrets_and_card_numbers_never_reach_the_log() -> None:
    text = logged(
        center_token="h0rse",
        body={"password": "h0rse", "card": "2045220000001234"},
        cards=["62012045220000001234", 62012045220000001234],
        note="卡 62012045220000001234 已读",
    )
    assert "h0rse" not in text
    assert "2045220000001234" not in text
    assert "6201****1234" in text


def test_ids_that_are_no_card_numbers_stay_readable() -> None:
    lane_id = "G00306200100202010030"
    assert mask(lane_id) == lane_id
    assert mask("X03-20201111103000-1A2B3C4D") == "X03-20201111103000-1A2B3C4D"


def test_a_trace_is_part_of_its_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("x")
    logger.addHandler(handler)
    try:
        raise ValueError("62012045220000001234")
    except ValueError:
        logger.exception("broken")
    logger.removeHandler(handler)
    line = json.loads(stream.getvalue())
    assert "ValueError" in line["trace"]
    assert "62012045220000001234" not in line["trace"]

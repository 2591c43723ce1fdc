"""systemd/lane-gateway.service: understood by systemd whole, and hardened."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config import ExportSection

UNIT = Path(__file__).parent.parent / "systemd" / "lane-gateway.service"


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def analyze() -> str:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        assert "CI" not in os.environ, "systemd-analyze is missing"
        pytest.skip("apt-get install systemd")
    return tool


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The unit with a program that exists: verify wants to see it."""
    program = settings()["ExecStart"][0].split()[0]
    stand_in = tmp_path / "lane-gateway"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    file = tmp_path / UNIT.name
    file.write_text(UNIT.read_text("utf-8").replace(program, str(stand_in)), "utf-8")
    return file


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_stick_is_mounted_where_the_gateway_looks_and_may_write() -> None:
    media = str(ExportSection().media)
    assert settings()["ReadWritePaths"] == [f"-{media}"]
    rule = (UNIT.parent / "lane-gateway-stick.rules").read_text("utf-8").splitlines()[-1]
    assert f" $devnode {media}/USB-$kernel" in rule
    assert "umask=0000" in rule  # DynamicUser: nobody knows its number beforehand
    for pair in rule.split(", "):
        assert re.fullmatch(r'[A-Z]+(\{\w+\})?(==|\+=)".+"', pair), pair


def test_systemd_understands_every_line(analyze: str, copy: Path) -> None:
    told = run(analyze, "verify", "--recursive-errors=yes", str(copy))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_the_check_itself_sees_a_misspelt_key(analyze: str, copy: Path) -> None:
    copy.write_text(copy.read_text("utf-8").replace("WatchdogSec=", "WatchDogSecs="), "utf-8")
    told = run(analyze, "verify", "--recursive-errors=yes", str(copy))
    assert "WatchDogSecs" in told.stderr
    assert told.returncode != 0


def test_the_unit_is_hardened(analyze: str, copy: Path) -> None:
    told = run(analyze, "security", "--offline=true", "--threshold=20", str(copy))
    assert told.returncode == 0, told.stdout


def test_a_wedged_lane_is_restarted_and_a_wrong_file_is_not() -> None:
    unit = settings()
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["always"]
    assert unit["WatchdogSec"] == ["30s"]
    assert unit["RestartPreventExitStatus"] == ["78"]


def test_no_secret_stands_in_the_unit_or_the_environment() -> None:
    unit = settings()
    assert unit["LoadCredential"][0].startswith("center.token:")
    assert not any("LANE__" in value for value in unit.get("Environment", []))
    assert "EnvironmentFile" not in unit


def test_a_child_may_lower_its_own_priority() -> None:
    """~@resources forbids setpriority(2), by which `os.nice` goes: every child would end there."""
    filters = settings()["SystemCallFilter"]
    assert "@resources" in filters[1]
    assert "setpriority" in filters[-1].split()


def test_the_kernel_may_be_asked_how_good_its_clock_is_and_never_told() -> None:
    """ProtectClock and @privileged both forbid adjtimex(2), with which one asks."""
    unit = settings()
    assert "ProtectClock" not in unit
    assert "adjtimex" in unit["SystemCallFilter"][-1].split()  # taken back after ~@privileged
    assert unit["CapabilityBoundingSet"] == [""]  # without CAP_SYS_TIME nobody sets it

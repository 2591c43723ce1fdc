"""gateway/__main__.py and support.py: what a person types, what comes back, and with which code."""

import json
import sqlite3
import subprocess
import sys
import tarfile
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import config, tls
from gateway.__main__ import main
from gateway.config import Settings
from gateway.flow import journal
from gateway.store import Draft, Store

GATEWAY = Path(config.__file__).parent
EXAMPLE = GATEWAY / "gateway.example.toml"
CARD, PLATE, SECRET = "62012045220000001234", "甘A00000", "h0rse-battery"


def typed(*arguments: str, environ: dict[str, str] | None = None) -> Any:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", **(environ or {})},
        cwd=GATEWAY.parent,
    )


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder with one passage of three rows in its journal."""
    folder = tmp_path / "data"
    folder.mkdir()
    store = await Store.open(folder / "lane.db")

    def fill(draft: Draft) -> None:
        for n in range(3):
            moment = journal.Moment(1_700_000_000_000 + n, n, "boot", "1001")
            journal.note(draft, "X03", "P-1", "tried", {"card": CARD, "plate": PLATE}, moment)

    await store.log(fill)
    await store.close()
    return folder


def test_help_is_chinese_and_names_every_command() -> None:
    told = typed("--help")
    assert told.returncode == 0
    for command in ("demo", "run", "check", "center", "journal", "support-bundle"):
        assert command in told.stdout
    assert "出口车道网关" in told.stdout


def test_a_wrong_configuration_ends_run_with_78_and_one_json_line(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(EXAMPLE.read_text("utf-8").replace("port = 8443", 'port = "8443"'), "utf-8")
    told = typed("run", str(file))
    assert told.returncode == 78
    line = json.loads(told.stderr)
    assert line["code"] == "config.invalid"
    assert line["detail"].startswith("第 14 行 lan.port：应为")


def test_a_missing_file_ends_run_with_78(tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "none.toml")]) == 78


def test_check_answers_through_the_command_line() -> None:
    told = typed("check", str(GATEWAY / "demo.toml"))
    assert told.returncode == 2
    assert told.stdout.startswith("PASS  配置：")
    assert "X03 读卡器" in told.stdout


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand-ins for the composition roots that note how they were called."""
    called: list[Any] = []
    demo, run = types.ModuleType("gateway.demo"), types.ModuleType("gateway.app")
    demo.main = lambda *given: called.append(given) or 7  # type: ignore[attr-defined]
    run.run = lambda given: called.append(given) or 8  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gateway.demo", demo)
    monkeypatch.setitem(sys.modules, "gateway.app", run)
    monkeypatch.setattr("gateway.runtime.log_to", lambda: None)  # this process logs elsewhere
    return called


def test_demo_has_its_defaults_and_takes_other_values(app: list[Any]) -> None:
    assert main(["demo"]) == 7
    given = ["--port", "1", "--data", "d", "--center-port", "2", "--center-url", "http://c"]
    assert main(["demo", *given]) == 7
    assert app == [(8080, None, 9090, None), (1, Path("d"), 2, "http://c")]


def test_run_hands_over_checked_settings(app: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANE__CENTER__TOKEN", SECRET)
    assert main(["run", str(EXAMPLE)]) == 8
    settings = app[0]
    assert isinstance(settings, Settings)
    assert settings.center.token is not None
    assert settings.center.token.get_secret_value() == SECRET


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", f"--port={port}"])
    assert ended.value.code == 2
    assert "端口应为整数 0 到 65535" in capsys.readouterr().err


def test_verify_tells_a_whole_journal_from_a_damaged_one(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "verify", str(data)]) == 0
    assert "完好" in capsys.readouterr().out
    with sqlite3.connect(data / "lane.db") as db:
        db.execute("UPDATE journal SET operator = '9999' WHERE seq = 2")
    db.close()
    assert main(["journal", "verify", str(data)]) == 1
    told = capsys.readouterr().out
    assert "lane.db 第 2 行" in told


def test_show_tells_the_story_with_numbers_masked(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "show", str(data), "P-1"]) == 0
    told = capsys.readouterr().out
    assert told.count("tried") == 3
    assert "6201****1234" in told
    assert CARD not in told
    assert main(["journal", "show", str(data), "P-2"]) == 1


def unpacked(file: Path) -> dict[str, str]:
    with tarfile.open(file) as tar:
        members = {m.name: tar.extractfile(m) for m in tar.getmembers()}
        return {name: body.read().decode() for name, body in members.items() if body}


def test_a_support_bundle_holds_what_helps_and_nothing_personal(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANE__CENTER__TOKEN", SECRET)
    monkeypatch.setenv("LANE__CAMERA__X03__URL", f"rtsp://admin:{SECRET}@192.168.3.20/1")
    tls.prepare(data / "tls", ["127.0.0.1"], datetime.now(UTC))
    out = tmp_path / "bundle.tar.gz"
    given = ["support-bundle", str(data), "--out", str(out), "--config", str(EXAMPLE)]
    assert main(given) == 0
    assert out.stat().st_mode & 0o777 == 0o600

    parts = unpacked(out)
    everything = "".join(parts.values())
    for personal in (SECRET, CARD, PLATE, "1001", "PRIVATE KEY"):
        assert personal not in everything, personal
    rows = [json.loads(line) for line in parts["lane-gateway/journal.ndjson"].splitlines()]
    assert [row["seq"] for row in rows] == [1, 2, 3]
    assert json.loads(parts["lane-gateway/store.json"])["counts"]["journal"] == 3
    assert json.loads(parts["lane-gateway/settings.json"])["center"]["token"] == "**********"
    assert json.loads(parts["lane-gateway/versions.json"])["python"]
    assert "ca_sha256" in parts["lane-gateway/certificates.json"]


def test_a_support_bundle_of_a_broken_box_still_comes(tmp_path: Path) -> None:
    out, empty = tmp_path / "bundle.tar.gz", tmp_path / "empty"
    empty.mkdir()
    (empty / "lane.db").write_bytes(b"garbage" * 1000)
    assert main(["support-bundle", str(empty), "--out", str(out)]) == 0
    parts = unpacked(out)
    assert "unavailable" in parts["lane-gateway/store.json"]
    assert "unavailable" in parts["lane-gateway/settings.json"]
    assert "lane-gateway/disk.json" in parts


def test_a_bundle_that_cannot_be_written_says_why(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "bundle.tar.gz"
    assert main(["support-bundle", str(data), "--out", str(out)]) == 1
    assert "写不了" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["--help"], ("pydantic", "aiohttp", "sqlite3", "asyncio", "cryptography")),
        (["journal", "verify", "/nowhere"], ("aiohttp", "cryptography", "smartcard", "cv2")),
    ],
)
def test_a_command_imports_only_what_it_needs(
    arguments: list[str], spared: tuple[str, ...]
) -> None:
    script = (
        "import sys\nfrom gateway.__main__ import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=GATEWAY.parent
    )
    assert set(spared) & set(told.stderr.split()) == set()

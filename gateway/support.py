"""lane-gateway support-bundle: what a maintainer needs from afar, and nothing personal.

Versions, settings with secrets as stars, the journal's tail without bodies, counts, certificate
dates, the service's own log lines. No plate, no card number, no operator leaves the box.
"""

import importlib.metadata
import io
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway import __version__, config, tls
from gateway.config import DATABASE
from gateway.errors import ConfigInvalid, GatewayError, TlsUnavailable
from gateway.runtime import mask
from gateway.units import Clock, iso

TAIL_ROWS = 2_000
LOG_LINES = 5_000
LOG_S_MAX = 10
UNIT = "lane-gateway.service"
COUNTED = ("journal", "passage", "record", "delivery", "batch", "evidence", "handheld", "shift")
PACKAGES = ("aiohttp", "aiosqlite", "cryptography", "pydantic", "pyscard", "opencv-python-headless")

Part = Callable[[], str]


def bundle(data: Path, out: Path, settings_file: Path | None, clock: Clock) -> list[str]:
    """Write `out` (tar.gz, 0600) and return the names inside it.

    A part that cannot be had is replaced by the reason why; the rest still comes.
    Raises: OSError, if `out` cannot be written.
    """
    parts: dict[str, Part] = {
        "versions.json": lambda: _json(_versions(clock)),
        "settings.json": lambda: _json(_settings(settings_file)),
        "store.json": lambda: _json(_store(data / DATABASE)),
        "journal.ndjson": lambda: _journal(data / DATABASE),
        "certificates.json": lambda: _json(_certificates(data / "tls")),
        "disk.json": lambda: _json(_disk(data)),
        "log.ndjson": _log,
    }
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, part in parts.items():
            _add(tar, name, _told(part), clock)
    return list(parts)


def _told(part: Part) -> str:
    try:
        return part()
    except (GatewayError, sqlite3.Error, OSError, subprocess.SubprocessError) as why:
        return _json({"unavailable": mask(str(why))})


def _add(tar: tarfile.TarFile, name: str, text: str, clock: Clock) -> None:
    body = text.encode()
    member = tarfile.TarInfo(f"lane-gateway/{name}")
    member.size, member.mode, member.mtime = len(body), 0o600, clock.now_ms() // 1000
    tar.addfile(member, io.BytesIO(body))


def _versions(clock: Clock) -> Mapping[str, Any]:
    return {
        "gateway": __version__,
        "at": iso(clock.now_ms()),
        "boot_id": clock.boot_id,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _settings(file: Path | None) -> Mapping[str, Any]:
    if file is None:
        raise ConfigInvalid("没有给出 --config")
    return config.masked(config.load(file))


def _reading(database: Path) -> "closing[sqlite3.Connection]":
    how = "mode=ro" if Path(f"{database}-wal").exists() else "mode=ro&immutable=1"
    db = sqlite3.connect(f"{database.absolute().as_uri()}?{how}", uri=True)
    db.row_factory = sqlite3.Row
    return closing(db)


def _store(database: Path) -> Mapping[str, Any]:
    with _reading(database) as db:
        counts = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in COUNTED}  # noqa: S608
        newest = db.execute("SELECT max(seq), max(at_ms) FROM journal").fetchone()
        unsent = db.execute(
            "SELECT count(*), min(saved_ms) FROM record LEFT JOIN delivery USING (lane, seq)"
            " WHERE verdict IS NULL"
        ).fetchone()
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = "SELECT name, version, effective_from_ms, fetched_ms, state, reason FROM parameter"
        parameters = [dict(row) for row in db.execute(tables)]
    return {
        "version": version,
        "bytes": {file.name: file.stat().st_size for file in database.parent.glob("lane.db*")},
        "counts": counts,
        "journal": dict(zip(("seq", "at_ms"), newest, strict=True)),
        "unsent": dict(zip(("count", "oldest_ms"), unsent, strict=True)),
        "parameters": parameters,
    }


def _journal(database: Path) -> str:
    """The newest rows' skeleton: when, where, what, whither. Bodies hold plates and cards."""
    query = (
        "SELECT seq, lane, passage_id, at_ms, mono_ms, boot_id, event, state"
        " FROM journal ORDER BY seq DESC LIMIT ?"
    )
    with _reading(database) as db:
        rows = [dict(row) for row in db.execute(query, (TAIL_ROWS,))]
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in reversed(rows))


def _certificates(folder: Path) -> Mapping[str, Any]:
    found = tls.inspect(folder)
    if found is None:
        raise TlsUnavailable("还没有证书")
    kept = ("ca_sha256", "ca_expires", "leaf_expires", "names")
    return {key: str(value) for key, value in asdict(found).items() if key in kept}


def _disk(data: Path) -> Mapping[str, Any]:
    return shutil.disk_usage(data)._asdict()


def _log() -> str:
    """The service's newest lines from journald, card numbers masked once more."""
    tool = shutil.which("journalctl")
    if tool is None:
        raise FileNotFoundError("journalctl")
    command = [tool, "-u", UNIT, "-o", "cat", "-n", str(LOG_LINES), "--no-pager"]
    told = subprocess.run(  # noqa: S603 - a fixed command
        command, capture_output=True, timeout=LOG_S_MAX, check=True
    )
    return mask(told.stdout.decode("utf-8", "replace"))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n"

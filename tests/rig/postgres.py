"""PostgreSQL of this machine, as Debian packs it: a cluster of its own in a folder of its own, on a
unix socket only, not as root, and gone with the test."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WAIT_S = 60.0
USER = "postgres"


def missing() -> str:
    """Why there is none here; empty if there is one."""
    if not _programs():
        return "postgresql is not installed (sh .ci/setup dev)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (sh .ci/setup dev)"
    return ""


def _programs() -> Path | None:
    """The newest version's."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    return found[-1] if found else None


class Cluster:
    def __init__(self, folder: Path) -> None:
        self._folder, self._process = folder, None
        programs = _programs()
        assert programs is not None
        self._programs = programs
        data = ["-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8"]
        made = ["--locale=C", "--no-sync", "--no-instructions"]
        self._run([str(programs / "initdb"), *data, *made])

    @property
    def dsn(self) -> str:
        return f"host={self._folder} user={USER} dbname=postgres"

    def schema(self) -> str:
        return schema(self.dsn)

    def start(self) -> None:
        program = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        settings = ["listen_addresses=", f"unix_socket_directories={self._folder}",
                    "shared_buffers=16MB", "max_connections=60"]  # fmt: skip
        for one in settings:
            program += ["-c", one]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            _as_user(program), stdout=log, stderr=log, cwd=self._folder, start_new_session=True
        )
        log.close()
        self._until_ready()

    def stop(self, how: int = signal.SIGINT) -> None:
        """SIGINT: connections are cut. SIGQUIT: as if killed; the next start recovers."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    _process: subprocess.Popen[bytes] | None

    def _until_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL was not ready in time"
                time.sleep(0.05)

    def _run(self, program: list[str]) -> None:
        subprocess.run(
            _as_user(program), check=True, cwd=self._folder, timeout=WAIT_S, capture_output=True
        )


def schema(dsn: str) -> str:
    """The DSN of an empty set of tables there."""
    import psycopg

    name = f"s{uuid.uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {name}".encode())
    return f"{dsn} options='-c search_path={name}'"


@contextmanager
def running() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="lane-pg-", dir="/tmp"))  # a socket's path is short
    try:
        if os.geteuid() == 0:
            of = pwd.getpwnam(USER)
            os.chown(folder, of.pw_uid, of.pw_gid)
        cluster = Cluster(folder)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _as_user(program: list[str]) -> list[str]:
    """It refuses to run as root. It ends with whoever started it."""
    who = ["--pdeathsig", "INT"]
    if os.geteuid() == 0:
        of = pwd.getpwnam(USER)
        who += [f"--reuid={of.pw_uid}", f"--regid={of.pw_gid}", "--clear-groups"]
    return ["setpriv", *who, *program]

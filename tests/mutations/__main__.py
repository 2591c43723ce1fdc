import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.catalogue import CATALOGUE, Mutation

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "shots")
SECONDS = 900
WORDS = ("FAILED tests/", "ERROR tests/")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations")
    parser.add_argument("names", nargs="*", help="only those whose name contains one of these")
    given = parser.parse_args()
    chosen = [m for m in CATALOGUE if not given.names or any(n in m.name for n in given.names)]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Path(folder)
        for name in ("gateway", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
        shutil.copy(ROOT / "pyproject.toml", copy)
        for mutation in chosen:
            begun = time.monotonic()
            noticed = tried(mutation, copy)
            survived += noticed is None
            took_s = time.monotonic() - begun
            print(f"{'noticed ' if noticed else 'SURVIVED'} {took_s:5.1f} s  {mutation.name}"
                  f"{': ' + noticed if noticed else ''}", flush=True)  # fmt: skip
    print(f"mutations   {len(chosen)}, survived {survived}")
    return 1 if survived else 0


def tried(mutation: Mutation, copy: Path) -> str | None:
    """The test that noticed, or None. Raises: AssertionError, if the safeguard is not there."""
    file = copy / mutation.file
    sound = file.read_text("utf-8")
    assert sound.count(mutation.old) == 1, f"{mutation.name}: not found in {mutation.file}"
    file.write_text(sound.replace(mutation.old, mutation.new, 1), "utf-8")
    try:
        return _first_failure(mutation.tests, copy)
    finally:
        file.write_text(sound, "utf-8")


def _first_failure(tests: tuple[str, ...], copy: Path) -> str | None:
    there = [test for test in tests if (copy / test).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *there]
    try:
        ran = subprocess.run(
            command, cwd=copy, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the tests came to no end in {SECONDS} s"
    if ran.returncode == 0:
        return None
    lines = ran.stdout.splitlines()
    failed = [line.split(" - ")[0] for line in lines if line.startswith(WORDS)]
    assert failed, f"the tests did not run: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    return failed[0].partition(" ")[2]


if __name__ == "__main__":
    sys.exit(main())

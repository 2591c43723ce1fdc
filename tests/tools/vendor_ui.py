"""Fetch the page's one vendored library and lock its bytes. Run by hand, never in the gateway.

`python -m tests.tools.vendor_ui` packs lit-html with npm, refuses a tarball whose sha512 is not
the one named here, unpacks only the listed files and writes vendor.lock.json beside this tool.
"""

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

NAME = "lit-html"
VERSION = "3.3.3"
INTEGRITY = "sha512-el8M6jK2o3RXBnrSHX3ZKrsN8zEV63pSExTO1wYJz7QndGYZ8353e2a5PPX+qHe2aGayfnchQmkAojaWAREOIA=="  # noqa: E501
FILES = ("lit-html.js", "LICENSE")
VENDOR = Path(__file__).parents[2] / "gateway" / "web" / "static" / "vendor"
LOCK = Path(__file__).with_name("vendor.lock.json")


def digest(algorithm: str, content: bytes) -> str:
    """In the form of Subresource Integrity: `sha384-<base64>`."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tarball = pack(Path(folder), NAME, VERSION)
        if digest("sha512", tarball.read_bytes()) != INTEGRITY:
            raise SystemExit(f"{NAME} {VERSION}: the tarball is not the one that was reviewed")
        files = {name: _unpack(tarball, name) for name in FILES}
    lock = {"name": NAME, "version": VERSION, "tarball": INTEGRITY, "files": files}
    LOCK.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")


def pack(folder: Path, name: str, version: str) -> Path:
    """The tarball as the registry has it."""
    subprocess.run(["npm", "pack", f"{name}@{version}"], cwd=folder, check=True, timeout=120)
    return folder / f"{name}-{version}.tgz"


def _unpack(tarball: Path, name: str) -> str:
    with tarfile.open(tarball) as archive:
        member = archive.extractfile(f"package/{name}")
        assert member is not None
        content = member.read()
    target = VENDOR / NAME / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return digest("sha384", content)


if __name__ == "__main__":
    main()

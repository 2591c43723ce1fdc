"""Fetch axe-core for the tests of the page and keep its bytes. Run by hand; nothing else uses npm.

`python -m tests.tools.vendor_axe` packs it with npm, refuses a tarball whose sha512 is not the one
named here, and keeps the one file the tests inject, with its licence (MPL-2.0), compressed.
"""

import gzip
import tarfile
import tempfile
from pathlib import Path

from tests.tools.vendor_ui import digest, pack

NAME, VERSION = "axe-core", "4.14.1"
INTEGRITY = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="  # noqa: E501
SCRIPT = "sha512-5j5ln5gG165b1AiZBDsIcaUGLFRCsBs/Gj7fXq9Qv1w6cQSnJGMpO0rRt3xmGg1OQOhQ3sid6dbs5wqME6mvFw=="  # noqa: E501
"""Of axe.min.js as it is in that tarball."""
KEPT = Path(__file__).parents[1] / "web" / "ui" / "axe-core"


def script() -> str:
    """The script to inject. Raises: AssertionError, if it is not the pinned one."""
    content = gzip.decompress((KEPT / "axe.min.js.gz").read_bytes())
    assert digest("sha512", content) == SCRIPT, "axe.min.js is not the one that was reviewed"
    return content.decode()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tarball = pack(Path(folder), NAME, VERSION)
        if digest("sha512", tarball.read_bytes()) != INTEGRITY:
            raise SystemExit(f"{NAME} {VERSION}: the tarball is not the one that was pinned")
        with tarfile.open(tarball) as archive:
            KEPT.mkdir(exist_ok=True)
            for name in ("axe.min.js", "LICENSE"):
                member = archive.extractfile(f"package/{name}")
                assert member is not None
                (KEPT / f"{name}.gz").write_bytes(gzip.compress(member.read(), 9, mtime=0))


if __name__ == "__main__":
    main()

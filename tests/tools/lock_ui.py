"""Write down the page's files as they are released, one SHA-256 a line.

`python -m tests.tools.lock_ui` after every change of the page. At its start the gateway compares
what it serves with this list; `GET /api/ui` and the versions' screen say what differs.
"""

from pathlib import Path

import gateway.web
from gateway.web.page import LOCK, digests

WEB = Path(gateway.web.__file__).parent


def text() -> str:
    found = digests(WEB / "static")
    return "".join(f"{digest}  {name}\n" for name, digest in found.items())


def main() -> None:
    (WEB / LOCK).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()

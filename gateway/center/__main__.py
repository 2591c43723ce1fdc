"""`python -m gateway.center`: the same as `lane-gateway center`, without importing the lane."""

import argparse
import os
import sys
from pathlib import Path

from gateway.center.main import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gateway.center", description="参考中心")
    parser.add_argument("--port", type=int, default=9090)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--parameters", type=Path)
    parser.add_argument("--allow-faults", action="store_true")
    parser.add_argument("--ends-with-stdin", action="store_true")
    given = parser.parse_args(argv)
    return run(
        given.port,
        given.db,
        given.parameters,
        os.environ.get("CENTER_TOKEN", ""),
        given.allow_faults,
        ends_with_stdin=given.ends_with_stdin,
        dsn=os.environ.get("CENTER_DSN", ""),
        nats=os.environ.get("CENTER_NATS", ""),
    )


if __name__ == "__main__":
    sys.exit(main())

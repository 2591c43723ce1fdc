"""The child: an order as JSON on stdin, the difference as JSON on stdout; 1 and why not."""

import json
import os
import sqlite3
import sys

from pydantic import ValidationError

from gateway.errors import ParameterInvalid
from gateway.rehearsal.child import Order, rehearse


def main() -> int:
    os.nice(19)
    try:
        told = rehearse(Order.model_validate_json(sys.stdin.buffer.read()))
    except ParameterInvalid as bad:
        sys.stdout.write(bad.detail)
        return 1
    except (OSError, sqlite3.Error, ValidationError) as no:
        sys.stdout.write(f"试算没有做成：{no}")
        return 1
    sys.stdout.write(json.dumps(told, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The child: one order as JSON on stdin; on stdout what was made, or exit code 1 and why not."""

import os
import sqlite3
import sys

from pydantic import ValidationError

from gateway.errors import ParameterInvalid
from gateway.faretable.compiler import Order, compile_table


def main() -> int:
    os.nice(19)
    try:
        about = compile_table(Order.model_validate_json(sys.stdin.buffer.read()))
    except ParameterInvalid as bad:
        sys.stdout.write(bad.detail)
        return 1
    except ValidationError as bad:
        sys.stdout.write(f"最小费额表的说明不对：{bad.errors()[0]['msg']}")
        return 1
    except (OSError, sqlite3.Error) as no:
        sys.stdout.write(f"最小费额表读写失败：{no}")
        return 1
    sys.stdout.write(about.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())

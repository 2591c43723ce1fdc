"""The child: one order as JSON on stdin; on stdout what was made, or why not (gateway/child.py)."""

import sys

from gateway.child import obey
from gateway.faretable.compiler import Order, compile_table


def main() -> int:
    return obey(Order, lambda order: compile_table(order).model_dump_json(), "最小费额表")


if __name__ == "__main__":
    sys.exit(main())

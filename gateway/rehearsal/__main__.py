"""The child: an order as JSON on stdin, the difference as JSON on stdout (gateway/child.py)."""

import json
import sys

from gateway.child import obey
from gateway.rehearsal.child import Order, rehearse


def main() -> int:
    return obey(Order, lambda order: json.dumps(rehearse(order), ensure_ascii=False), "试算")


if __name__ == "__main__":
    sys.exit(main())

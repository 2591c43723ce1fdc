"""Rows of the history, as the tables keep them."""

import json
from collections.abc import Mapping
from typing import Any

from tests.web.rig import Listener

CARD = "62012045220000123456"


async def insert(listener: Listener, table: str, **row: Any) -> None:
    places = ",".join("?" * len(row))
    sql = f"INSERT INTO {table} ({','.join(row)}) VALUES ({places})"
    await listener.parts.store.write(lambda db: db.execute(sql, tuple(row.values())).rowcount)


async def passage(listener: Listener, n: int, **other: Any) -> None:
    row = {
        "id": f"X03-P{n}",
        "lane": "X03",
        "state": "saved",
        "opened_ms": 1000 + n,
        "changed_ms": 2000 + n,
        "operator": "1001",
        "shift_id": 1,
        "plate": f"甘A1234{n % 10}",
        "card_id": CARD,
        "amount_fen": 4280,
        "ended": "saved",
        "record_id": f"R{n}",
    }
    await insert(listener, "passage", **{**row, **other})


async def record(
    listener: Listener, n: int, line: Mapping[str, Any] | None = None, **other: Any
) -> None:
    told = {"id": f"R{n}", "seq": n, "tac": "E5383359", "photo": None, "cardId": CARD}
    row = {
        "lane": "X03",
        "seq": n,
        "id": f"R{n}",
        "passage_id": f"X03-P{n}",
        "shift_id": 1,
        "kind": "paid",
        "means": "etc_card",
        "fee_fen": 4280,
        "card_id": CARD,
        "saved_ms": 3000 + n,
        "line": json.dumps({**told, **(line or {})}),
        "chain": "7F3A",
    }
    await insert(listener, "record", **{**row, **other})

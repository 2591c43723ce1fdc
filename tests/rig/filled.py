"""A data folder with as many records as a test wants, quickly: rows as the flow writes them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gateway.keys import prepare
from gateway.spool.tables import LaneHead, record_chain
from gateway.store import Draft, Store
from tests.sync.rig import record

AT_MS = 1_763_683_200_000  # 2025-11-21 08:00 in Beijing
EVERY_MS = 1000
PIECE = 200


async def fill(store: Store, count: int, lane: str = "X03", rows: int = 3, **changes: Any) -> None:
    """`count` more paid records of this lane, one a second, so many rows each."""
    left = count
    while left:
        piece = min(left, PIECE)
        add = partial(_add, count=piece, lane=lane, rows=rows, changes=changes)
        await store.log(add)
        left -= piece


async def filled(data: Path, counts: dict[str, int], rows: int = 3) -> str:
    """Make the folder; the box's public key."""
    data.mkdir(parents=True, exist_ok=True)
    public = prepare(data).public_hex
    store = await Store.open(data / "lane.db")
    for lane, count in counts.items():
        await fill(store, count, lane, rows)
    await store.close()
    return public


async def delivery(data: Path) -> dict[int, tuple[str, str]]:
    """Of lane X03: seq → (verdict, via)."""
    store = await Store.open(data / "lane.db")
    rows = await store.rows("SELECT seq, verdict, via FROM delivery WHERE lane = 'X03'")
    await store.close()
    return {row["seq"]: (row["verdict"], row["via"]) for row in rows}


def _add(draft: Draft, count: int, lane: str, rows: int, changes: dict[str, Any]) -> None:
    for _ in range(count):
        head = draft.lanes.get(lane, LaneHead())
        one = record(head.seq + 1, lane, prev_chain=head.chain, **changes)
        line = one.model_dump_json(by_alias=True)
        draft.lanes[lane] = LaneHead(one.seq, record_chain(head.chain, line), one.id)
        at_ms = AT_MS + one.seq * EVERY_MS
        passage = [at_ms, "1001", 1, "甘A12345", one.card_id, one.fee, "saved", "saved"]
        for _ in range(rows - 1):
            draft.add(lane, one.passage_id, (at_ms, 1, "boot", "1001"), "QuoteRequested", "agreed")
        draft.add(
            *(lane, one.passage_id, (at_ms, 1, "boot", "1001"), "DebitConfirmed", "saved", "{}"),
            {"passage": passage, "record": [one.id, at_ms]},
            line,
        )


__all__: Sequence[str] = ("AT_MS", "delivery", "fill", "filled")

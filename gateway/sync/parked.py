"""The desk of refused records: what the centre said of them, and sending one once more.

Nothing is ever deleted or edited here. What was wrong in a record is put right by a new one that
corrects it (flow/corrections.py) and goes by itself; a record that was right is sent again as it
is, when the centre has mended its rules.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.errors import NotFound, UnexpectedEvent
from gateway.store import Draft, Store
from gateway.sync.outbox import Outbox
from gateway.units import Clock

RESENT = "record_resent"
FIND = "SELECT lane, seq, passage_id FROM record WHERE id = ?"


class ParkedDesk:
    """For station masters."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        approve: Callable[[str, str], Awaitable[Any]],
        clock: Clock,
    ) -> None:
        """`approve(number, password)`: the station master who gave it, or raises."""
        self._store, self._outbox, self._approve = store, outbox, approve
        self._clock = clock

    async def parked(self) -> list[dict[str, Any]]:
        """As `Ledger.parked`, of all lanes."""
        return await self._outbox.parked()

    async def resend(
        self, record_id: str, master: str, password: str, reason: str, operator: str
    ) -> dict[str, Any]:
        """Send a refused record once more, byte for byte; journaled. Twice is once.

        Returns `{lane, seq, id, state}`. Raises: NotFound; UnexpectedEvent, if it is not refused;
        MasterRefused, OperatorLocked; StoreUnavailable.
        """
        rows = await self._store.rows(FIND, record_id)
        if not rows:
            raise NotFound("没有这条流水")
        lane, seq, passage_id = rows[0]["lane"], rows[0]["seq"], rows[0]["passage_id"]
        by = await self._approve(master, password)
        if not await self._outbox.is_refused(lane, seq):
            raise self._needless()
        body = {"record": record_id, "seq": seq, "by": by.number, "reason": reason.strip()}
        text = json.dumps(body, ensure_ascii=False)
        clock = self._clock
        moment = clock.now_ms(), clock.monotonic_ms(), clock.boot_id, operator

        def entry(draft: Draft) -> None:
            draft.add(lane, passage_id, moment, RESENT, "", text)

        await self._store.log(entry)  # first; cut off behind it, the record is asked for again
        if not await self._outbox.resend(lane, seq):
            raise self._needless()  # it was taken meanwhile
        return {"lane": lane, "seq": seq, "id": record_id, "state": "resending"}

    def _needless(self) -> UnexpectedEvent:
        return UnexpectedEvent("这条流水没有被退回，不用重传", "请刷新后再看")

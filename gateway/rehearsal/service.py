"""Rehearses each staged table once, keeps what came of it, and tells the centre until it has it."""

import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.child import OrderRefused, ask
from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.params import Package
from gateway.rehearsal.child import Held, Order
from gateway.store import Store
from gateway.sync.center import CenterClient
from gateway.sync.shelf import ParameterShelf
from gateway.units import Clock, iso

log = logging.getLogger(__name__)

TABLES = frozenset({"minimum_fares", "stations", "vehicle_types", "vehicle_classes", "policy"})
"""Those that a fare depends on."""
POLL_S = 60.0
PASSAGES_MAX = 5000
CHILD, CHILD_S_MAX = "gateway.rehearsal", 1800.0
MARK = "rehearsal "
KEPT = 8


class Rehearsals:
    """Its rows are the marks whose name begins with `rehearsal`."""

    name = "rehearsals"

    def __init__(
        self,
        store: Store,
        database: Path,
        shelf: ParameterShelf,
        client: CenterClient,
        lane: str,
        clock: Clock,
        on_change: Callable[[], None] = lambda: None,
        *,
        poll_s: float = POLL_S,
        passages_max: int = PASSAGES_MAX,
    ) -> None:
        """`lane`: the name by which the centre knows this box."""
        self._store, self._database, self._shelf, self._client = store, database, shelf, client
        self._lane, self._clock, self._on_change = lane, clock, on_change
        self._poll_s, self._passages_max = poll_s, passages_max
        self._failed: set[tuple[str, str, str]] = set()

    async def run(self) -> None:
        await self.recall()
        while True:
            try:
                await self.step()
            except (CenterUnavailable, StoreUnavailable) as no:
                log.info("rehearsal not kept or not sent", extra={"reason": no.detail})
            await self._clock.sleep(self._poll_s)

    async def recall(self) -> None:
        """Those of earlier lives are shown again."""
        for report in await self._reports():
            self._shelf.rehearsed(report)

    async def step(self) -> None:
        """Rehearse what is staged and not rehearsed against what is in force now; send what the
        centre does not have. Raises: CenterUnavailable; StoreUnavailable."""
        reports = {(r["table"], r["version"]): r for r in await self._reports()}
        coming = [] if self._shelf.lacks_fares else self._shelf.upcoming()
        for package in coming:
            against = self._shelf.current().versions
            done = reports.get((package.name, package.version))
            if package.name not in TABLES or (done and done["against"] == against[package.name]):
                continue
            if report := await self._rehearse(package, against[package.name]):
                await self._keep(report)
                self._shelf.rehearsed(report)
                self._on_change()
        await self._send()

    # ---- inside ----

    async def _rehearse(self, package: Package, against: str) -> dict[str, Any] | None:
        key = (package.name, package.version, against)
        if key in self._failed:
            return None
        order = Order(
            database=self._database,
            passages_max=self._passages_max,
            in_force=tuple(Held.of(one) for one in self._shelf.in_force()),
            coming=Held.of(package),
        )
        try:
            told: dict[str, Any] = json.loads(await ask(CHILD, order, CHILD_S_MAX))
        except (OrderRefused, OSError) as no:
            self._failed.add(key)
            log.error("a table could not be rehearsed", extra={"reason": str(no)})
            return None
        log.info("table rehearsed", extra={"table": package.name, "passages": told["passages"]})
        return {
            "lane": self._lane,
            "table": package.name,
            "version": package.version,
            "against": against,
            "effective_from": iso(package.effective_from_ms),
            "at": iso(self._clock.now_ms()),
            **told,
        }

    async def _send(self) -> None:
        for report in await self._reports():
            if not report.pop("is_sent", False):
                await self._client.rehearsal(report)
                await self._keep({**report, "is_sent": True})

    async def _reports(self) -> list[dict[str, Any]]:
        sql = "SELECT value FROM sync_mark WHERE name LIKE ? ORDER BY at_ms, name"
        return [json.loads(row["value"]) for row in await self._store.rows(sql, f"{MARK}%")]

    async def _keep(self, report: dict[str, Any]) -> None:
        name = f"{MARK}{report['table']} {report['version']}"
        row = (name, json.dumps(report, ensure_ascii=False), self._clock.now_ms())

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO sync_mark (name, value, at_ms) VALUES (?, ?, ?)", row
            )
            db.execute(
                "DELETE FROM sync_mark WHERE name IN (SELECT name FROM sync_mark WHERE name LIKE ?"
                " ORDER BY at_ms DESC LIMIT -1 OFFSET ?)",
                (f"{MARK}%", KEPT),
            )

        await self._store.write(work)

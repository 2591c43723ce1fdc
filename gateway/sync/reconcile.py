"""Reconciliation: of each shift and each day both sides say what they hold, and sign it.

Where they differ the lane narrows it down to the record by itself: what the centre lacks is sent
again; what it holds otherwise, or holds and should not, only people can settle: it is journaled
and shown, and such a shift is compared again once an hour. A statement that gets no answer is put
off for a minute, and holds up neither later ones nor other lanes.
"""

import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.keys import Signer, is_signed
from gateway.store import Draft, Store
from gateway.sync.center import CenterClient, Compared, NotAVerdict
from gateway.sync.ledger import Ledger, keep_mark
from gateway.sync.outbox import Outbox
from gateway.tally import Statement, Tally, signed_bytes, split
from gateway.units import BEIJING, Clock, beijing

log = logging.getLogger(__name__)

POLL_S = 60.0
AGAIN_MS = 3_600_000  # a difference that people must settle is looked at hourly
MENDED_AGAIN_MS = 60_000
ASKED_AGAIN_MS = 60_000
PARTS = 16  # of a range that differs; 64 ranges fit one question
ASKED_AT_ONCE = 64
FOUND_MAX = 200  # of one statement; the rest follows when these are mended
PAGE = 500
DONE, DIFFERS = "reconciled", "reconcile_differs"

LINES = """
SELECT r.seq, r.id, r.line, d.verdict FROM record r
LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq
WHERE r.lane = ? AND r.seq BETWEEN ? AND ? ORDER BY r.seq LIMIT ?
"""
_OF_SHIFT = "FROM record r WHERE r.shift_id = s.id AND r.lane = ?1 AND r.corrects IS NULL"
SHIFTS = f"""
SELECT s.id, (SELECT min(seq) {_OF_SHIFT}) AS first_seq, (SELECT max(seq) {_OF_SHIFT}) AS last_seq
FROM shift s
WHERE s.lane = ?1 AND s.closed_ms IS NOT NULL AND EXISTS (SELECT 1 {_OF_SHIFT})
AND NOT EXISTS (
  SELECT 1 FROM sync_mark m WHERE m.at_ms > ?2 AND m.name IN
  ('reconcile:' || ?1 || ':shift:' || s.id, 'unanswered:' || ?1 || ':shift:' || s.id))
ORDER BY s.id LIMIT 1
"""  # noqa: S608 - the one shift is found first: grouped, a year's records would be read for it
SHOWN = """
SELECT value FROM sync_mark WHERE name LIKE 'reconcile:%'
ORDER BY json_extract(value, '$.at_ms') DESC, name LIMIT ?
"""
"""A mark's own `at_ms` says when it may be compared again."""
UNANSWERED = """
SELECT value FROM sync_mark
WHERE name > 'unanswered:' || ?1 || ':day:' AND name < 'unanswered:' || ?1 || ':day;'
AND at_ms <= ?2 ORDER BY name LIMIT 1
"""


class Period(NamedTuple):
    """What is compared: a shift's records, or a day's."""

    of: Literal["shift", "day"]
    name: str
    first_seq: int
    last_seq: int


class Finding(NamedTuple):
    """One record in which both sides differ."""

    seq: int
    what: Literal["lost", "altered", "extra"]


class Reconciler:
    """One period a lane at a time, oldest first, once all of it is delivered."""

    name = "reconciliation"

    def __init__(
        self,
        store: Store,
        client: CenterClient,
        outbox: Outbox,
        lanes: Sequence[str],
        clock: Clock,
        signer: Callable[[], Signer | None],
        center_key: Callable[[], bytes | None],
    ) -> None:
        """`signer`: of this box; without one nothing is compared. `center_key`: 32 bytes, if the
        centre's key is known; then its signature must be right."""
        self._store, self._client, self._outbox = store, client, outbox
        self._ledger, self._clock = Ledger(store), clock
        self.lanes = list(lanes)
        self._signer, self._center_key = signer, center_key

    async def run(self) -> None:
        while True:
            try:
                await self.compare_due()
            except (CenterUnavailable, StoreUnavailable) as no:
                log.info("no reconciliation", extra={"reason": no.detail})
            await self._clock.sleep(POLL_S)

    async def compare_due(self) -> int:
        """Compare every period that is over and delivered; how many were.

        Raises: CenterUnavailable, StoreUnavailable. What was not answered is raised when the
        others are through.
        """
        count, unanswered = 0, None
        for lane in self.lanes:
            while period := await self._due(lane):
                try:
                    if not await self.compare(lane, period):
                        break
                    count += 1
                except NotAVerdict as no:
                    unanswered = no
                    await self._put_off(lane, period, no.detail)
        if unanswered is not None:
            raise unanswered
        return count

    async def shown(self, limit: int = 60) -> list[dict[str, Any]]:
        """The newest ones: `{lane, of, name, agrees, first_seq, last_seq, count, sum_fen, ours,
        theirs, findings: [{seq, what}], at_ms}`."""
        return [json.loads(row["value"]) for row in await self._store.rows(SHOWN, limit)]

    async def compare(self, lane: str, period: Period) -> bool:
        """Compare one. False if this centre cannot, or this box has no key."""
        signer = self._signer()
        if signer is None:
            return False
        mine = await self._statement(lane, period)
        body = {
            "statement": mine.model_dump(mode="json"),
            "key": signer.public_hex,
            "signature": signer.sign(signed_bytes(mine)).hex(),
        }
        told = await self._client.reconcile(body)
        if told is None:
            return False
        self._check(told)
        found = [] if told.ours == mine else await self._narrow(lane, period)
        shown = _shown(lane, period, mine, told, found)
        await self._journal(shown)  # first; cut off behind it, the period is compared again
        await self._owe_photos(told.photos_missing)
        if lost := [one.seq for one in found if one.what == "lost"]:
            await self._outbox.owe_lost(lane, lost)
        await self._keep(lane, period, shown)
        return True

    # ---- which ----

    async def _due(self, lane: str) -> Period | None:
        for due in (self._shift_due, self._day_due, self._day_put_off):
            period = await due(lane)
            if period is not None and await self._is_delivered(lane, period):
                return period
        return None

    async def _shift_due(self, lane: str) -> Period | None:
        """The oldest closed shift that was not compared, or is to be compared again."""
        rows = await self._store.rows(SHIFTS, lane, self._clock.now_ms())
        if not rows:
            return None
        return Period("shift", str(rows[0]["id"]), rows[0]["first_seq"], rows[0]["last_seq"])

    async def _day_due(self, lane: str) -> Period | None:
        """The records behind the last day that agreed, up to the end of their first one's day."""
        mark = await self._mark(f"reconciled-days:{lane}")
        first_seq = mark.get("last_seq", 0) + 1
        sql = "SELECT seq, saved_ms FROM record WHERE lane = ? AND seq >= ? ORDER BY seq LIMIT 1"
        rows = await self._store.rows(sql, lane, first_seq)
        if not rows:
            return None
        day = beijing(rows[0]["saved_ms"]).date()
        end_ms = _midnight_ms(day + timedelta(days=1))
        if self._clock.now_ms() < end_ms or not await self._may_again(lane, day):
            return None
        sql = "SELECT max(seq) AS seq FROM record WHERE lane = ? AND seq >= ? AND saved_ms < ?"
        last = await self._store.rows(sql, lane, first_seq, end_ms)
        return Period("day", day.isoformat(), rows[0]["seq"], last[0]["seq"])

    async def _day_put_off(self, lane: str) -> Period | None:
        """One that was not answered, once it may be asked about again."""
        rows = await self._store.rows(UNANSWERED, lane, self._clock.now_ms())
        return Period(*json.loads(rows[0]["value"])["period"]) if rows else None

    async def _may_again(self, lane: str, day: date) -> bool:
        rows = await self._store.rows(
            "SELECT at_ms FROM sync_mark WHERE name = ?", f"reconcile:{lane}:day:{day}"
        )
        return not rows or bool(rows[0]["at_ms"] <= self._clock.now_ms())

    async def _is_delivered(self, lane: str, period: Period) -> bool:
        owed = await self._ledger.owed(lane, period.first_seq - 1, 1)
        return not owed or owed[0].line.seq > period.last_seq

    # ---- what ----

    async def _statement(self, lane: str, period: Period) -> Statement:
        tally = Tally()
        await self._read(lane, period.first_seq, period.last_seq, tally)
        return tally.told(lane, *period)

    async def _read(self, lane: str, first: int, last: int, tally: Tally) -> None:
        """In pages, so that a day is never in memory."""
        while rows := await self._store.rows(LINES, lane, first, last, PAGE):
            for row in rows:
                if row["verdict"] == "refused":
                    tally.add_stub(row["seq"], row["id"])
                else:
                    tally.add(row["seq"], row["id"], row["line"].encode())
            first = rows[-1]["seq"] + 1

    async def _digest(self, lane: str, first: int, last: int) -> str:
        tally = Tally()
        await self._read(lane, first, last, tally)
        return tally.told(lane, "day", "", first, last).digest

    async def _narrow(self, lane: str, period: Period) -> list[Finding]:
        """By halves of halves, many questions at once, down to single records."""
        found = list[Finding]()
        open_ = [(period.first_seq, period.last_seq)]
        while open_ and len(found) < FOUND_MAX:
            parts = [part for one in open_ for part in split(*one, PARTS)]
            open_ = []
            for at in range(0, len(parts), ASKED_AT_ONCE):
                asked = parts[at : at + ASKED_AT_ONCE]
                for part, theirs in zip(
                    asked, await self._client.digests(lane, asked), strict=True
                ):
                    if theirs == await self._digest(lane, *part):
                        continue
                    if part[0] < part[1]:
                        open_.append(part)
                    else:
                        found.append(await self._finding(lane, part[0], theirs))
        return found[:FOUND_MAX]

    async def _finding(self, lane: str, seq: int, theirs: str) -> Finding:
        """A stub where we have the whole record, or the other way round, is mended by sending."""
        rows = await self._store.rows(LINES, lane, seq, seq, 1)
        if not rows:
            return Finding(seq, "extra")
        record_id = rows[0]["id"]
        stub, whole = Tally(), Tally()
        stub.add_stub(seq, record_id)
        whole.add(seq, record_id, rows[0]["line"].encode())
        can_mend = {Tally(), stub, whole}
        known = {one.told(lane, "day", "", seq, seq).digest for one in can_mend}
        return Finding(seq, "lost" if theirs in known else "altered")

    # ---- then ----

    def _check(self, told: Compared) -> None:
        """Raises: CenterUnavailable, if somebody else signed."""
        if (key := self._center_key()) is None:
            return
        try:
            signature = bytes.fromhex(told.signature)
        except ValueError:
            signature = b""
        if not is_signed(key, signed_bytes(told.ours), signature):
            raise NotAVerdict("对账回答不是中心签的")

    async def _owe_photos(self, missing: Sequence[str]) -> None:
        """Those we took for delivered are sent again."""
        drop = "DELETE FROM evidence_delivery WHERE sha256 = ?"
        if missing:
            names = [(name,) for name in missing]
            await self._store.write(lambda db: db.executemany(drop, names).rowcount)

    async def _journal(self, shown: dict[str, Any]) -> None:
        """If it is news."""
        before = await self._mark(_name(shown))
        if before.get("findings") == shown["findings"]:
            return
        clock = self._clock
        moment = clock.now_ms(), clock.monotonic_ms(), clock.boot_id, ""
        keys = ("of", "name", "first_seq", "last_seq", "count", "sum_fen", "findings")
        body = json.dumps({key: shown[key] for key in keys}, ensure_ascii=False)

        def entry(draft: Draft) -> None:
            draft.add(shown["lane"], "", moment, DONE if shown["agrees"] else DIFFERS, "", body)

        await self._store.log(entry)

    async def _keep(self, lane: str, period: Period, shown: dict[str, Any]) -> None:
        """What came of it, for people and for the next time. What sending did not mend once, or
        no record explains, is theirs too."""
        now_ms, agrees, found = self._clock.now_ms(), shown["agrees"], shown["findings"]
        is_news = (await self._mark(_name(shown))).get("findings") != found
        is_mended = is_news and all(one["what"] == "lost" for one in found)
        pause_ms = MENDED_AGAIN_MS if is_mended else AGAIN_MS
        next_ms = 1 << 62 if agrees else now_ms + pause_ms
        text = json.dumps({**shown, "at_ms": now_ms}, ensure_ascii=False)
        is_past = agrees or not is_mended  # no day waits for people

        def work(db: sqlite3.Connection) -> None:
            keep_mark(db, _name(shown), text, next_ms)
            if is_past:
                db.execute("DELETE FROM sync_mark WHERE name = ?", (_unanswered(lane, period),))
                _pass(db, lane, period, now_ms)
            else:
                again = "UPDATE sync_mark SET at_ms = ? WHERE name = ?"
                db.execute(again, (next_ms, _unanswered(lane, period)))

        await self._store.write(work)

    async def _put_off(self, lane: str, period: Period, reason: str) -> None:
        """Somebody answered, but not with a statement."""
        now_ms = self._clock.now_ms()
        facts = {"lane": lane, "of": period.of, "period": period.name, "reason": reason}
        log.warning("a statement got no answer", extra=facts)
        told = json.dumps({"period": period, "reason": reason}, ensure_ascii=False)

        def work(db: sqlite3.Connection) -> None:
            keep_mark(db, _unanswered(lane, period), told, now_ms + ASKED_AGAIN_MS)
            _pass(db, lane, period, now_ms)

        await self._store.write(work)

    async def _mark(self, name: str) -> dict[str, Any]:
        rows = await self._store.rows("SELECT value FROM sync_mark WHERE name = ?", name)
        told: dict[str, Any] = json.loads(rows[0]["value"]) if rows else {}
        return told


def _shown(
    lane: str, period: Period, mine: Statement, told: Compared, found: Sequence[Finding]
) -> dict[str, Any]:
    """As `Reconciler.shown`, without the time."""
    return {
        "lane": lane, **period._asdict(), "agrees": told.ours == mine, "count": mine.count,
        "sum_fen": mine.sum_fen, "ours": mine.model_dump(mode="json"),
        "theirs": told.ours.model_dump(mode="json"), "signature": told.signature,
        "findings": [one._asdict() for one in found],
    }  # fmt: skip


def _name(shown: dict[str, Any]) -> str:
    """Of its mark."""
    return f"reconcile:{shown['lane']}:{shown['of']}:{shown['name']}"


def _unanswered(lane: str, period: Period) -> str:
    """Name of the mark that a period is to be asked about again."""
    return f"unanswered:{lane}:{period.of}:{period.name}"


def _pass(db: sqlite3.Connection, lane: str, period: Period, now_ms: int) -> None:
    """The next day begins behind this one. Never backwards."""
    if period.of != "day":
        return
    name = f"reconciled-days:{lane}"
    row = db.execute("SELECT value FROM sync_mark WHERE name = ?", (name,)).fetchone()
    before = json.loads(row[0])["last_seq"] if row else 0
    keep_mark(db, name, json.dumps({"last_seq": max(before, period.last_seq)}), now_ms)


def _midnight_ms(day: date) -> int:
    at = datetime(day.year, day.month, day.day, tzinfo=BEIJING)
    return round(at.timestamp() * 1000)

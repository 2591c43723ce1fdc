"""Fetches big status lists: a full one, then the deltas behind it, and keeps them proved.

A list is streamed into a file and taken up again where a broken line left it, so neither its size
nor a bad line costs memory or starts it over. Independent of the other tables, the outbox and
selling. What is wrong with a list is reported and changes nothing.
"""

import asyncio
import logging
from collections.abc import Sequence

from gateway.errors import CenterUnavailable, ParameterInvalid, StoreUnavailable
from gateway.statuslist.archive import Archive
from gateway.statuslist.form import Head, rank
from gateway.sync.center import CenterClient, ManifestEntry
from gateway.sync.fetch import fetch_into, sha256_of
from gateway.sync.shelf import ParameterShelf
from gateway.units import Clock, moment_ms

log = logging.getLogger(__name__)

POLL_S = 60.0
SCRUB_S = 0.5
"""Between two pieces of 256 KB: a list of 800 MB is proved once in half an hour."""
HEAVY = 4
"""Deltas of more than a quarter of the full list's size ask for a new full one."""


class StatusLists:
    """Follows the centre's lists into the archive."""

    name = "status lists"

    def __init__(
        self,
        archive: Archive,
        shelf: ParameterShelf,
        client: CenterClient,
        clock: Clock,
        *,
        poll_s: float = POLL_S,
        scrub_s: float = SCRUB_S,
    ) -> None:
        self._archive, self._shelf, self._client, self._clock = archive, shelf, client, clock
        self._poll_s, self._scrub_s = poll_s, scrub_s
        self._entries: Sequence[ManifestEntry] = ()
        self._hint = asyncio.Event()

    def offer(self, entries: Sequence[ManifestEntry]) -> None:
        """What the centre's manifest has of lists now."""
        self._entries = entries
        self._hint.set()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._prove())
        finally:
            self._archive.interrupt()

    async def fetch(self) -> bool:
        """All that is news, oldest first. True if all of it was good.

        Raises: CenterUnavailable; StoreUnavailable.
        """
        await self._choose()
        for entry in plan(self._entries, self._archive):
            if not await self._fetch(entry):
                return False
            await self._choose()
            await self._join()
        if self._entries and not self._archive.is_damaged:
            await self._shelf.confirm(["status_list"])
        return True

    # ---- inside ----

    async def _follow(self) -> None:
        while True:
            self._hint.clear()
            try:
                await self.fetch()
            except (CenterUnavailable, StoreUnavailable) as no:
                log.info("status list not refreshed", extra={"reason": no.detail})
            waits = [
                asyncio.ensure_future(self._hint.wait()),
                asyncio.ensure_future(self._clock.sleep(self._poll_s)),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    async def _prove(self) -> None:
        """The lists from the disk, a piece at a time, for ever."""
        while True:
            pieces = self._archive.scrub()
            while await asyncio.to_thread(next, pieces, 0):
                await self._clock.sleep(self._scrub_s)
            if self._archive.is_damaged:
                self._hint.set()
            await self._clock.sleep(self._poll_s)

    async def _choose(self) -> None:
        if await asyncio.to_thread(self._archive.choose, self._clock.now_ms()):
            self._shelf.relist()

    async def _join(self) -> None:
        try:
            while await asyncio.to_thread(self._archive.join, self._clock.now_ms()):
                pass
        except (OSError, ParameterInvalid) as bad:
            log.error("deltas of a status list not joined", extra={"reason": str(bad)})

    async def _fetch(self, entry: ManifestEntry) -> bool:
        part = self._archive.room(f"{entry.base}-{entry.version}")
        try:
            await fetch_into(self._client, entry, part)
            if await asyncio.to_thread(sha256_of, part) != entry.sha256.lower():
                raise ParameterInvalid(f"状态名单 {entry.version} 校验和不符")
            now_ms = self._clock.now_ms()
            await asyncio.to_thread(self._archive.take, part, now_ms, lambda h: _same(h, entry))
        except ParameterInvalid as bad:
            await asyncio.to_thread(part.unlink, missing_ok=True)
            await self._shelf.refuse(entry, bad.detail)
            return False
        except OSError as no:
            log.error("status list not kept", extra={"reason": no.strerror})
            return False
        await self._shelf.took(entry)
        self._shelf.relist()
        return True


def plan(entries: Sequence[ManifestEntry], archive: Archive) -> list[ManifestEntry]:
    """What to fetch, in order, to have the newest list; nothing, if that is here."""
    have, lists = archive.newest, [(one, key) for one in entries if (key := _rank(one))]
    if not lists:
        return []
    top = max(key for _, key in lists)
    if have and not archive.is_damaged:
        if top <= have.rank:
            fulls = [one for one, key in lists if not one.base and key == have.rank]
            return fulls[:1] if _is_heavy(archive) else []
        on = _chain(have.version, have.rank, lists)
        if on and _rank(on[-1]) == top:
            return on
    ways = [[full, *_chain(full.version, key, lists)] for full, key in lists if not full.base]
    ways = [way for way in ways if not have or _end(way) >= have.rank or archive.is_damaged]
    return max(ways, key=lambda way: (_end(way), -len(way)), default=[])


def _chain(
    version: str, key: tuple[int, str], lists: Sequence[tuple[ManifestEntry, tuple[int, str]]]
) -> list[ManifestEntry]:
    chain: list[ManifestEntry] = []
    while nexts := [(k, one) for one, k in lists if one.base == version and k > key]:
        key, entry = max(nexts, key=lambda pair: pair[0])
        version = entry.version
        chain.append(entry)
    return chain


def _end(way: Sequence[ManifestEntry]) -> tuple[int, str]:
    end = _rank(way[-1])
    assert end is not None
    return end


def _is_heavy(archive: Archive) -> bool:
    serving = archive.serving
    if serving is None or not serving.deltas:
        return False
    deltas = sum(one.head.size for one in serving.deltas)
    return deltas * HEAVY > serving.full.head.size


def _rank(entry: ManifestEntry) -> tuple[int, str] | None:
    try:
        return rank(moment_ms(entry.effective_from), entry.version)
    except ValueError:
        log.error("manifest entry is malformed", extra={"table": entry.name})
        return None


def _same(head: Head, entry: ManifestEntry) -> None:
    told = (entry.version, entry.base, moment_ms(entry.effective_from))
    if (head.version, head.base, head.effective_from_ms) != told:
        raise ParameterInvalid(f"状态名单 {entry.version} 的文件头与目录不符")

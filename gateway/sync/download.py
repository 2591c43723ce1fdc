"""Looks for newer parameter packages, for ever. Independent of the outbox and of selling."""

import logging

from gateway.errors import CenterUnavailable, ParameterInvalid, StoreUnavailable
from gateway.statuslist.form import rank
from gateway.sync.center import CenterClient, ManifestEntry, NotAVerdict, TooLong
from gateway.sync.fetch import fetch_into
from gateway.sync.lists import StatusLists
from gateway.sync.scrutiny import SIZE_MAX
from gateway.sync.shelf import ParameterShelf as ParameterShelf
from gateway.sync.shelf import public_key as public_key
from gateway.units import Clock, moment_ms

log = logging.getLogger(__name__)

POLL_S = 60.0


class Downloads:
    """Conditional fetch of the manifest, then of what is news in it."""

    name = "downloads"

    def __init__(
        self,
        shelf: ParameterShelf,
        client: CenterClient,
        clock: Clock,
        *,
        lists: StatusLists | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        """`lists`: hears of big status lists, and fetches them at its own pace."""
        self._lists = lists
        self._shelf, self._client, self._clock, self._poll_s = shelf, client, clock, poll_s
        self._etag = ""
        self._entries: list[ManifestEntry] = []
        self._unread: set[str] = set()
        """Tables of which the manifest says something that cannot be believed."""

    async def run(self) -> None:
        while True:
            try:
                await self.fetch()
            except (CenterUnavailable, StoreUnavailable) as no:
                log.info("parameters not refreshed", extra={"reason": no.detail})
            await self._clock.sleep(self._poll_s)

    async def fetch(self) -> bool:
        """One round. True if every package that is news was good.

        Raises: CenterUnavailable. A broken package is tried again in the next round.
        """
        manifest = await self._client.manifest(self._etag)
        if manifest is not None:
            self._etag = manifest.etag
            self._entries = [one for one in manifest.entries if one.format == "json"]
            big = [one for one in manifest.entries if one.format == "list"]
            self._unread = {one.name for one in manifest.unread}
            for one in manifest.unread:
                self._shelf.leave_out(*one)
            if self._lists is not None:
                self._lists.offer([one for one in big if one.name == "status_list"])
        broken = self._unread | await self._take_news()
        names = {entry.name for entry in self._entries}
        if sound := names - broken:
            await self._shelf.confirm(sound)
        return not broken

    async def _take_news(self) -> set[str]:
        """One package after another, oldest first: a delta's base may be among them. Tables of
        which something was not good, or could not be had."""
        tried: set[tuple[str, str]] = set()
        broken: set[str] = set()
        while news := self._news(tried):
            entry = min(news, key=lambda e: (not self._shelf.can_apply(e), *_order(e)))
            tried.add((entry.sha256, entry.base))
            if not self._shelf.can_apply(entry):
                told = f"参数 {entry.name} 版本 {entry.version} 的基础版本 {entry.base} 不在本机"
                await self._shelf.refuse(entry, told)
                broken.add(entry.name)
            elif not await self._fetch(entry):
                broken.add(entry.name)
        return broken

    def _news(self, tried: set[tuple[str, str]]) -> list[ManifestEntry]:
        """What is worth fetching now. Where a version comes in two ways, the delta if it can be
        used, else the full one."""
        fresh = [entry for entry in self._entries if (entry.sha256, entry.base) not in tried]
        wanted = [entry for entry in fresh if self._wants(entry)]
        usable = [entry for entry in wanted if self._shelf.can_apply(entry)] or wanted
        chosen: dict[tuple[str, str], ManifestEntry] = {}
        for entry in usable:
            key = (entry.name, entry.version)
            if key not in chosen or entry.base:
                chosen[key] = entry
        return list(chosen.values())

    def _wants(self, entry: ManifestEntry) -> bool:
        try:
            return self._shelf.wants(entry)
        except ValueError:
            log.error("manifest entry is malformed", extra={"table": entry.name})
            return False

    async def _fetch(self, entry: ManifestEntry) -> bool:
        try:
            if room := self._shelf.room(entry):
                await fetch_into(self._client, entry, room)
                await self._shelf.stage_large(entry)
            elif entry.size > SIZE_MAX:
                told = f"参数 {entry.name} 版本 {entry.version} 太大"
                await self._shelf.refuse(entry, told)
                return False
            else:
                names = entry.name, entry.version, entry.base
                raw = await self._client.package(*names, size=entry.size)
                await self._shelf.stage(entry, raw)
        except TooLong:
            told = f"参数 {entry.name} 版本 {entry.version} 比目录所说的长"
            await self._shelf.refuse(entry, told)
            return False
        except ParameterInvalid:
            return False
        except NotAVerdict as no:  # to this one: others may well be had
            facts = {"table": entry.name, "version": entry.version, "reason": no.detail}
            log.warning("a parameter package was not given", extra=facts)
            return False
        except OSError as no:
            log.error("a parameter package is not kept", extra={"reason": no.strerror})
            return False
        return True


def _order(entry: ManifestEntry) -> tuple[int, str]:
    return rank(moment_ms(entry.effective_from), entry.version)

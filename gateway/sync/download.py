"""Looks for newer parameter packages, for ever. Independent of the outbox and of selling."""

import logging

from gateway.errors import CenterUnavailable, ParameterInvalid, StoreUnavailable
from gateway.sync.center import CenterClient, ManifestEntry
from gateway.sync.lists import StatusLists
from gateway.sync.shelf import ParameterShelf as ParameterShelf
from gateway.sync.shelf import public_key as public_key
from gateway.units import Clock

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
            if self._lists is not None:
                self._lists.offer([one for one in big if one.name == "status_list"])
        news = [entry for entry in self._entries if self._wants(entry)]
        broken = {entry.name for entry in news if not await self._fetch(entry)}
        if sound := {entry.name for entry in self._entries} - broken:
            await self._shelf.confirm(sound)
        return not broken

    def _wants(self, entry: ManifestEntry) -> bool:
        try:
            return self._shelf.wants(entry)
        except ValueError:
            log.error("manifest entry is malformed", extra={"table": entry.name})
            return False

    async def _fetch(self, entry: ManifestEntry) -> bool:
        raw = await self._client.package(entry.name, entry.version)
        try:
            await self._shelf.stage(entry, raw)
        except ParameterInvalid:
            return False
        return True

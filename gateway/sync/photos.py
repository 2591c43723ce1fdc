"""Photos to the centre: content-addressed, resumable, and only after the money has gone.

A damaged or missing file is left out and said so once; it never holds up the others.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient, Offset
from gateway.units import Clock

log = logging.getLogger(__name__)

PIECE_BYTES = 256 * 1024
PAGE = 500  # to find what is owed costs a look at all photos that are kept
TOGETHER = 8  # small ones: the centre syncs each of them, and the line is long
NOTED = 24
POLL_S = 5.0
WISH_S_MAX = 30.0  # of a centre that is busy (interfaces.md §7.7)
ROUNDS_MAX = 64  # of one photo in one pass: a centre that never says "complete" ends there


class Photo(NamedTuple):
    sha256: str
    at_ms: int
    size: int = 0


class PhotoPusher:
    """Sends what evidence the centre lacks, oldest first."""

    name = "photos"

    def __init__(
        self,
        store: Store,
        client: CenterClient,
        path: Callable[[str], Path],
        is_money_first: Callable[[], bool],
        clock: Clock,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        """`path` finds a photo's file; while `is_money_first()` says so, photos wait."""
        self._store, self._client, self._path = store, client, path
        self._is_money_first, self._clock, self._poll_s = is_money_first, clock, poll_s
        self._left_out: set[str] = set()

    async def run(self) -> None:
        while True:
            wish_s = 0.0
            try:
                await self.drain()
            except CenterUnavailable as no:
                log.info("photos wait", extra={"reason": no.detail})
                wish_s = min(no.retry_after_s or 0.0, WISH_S_MAX)
            except StoreUnavailable as no:
                log.info("photos wait", extra={"reason": no.detail})
            await self._clock.sleep(max(self._poll_s, wish_s))

    async def drain(self) -> None:
        """Send what can be sent now. Raises: CenterUnavailable; the rest stays owed."""
        after = Photo("", -1)
        while not self._is_money_first() and (page := await self._owed(after)):
            for first in range(0, len(page), NOTED):
                await self._send_some(page[first : first + NOTED])
            after = page[-1]

    async def _send_some(self, photos: Sequence[Photo]) -> None:
        """Until money has come or the line breaks; what went is noted at once for all: noted one
        by one, each would wait for a sync of our disk. What a power cut leaves unnoted is asked
        for and found to be there."""
        sent = list[str]()
        try:
            for wave in _waves([one for one in photos if one.sha256 not in self._left_out]):
                if self._is_money_first():
                    return
                await self._send_together(wave, sent)
        finally:
            if sent:
                await self._note(sent)

    async def _send_together(self, wave: Sequence[Photo], sent: list[str]) -> None:
        """Those that went are in `sent`, also when others did not. Raises: CenterUnavailable."""
        sendings = [self._send(photo.sha256) for photo in wave]
        done = await asyncio.gather(*sendings, return_exceptions=True)
        sent += [photo.sha256 for photo, went in zip(wave, done, strict=True) if went is True]
        for went in done:
            if isinstance(went, BaseException):
                raise went

    async def unsent(self) -> int:
        """How many photos the centre lacks."""
        rows = await self._store.rows(
            "SELECT count(*) AS n FROM evidence e LEFT JOIN evidence_delivery d"
            " ON d.sha256 = e.sha256 WHERE d.sha256 IS NULL"
        )
        return int(rows[0]["n"])

    async def _owed(self, after: Photo) -> Sequence[Photo]:
        rows = await self._store.rows(
            "SELECT e.sha256, e.at_ms, e.size FROM evidence e LEFT JOIN evidence_delivery d"
            " ON d.sha256 = e.sha256 WHERE d.sha256 IS NULL"
            " AND (e.at_ms, e.sha256) > (?, ?) ORDER BY e.at_ms, e.sha256 LIMIT ?",
            *(after.at_ms, after.sha256, PAGE),
        )
        return [Photo(row["sha256"], row["at_ms"], row["size"]) for row in rows]

    async def _send(self, sha256: str) -> bool:
        body = self._read(sha256)
        if body is not None and await self._push(sha256, body):
            return True
        self._left_out.add(sha256)
        return False

    async def _note(self, sent: Sequence[str]) -> None:
        rows = [(sha256, self._clock.now_ms()) for sha256 in sent]
        insert = "INSERT OR IGNORE INTO evidence_delivery (sha256, at_ms) VALUES (?, ?)"
        await self._store.write(lambda db: db.executemany(insert, rows).rowcount)

    async def _push(self, sha256: str, body: bytes) -> bool:
        """From where the centre says it is. True once it holds the whole. A photo that fits one
        piece is not asked about: the answer to the piece says the same."""
        is_short = len(body) <= PIECE_BYTES
        held = Offset(False, 0) if is_short else await self._client.photo_offset(sha256)
        for _ in range(ROUNDS_MAX):
            if held.is_complete:
                return True
            first = held.offset if held.offset < len(body) else 0
            piece = body[first : first + PIECE_BYTES]
            held = await self._client.send_photo(sha256, first, piece, len(body))
        log.warning("centre never takes this photo", extra={"sha256": sha256})
        return False

    def _read(self, sha256: str) -> bytes | None:
        """The file, if it is what its name says. At most 2 MB, so read in one go."""
        try:
            body = self._path(sha256).read_bytes()
        except OSError as gone:
            log.error("photo cannot be read", extra={"sha256": sha256, "reason": str(gone)})
            return None
        if hashlib.sha256(body).hexdigest() != sha256:
            log.error("photo is damaged", extra={"sha256": sha256})
            return None
        return body


def _waves(photos: Sequence[Photo]) -> Iterator[Sequence[Photo]]:
    """Together they are no more than one piece: money that comes meanwhile waits for that long."""
    wave, size = list[Photo](), 0
    for photo in photos:
        if wave and (len(wave) == TOGETHER or size + photo.size > PIECE_BYTES):
            yield wave
            wave, size = [], 0
        wave.append(photo)
        size += photo.size
    if wave:
        yield wave

"""Photos to the centre: content-addressed, resumable, and only after the money has gone.

A damaged or missing file is left out for a minute, then for longer, at most an hour; it never
holds up the others. What is new is looked for behind what was gone through before, and of that a
piece each time, in turn: a photo of a clock that was set back and one that the centre lost are
found so, and no look is long.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict, Offset
from gateway.units import Clock

log = logging.getLogger(__name__)

PIECE_BYTES = 256 * 1024
LOOKED_AT = 2_000  # photos, owed or not, in one look
AGAIN_MS, AGAIN_MS_MAX = 60_000, 3_600_000  # what failed once; each time twice as long
TOGETHER = 8  # small ones: the centre syncs each of them, and the line is long
NOTED = 24
POLL_S = 5.0
WISH_S_MAX = 30.0  # of a centre that is busy (interfaces.md §7.7)
ROUNDS_MAX = 64  # of one photo in one pass: a centre that never says "complete" ends there

LOOK = """
SELECT e.at_ms, e.sha256, e.size, d.sha256 IS NULL AS is_owed
FROM evidence e LEFT JOIN evidence_delivery d ON d.sha256 = e.sha256
WHERE (e.at_ms, e.sha256) > (?, ?) ORDER BY e.at_ms, e.sha256 LIMIT ?
"""


class Photo(NamedTuple):
    """In the order of sending."""

    at_ms: int
    sha256: str
    size: int = 0
    is_owed: bool = True


FIRST = Photo(-1, "")


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
        self._left_out: dict[str, tuple[int, int]] = {}
        """Photo → monotonic time before which it is not tried again, and how long that was."""
        self._through = FIRST
        """All up to here were delivered or left out."""
        self._again = FIRST
        """So far they were looked at once more."""

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
        if self._is_money_first() or not await self._look_back():
            return
        while page := await self._look(self._through):
            if not await self._send_page(page):
                return
            self._through = page[-1]

    async def _look_back(self) -> bool:
        """At a piece of what was gone through, once more. False if money has come."""
        if self._through == FIRST:
            return True
        page = await self._look(self._again)
        if not await self._send_page(page):
            return False
        self._again = page[-1] if page and page[-1] < self._through else FIRST
        return True

    async def _send_page(self, page: Sequence[Photo]) -> bool:
        """What is owed of it. False if money has come."""
        owed = [one for one in page if one.is_owed and self._may_try(one.sha256)]
        for first in range(0, len(owed), NOTED):
            if not await self._send_some(owed[first : first + NOTED]):
                return False
        return True

    async def _send_some(self, photos: Sequence[Photo]) -> bool:
        """Until money has come (False) or the line breaks; what went is noted at once for all:
        noted one by one, each would wait for a sync of our disk. What a power cut leaves unnoted
        is asked for and found to be there."""
        sent = list[str]()
        try:
            for wave in _waves(photos):
                if self._is_money_first():
                    return False
                await self._send_together(wave, sent)
        finally:
            if sent:
                await self._note(sent)
        return True

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

    async def _look(self, after: Photo) -> Sequence[Photo]:
        rows = await self._store.rows(LOOK, after.at_ms, after.sha256, LOOKED_AT)
        return [Photo(*row) for row in rows]

    def _may_try(self, sha256: str) -> bool:
        return self._left_out.get(sha256, (0, 0))[0] <= self._clock.monotonic_ms()

    async def _send(self, sha256: str) -> bool:
        body = self._read(sha256)
        try:
            if body is not None and await self._push(sha256, body):
                self._left_out.pop(sha256, None)
                return True
        except NotAVerdict:
            self._leave_out(sha256)  # perhaps it is this one: next time another
            raise
        self._leave_out(sha256)
        return False

    def _leave_out(self, sha256: str) -> None:
        _, last_ms = self._left_out.get(sha256, (0, 0))
        for_ms = min(max(AGAIN_MS, 2 * last_ms), AGAIN_MS_MAX)
        self._left_out[sha256] = self._clock.monotonic_ms() + for_ms, for_ms

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

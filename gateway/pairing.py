"""Which handhelds may come in: one-time offers, six digits to compare, revocable credentials.

Table `handheld` is its own; only the hash of a credential is kept there. An offer lives in memory
for two minutes and ends with the process: then the master opens another. Knows nothing of HTTP.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.errors import NotFound, PairingRefused
from gateway.store import Store
from gateway.units import Clock

OFFER_MS = 120_000
TRIES_MAX = 5
SECRET_BYTES = 16
SEEN_EVERY_MS = 60_000  # how often "last seen" is worth a commit


class Stage(StrEnum):
    """How far a pairing has come."""

    OPEN = "open"  # the QR is shown, nobody has scanned it
    CLAIMED = "waiting"  # a handheld waits: compare the digits
    CONFIRMED = "confirmed"  # the master said they are the same; the handheld has not asked yet
    PAIRED = "paired"


@dataclass(slots=True)
class Offer:
    """One opened pairing. The QR carries `secret`; it is good once."""

    id: str
    secret: str
    """26 letters and digits (base32 of 128 bits): short enough to type."""
    opened_by: str
    expires_ms: int
    """Wall clock, for the screen's countdown."""
    deadline_ms: int
    """Monotonic, which decides."""
    stage: Stage = Stage.OPEN
    wrong: int = 0
    name: str = ""
    digits: str = ""
    claim: str = ""
    credential: str = ""

    @property
    def tries_left(self) -> int:
        return TRIES_MAX - self.wrong


@dataclass(frozen=True, slots=True)
class Device:
    """A paired handheld."""

    id: str
    name: str
    paired_ms: int
    paired_by: str
    last_seen_ms: int | None


class Answer(NamedTuple):
    """What a handheld hears: the digits while it waits, its credential once it may come in."""

    stage: Stage
    claim: str
    digits: str
    credential: str | None


@dataclass(slots=True)
class _Known:
    device: Device
    seen_ms: int
    open_lines: set["asyncio.Task[Any]"] = field(default_factory=set)


def digits_of(secret: str, nonce: str, ca_sha256: str) -> str:
    """Six digits that both sides work out for themselves.

    HMAC-SHA256(key = the secret's 16 bytes, message = three lines: "lane-pairing", the nonce,
    the CA's SHA-256 in lower-case hex), its first 4 bytes big-endian modulo 10⁶. Whoever sits
    between shows another CA, and so other digits. Raises: PairingRefused, for no real secret.
    """
    message = f"lane-pairing\n{nonce}\n{ca_sha256}".encode()
    digest = hmac.digest(_bytes_of(secret), message, "sha256")
    return f"{int.from_bytes(digest[:4]) % 1_000_000:06d}"


class Pairings:
    """Offers in memory, devices in the store."""

    def __init__(self, store: Store, clock: Clock, ca_sha256: str) -> None:
        self._store, self._clock, self.ca_sha256 = store, clock, ca_sha256
        self._offer: Offer | None = None
        self._known: dict[str, _Known] | None = None
        self._loading = asyncio.Lock()
        self._handing_over = asyncio.Lock()

    # ---- the booth's side ----

    def open(self, opened_by: str) -> Offer:
        """A new offer, good for two minutes; an earlier one that was not finished is over."""
        self._offer = Offer(
            id=f"H{secrets.token_hex(4).upper()}",
            secret=base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode().rstrip("="),
            opened_by=opened_by,
            expires_ms=self._clock.now_ms() + OFFER_MS,
            deadline_ms=self._clock.monotonic_ms() + OFFER_MS,
        )
        return self._offer

    def offer(self) -> Offer | None:
        """The pairing under way, if there is one."""
        if self._offer is not None and self._clock.monotonic_ms() >= self._offer.deadline_ms:
            self._offer = None
        return self._offer

    def confirm(self, id_: str) -> Offer:
        """The master saw the same digits on both screens.

        Raises: NotFound, if this offer is over; PairingRefused, if no handheld has claimed it.
        """
        offer = self.offer()
        if offer is None or offer.id != id_:
            raise NotFound("这次配对已经结束", "请重新打开配对")
        if offer.stage is Stage.OPEN:
            raise PairingRefused("还没有手持终端扫码", "请先用手持终端扫码，再核对六位数字")
        if offer.stage is Stage.CLAIMED:
            offer.stage = Stage.CONFIRMED
            offer.deadline_ms = self._clock.monotonic_ms() + OFFER_MS
        return offer

    async def devices(self) -> list[Device]:
        """Every handheld that may come in, newest first."""
        known = (await self._loaded()).values()
        return sorted((k.device for k in known), key=lambda d: d.paired_ms, reverse=True)

    async def end(self, id_: str) -> None:
        """Revoke a device, or call off an offer. Its open lines are cut; its row stays.

        Raises: NotFound, for an id that is neither.
        """
        known = await self._loaded()
        async with self._handing_over:
            offer = self.offer()
            if offer is not None and offer.id == id_:
                self._offer = None
            elif all(k.device.id != id_ for k in known.values()):
                raise NotFound("没有这台手持终端，或已经解除")
            await self._store.write(_revoke(id_, self._clock.now_ms()))
            for key in [key for key, k in known.items() if k.device.id == id_]:
                for line in known.pop(key).open_lines - {asyncio.current_task()}:
                    line.cancel()

    # ---- the handheld's side ----

    def claim(self, secret: str, nonce: str, name: str) -> Answer:
        """A handheld scanned the QR. The secret is used up; now people compare the digits.

        Raises: PairingRefused. Five wrong secrets end the offer; a late or second one too is told
        no more than that.
        """
        offer = self.offer()
        if offer is None or offer.stage is not Stage.OPEN:
            raise PairingRefused("配对没有打开、已被使用或已过期")
        if not _same(_plain(secret), offer.secret):
            raise self._wrong(offer)
        offer.name, offer.digits = name, digits_of(secret, nonce, self.ca_sha256)
        offer.claim, offer.stage = secrets.token_urlsafe(32), Stage.CLAIMED
        return Answer(offer.stage, offer.claim, offer.digits, None)

    async def poll(self, claim: str) -> Answer:
        """Where a claimed pairing stands; after the booth's confirmation, the credential.

        Asked again within the two minutes it answers the same, so a lost answer costs nothing.
        Raises: PairingRefused, when the offer is over or called off.
        """
        offer = self.offer()
        if offer is None or not offer.claim or not _same(claim, offer.claim):
            raise PairingRefused("配对已取消或已过期")
        async with self._handing_over:
            if self._offer is not offer:
                raise PairingRefused("配对已取消或已过期")
            if offer.stage is Stage.CONFIRMED:
                await self._admit(offer)
        return Answer(offer.stage, offer.claim, offer.digits, offer.credential or None)

    async def device(self, credential: str) -> str | None:
        """The id of the paired handheld that holds this credential; None for anyone else."""
        known = (await self._loaded()).get(_hash(credential))
        if known is None:
            return None
        now_ms = self._clock.now_ms()
        if abs(now_ms - known.seen_ms) >= SEEN_EVERY_MS:
            known.seen_ms = now_ms
            known.device = replace(known.device, last_seen_ms=now_ms)
            await self._store.write(_touch(known.device.id, now_ms))
        return known.device.id

    @contextmanager
    def line(self, credential: str) -> Iterator[None]:
        """While inside, this task is one of the device's open lines: a revocation cancels it."""
        known = (self._known or {}).get(_hash(credential))
        task = asyncio.current_task()
        if known is None or task is None:
            yield
            return
        known.open_lines.add(task)
        try:
            yield
        finally:
            known.open_lines.discard(task)

    # ---- inside ----

    def _wrong(self, offer: Offer) -> PairingRefused:
        offer.wrong += 1
        if offer.wrong >= TRIES_MAX:
            self._offer = None
            return PairingRefused(f"配对码错了 {TRIES_MAX} 次，这次配对已关闭")
        return PairingRefused(f"配对码不对，还可以试 {offer.tries_left} 次", "请重新扫码")

    async def _admit(self, offer: Offer) -> None:
        known = await self._loaded()
        credential, now_ms = secrets.token_urlsafe(32), self._clock.now_ms()
        device = Device(offer.id, offer.name, now_ms, offer.opened_by, None)
        await self._store.write(_insert(device, _hash(credential)))
        known[_hash(credential)] = _Known(device, seen_ms=0)
        offer.credential, offer.stage = credential, Stage.PAIRED

    async def _loaded(self) -> dict[str, _Known]:
        """All devices, read once: from then on memory decides, so a revoked one never revives."""
        async with self._loading:
            if self._known is None:
                rows = await self._store.rows("SELECT * FROM handheld WHERE revoked_ms IS NULL")
                self._known = {
                    row["credential_hash"]: _Known(_device(row), row["last_seen_ms"] or 0)
                    for row in rows
                }
        return self._known


def _device(row: Any) -> Device:
    return Device(
        id=row["id"],
        name=row["name"],
        paired_ms=row["paired_ms"],
        paired_by=row["paired_by"],
        last_seen_ms=row["last_seen_ms"],
    )


def _plain(secret: str) -> str:
    """Typed by people: small letters, blanks and dashes are the same secret."""
    return secret.upper().replace("-", "").replace(" ", "")


def _bytes_of(secret: str) -> bytes:
    plain = _plain(secret)
    try:
        return base64.b32decode(plain + "=" * (-len(plain) % 8))
    except ValueError as bad:
        raise PairingRefused("配对码不完整", "请重新扫码") from bad


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _hash(credential: str) -> str:
    return hashlib.sha256(credential.encode()).hexdigest()


def _insert(device: Device, credential_hash: str) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO handheld (id, name, credential_hash, paired_ms, paired_by)"
            " VALUES (?, ?, ?, ?, ?)",
            (device.id, device.name, credential_hash, device.paired_ms, device.paired_by),
        )

    return work


def _touch(id_: str, at_ms: int) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute("UPDATE handheld SET last_seen_ms = ? WHERE id = ?", (at_ms, id_))

    return work


def _revoke(id_: str, at_ms: int) -> Callable[[sqlite3.Connection], None]:
    def work(db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE handheld SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (at_ms, id_)
        )

    return work

"""The PSAM in words: who it is, MAC1, the check of MAC2, the OBU's key. Knows no card.

What it said about itself is kept until a fault; then it is connected anew on the next call. Why it
last failed is kept too, as the lane's lamp, until it works again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.devices import apdu
from gateway.devices.ports import CardLink
from gateway.devices.psam_faults import named
from gateway.errors import (
    CardAbsent,
    CardRefused,
    DeviceGarbled,
    DeviceUnavailable,
    PsamUnavailable,
)

T = TypeVar("T")

SFI_SERIAL = 0x15
SFI_TERMINAL = 0x16
SFI_REGION = 0x17
WRONG_MAC2 = (apdu.StatusWord.WRONG_MAC, apdu.StatusWord.MAC_WRONG, apdu.StatusWord.VERIFY_FAILED)


@dataclass(frozen=True, slots=True)
class PsamFacts:
    """Files 0015, 0016 and DF01/0017 of the PSAM (domain.md §2)."""

    serial: str
    """20 hex digits."""
    version: int
    key_card_type: int
    terminal_no: bytes
    """6 bytes, 终端机编号."""
    region: str
    """8 hex digits: the PSAM's own issuer; never a factor for a card's MAC1."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What both chips must agree on for one MAC1 (8070, domain.md §2)."""

    random: bytes
    card_seq: int
    amount_fen: int
    at: str
    """yyyymmddHHMMSS"""
    key_version: int
    algorithm: int
    card_number: str
    """16 digits."""
    issuer: str
    """16 hex digits of the *card's* EF0015; its first 4 bytes are the first factor."""


TRIAL = Purchase(bytes(4), 0, 0, "20200101000000", 1, 0, "0" * 16, "0" * 16)
"""A purchase of nothing by nobody; its MAC1 reaches no card."""


class Psam:
    """The PSAM behind a link. One caller at a time; a purchase spans mac1 and check_mac2."""

    def __init__(self, link: CardLink) -> None:
        self._link = link
        self._facts: PsamFacts | None = None
        self._is_proven = False
        """It computed a MAC1 since it was connected, and has refused nothing since."""
        self._fault: PsamUnavailable | None = None
        self._serial, self._wrong_mac2 = "", 0

    @property
    def trouble(self) -> str:
        """Why it last failed, in Chinese; empty once it works. Asks nobody.

        An empty slot is left out: the link itself knows that better (`is_present`).
        """
        if self._fault and self._fault.reason != "absent":
            return self._fault.detail
        return f"PSAM 不认卡的 MAC2（连续 {self._wrong_mac2} 笔）" if self._wrong_mac2 else ""

    async def open(self) -> PsamFacts:
        """Connect if needed and tell who it is. Raises: PsamUnavailable."""
        return await self._said(self._open(), "卡座里不是可用的 PSAM")

    async def check(self) -> None:
        """Make sure that it would compute a MAC1 now, before a collector relies on it.

        One that has not computed any yet, or refused something, is tried on a purchase of
        nothing: that costs a trade number, and gaps are normal (domain.md §1.9). Lacking the
        trial's key says nothing of the next card's. Raises: PsamUnavailable.
        """
        await self._said(self._see())
        await self.open()
        if self._is_proven:
            return
        try:
            await self.mac1(TRIAL)
        except PsamUnavailable as no:
            if no.reason != "foreign":
                raise
            self._fault = None

    async def mac1(self, purchase: Purchase) -> tuple[int, bytes]:
        """INIT_SAM_FOR_PURCHASE: the PSAM's own trade number and MAC1 (4 bytes).

        The number advances even if nothing comes of it: gaps are normal (domain.md §1.9), so a
        connection that died since the last car is made anew and the question asked again.
        Raises: PsamUnavailable; `foreign`, if it has no key for this card.
        """
        job = self._alive(lambda: self._mac1(_body(purchase)))
        done = await self._said(job, "PSAM 没有这张卡的密钥")
        self._is_proven, self._fault = True, None
        return done

    async def check_mac2(self, mac2: bytes) -> bool:
        """CREDIT_SAM_FOR_PURCHASE: does the PSAM know the card's MAC2 (4 bytes)?

        Only on the connection that made MAC1. Raises: CardRefused, if the PSAM says neither yes
        nor no; DeviceUnavailable.
        """
        if self._facts is None:
            raise DeviceUnavailable("PSAM 已断开，没有可核对的交易")
        try:
            await self._data("核对MAC2", apdu.psam_check_mac2(mac2))
        except CardRefused as no:
            self._is_proven = False
            if no.sw in WRONG_MAC2 or no.sw & 0xFFF0 == 0x63C0:
                self._wrong_mac2 += 1
                return False
            raise
        except DeviceUnavailable as gone:
            self._fault = named(gone, "")
            raise
        self._wrong_mac2 = 0
        return True

    async def decrypt(self, serial: str, issuer: str, cipher: bytes, key_id: int = 0) -> bytes:
        """Decipher what an OBU answered, under the key derived from its issuer and serial.

        Args:   serial: 16 hex digits. issuer: 16 hex digits. cipher: a multiple of 8 bytes.
        Raises: CardRefused, if it has no such key; PsamUnavailable, DeviceGarbled.
        """
        region = bytes.fromhex(issuer)[:4]
        deliver = apdu.psam_deliver_key(bytes.fromhex(serial), region, key_id)
        return await self._said(self._alive(lambda: self._decrypt(deliver, cipher)))

    async def _see(self) -> None:
        if not await self._link.is_present():
            raise CardAbsent("PSAM 卡座是空的")

    async def _mac1(self, body: bytes) -> tuple[int, bytes]:
        raw = await self._data("计算MAC1", apdu.psam_init_purchase(body), 8)
        return int.from_bytes(raw[:4]), raw[4:]

    async def _decrypt(self, deliver: bytes, cipher: bytes) -> bytes:
        await self._data("派生标签密钥", deliver)
        return await self._data("解密标签信息", apdu.psam_decrypt(cipher), len(cipher))

    async def _alive(self, job: Callable[[], Awaitable[T]]) -> T:
        """Do a harmless job; once more, if the connection kept from before turned out dead."""
        known = self._facts
        await self._open()
        try:
            return await job()
        except DeviceUnavailable:
            if known is None or (await self._open()).terminal_no != known.terminal_no:
                raise
            return await job()

    async def _said(self, asked: Awaitable[T], refused: str = "") -> T:
        """The answer; a fault is named, kept for the lamp, and ends the connection.

        `refused`: what a refusal means that names no trouble of its own; empty: it is the asker's.
        """
        try:
            return await asked
        except (CardRefused, DeviceGarbled) as no:
            if not refused:
                raise
            fault = named(no, refused)
        except DeviceUnavailable as gone:
            fault = named(gone, "")
        self._fault, self._facts, self._is_proven = fault, None, False
        raise fault

    async def _open(self) -> PsamFacts:
        if self._facts is None:
            self._is_proven = False
            facts = await self._read()
            if facts.serial != self._serial:
                self._serial, self._wrong_mac2 = facts.serial, 0
            self._facts = facts
        return self._facts

    async def _read(self) -> PsamFacts:
        await self._link.connect()
        serial = await self._data("读PSAM序列号", apdu.read_binary(SFI_SERIAL, 14), 14)
        terminal = await self._data("读终端机编号", apdu.read_binary(SFI_TERMINAL, 6), 6)
        await self._data("选择PSAM应用", apdu.select(apdu.DF_PSAM))
        region = await self._data("读PSAM区域", apdu.read_binary(SFI_REGION, 25), 25)
        return PsamFacts(
            serial=serial[:10].hex().upper(),
            version=serial[10],
            key_card_type=serial[11],
            terminal_no=terminal,
            region=region[9:13].hex().upper(),
        )

    async def _data(self, name: str, command: bytes, length: int | None = None) -> bytes:
        try:
            return apdu.expect(await self._link.send(command), name, length)
        except DeviceUnavailable:
            self._facts = None
            raise


def _body(purchase: Purchase) -> bytes:
    """The 36 bytes of 8070: the second factor is the card's number, the first its issuer ×2."""
    return (
        purchase.random
        + purchase.card_seq.to_bytes(2)
        + purchase.amount_fen.to_bytes(4)
        + bytes([apdu.CAPP_PURCHASE])
        + bytes.fromhex(purchase.at)
        + bytes([purchase.key_version, purchase.algorithm])
        + bytes.fromhex(purchase.card_number)
        + bytes.fromhex(purchase.issuer)[:4] * 2
    )

"""The PSAM in words: who it is, MAC1, the check of MAC2, the OBU's key. Knows no card.

What it said about itself is kept until a fault; then it is connected anew on the next call.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.devices import apdu
from gateway.devices.ports import CardLink
from gateway.errors import CardRefused, DeviceUnavailable

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


class Psam:
    """The PSAM behind a link. One caller at a time; a purchase spans mac1 and check_mac2."""

    def __init__(self, link: CardLink) -> None:
        self._link = link
        self._facts: PsamFacts | None = None

    async def open(self) -> PsamFacts:
        """Connect if needed and tell who it is.

        Raises: CardAbsent, if the slot is empty; DeviceUnavailable, CardRefused, DeviceGarbled.
        """
        if self._facts is None:
            self._facts = await self._read()
        return self._facts

    async def mac1(self, purchase: Purchase) -> tuple[int, bytes]:
        """INIT_SAM_FOR_PURCHASE: the PSAM's own trade number and MAC1 (4 bytes).

        The number advances even if nothing comes of it: gaps are normal (domain.md §1.9), so a
        connection that died since the last car is made anew and the question asked again.
        Raises: CardRefused, DeviceUnavailable, DeviceGarbled.
        """
        return await self._alive(lambda: self._mac1(_body(purchase)))

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
            if no.sw in WRONG_MAC2 or no.sw & 0xFFF0 == 0x63C0:
                return False
            raise
        return True

    async def decrypt(self, serial: str, issuer: str, cipher: bytes, key_id: int = 0) -> bytes:
        """Decipher what an OBU answered, under the key derived from its issuer and serial.

        Args:   serial: 16 hex digits. issuer: 16 hex digits. cipher: a multiple of 8 bytes.
        Raises: CardRefused, DeviceUnavailable, DeviceGarbled.
        """
        region = bytes.fromhex(issuer)[:4]
        deliver = apdu.psam_deliver_key(bytes.fromhex(serial), region, key_id)
        return await self._alive(lambda: self._decrypt(deliver, cipher))

    async def _mac1(self, body: bytes) -> tuple[int, bytes]:
        raw = await self._data("计算MAC1", apdu.psam_init_purchase(body), 8)
        return int.from_bytes(raw[:4]), raw[4:]

    async def _decrypt(self, deliver: bytes, cipher: bytes) -> bytes:
        await self._data("派生标签密钥", deliver)
        return await self._data("解密标签信息", apdu.psam_decrypt(cipher), len(cipher))

    async def _alive(self, job: Callable[[], Awaitable[T]]) -> T:
        """Do a harmless job; once more, if the connection kept from before turned out dead."""
        known = self._facts
        await self.open()
        try:
            return await job()
        except DeviceUnavailable:
            if known is None or (await self.open()).terminal_no != known.terminal_no:
                raise
            return await job()

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

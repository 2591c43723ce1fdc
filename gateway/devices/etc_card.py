"""The ETC user card in words: read it, open a purchase, debit, prove. Knows no PSAM and no rules.

Here, and only here, a DEBIT without an answer becomes OutcomeUnknown.
"""

from dataclasses import dataclass

from gateway.devices import apdu
from gateway.devices.etc_files import (
    DETAIL_LENGTH,
    TOLL_LENGTH,
    CardFacts,
    DebitDetail,
    IssueInfo,
    TollInfo,
    decode_detail,
    decode_issue,
    decode_toll,
    is_blank_toll,
)
from gateway.devices.ports import CardLink
from gateway.errors import CardRefused, DeviceGarbled, NoAnswer, OutcomeUnknown

SFI_ISSUE = 0x15
SFI_DETAIL = 0x18
SFI_TOLL = 0x19
ISSUE_LENGTH = 43
NO_RECORD = (apdu.StatusWord.NO_FILE, apdu.StatusWord.NO_RECORD)


@dataclass(frozen=True, slots=True)
class Opened:
    """A purchase the card has initialised. No money has moved."""

    balance: int
    """Fen, unsigned; virtual on a 记账卡."""
    card_seq: int
    """Offline trade number before the debit; the debit makes it one more."""
    overdraft: int
    key_version: int
    algorithm: int
    random: bytes
    """4 bytes."""


@dataclass(frozen=True, slots=True)
class Debited:
    """The card's receipt: 4 bytes TAC for the issuer, 4 bytes MAC2 for our PSAM."""

    tac: bytes
    mac2: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """What GET TRANSACTION PROOF still knows of a debit."""

    tac: bytes
    mac2: bytes


class EtcCard:
    """The user card behind a link. One caller at a time.

    `is_tac_first` tells the order in which the card family answers a proof: sources differ
    (domain.md §12.5), the answer of DEBIT itself is TAC then MAC2.
    """

    def __init__(self, link: CardLink, is_tac_first: bool = True) -> None:
        self._link = link
        self._is_tac_first = is_tac_first

    async def read(self) -> CardFacts:
        """Connect and read 0015, 0019 record 1 and the balance.

        Raises: CardAbsent, NoAnswer, DeviceUnavailable, CardRefused, DeviceGarbled.
        """
        issue = await self.identify()
        toll_raw = await self._toll()
        balance = await self._data("读余额", apdu.get_balance(), 4)
        return CardFacts(issue, _toll_or_none(toll_raw), toll_raw.hex().upper(), _int(balance))

    async def identify(self) -> IssueInfo:
        """Connect, select DF01, read 0015. Faults as `read`."""
        await self._link.connect()
        await self._data("选择ETC应用", apdu.select(apdu.DF_ETC))
        raw = await self._data("读发行信息", apdu.read_binary(SFI_ISSUE, ISSUE_LENGTH))
        return decode_issue(raw)

    async def card_id(self) -> str:
        """Connect and tell which card lies there: network + card number, 20 digits."""
        return (await self.identify()).card_id

    async def open_purchase(self, amount_fen: int, terminal_no: bytes) -> Opened:
        """INITIALIZE FOR CAPP PURCHASE on the connection `identify` made. Moves no money.

        Args:   amount_fen: 0 is legal. terminal_no: 6 bytes.
        Raises: CardRefused (9401: not enough money), NoAnswer, DeviceUnavailable, DeviceGarbled.
        """
        raw = await self._data("复合消费初始化", apdu.init_purchase(amount_fen, terminal_no), 15)
        return Opened(
            balance=_int(raw[0:4]),
            card_seq=_int(raw[4:6]),
            overdraft=_int(raw[6:9]),
            key_version=raw[9],
            algorithm=raw[10],
            random=raw[11:15],
        )

    async def update_toll(self, record: bytes) -> None:
        """Hand over the 43 bytes that the debit will write into 0019; void without it."""
        await self._data("更新出口信息", apdu.update_toll(record))

    async def debit(self, terminal_seq: int, at: str, mac1: bytes) -> Debited:
        """Take the money: one DEBIT, sent once.

        Args:   at: yyyymmddHHMMSS. mac1: 4 bytes.
        Raises: CardRefused: certainly nothing was taken. DeviceUnavailable: it never left, so
            nothing was taken. OutcomeUnknown: prove it.
        """
        try:
            answer = await self._link.send(apdu.debit(terminal_seq, at, mac1))
        except NoAnswer as silence:
            raise OutcomeUnknown(f"已向卡片发出扣款，没有收到应答（{silence.detail}）") from silence
        if answer.sw != apdu.StatusWord.OK:
            if apdu.proves_nothing_happened(answer.sw):
                apdu.expect(answer, "扣款")
            raise OutcomeUnknown(f"扣款应答 SW={answer.sw:04X}，不能断定是否已扣")
        if len(answer.data) != 8:
            raise OutcomeUnknown(f"扣款应答 {len(answer.data)} 字节，应为 8 字节，需要查清")
        return Debited(tac=answer.data[:4], mac2=answer.data[4:])

    async def proof(self, card_seq: int) -> Proof | None:
        """GET TRANSACTION PROOF for one trade number; None if the card has none for it.

        Whether the debit happened is *not* decided by this (domain.md §1.6, §1.9).
        """
        answer = await self._link.send(apdu.get_proof(card_seq))
        if answer.sw != apdu.StatusWord.OK:
            return None
        if len(answer.data) != 8:
            raise DeviceGarbled(f"交易认证应答 {len(answer.data)} 字节，应为 8 字节")
        first, second = answer.data[:4], answer.data[4:]
        return Proof(first, second) if self._is_tac_first else Proof(second, first)

    async def newest_detail(self) -> DebitDetail | None:
        """What the card noted of its newest debit; None if it has no such note to show.

        Raises: CardAbsent, NoAnswer, DeviceUnavailable.
        """
        answer = await self._link.send(apdu.read_record(SFI_DETAIL, 1, DETAIL_LENGTH))
        try:
            return decode_detail(apdu.expect(answer, "读交易明细"))
        except (CardRefused, DeviceGarbled):
            return None

    async def toll_hex(self) -> str:
        """Record 1 of 0019 as it is now; empty if the card does not show it. Raises as above."""
        try:
            return (await self._toll()).hex().upper()
        except CardRefused:
            return ""

    async def _toll(self) -> bytes:
        """Record 1 of 0019; nothing, if the card has no such record."""
        try:
            return await self._data("读入口信息", apdu.read_record(SFI_TOLL, 1, TOLL_LENGTH))
        except CardRefused as no:
            if no.sw in NO_RECORD:
                return b""
            raise

    async def _data(self, name: str, command: bytes, length: int | None = None) -> bytes:
        return apdu.expect(await self._link.send(command), name, length)


def _toll_or_none(raw: bytes) -> TollInfo | None:
    if is_blank_toll(raw):
        return None
    try:
        return decode_toll(raw)
    except DeviceGarbled:
        return None  # the raw bytes go into the journal all the same


def _int(raw: bytes) -> int:
    return int.from_bytes(raw)

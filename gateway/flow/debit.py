"""The dialogue of two chips behind prepare, commit and prove (复合消费). Knows no journal.

prepare moves no money and names both counters; whoever calls commit has journaled them; prove
finds out later what commit did, and never sends DEBIT. Source: domain.md §1.5–§1.9.
"""

from dataclasses import dataclass
from typing import Literal

from gateway.devices.etc_card import Debited, EtcCard, Opened
from gateway.devices.etc_files import DebitDetail, IssueInfo
from gateway.devices.psam import Psam, Purchase
from gateway.errors import (
    CardMismatch,
    CardRefused,
    DeviceGarbled,
    DeviceUnavailable,
    OutcomeUnknown,
)
from gateway.flow.messages import DebitTicket

Mac2 = Literal["verified", "refused", "unchecked"]
ASKING_IS_USELESS = "再查也是这样：请转特情，由站长按这些证据处理，不要再扣"


@dataclass(frozen=True, slots=True)
class Proved:
    """What the card's own counter says about a debit."""

    happened: bool
    tac: str | None
    """8 hex digits; None if nothing happened, or if the card has no proof of it left."""


class Purse:
    """One card reader and one PSAM, taking money together. One caller at a time."""

    def __init__(self, card: EtcCard, psam: Psam) -> None:
        self._card, self._psam = card, psam
        self._open: DebitTicket | None = None

    async def prepare(self, card_id: str, amount_fen: int, toll_hex: str, at: str) -> DebitTicket:
        """Bring both chips to the brink; no money moves.

        Args:   card_id: the 20 digits this passage is about. amount_fen: 0 is legal.
            toll_hex: 43 bytes for 0019. at: yyyymmddHHMMSS, Beijing time.
        Raises: PsamUnavailable; CardAbsent, CardMismatch, CardRefused (money short, locked),
            DeviceUnavailable, DeviceGarbled. Whatever it is: nothing was taken.
        """
        self._open = None
        terminal_no = (await self._psam.open()).terminal_no
        issue = await self._same_card(card_id)
        opened = await self._card.open_purchase(amount_fen, terminal_no)
        await self._card.update_toll(bytes.fromhex(toll_hex))
        purchase = _purchase(issue, opened, amount_fen, at)
        terminal_seq, mac1 = await self._psam.mac1(purchase)
        self._open = DebitTicket(
            card_id=card_id,
            card_seq=opened.card_seq,
            balance_before=opened.balance,
            overdraft=opened.overdraft,
            key_version=opened.key_version,
            algorithm=opened.algorithm,
            terminal_no=terminal_no.hex().upper(),
            terminal_seq=terminal_seq,
            amount_fen=amount_fen,
            at=at,
            mac1=mac1.hex().upper(),
            toll_hex=toll_hex.upper(),
        )
        return self._open

    async def commit(self, ticket: DebitTicket) -> tuple[str, Mac2]:
        """Take the money: one DEBIT, on the connection that `prepare` left open, once.

        Returns: TAC as 8 hex digits, and what the PSAM said of MAC2.
        Raises: CardRefused, DeviceUnavailable: certainly nothing was taken. OutcomeUnknown:
            prove it.
        """
        if self._open != ticket:
            raise DeviceUnavailable(
                "这笔扣款没有准备好，指令没有发给卡片，没有扣款", "请再保存一次"
            )
        self._open = None
        done = await self._card.debit(ticket.terminal_seq, ticket.at, bytes.fromhex(ticket.mac1))
        return done.tac.hex().upper(), await self._check_mac2(done)

    async def prove(self, ticket: DebitTicket) -> Proved:
        """Ask the card whether the debit of this ticket happened. Never sends DEBIT.

        Raises: CardAbsent, NoAnswer, DeviceUnavailable: not asked, ask again. CardMismatch:
            another card is no answer. OutcomeUnknown, saying what was seen: the counter moved, and
            purse or files say that it was not by this debit.
        """
        self._open = None
        try:
            await self._same_card(ticket.card_id)
            seen = await self._card.open_purchase(0, bytes.fromhex(ticket.terminal_no))
        except (CardRefused, DeviceGarbled) as odd:
            raise OutcomeUnknown(f"不能断定是否已扣：{odd.detail}") from odd
        if seen.card_seq == ticket.card_seq:
            return Proved(happened=False, tac=None)
        noted = await self._card.newest_detail()
        toll_hex = await self._card.toll_hex()
        if not (_fits(ticket, seen) and _is_ours(ticket, noted, toll_hex)):
            evidence = _evidence(ticket, seen, noted, toll_hex)
            raise OutcomeUnknown(evidence, ASKING_IS_USELESS)
        return Proved(happened=True, tac=await self._tac(ticket))

    async def _same_card(self, card_id: str) -> IssueInfo:
        issue = await self._card.identify()
        if issue.card_id != card_id:
            raise CardMismatch("读卡区上不是本笔的卡，没有动它")
        return issue

    async def _check_mac2(self, done: Debited) -> Mac2:
        """The money has moved: nothing the PSAM says or leaves out may turn that into a fault."""
        try:
            return "verified" if await self._psam.check_mac2(done.mac2) else "refused"
        except (CardRefused, DeviceUnavailable, DeviceGarbled):
            return "unchecked"

    async def _tac(self, ticket: DebitTicket) -> str | None:
        """The debit is proven; its TAC, by the number after it first (domain.md §1.9-3)."""
        try:
            proof = await self._card.proof(ticket.card_seq + 1)
            proof = proof or await self._card.proof(ticket.card_seq)
        except DeviceUnavailable as gone:
            detail = f"卡片计数器证明已扣款，取认证码时卡片离开（{gone.detail}）"
            raise OutcomeUnknown(detail) from gone
        except DeviceGarbled:
            return None
        return proof.tac.hex().upper() if proof else None


def _purchase(issue: IssueInfo, opened: Opened, amount_fen: int, at: str) -> Purchase:
    """What the PSAM is told; key version and algorithm as the card named them (§1.8)."""
    return Purchase(
        random=opened.random,
        card_seq=opened.card_seq,
        amount_fen=amount_fen,
        at=at,
        key_version=opened.key_version,
        algorithm=opened.algorithm,
        card_number=issue.card_number,
        issuer=issue.issuer,
    )


def _fits(ticket: DebitTicket, seen: Opened) -> bool:
    """One debit since, and of this amount: whose it was is another question."""
    is_next = seen.card_seq == ticket.card_seq + 1
    return is_next and seen.balance == ticket.balance_before - ticket.amount_fen


def _is_ours(ticket: DebitTicket, noted: DebitDetail | None, toll_hex: str) -> bool:
    """Another lane may have debited the same fare since (domain.md §1.9-2).

    0018 names terminal, moment and amount. A card that noted nothing of this trade has 0019, which
    the debit wrote: our lane and second of the exit. One that shows neither leaves the counter.
    """
    if noted and noted.card_seq in (ticket.card_seq, ticket.card_seq + 1):
        told = noted.terminal_no, noted.at, noted.amount_fen
        return told == (ticket.terminal_no, ticket.at, ticket.amount_fen)
    return toll_hex in ("", ticket.toll_hex)


def _evidence(ticket: DebitTicket, seen: Opened, noted: DebitDetail | None, toll_hex: str) -> str:
    """All that the card shows, beside what was asked of it."""
    lines = [
        f"卡片交易序号 {seen.card_seq}、余额 {seen.balance} 分；"
        f"扣款前是 {ticket.card_seq}、{ticket.balance_before} 分，应扣 {ticket.amount_fen} 分"
        f"（终端 {ticket.terminal_no}，{ticket.at}）"
    ]
    if noted:
        lines.append(
            f"卡内最近一笔是终端 {noted.terminal_no} 在 {noted.at} 扣 {noted.amount_fen} 分"
        )
    if toll_hex:
        word = "是" if toll_hex == ticket.toll_hex else "不是"
        lines.append(f"卡内出口信息{word}本笔写的")
    return "；".join(lines)

"""The twin of an ETC user card (CPU用户卡): real counters, balance, files and keys. Demo keys.

Purse and 0019 change together, in one write to memory, before DEBIT is answered. The ledger is
the card's own truth: what a debit says happened, happened, whatever anyone heard of it.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

from gateway.devices.apdu import CAPP_PURCHASE, DF_ETC, MF, StatusWord
from gateway.devices.etc_files import (
    TOLL_LENGTH,
    CardKind,
    IssueInfo,
    TollInfo,
    encode_issue,
    encode_toll,
)
from gateway.devices.sim import crypto
from gateway.devices.sim.chip import Apdu, Refusal, SimChip, piece
from gateway.devices.sim.memory import ChipMemory

BLANK_TOLL = b"\xaa\x29".ljust(TOLL_LENGTH, b"\x00")
PLAIN_PURCHASE = 0x06
SEQ_MAX = 0xFFFF
KEY_VERSION = 1
CARD_VERSIONS: Mapping[crypto.AlgorithmName, int] = {"3des": 0x40, "sm4": 0x50}
"""EF0015's version byte; a high nibble of 5 and more can do SM4 (domain.md §1.1)."""


class Debit(NamedTuple):
    """One purchase this card performed."""

    amount_fen: int
    card_seq: int
    """The trade number INITIALIZE answered, before the debit."""
    terminal_no: str
    terminal_seq: int
    at: str
    tac: str
    mac2: str
    kind: int = CAPP_PURCHASE


@dataclass(frozen=True, slots=True)
class _Purchase:
    """Between INITIALIZE and DEBIT; lost with the power."""

    kind: int
    amount_fen: int
    terminal_no: bytes
    random: bytes
    toll: bytes | None = None


class SimUserCard(SimChip):
    """A 储值卡 or 记账卡. Public attributes are the truth that benches and tests ask for.

    `is_number_after`: GET TRANSACTION PROOF knows a debit by the number after it (n+1), else by
    its own (n). `is_detail_after`: 0018 likewise. `is_tac_first`: order of the proof. Sources
    differ in all of them (domain.md §12.5).
    `lies_mac2`: it debits as it should and answers a wrong MAC2.
    """

    def __init__(
        self,
        memory: ChipMemory,
        issue: IssueInfo,
        toll: bytes,
        balance: int,
        card_seq: int = 0,
        ledger: tuple[Debit, ...] = (),
        algorithm: crypto.AlgorithmName = "3des",
        key_version: int = KEY_VERSION,
        keys: crypto.MasterKeys = crypto.DEMO_KEYS,
    ) -> None:
        super().__init__()
        self._handlers = {
            (0x00, 0xA4): self._select,
            (0x00, 0xB0): self._read_binary,
            (0x00, 0xB2): self._read_record,
            (0x00, 0x84): self._get_challenge,
            (0x80, 0x5C): self._get_balance,
            (0x80, 0x50): self._init_purchase,
            (0x80, 0xDC): self._update_toll,
            (0x80, 0x54): self._debit,
            (0x80, 0x5A): self._get_proof,
        }
        self.info, self.toll, self.balance = issue, toll, balance
        self.card_seq = card_seq
        self.ledger = list(ledger)
        self.is_number_after = self.is_tac_first = True
        self.is_detail_after = False
        self.lies_mac2 = False
        self.algorithm, self.key_version = algorithm, key_version
        self.randoms: Callable[[int], bytes] = secrets.token_bytes
        self._memory = memory
        issuer, number = bytes.fromhex(issue.issuer), bytes.fromhex(issue.card_number)
        self._suite = crypto.SUITES[algorithm]
        self._purchase_key = self._suite.card_key(keys.purchase, issuer, number)
        self._tac_key = self._suite.card_key(keys.tac, issuer, number)
        self._selected = MF
        self._purchase: _Purchase | None = None

    @classmethod
    def issue(
        cls,
        memory: ChipMemory | None = None,
        *,
        plate: str = "甘A12345",
        colour: int = 0,
        vehicle_type: int = 1,
        user_type: int = 0,
        card_kind: int = CardKind.STORED,
        balance_fen: int = 100_00,
        network: str = "6201",
        card_number: str = "2045220000123456",
        entry: TollInfo | None = None,
        valid_from: str = "20201102",
        valid_to: str = "20301101",
        issuer: str = "B8CACBE062010001",
        card_version: int | None = None,
        card_seq: int = 0,
        algorithm: crypto.AlgorithmName = "3des",
        key_version: int = KEY_VERSION,
    ) -> Self:
        """A new card, written to its memory. `balance_fen` of a 记账卡 is its virtual purse.

        Without `card_version` it is one that can do `algorithm` (domain.md §1.1).
        """
        info = IssueInfo(
            issuer=issuer,
            card_kind=int(card_kind),
            card_version=CARD_VERSIONS[algorithm] if card_version is None else card_version,
            network=network,
            card_number=card_number,
            valid_from=valid_from,
            valid_to=valid_to,
            plate=plate,
            user_type=user_type,
            plate_colour=colour,
            vehicle_type=vehicle_type,
        )
        toll = encode_toll(entry) if entry else BLANK_TOLL
        memory = memory or ChipMemory()
        card = cls(memory, info, toll, balance_fen, card_seq, (), algorithm, key_version)
        card.save()
        return card

    @classmethod
    def resume(cls, memory: ChipMemory) -> Self | None:
        """The card this memory holds; None if it was never written."""
        state = memory.load()
        if state is None:
            return None
        return cls(
            memory,
            IssueInfo(**state["issue"]),
            bytes.fromhex(state["toll"]),
            state["balance"],
            state["card_seq"],
            tuple(Debit(**debit) for debit in state["ledger"]),
            state.get("algorithm", "3des"),
            state.get("key_version", KEY_VERSION),
        )

    def save(self) -> None:
        """Write the card to its memory; done by itself before every answer that changed it."""
        if not self._memory.is_kept:
            return
        state: dict[str, Any] = {
            "issue": asdict(self.info),
            "toll": self.toll.hex().upper(),
            "balance": self.balance,
            "card_seq": self.card_seq,
            "ledger": [debit._asdict() for debit in self.ledger],
            "algorithm": self.algorithm,
            "key_version": self.key_version,
        }
        self._memory.save(state)

    def write_entry(self, entry: TollInfo | None) -> None:
        """The bench's entry lane: a new trip on the same card."""
        self.toll = encode_toll(entry) if entry else BLANK_TOLL
        self.save()

    # ---- the chip ----

    def reset(self) -> None:
        super().reset()
        self._selected, self._purchase = MF, None

    def _execute(self, apdu: Apdu) -> bytes:
        if apdu.key not in ((0x80, 0xDC), (0x80, 0x54)):
            self._purchase = None  # anything else ends a purchase (domain.md §1.9)
        if self._selected != DF_ETC and apdu.key != (0x00, 0xA4):
            raise Refusal(StatusWord.NO_FILE)
        return super()._execute(apdu)

    def _select(self, apdu: Apdu) -> bytes:
        if apdu.data not in (MF, DF_ETC):
            raise Refusal(StatusWord.NO_FILE)
        self._selected = apdu.data
        return b"\x6f\x04\x84\x02" + apdu.data

    def _read_binary(self, apdu: Apdu) -> bytes:
        if apdu.p1 != 0x95:
            raise Refusal(StatusWord.NO_FILE)
        return piece(encode_issue(self.info), apdu.p2, apdu.le)

    def _read_record(self, apdu: Apdu) -> bytes:
        if apdu.p2 == 0xCC and apdu.p1 == 1:
            return self.toll
        if apdu.p2 == 0xC4 and 1 <= apdu.p1 <= len(self.ledger):
            return _detail(self.ledger[-apdu.p1], self.is_detail_after)
        raise Refusal(StatusWord.NO_RECORD)

    def _get_balance(self, _: Apdu) -> bytes:
        return self.balance.to_bytes(4)

    def _get_challenge(self, apdu: Apdu) -> bytes:
        return self.randoms(apdu.le or 4)

    def _init_purchase(self, apdu: Apdu) -> bytes:
        kind = {0x03: CAPP_PURCHASE, 0x01: PLAIN_PURCHASE}.get(apdu.p1)
        if kind is None or apdu.p2 != 0x02:
            raise Refusal(StatusWord.P1P2)
        if len(apdu.data) != 11:
            raise Refusal(StatusWord.WRONG_LENGTH)
        if apdu.data[0] != 1:
            raise Refusal(StatusWord.KEY_INDEX)
        if self.card_seq == SEQ_MAX:
            raise Refusal(StatusWord.COUNTER_FULL)
        amount_fen = int.from_bytes(apdu.data[1:5])
        if amount_fen > self.balance:
            raise Refusal(StatusWord.AMOUNT_SHORT)
        random = self.randoms(4)
        self._purchase = _Purchase(kind, amount_fen, apdu.data[5:11], random)
        return (
            self.balance.to_bytes(4)
            + self.card_seq.to_bytes(2)
            + bytes(3)
            + bytes([self.key_version, self._suite.wire])
            + random
        )

    def _update_toll(self, apdu: Apdu) -> bytes:
        if self._purchase is None or self._purchase.kind != CAPP_PURCHASE:
            raise Refusal(StatusWord.CONDITIONS)
        if (apdu.p1, apdu.p2) != (self.toll[0], 0xC8):
            raise Refusal(StatusWord.NO_RECORD)
        if len(apdu.data) != TOLL_LENGTH or apdu.data[:2] != self.toll[:2]:
            raise Refusal(StatusWord.DATA_WRONG)
        self._purchase = replace(self._purchase, toll=apdu.data)
        return b""

    def _debit(self, apdu: Apdu) -> bytes:
        purchase, self._purchase = self._purchase, None
        if purchase is None:
            raise Refusal(StatusWord.CONDITIONS)
        if len(apdu.data) != 15:
            raise Refusal(StatusWord.WRONG_LENGTH)
        terminal_seq, at = int.from_bytes(apdu.data[:4]), apdu.data[4:11]
        suite = self._suite
        key = suite.session_key(self._purchase_key, purchase.random, self.card_seq, terminal_seq)
        body = purchase.amount_fen, purchase.kind, purchase.terminal_no
        if suite.mac1(key, *body, at) != apdu.data[11:]:
            raise Refusal(StatusWord.WRONG_MAC)
        mac2 = suite.mac2(key, purchase.amount_fen)
        if self.lies_mac2:
            mac2 = bytes(0xFF ^ byte for byte in mac2)
        receipt = suite.tac(self._tac_key, *body, apdu.data[:11]) + mac2
        self._take(purchase, terminal_seq, at.hex(), receipt)
        return receipt

    def _take(self, purchase: _Purchase, terminal_seq: int, at: str, receipt: bytes) -> None:
        """Balance, counter, 0019 and ledger in one write."""
        self.ledger.append(
            Debit(
                amount_fen=purchase.amount_fen,
                card_seq=self.card_seq,
                terminal_no=purchase.terminal_no.hex().upper(),
                terminal_seq=terminal_seq,
                at=at,
                tac=receipt[:4].hex().upper(),
                mac2=receipt[4:].hex().upper(),
                kind=purchase.kind,
            )
        )
        self.balance -= purchase.amount_fen
        self.card_seq += 1
        self.toll = purchase.toll or self.toll
        self.save()

    def _get_proof(self, apdu: Apdu) -> bytes:
        number = int.from_bytes(apdu.data)
        for debit in reversed(self.ledger):
            known_as = debit.card_seq + 1 if self.is_number_after else debit.card_seq
            if (known_as, debit.kind) == (number, apdu.p2):
                first, second = debit.tac, debit.mac2
                return bytes.fromhex(first + second if self.is_tac_first else second + first)
        raise Refusal(StatusWord.NO_PROOF)


def _detail(debit: Debit, is_after: bool) -> bytes:
    """One record of 0018: number, overdraft, amount, type, terminal, date, time (23 bytes)."""
    return (
        (debit.card_seq + is_after).to_bytes(2)
        + bytes(3)
        + debit.amount_fen.to_bytes(4)
        + bytes([debit.kind])
        + bytes.fromhex(debit.terminal_no + debit.at)
    )

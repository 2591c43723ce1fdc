"""The twin of a PSAM: terminal number, its trade counter, MAC1, the check of MAC2. Demo keys.

One with both algorithms takes the one that 8070 names, which is the card's. Unauthorised, locked
or with its counter at the end it still tells who it is, and computes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from gateway.devices.apdu import DF_PSAM, MF, StatusWord
from gateway.devices.sim import crypto
from gateway.devices.sim.chip import Apdu, Refusal, SimChip, piece
from gateway.devices.sim.memory import ChipMemory

WRONG_MAC2_MAX = 3
"""Wrong ones in a row until it locks: assumed (domain.md §12.21)."""
SEQ_MAX = 0xFFFFFFFF
KEY_VERSION = 1
BOTH: tuple[crypto.AlgorithmName, ...] = ("3des", "sm4")
VEHICLE_KEYS = {3: crypto.TRIPLE_DES, 4: crypto.SM4}
"""P2 of DELIVERY KEY is key id + 3 (domain.md §2); key 1 being the SM4 one is ours."""


@dataclass(frozen=True, slots=True)
class _Purchase:
    """Between 8070 and 8072; lost with the power."""

    suite: crypto.Suite
    session: bytes
    amount_fen: int


class SimPsam(SimChip):
    """A lane's PSAM. `terminal_seq` is the number it used last, `seq_max` the last it has."""

    def __init__(
        self,
        memory: ChipMemory,
        serial: str,
        terminal_no: str,
        issuer: str,
        terminal_seq: int,
        wrong_mac2: int = 0,
        is_authorised: bool = True,
        seq_max: int = SEQ_MAX,
        algorithms: Sequence[crypto.AlgorithmName] = BOTH,
        keys: crypto.MasterKeys = crypto.DEMO_KEYS,
    ) -> None:
        super().__init__()
        self._handlers = {
            (0x00, 0xA4): self._select,
            (0x00, 0xB0): self._read_binary,
            (0x80, 0x70): self._init_purchase,
            (0x80, 0x72): self._check_mac2,
            (0x80, 0x1A): self._deliver_key,
            (0x80, 0xFA): self._decrypt,
        }
        self.serial, self.terminal_no, self.issuer = serial, terminal_no, issuer
        self.terminal_seq, self.wrong_mac2 = terminal_seq, wrong_mac2
        self.is_authorised, self.seq_max = is_authorised, seq_max
        self.algorithms = tuple(algorithms)
        self._memory, self._keys = memory, keys
        self._selected = MF
        self._purchase: _Purchase | None = None
        self._vehicle_key: tuple[crypto.Suite, bytes] | None = None

    @classmethod
    def issue(
        cls,
        memory: ChipMemory | None = None,
        *,
        serial: str = "62010000000000000001",
        terminal_no: str = "0162000012AB",
        issuer: str = "B8CACBE062010001",
        terminal_seq: int = 0,
        algorithms: Sequence[crypto.AlgorithmName] = BOTH,
    ) -> Self:
        """A new PSAM, authorised, written to its memory."""
        memory = memory or ChipMemory()
        psam = cls(memory, serial, terminal_no, issuer, terminal_seq, algorithms=algorithms)
        psam.save()
        return psam

    @classmethod
    def resume(cls, memory: ChipMemory) -> Self | None:
        """The PSAM this memory holds; None if it was never written."""
        state = memory.load()
        return None if state is None else cls(memory, **state)

    def save(self) -> None:
        """Write the PSAM to its memory; done by itself before every answer that changed it."""
        state: dict[str, Any] = {
            "serial": self.serial,
            "terminal_no": self.terminal_no,
            "issuer": self.issuer,
            "terminal_seq": self.terminal_seq,
            "wrong_mac2": self.wrong_mac2,
            "is_authorised": self.is_authorised,
            "seq_max": self.seq_max,
            "algorithms": self.algorithms,
        }
        self._memory.save(state)

    @property
    def is_locked(self) -> bool:
        return self.wrong_mac2 >= WRONG_MAC2_MAX

    # ---- the chip ----

    def reset(self) -> None:
        super().reset()
        self._selected = MF
        self._purchase = self._vehicle_key = None

    def _execute(self, apdu: Apdu) -> bytes:
        if apdu.cla == 0x80 and self._selected != DF_PSAM:
            raise Refusal(StatusWord.CONDITIONS)
        return super()._execute(apdu)

    def _select(self, apdu: Apdu) -> bytes:
        if apdu.data not in (MF, DF_PSAM):
            raise Refusal(StatusWord.NO_FILE)
        self._selected = apdu.data
        return b"\x6f\x04\x84\x02" + apdu.data

    def _read_binary(self, apdu: Apdu) -> bytes:
        region = bytes(9) + bytes.fromhex(self.issuer)[:4] + bytes(12)
        files = {
            (MF, 0x95): bytes.fromhex(self.serial) + b"\x01\x01\x00\x00",
            (MF, 0x96): bytes.fromhex(self.terminal_no),
            (DF_PSAM, 0x97): region,
        }
        file = files.get((self._selected, apdu.p1))
        if file is None:
            raise Refusal(StatusWord.NO_FILE)
        return piece(file, apdu.p2, apdu.le)

    def _init_purchase(self, apdu: Apdu) -> bytes:
        self._check_may_purchase()
        if len(apdu.data) != 0x24:
            raise Refusal(StatusWord.WRONG_LENGTH)
        body = apdu.data
        suite = self._suite_for(key_version=body[18], wire=body[19])
        card_number, issuer = body[20:28], body[28:32]
        key = suite.card_key(self._keys.purchase, issuer, card_number)
        self.terminal_seq += 1
        self.save()
        session = suite.session_key(key, body[0:4], int.from_bytes(body[4:6]), self.terminal_seq)
        amount_fen, kind, at = int.from_bytes(body[6:10]), body[10], body[11:18]
        self._purchase = _Purchase(suite, session, amount_fen)
        terminal = bytes.fromhex(self.terminal_no)
        mac1 = suite.mac1(session, amount_fen, kind, terminal, at)
        return self.terminal_seq.to_bytes(4) + mac1

    def _check_may_purchase(self) -> None:
        if self.is_locked:
            raise Refusal(StatusWord.BLOCKED)
        if not self.is_authorised:
            raise Refusal(StatusWord.SECURITY)
        if self.terminal_seq >= self.seq_max:
            raise Refusal(StatusWord.COUNTER_FULL)

    def _suite_for(self, key_version: int, wire: int) -> crypto.Suite:
        for name in self.algorithms:
            if crypto.SUITES[name].wire == wire and key_version == KEY_VERSION:
                return crypto.SUITES[name]
        raise Refusal(StatusWord.NO_KEY)

    def _check_mac2(self, apdu: Apdu) -> bytes:
        purchase, self._purchase = self._purchase, None
        if self.is_locked:
            raise Refusal(StatusWord.BLOCKED)
        if purchase is None:
            raise Refusal(StatusWord.CONDITIONS)
        is_right = apdu.data == purchase.suite.mac2(purchase.session, purchase.amount_fen)
        before = self.wrong_mac2
        self.wrong_mac2 = 0 if is_right else before + 1
        if self.wrong_mac2 != before:
            self.save()
        if not is_right:
            raise Refusal(StatusWord.WRONG_MAC)
        return b""

    def _deliver_key(self, apdu: Apdu) -> bytes:
        """House definition: vehicle key of issuer ×2, then contract serial (see `SimObu`)."""
        if (apdu.p1, len(apdu.data)) != (0x59, 16):
            raise Refusal(StatusWord.P1P2)
        suite = VEHICLE_KEYS.get(apdu.p2)
        if suite is None or suite.name not in self.algorithms:
            raise Refusal(StatusWord.NO_KEY)
        serial, issuer = apdu.data[:8], apdu.data[8:12]
        self._vehicle_key = suite, suite.card_key(self._keys.vehicle, issuer, serial)
        return b""

    def _decrypt(self, apdu: Apdu) -> bytes:
        if self._vehicle_key is None:
            raise Refusal(StatusWord.CONDITIONS)
        suite, key = self._vehicle_key
        if not apdu.data or len(apdu.data) % suite.block:
            raise Refusal(StatusWord.WRONG_LENGTH)
        return suite.decipher(key, apdu.data)

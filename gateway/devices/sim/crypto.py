"""The chips' arithmetic: key diversification, session key, MAC1, MAC2, TAC. Demo keys only.

Only twins compute these; the gateway itself never holds a key. 3DES: domain.md §1.7, verified
against a published example. SM4: the *house definition* of domain.md §1.8, see `Sm4`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes

AlgorithmName = Literal["3des", "sm4"]


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """What an issuing centre would keep in a vault; these open nothing but twins."""

    purchase: bytes = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    tac: bytes = bytes.fromhex("FFEEDDCCBBAA99887766554433221100")
    vehicle: bytes = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")


DEMO_KEYS = MasterKeys()


class Suite(ABC):
    """One algorithm's way through a purchase: keys are 16 bytes, MACs and TAC 4."""

    name: ClassVar[AlgorithmName]
    wire: ClassVar[int]
    """The algorithm byte of INITIALIZE and 8070 (domain.md §1.8)."""
    block: ClassVar[int]

    @abstractmethod
    def diversify(self, key: bytes, factor: bytes) -> bytes:
        """One level of 密钥分散: 16-byte key and 8-byte factor → 16-byte key."""

    @abstractmethod
    def session_key(
        self, purchase_key: bytes, random: bytes, card_seq: int, terminal_seq: int
    ) -> bytes:
        """SESPK of one purchase: 8 bytes for 3DES, 16 for SM4."""

    @abstractmethod
    def tac(
        self, tac_key: bytes, amount_fen: int, kind: int, terminal_no: bytes, terminal: bytes
    ) -> bytes:
        """What the card shows its issuer; `terminal`: its number(4), date and time(7)."""

    @abstractmethod
    def _cipher(self, key: bytes) -> CipherAlgorithm:
        """The block cipher under a session key or a whole one."""

    def card_key(self, master: bytes, issuer: bytes, number: bytes) -> bytes:
        """Two levels: the issuer's 4 region bytes doubled, then the chip's own 8-byte number."""
        return self.diversify(self.diversify(master, issuer[:4] * 2), number)

    def mac(self, key: bytes, data: bytes) -> bytes:
        """4 bytes: CBC over data ‖ 80 ‖ 00…, zero start, at least one pad byte."""
        encryptor = Cipher(self._cipher(key), modes.CBC(bytes(self.block))).encryptor()
        return encryptor.update(self.pad(data))[-self.block :][:4]

    def mac1(
        self, session: bytes, amount_fen: int, kind: int, terminal_no: bytes, at: bytes
    ) -> bytes:
        """What the PSAM shows the card: amount ‖ type ‖ terminal ‖ date and time (7 bytes)."""
        return self.mac(session, amount_fen.to_bytes(4) + bytes([kind]) + terminal_no + at)

    def mac2(self, session: bytes, amount_fen: int) -> bytes:
        """What the card shows the PSAM."""
        return self.mac(session, amount_fen.to_bytes(4))

    def encipher(self, key: bytes, plain: bytes) -> bytes:
        """ECB of whole blocks."""
        return Cipher(self._cipher(key), modes.ECB()).encryptor().update(plain)  # noqa: S305

    def decipher(self, key: bytes, cipher: bytes) -> bytes:
        """The reverse of `encipher`."""
        return Cipher(self._cipher(key), modes.ECB()).decryptor().update(cipher)  # noqa: S305

    def pad(self, data: bytes) -> bytes:
        """80, then zeros to a whole number of blocks."""
        return data + b"\x80" + bytes(-(len(data) + 1) % self.block)


class TripleDes(Suite):
    """3DES as every card speaks it (domain.md §1.7)."""

    name, wire, block = "3des", 0x00, 8

    def diversify(self, key: bytes, factor: bytes) -> bytes:
        return self.encipher(key, factor) + self.encipher(key, _inverted(factor))

    def session_key(
        self, purchase_key: bytes, random: bytes, card_seq: int, terminal_seq: int
    ) -> bytes:
        return self.encipher(purchase_key, _both_counters(random, card_seq, terminal_seq))

    def tac(
        self, tac_key: bytes, amount_fen: int, kind: int, terminal_no: bytes, terminal: bytes
    ) -> bytes:
        halves = bytes(left ^ right for left, right in zip(tac_key[:8], tac_key[8:], strict=True))
        return self.mac(halves, amount_fen.to_bytes(4) + bytes([kind]) + terminal_no + terminal)

    def _cipher(self, key: bytes) -> CipherAlgorithm:
        """8 bytes are single DES, 16 are two-key 3DES."""
        return TripleDES(key * 3 if len(key) == 8 else key + key[:8])


class Sm4(Suite):
    """SM4, HOUSE DEFINITION (domain.md §1.8): no public source gives the national rule.

    The cipher is GB/T 32907. How keys are diversified, what the session key is made of, how MACs
    are padded and that TAC takes its key whole, is ours, and only twins know it: the gateway
    passes bytes. Not to be claimed, printed or certified as the national algorithm.
    """

    name, wire, block = "sm4", 0x04, 16

    def diversify(self, key: bytes, factor: bytes) -> bytes:
        return self.encipher(key, factor + _inverted(factor))

    def session_key(
        self, purchase_key: bytes, random: bytes, card_seq: int, terminal_seq: int
    ) -> bytes:
        seed = _both_counters(random, card_seq, terminal_seq)
        return self.encipher(purchase_key, self.pad(seed))

    def tac(
        self, tac_key: bytes, amount_fen: int, kind: int, terminal_no: bytes, terminal: bytes
    ) -> bytes:
        return self.mac(tac_key, amount_fen.to_bytes(4) + bytes([kind]) + terminal_no + terminal)

    def _cipher(self, key: bytes) -> CipherAlgorithm:
        return algorithms.SM4(key)


TRIPLE_DES: Final = TripleDes()
SM4: Final = Sm4()
SUITES: Final[Mapping[AlgorithmName, Suite]] = {"3des": TRIPLE_DES, "sm4": SM4}


def _inverted(factor: bytes) -> bytes:
    return bytes(0xFF ^ byte for byte in factor)


def _both_counters(random: bytes, card_seq: int, terminal_seq: int) -> bytes:
    """8 bytes: random ‖ card's number ‖ last 2 bytes of the terminal's."""
    return random + card_seq.to_bytes(2) + (terminal_seq & 0xFFFF).to_bytes(2)

"""The chips' arithmetic: key diversification, session key, MAC1, MAC2, TAC (3DES). Demo keys only.

Only twins compute these; the gateway itself never holds a key. Source: domain.md §1.7.
"""

from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

BLOCK = 8


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """What an issuing centre would keep in a vault; these open nothing but twins."""

    purchase: bytes = bytes.fromhex("00112233445566778899AABBCCDDEEFF")
    tac: bytes = bytes.fromhex("FFEEDDCCBBAA99887766554433221100")
    vehicle: bytes = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")


DEMO_KEYS = MasterKeys()


def diversify(key: bytes, factor: bytes) -> bytes:
    """One level of 密钥分散: 16-byte key and 8-byte factor → 16-byte key."""
    return _ecb(key, factor) + _ecb(key, bytes(0xFF ^ byte for byte in factor))


def card_key(master: bytes, issuer: bytes, number: bytes) -> bytes:
    """Two levels: the issuer's 4 region bytes doubled, then the chip's own 8-byte number."""
    return diversify(diversify(master, issuer[:4] * 2), number)


def session_key(purchase_key: bytes, random: bytes, card_seq: int, terminal_seq: int) -> bytes:
    """SESPK, 8 bytes, of one purchase."""
    return _ecb(purchase_key, random + card_seq.to_bytes(2) + (terminal_seq & 0xFFFF).to_bytes(2))


def mac(key: bytes, data: bytes) -> bytes:
    """4 bytes: single DES in CBC over data ‖ 80 ‖ 00…, zero start, at least one pad byte."""
    padded = pad(data)
    encryptor = Cipher(TripleDES(key * 3), modes.CBC(bytes(BLOCK))).encryptor()
    return encryptor.update(padded)[-BLOCK:][:4]


def mac1(session: bytes, amount_fen: int, kind: int, terminal_no: bytes, at: bytes) -> bytes:
    """What the PSAM shows the card: amount ‖ type ‖ terminal ‖ date and time (7 bytes)."""
    return mac(session, amount_fen.to_bytes(4) + bytes([kind]) + terminal_no + at)


def mac2(session: bytes, amount_fen: int) -> bytes:
    """What the card shows the PSAM."""
    return mac(session, amount_fen.to_bytes(4))


def tac(tac_key: bytes, amount_fen: int, kind: int, terminal_no: bytes, terminal: bytes) -> bytes:
    """What the card shows its issuer; `terminal` is the terminal's number(4), date and time(7)."""
    halves = bytes(left ^ right for left, right in zip(tac_key[:8], tac_key[8:], strict=True))
    return mac(halves, amount_fen.to_bytes(4) + bytes([kind]) + terminal_no + terminal)


def encipher(key: bytes, plain: bytes) -> bytes:
    """3DES-ECB of whole blocks."""
    return _ecb(key, plain)


def decipher(key: bytes, cipher: bytes) -> bytes:
    """The reverse of `encipher`."""
    return Cipher(TripleDES(key + key[:BLOCK]), modes.ECB()).decryptor().update(cipher)  # noqa: S305


def pad(data: bytes) -> bytes:
    """80, then zeros to a whole number of blocks."""
    return data + b"\x80" + bytes(-(len(data) + 1) % BLOCK)


def _ecb(key: bytes, data: bytes) -> bytes:
    return Cipher(TripleDES(key + key[:BLOCK]), modes.ECB()).encryptor().update(data)  # noqa: S305

"""Ed25519 keys: the box's own, made at its first start, and those it believes.

A signature is over a context and the bytes, so that a key which signs other things too (a centre
signs parameter packages with the same one) can never be made to have signed one of ours.
"""

import logging
from pathlib import Path
from typing import Self

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.durable import replace
from gateway.errors import KeyMissing

log = logging.getLogger(__name__)

FOLDER, PRIVATE, PUBLIC = "keys", "lane.pem", "lane.pub"
CONTEXT = b"lane-gateway parcel 1\n"
PUBLIC_BYTES_MAX = 4096
_GARBLED = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)
"""What reading a key that is none can end in (seen: all bytes of one changed to all others)."""


class Signer:
    """A private key that signs parcels."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key, public = key, key.public_key()
        self.private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.public_hex = public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(CONTEXT + data)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises: KeyMissing, if there is none or it cannot be read."""
        try:
            return cls.parsed(path.read_bytes(), path)
        except FileNotFoundError as none:
            raise KeyMissing(f"没有签名密钥 {path}") from none
        except OSError as bad:
            raise KeyMissing(f"签名密钥 {path} 读不出：{bad}") from bad

    @classmethod
    def parsed(cls, pem: bytes, path: Path) -> Self:
        """`path`: where it was, to be told. Raises: KeyMissing, if it is no key of ours."""
        try:
            key = load_pem_private_key(pem, None)
        except _GARBLED as bad:
            raise KeyMissing(f"签名密钥 {path} 读不出：{bad}") from bad
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyMissing(f"{path} 不是 Ed25519 密钥")
        return cls(key)


def of_box(data: Path) -> Signer:
    """The key of the box whose data folder this is. Raises: KeyMissing."""
    private = data / FOLDER / PRIVATE
    try:
        return _believed(private.read_bytes(), _bytes(data / FOLDER / PUBLIC), private)
    except FileNotFoundError as none:
        raise KeyMissing(f"没有签名密钥 {private}") from none
    except OSError as bad:
        raise KeyMissing(f"签名密钥 {private} 读不出：{bad}") from bad


def prepare(data: Path) -> Signer:
    """The same, made if there is none; one that is damaged is set aside, and said so.

    Raises: OSError. A disk that does not read says nothing about the key: it is left alone.
    """
    folder = data / FOLDER
    private, public = folder / PRIVATE, folder / PUBLIC
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    raw, shown = _bytes(private), _bytes(public)
    is_first = not private.exists() and not public.exists()
    try:
        signer = _made() if is_first else _believed(raw, shown, private)
    except KeyMissing as bad:
        log.error("the signing key is set aside", extra={"why": bad.detail})
        for old in (private, public):  # the public half, too: old exports are checked with it
            if old.exists():
                old.replace(_free_name(old))
        raw, shown, signer = b"", b"", _made()
    for path, has, wanted, mode in (
        (private, raw, signer.private_pem + signer.public_pem, 0o600),
        (public, shown, signer.public_pem, 0o644),
    ):
        if has != wanted:
            replace(path, wanted, mode)
    return signer


def _believed(raw: bytes, shown: bytes, path: Path) -> Signer:
    """A key with one bit changed is a key, too, only another one. What was its public half stands
    behind it in the same file and in a file of its own: one of them must agree, if there is one.

    Raises: KeyMissing.
    """
    signer = Signer.parsed(raw, path)
    said = {raw.removeprefix(signer.private_pem), shown} - {b""}
    if said and signer.public_pem not in said:
        raise KeyMissing(f"签名密钥 {path} 被改过，和公钥对不上")
    return signer


def _made() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def _bytes(path: Path) -> bytes:
    """Empty if there is no such file. Raises: OSError."""
    return path.read_bytes() if path.exists() else b""


def read_public(text: str) -> bytes:
    """32 bytes of a public key given as 64 hex digits, or as the path of a file with that or PEM.

    Raises: KeyMissing.
    """
    try:
        raw = text.encode() if _is_hex(text) else _start_of(Path(text))
        if _is_hex(raw.decode().strip()):
            return bytes.fromhex(raw.decode().strip())
        key = load_pem_public_key(raw)
    except (OSError, *_GARBLED) as bad:
        raise KeyMissing(f"公钥读不出：{text[:80]}") from bad
    if not isinstance(key, Ed25519PublicKey):
        raise KeyMissing(f"{text[:80]} 不是 Ed25519 公钥")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def is_signed(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the owner of that key signed these bytes as a parcel."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, CONTEXT + data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_hex(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PUBLIC_BYTES_MAX)


def _free_name(file: Path) -> Path:
    used = len(list(file.parent.glob(f"{file.name}.bad*")))
    return Path(f"{file}.bad{used + 1}")

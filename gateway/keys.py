"""Ed25519 keys: the box's own, made at its first start, and those it believes.

A signature is over a context and the bytes, so that a key which signs other things too (a centre
signs parameter packages with the same one) can never be made to have signed one of ours.
"""

import logging
import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.errors import KeyMissing

log = logging.getLogger(__name__)

FOLDER, PRIVATE, PUBLIC = "keys", "lane.pem", "lane.pub"
CONTEXT = b"lane-gateway parcel 1\n"
PUBLIC_BYTES_MAX = 4096


class Signer:
    """A private key that signs parcels."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key, public = key, key.public_key()
        self.public_hex = public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        self.public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(CONTEXT + data)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises: KeyMissing, if there is none or it cannot be read."""
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError as none:
            raise KeyMissing(f"没有签名密钥 {path}") from none
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as bad:
            raise KeyMissing(f"签名密钥 {path} 读不出：{bad}") from bad
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyMissing(f"{path} 不是 Ed25519 密钥")
        return cls(key)


def of_box(data: Path) -> Signer:
    """The key of the box whose data folder this is. Raises: KeyMissing."""
    return Signer.read(data / FOLDER / PRIVATE)


def prepare(data: Path) -> Signer:
    """The same, made if there is none; one that cannot be read is set aside, and said so.

    Raises: OSError.
    """
    folder = data / FOLDER
    private = folder / PRIVATE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if private.exists():
        try:
            signer = Signer.read(private)
        except KeyMissing as bad:
            log.error("the signing key is set aside", extra={"why": bad.detail})
            private.replace(_free_name(folder))
            signer = _make(private)
    else:
        signer = _make(private)
    _show(folder / PUBLIC, signer)
    return signer


def read_public(text: str) -> bytes:
    """32 bytes of a public key given as 64 hex digits, or as the path of a file with that or PEM.

    Raises: KeyMissing.
    """
    try:
        raw = text.encode() if _is_hex(text) else _start_of(Path(text))
        if _is_hex(raw.decode().strip()):
            return bytes.fromhex(raw.decode().strip())
        key = load_pem_public_key(raw)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as bad:
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


def _make(path: Path) -> Signer:
    key = Ed25519PrivateKey.generate()
    _put(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return Signer(key)


def _show(path: Path, signer: Signer) -> None:
    if not path.exists() or path.read_bytes() != signer.public_pem:
        _put(path, signer.public_pem, 0o644)


def _free_name(folder: Path) -> Path:
    used = len(list(folder.glob(f"{PRIVATE}.bad*")))
    return folder / f"{PRIVATE}.bad{used + 1}"


def _put(path: Path, body: bytes, mode: int) -> None:
    """Whole or not at all, also when the power is cut."""
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)
    fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

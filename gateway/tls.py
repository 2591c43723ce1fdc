"""The lane's own certificate authority and the leaf that handhelds meet. No network.

Renewal is only a replacement that succeeded: what works stays until something better is on disk.
A broken file is moved aside, never deleted, and a new one made; selling never waits for any of it.
"""

import hashlib
import logging
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.durable import replace
from gateway.errors import TlsUnavailable
from gateway.units import Clock, beijing

log = logging.getLogger(__name__)

AUTHORITY_FILE, LEAF_FILE = "authority.pem", "leaf.pem"
AUTHORITY_LIFE = timedelta(days=3652)
LEAF_LIFE = timedelta(days=397)  # phones refuse longer ones
RENEW_BEFORE = timedelta(days=30)
BACK_DATED = timedelta(days=2)  # a handheld whose clock is behind refuses "not yet valid"
LOOK_EVERY_S = 6 * 3600.0
CLOCK_FLOOR = datetime(2025, 11, 1, tzinfo=UTC)  # no box was built before: a dead RTC says 1970


class _Broken(Exception):
    """A file that is there but cannot serve."""


@dataclass(frozen=True, slots=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def pem(self, *chain: x509.Certificate) -> bytes:
        """Key and certificates in one file, so that they can never be of different age."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificates = (self.certificate, *chain)
        return key + b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the TLS listener shows, and what handhelds check it by."""

    leaf_file: Path
    ca_pem: bytes
    """The authority's certificate alone, for GET /ca.crt."""
    ca_sha256: str
    """64 hex digits over its DER, as the QR carries it."""
    ca_expires: datetime
    leaf_expires: datetime
    names: tuple[str, ...]

    def context(self) -> ssl.SSLContext:
        """A server context, TLS 1.2 at least. Raises: TlsUnavailable."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """A renewed leaf for a listener that is open: the next handshake shows it."""
        try:
            context.load_cert_chain(self.leaf_file)
        except (OSError, ssl.SSLError) as bad:
            raise TlsUnavailable(f"证书文件读不了：{bad}") from bad


def prepare(folder: Path, names: Sequence[str], at: datetime) -> Identity:
    """The authority and a leaf for these names and IPs, made or renewed where needed.

    `at` is now, aware; `names` at least one. Blocks for some milliseconds of disk and signing.
    Raises: TlsUnavailable, if the folder cannot be read or written.
    """
    at = max(at, CLOCK_FLOOR)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(folder / AUTHORITY_FILE, at)
        leaf = _leaf(folder / LEAF_FILE, authority, tuple(map(_plain, names)), at)
    except OSError as broken:
        raise TlsUnavailable(f"证书目录 {folder.name} 读写失败：{broken.strerror}") from broken
    return _identity(folder, authority.certificate, leaf.certificate)


def inspect(folder: Path) -> Identity | None:
    """What is on disk, changing nothing; None before the first start. Raises: TlsUnavailable."""
    if not (folder / AUTHORITY_FILE).exists():
        return None
    try:
        authority, leaf = _read(folder / AUTHORITY_FILE), _read(folder / LEAF_FILE)
        leaf.certificate.verify_directly_issued_by(authority.certificate)
    except (OSError, _Broken, ValueError, TypeError, InvalidSignature) as bad:
        raise TlsUnavailable(f"证书文件损坏：{bad}") from bad
    return _identity(folder, authority.certificate, leaf.certificate)


class Renewal:
    """Looks at the leaf a few times a day; an open listener shows a new one without a restart."""

    name = "certificate"

    def __init__(
        self, folder: Path, names: Sequence[str], context: ssl.SSLContext, clock: Clock
    ) -> None:
        self._folder, self._names = folder, names
        self._context, self._clock = context, clock

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                found = prepare(self._folder, self._names, beijing(self._clock.now_ms()))
                found.load_into(self._context)
            except TlsUnavailable as fault:  # the listener goes on with what it has loaded
                log.error("certificate not renewed", extra={"why": fault.detail})


def _identity(folder: Path, ca: x509.Certificate, leaf: x509.Certificate) -> Identity:
    der = ca.public_bytes(serialization.Encoding.DER)
    return Identity(
        leaf_file=folder / LEAF_FILE,
        ca_pem=ca.public_bytes(serialization.Encoding.PEM),
        ca_sha256=hashlib.sha256(der).hexdigest(),
        ca_expires=ca.not_valid_after_utc,
        leaf_expires=leaf.not_valid_after_utc,
        names=_names_of(leaf),
    )


def _authority(file: Path, at: datetime) -> _Pair:
    """The one on disk, whatever its age: replacing it cuts every handheld off."""
    if (kept := _kept(file)) is not None:
        return kept
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"出口车道网关 CA {os.urandom(2).hex().upper()}")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _draft(name, name, key, at - BACK_DATED, at + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    made = _Pair(key, certificate)
    replace(file, made.pem(), 0o600)
    log.info("certificate authority made", extra={"expires": str(certificate.not_valid_after_utc)})
    return made


def _leaf(file: Path, authority: _Pair, names: tuple[str, ...], at: datetime) -> _Pair:
    kept, ca = _kept(file), authority.certificate
    if kept is not None and not _is_from(kept.certificate, ca):
        _set_aside(file, "issued by another authority")
        kept = None
    if kept is not None and _still_serves(kept.certificate, names, at):
        return kept
    begins, ends = at - BACK_DATED, min(at + LEAF_LIFE, ca.not_valid_after_utc)
    begins = max(begins, ca.not_valid_before_utc)
    if ends - begins < RENEW_BEFORE:  # a clock far off, or the authority's last days
        log.error("certificate cannot be renewed", extra={"ca_expires": str(ends)})
        if kept is not None:
            return kept
        begins, ends = ca.not_valid_before_utc, ca.not_valid_after_utc
    made = _issue(authority, names, begins, ends)
    replace(file, made.pem(ca), 0o600)
    log.info("certificate issued", extra={"names": names, "expires": str(ends)})
    return made


def _issue(authority: _Pair, names: tuple[str, ...], begins: datetime, ends: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = authority.certificate
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    certificate = (
        _draft(_name(names[0]), ca.subject, key, begins, ends)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return _Pair(key, certificate)


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _is_from(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _still_serves(leaf: x509.Certificate, names: tuple[str, ...], at: datetime) -> bool:
    return leaf.not_valid_after_utc - at >= RENEW_BEFORE and set(_names_of(leaf)) == set(names)


def _names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _plain(name: str) -> str:
    """An IP in its one spelling, so that names can be compared."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _kept(file: Path) -> _Pair | None:
    """What the file holds; a broken one is moved aside and counts as none."""
    try:
        return _read(file)
    except FileNotFoundError:
        return None
    except _Broken as bad:
        _set_aside(file, str(bad))
        return None


def _set_aside(file: Path, why: str) -> None:
    aside = _free_name(file)
    file.rename(aside)
    log.error("certificate file moved aside", extra={"file": aside.name, "why": why})


def _free_name(file: Path) -> Path:
    return next(
        aside for n in range(1, 10_000) if not (aside := Path(f"{file}.broken-{n}")).exists()
    )


def _read(file: Path) -> _Pair:
    """Raises: _Broken, unless it is to the byte what `_Pair.pem` writes, and its parts fit."""
    raw = file.read_bytes()
    try:
        key = serialization.load_pem_private_key(raw, password=None)
        certificate, *chain = x509.load_pem_x509_certificates(raw)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise _Broken(f"{file.name}: not an elliptic-curve key")
        pair = _Pair(key, certificate)
        _prove(pair, chain)
        if pair.pem(*chain) != raw:
            raise _Broken(f"{file.name}: changed since it was written")
    except _BAD as bad:
        raise _Broken(f"{file.name}: {bad}") from bad
    return pair


_BAD = (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, InternalError,
        x509.InvalidVersion, x509.DuplicateExtension)  # fmt: skip


def _prove(pair: _Pair, chain: Sequence[x509.Certificate]) -> None:
    """The key signs for its certificate, and each certificate for the one before it."""
    public, algorithm = pair.certificate.public_key(), ec.ECDSA(hashes.SHA256())
    if not isinstance(public, ec.EllipticCurvePublicKey) or public != pair.key.public_key():
        raise ValueError("key and certificate do not belong together")
    public.verify(pair.key.sign(b"probe", algorithm), b"probe", algorithm)
    last = (chain or [pair.certificate])[-1]
    for certificate, issuer in zip((pair.certificate, *chain), (*chain, last), strict=True):
        certificate.verify_directly_issued_by(issuer)
        tuple(certificate.extensions)

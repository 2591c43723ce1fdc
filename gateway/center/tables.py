"""Parameter packages the centre publishes: files as they stand in a folder, signed with its key.

`*.json` are tables, signed here; `*.list` are big status lists, which carry their signature. A file
is read once, and again only when it changed: thousands of lanes ask for the manifest.
"""

import hashlib
import io
import json
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.durable import replace
from gateway.errors import ParameterInvalid
from gateway.faretable.stream import PackageStream
from gateway.params import ListDamaged
from gateway.statuslist.form import BLOCK_BYTES, SIGNED_BYTES, read_head

log = logging.getLogger(__name__)

LARGE = 1024 * 1024
Stamp = tuple[int, int, int]
"""What tells that a file is still the one that was read."""


@dataclass(frozen=True, slots=True)
class Published:
    """One package: where its bytes are, and its line in the manifest."""

    path: Path
    entry: dict[str, Any]


class Tables:
    """What stands in `folder` now; read anew for every manifest, so a file dropped in is news.
    Blocks; any thread may ask."""

    def __init__(self, folder: Path | None, key: Ed25519PrivateKey) -> None:
        self._folder, self._key = folder, key
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[Stamp, Published | None]] = {}

    def manifest(self) -> tuple[bytes, str]:
        """JSON `{"packages": [{name, version, sha256, size, effective_from, signature, format?,
        base?}]}` and its entity tag. `signature`: Ed25519 over the file's bytes, hex; of a list
        over its head (docs/statuslist.md)."""
        entries = [published.entry for published in self._published()]
        body = json.dumps({"packages": entries}, ensure_ascii=False).encode()
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    def find(self, name: str, version: str, base: str = "") -> Path | None:
        for published in self._published():
            one = published.entry
            if (one["name"], one["version"], one.get("base", "")) == (name, version, base):
                return published.path
        return None

    def _published(self) -> list[Published]:
        files = sorted(self._folder.glob("*.*")) if self._folder else []
        with self._lock:
            told = [self._told(path) for path in files if path.suffix in (".json", ".list")]
        return [published for published in told if published]

    def _told(self, path: Path) -> Published | None:
        at = path.stat()
        stamp = (at.st_mtime_ns, at.st_size, at.st_ino)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, self._read(path))
        return known[1]

    def _read(self, path: Path) -> Published | None:
        try:
            entry = _list(path) if path.suffix == ".list" else self._table(path.read_bytes())
        except (ValueError, KeyError, TypeError, ListDamaged) as bad:
            log.warning("parameter file left out", extra={"file": path.name, "reason": str(bad)})
            return None
        return Published(path, entry)

    def _table(self, raw: bytes) -> dict[str, Any]:
        head = _head(raw)
        name, version = str(head["name"]), str(head["version"])
        effective_from = datetime.fromisoformat(head["effective_from"]).isoformat()
        return {
            "name": name,
            "version": version,
            "sha256": hashlib.sha256(raw).hexdigest(),
            "size": len(raw),
            "effective_from": effective_from,
            "signature": self._key.sign(raw).hex(),
            **({"base": str(head["base"])} if head.get("base") else {}),
        }


def _head(raw: bytes) -> dict[str, Any]:
    """A package's own fields. Of a large one whose fields come first the rows are not read; one
    that ends in the middle is left alone, somebody copies it. Raises: ValueError."""
    if len(raw) > LARGE and raw.rstrip().endswith(b"}"):
        stream = PackageStream(io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        with suppress(ParameterInvalid, StopIteration):
            next(stream.rows())
            if stream.facts.keys() >= {"name", "version", "effective_from"}:
                return stream.facts
    head: dict[str, Any] = json.loads(raw)
    return head


def _list(path: Path) -> dict[str, Any]:
    """Raises: ListDamaged, if it is none."""
    with path.open("rb") as file:
        block = file.read(BLOCK_BYTES)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    head = read_head(block)
    return {
        "name": "status_list",
        "version": head.version,
        "base": head.base,
        "format": "list",
        "sha256": sha256,
        "size": size,
        "effective_from": head.effective_from.isoformat(),
        "signature": block[SIGNED_BYTES : SIGNED_BYTES + 64].hex(),
    }


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in `path` (PEM, 0600), made on first use; its public half stands beside as
    `<name>.pub` (PEM), for the lanes' configuration. On disk before anybody can trust it."""
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        replace(path.with_suffix(".pub"), public)
        replace(path, pem, 0o600)
    loaded = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(loaded, Ed25519PrivateKey):
        raise ValueError(f"{path.name} is not an Ed25519 key")
    return loaded


def public_hex(key: Ed25519PrivateKey) -> str:
    """64 hex digits."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

"""Parameter packages the centre publishes: files as they stand in a folder, signed with its key."""

import hashlib
import json
import logging
import os
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

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """One package: where its bytes are, and its line in the manifest."""

    path: Path
    entry: dict[str, Any]


class Tables:
    """What stands in `folder` now; read anew for every manifest, so a file dropped in is news."""

    def __init__(self, folder: Path | None, key: Ed25519PrivateKey) -> None:
        self._folder, self._key = folder, key

    def manifest(self) -> tuple[bytes, str]:
        """JSON `{"packages": [{name, version, sha256, size, effective_from, signature}]}`
        and its entity tag. `signature`: Ed25519 over the file's bytes, hex."""
        entries = [published.entry for published in self._published()]
        body = json.dumps({"packages": entries}, ensure_ascii=False).encode()
        return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    def find(self, name: str, version: str) -> Path | None:
        for published in self._published():
            if (published.entry["name"], published.entry["version"]) == (name, version):
                return published.path
        return None

    def _published(self) -> list[Published]:
        files = sorted(self._folder.glob("*.json")) if self._folder else []
        return [published for path in files if (published := self._read(path))]

    def _read(self, path: Path) -> Published | None:
        raw = path.read_bytes()
        try:
            head = json.loads(raw)
            name, version = str(head["name"]), str(head["version"])
            effective_from = datetime.fromisoformat(head["effective_from"]).isoformat()
        except (ValueError, KeyError, TypeError) as bad:
            log.warning("parameter file left out", extra={"file": path.name, "reason": str(bad)})
            return None
        return Published(
            path,
            {
                "name": name,
                "version": version,
                "sha256": hashlib.sha256(raw).hexdigest(),
                "size": len(raw),
                "effective_from": effective_from,
                "signature": self._key.sign(raw).hex(),
            },
        )


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in `path` (PEM, 0600), made on first use; its public half stands beside as
    `<name>.pub` (PEM), for the lanes' configuration."""
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.with_suffix(".pub").write_bytes(public)
        fresh = path.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_bytes(pem)
        os.replace(fresh, path)  # noqa: PTH105 - one word for one system call
    loaded = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(loaded, Ed25519PrivateKey):
        raise ValueError(f"{path.name} is not an Ed25519 key")
    return loaded


def public_hex(key: Ed25519PrivateKey) -> str:
    """64 hex digits."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

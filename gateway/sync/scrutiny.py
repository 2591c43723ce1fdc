"""What can be wrong with a fetched package, in the order it is cheap to tell. No I/O."""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.errors import ParameterInvalid
from gateway.params import Operators, Package, Ready, Stations, apply_delta, read_package
from gateway.sync.center import ManifestEntry
from gateway.units import moment_ms

SIZE_MAX = 16 * 1024 * 1024
"""Of a package that is read at once; lists and fare tables of any size go other ways."""


def scrutinise(
    entry: ManifestEntry,
    raw: bytes,
    key: Ed25519PublicKey | None,
    exit_hex: str | None,
    base: Package | None,
) -> tuple[Package, bytes]:
    """The full package and its bytes; a delta's are those of what it makes of `base`.

    Raises: ParameterInvalid.
    """
    what = f"参数 {entry.name} 版本 {entry.version}"
    if len(raw) != entry.size:
        raise ParameterInvalid(f"{what} 长度不符：应为 {entry.size} 字节，收到 {len(raw)} 字节")
    if hashlib.sha256(raw).hexdigest() != entry.sha256.lower():
        raise ParameterInvalid(f"{what} 校验和不符")
    _check_signature(what, entry, raw, key)
    package = read_package(raw)
    if (package.name, package.version) != (entry.name, entry.version):
        raise ParameterInvalid(f"{what} 的内容是 {package.name} 版本 {package.version}")
    if package.effective_from_ms != moment_ms(entry.effective_from):
        raise ParameterInvalid(f"{what} 的生效时间与目录不符")
    if package.base != entry.base:
        raise ParameterInvalid(f"{what} 的基础版本与目录不符")
    if package.base:
        if base is None or isinstance(base, Ready):
            raise ParameterInvalid(f"{what} 的基础版本 {package.base} 不在本机")
        package = apply_delta(base, package)
        raw = package.model_dump_json().encode()
    check_exit(package, exit_hex)
    return package, raw


def check_exit(package: Package, exit_hex: str | None) -> None:
    """Raises: ParameterInvalid, if it is the fares of another exit station."""
    told = package.body.get("exit_hex", exit_hex)
    if package.name == "minimum_fares" and exit_hex not in (None, told):
        raise ParameterInvalid(f"最小费额表是出口站 {told} 的，不是本站的")


def self_check(package: Package, exit_hex: str | None) -> str:
    """At the moment of a switch: why this table cannot be worked with, though it is well-formed;
    empty if it can."""
    try:
        table = package.table()
        if isinstance(package, Ready):
            package.ready.spot_check()
    except ParameterInvalid as bad:
        return bad.detail
    if not getattr(table, "rows", True) and package.name != "status_list":
        return "表是空的"
    if isinstance(table, Stations) and exit_hex and table.by_hex(exit_hex) is None:
        return f"站码表里没有本站 {exit_hex}"
    if isinstance(table, Operators) and all(row.role != "master" for row in table.rows):
        return "工号表里没有站长"
    return ""


def _check_signature(
    what: str, entry: ManifestEntry, raw: bytes, key: Ed25519PublicKey | None
) -> None:
    if key is None:
        return
    try:
        key.verify(bytes.fromhex(entry.signature), raw)
    except (InvalidSignature, ValueError) as bad:
        raise ParameterInvalid(f"{what} 签名不对") from bad

"""A fetched package → a compiled table, everything about it checked. Runs in a child process.

Memory does not grow with the table: the package is read as a stream and its signature is checked
over the mapped file (a read error there ends the child only).
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.errors import ParameterInvalid
from gateway.faretable.compiled import About, FareTable, Maker
from gateway.faretable.stream import PackageStream
from gateway.params import MinimumFare

NAME = "minimum_fares"


class Order(BaseModel):
    """What the child is told, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: Path
    out: Path
    version: str = ""
    """Empty: whichever it says of itself, its bytes having been proved before."""
    effective_from_ms: int = 0
    size: int
    sha256: str
    signature: str = ""
    key: str = ""
    """64 hex digits; empty: no signature is wanted."""
    exit_hex: str = ""
    """Our own; empty: any."""
    base: Path | None = None
    """Compiled table that a delta changes."""
    base_version: str = ""


def compile_table(order: Order) -> About:
    """Raises: ParameterInvalid, whose detail says what is wrong; OSError."""
    what = f"参数 {NAME} 版本 {order.version or '？'}"
    _check_bytes(what, order)
    with (
        Maker(order.out, order.base) as made,
        order.package.open(encoding="utf-8") as file,
    ):
        stream = PackageStream(file)
        before = made.count()
        fares, count = _fares(what, stream), 0
        for fare in fares:
            made.put((fare,))
            count += 1
        if order.base is None and made.count() != before + count:
            raise ParameterInvalid(f"{what} 不能用：有重复的行")
        made.remove(_removed(what, stream.body))
        _check_facts(what, order, stream)
        facts = {
            "name": NAME,
            "version": stream.facts["version"],
            "effective_from": stream.facts["effective_from"],
            "exit_hex": stream.body["exit_hex"],
            "package_sha256": order.sha256.lower(),
        }
        about = made.close(facts)
    return _prove(what, order, about, stream.body.get("becomes"))


def _check_bytes(what: str, order: Order) -> None:
    size = order.package.stat().st_size
    if size != order.size:
        raise ParameterInvalid(f"{what} 长度不符：应为 {order.size} 字节，收到 {size} 字节")
    with order.package.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != order.sha256.lower():
            raise ParameterInvalid(f"{what} 校验和不符")
        if not order.key:
            return
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(order.key))
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as whole,
        ):
            try:
                key.verify(bytes.fromhex(order.signature), whole)
            except (InvalidSignature, ValueError) as bad:
                raise ParameterInvalid(f"{what} 签名不对") from bad


def _fares(what: str, stream: PackageStream) -> Iterator[MinimumFare]:
    for place, row in enumerate(stream.rows()):
        try:
            yield MinimumFare.model_validate(row)
        except ValidationError as bad:
            fault = bad.errors()[0]
            where = ".".join(map(str, ("rows", place, *fault["loc"])))
            raise ParameterInvalid(f"{what} 不能用：{where} {fault['msg']}") from bad


def _removed(what: str, body: dict[str, Any]) -> list[tuple[str, int]]:
    try:
        return [(str(entry_hex), int(kind)) for entry_hex, kind in body.get("removed", [])]
    except (TypeError, ValueError) as bad:
        raise ParameterInvalid(f"{what} 不能用：removed 看不懂") from bad


def _check_facts(what: str, order: Order, stream: PackageStream) -> None:
    facts, body = stream.facts, stream.body
    told = (facts.get("name"), facts.get("version"), facts.get("base") or "")
    version = order.version or told[1]
    if told != (NAME, version, order.base_version):
        raise ParameterInvalid(f"{what} 的内容是 {told[0]} 版本 {told[1]}")
    if unknown := set(body) - {"exit_hex", "removed", "becomes"}:
        raise ParameterInvalid(f"{what} 不能用：{'、'.join(sorted(unknown))} 不是这张表的")
    if not isinstance(body.get("exit_hex"), str):
        raise ParameterInvalid(f"{what} 不能用：没有 exit_hex")
    if order.exit_hex and body["exit_hex"] != order.exit_hex:
        raise ParameterInvalid(f"最小费额表是出口站 {body['exit_hex']} 的，不是本站的")


def _prove(what: str, order: Order, about: About, becomes: Any) -> About:
    """Its rows were read back for the digest; the table must be what its maker says it becomes,
    and open as it will at the next start."""
    table = FareTable.open(order.out)
    try:
        from_ms = round(about.effective_from.timestamp() * 1000)
        if order.version and from_ms != order.effective_from_ms:
            raise ParameterInvalid(f"{what} 的生效时间与目录不符")
        if becomes and becomes != {"rows": about.rows, "digest": about.digest}:
            raise ParameterInvalid(f"{what} 用在基础版本上，结果与中心说的不同")
        table.spot_check()
    except ParameterInvalid:
        order.out.unlink()
        raise
    finally:
        table.close()
    return about

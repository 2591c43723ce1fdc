"""A signed file that is carried by hand: named parts behind a manifest.

A tar that any tool opens, with only one way to write it: manifest.json, manifest.sig, the parts in
the manifest's order, then the photos by name. A reader holds every byte against what it must be,
heads and fillings too, so that nothing can be changed, added or left out unnoticed.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.errors import ParcelRefused
from gateway.keys import Signer, is_signed

FORMAT = "lane-gateway/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
BLOCK = 512
END = bytes(2 * BLOCK)
PIECE = 1 << 20
MANIFEST_BYTES_MAX = 1 << 20
LINE_BYTES_MAX = 4 << 20
PHOTO_BYTES_MAX = 8 << 20
SIGNATURE_SIZE = 129  # 64 bytes in hex, and a newline


class Part(BaseModel):
    """One part, as the manifest promises it. `lines`: each ends with a newline."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=r"^[a-z][a-z-]*(-[0-9A-Za-z]{1,8})?\.(txt|ndjson)$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    lines: int = Field(ge=0)


_PARTS = TypeAdapter(tuple[Part, ...])


class Writing:
    """A part that is being written to a file of its own, counted and hashed on the way."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.path = name, folder / name
        self._file = self.path.open("wb")
        self._hash, self._size, self._lines = hashlib.sha256(), 0, 0

    def add(self, line: bytes) -> None:
        """One line; the newline is added here."""
        whole = line + b"\n"
        self._file.write(whole)
        self._hash.update(whole)
        self._size += len(whole)
        self._lines += 1

    def close(self) -> None:
        self._file.close()

    def done(self) -> Part:
        self.close()
        return Part(
            name=self.name, size=self._size, sha256=self._hash.hexdigest(), lines=self._lines
        )


class Photo(NamedTuple):
    """A picture by its content's name; `path` is asked for when its turn comes."""

    sha256: str
    size: int
    path: Path


def write(
    out: Path,
    signer: Signer,
    manifest: Mapping[str, Any],
    parts: Sequence[tuple[Part, Path]],
    photos: Iterable[Photo] = (),
) -> str:
    """Write the whole file, or none; SHA-256 of the manifest. `manifest`: all but format, parts.

    Raises: OSError.
    """
    told = {"format": FORMAT, **manifest, "parts": [part.model_dump() for part, _ in parts]}
    head = canonical(told)
    half = out.with_name(f"{out.name}.half")
    half.unlink(missing_ok=True)
    try:
        # Plates and card numbers are in it: for its owner alone.
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _put(file, MANIFEST, len(head), [head])
            signature = f"{signer.sign(head).hex()}\n".encode()
            _put(file, SIGNATURE, len(signature), [signature])
            for part, path in parts:
                _put(file, part.name, part.size, _pieces(path))
            for photo in photos:
                _put(file, name_of(photo.sha256), photo.size, _pieces(photo.path))
            file.write(END)
            file.flush()
            os.fsync(file.fileno())
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)
    return hashlib.sha256(head).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one way to write these values down."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def name_of(sha256: str) -> str:
    return f"photos/{sha256}.jpg"


class Parcel:
    """A file whose every byte was checked. `manifest`: as signed; `sha256`: of it."""

    def __init__(self, path: Path, head: bytes) -> None:
        self.path, self.sha256 = path, hashlib.sha256(head).hexdigest()
        self.manifest: dict[str, Any] = json.loads(head)
        self._places: dict[str, tuple[int, int]] = {}
        """Name → where its bytes are, how many."""

    @classmethod
    def open(cls, path: Path, public: bytes, kind: str) -> Self:
        """Read it from end to end. `public`: the 32 bytes of the key that must have signed it.

        Raises: ParcelRefused, saying what is wrong and where.
        """
        try:
            with path.open("rb") as file:
                reader = _Reader(file, path.stat().st_size)
                head = _signed_head(reader, public)
                parcel = cls(path, head)
                parcel._check_kind(kind)
                parcel._walk(reader)
                return parcel
        except OSError as broken:
            raise ParcelRefused(f"{path.name} 读不出：{broken.strerror}") from broken

    def lines(self, name: str) -> Iterator[bytes]:
        """Of one part, without the newlines. Raises: KeyError, ParcelRefused."""
        at, size = self._places[name]
        with self.path.open("rb") as file:
            file.seek(at)
            while size > 0:
                line = file.readline(min(size, LINE_BYTES_MAX))
                if not line.endswith(b"\n"):
                    raise ParcelRefused(f"{name} 里有一行太长或不完整")
                size -= len(line)
                yield line[:-1]

    def has(self, name: str) -> bool:
        return name in self._places

    def photos(self) -> list[str]:
        """SHA-256 of each picture in the file."""
        return [name[7:-4] for name in self._places if name.startswith("photos/")]

    def photo(self, sha256: str) -> bytes:
        at, size = self._places[name_of(sha256)]
        with self.path.open("rb") as file:
            file.seek(at)
            return file.read(size)

    # ---- inside ----

    def _check_kind(self, kind: str) -> None:
        if self.manifest.get("format") != FORMAT:
            raise ParcelRefused("不是本系统的格式，或版本太新", "请用同一版本的程序")
        if self.manifest.get("kind") != kind:
            names = {"export": "离线导出", "receipt": "中心回执"}
            told = names.get(str(self.manifest.get("kind")), "别的文件")
            raise ParcelRefused(f"这是{told}，要的是{names[kind]}", "请核对文件")

    def _walk(self, reader: "_Reader") -> None:
        try:
            parts = _PARTS.validate_json(json.dumps(self.manifest.get("parts")))
        except ValidationError as bad:
            raise ParcelRefused("清单里的部分写得不对") from bad
        for part in parts:
            size, digest = self._take(reader, part.name, part.size)
            if (size, digest) != (part.size, part.sha256):
                raise ParcelRefused(f"{part.name} 和清单不符：内容被改过")
        if self.has("photos.txt"):
            for line in self.lines("photos.txt"):
                self._take_photo(reader, line)
        reader.end()

    def _take_photo(self, reader: "_Reader", line: bytes) -> None:
        found = re.fullmatch(rb"([0-9a-f]{64}) (\d{1,8})", line)
        if not found or (size := int(found[2])) > PHOTO_BYTES_MAX:
            raise ParcelRefused("photos.txt 里有一行写得不对")
        sha256 = found[1].decode()
        if self._take(reader, name_of(sha256), size) != (size, sha256):
            raise ParcelRefused(f"照片 {sha256[:12]}… 被改过")

    def _take(self, reader: "_Reader", name: str, size: int) -> tuple[int, str]:
        if name in self._places:
            raise ParcelRefused(f"清单里 {name} 写了两次")
        start = reader.head(name, size)
        self._places[name] = start, size
        digest = hashlib.sha256()
        for piece in reader.body(size):
            digest.update(piece)
        return size, digest.hexdigest()


class _Reader:
    """Walks the file forward; whatever is not as it must be is refused."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def head(self, name: str, size: int | None = None, size_max: int = 0) -> int:
        """Past the head of this member; where its bytes begin. `size` None: see `last_size`."""
        raw = self._exactly(BLOCK, name)
        told = _size_in(raw) if size is None else size
        if size is None and told > size_max:
            raise ParcelRefused(f"{name} 太大")
        if told < 0 or raw != _head(name, told):
            raise ParcelRefused(f"文件里该是 {name} 的地方不是它：被改过，或不完整")
        self.last_size = told
        return self._file.tell()

    def body(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            piece = self._exactly(min(left, PIECE), "内容")
            left -= len(piece)
            yield piece
        if any(self._exactly(-size % BLOCK, "内容")):
            raise ParcelRefused("部分之间的空白被改过")

    def end(self) -> None:
        if self._exactly(len(END), "结尾") != END or self._file.read(1):
            raise ParcelRefused("文件结尾后面还有东西，或结尾被改过")

    def _exactly(self, size: int, what: str) -> bytes:
        raw = self._file.read(size)
        if len(raw) != size:
            raise ParcelRefused(f"文件不完整，在{what}处断了", "请重新拷贝")
        return raw


def _signed_head(reader: _Reader, public: bytes) -> bytes:
    reader.head(MANIFEST, size_max=MANIFEST_BYTES_MAX)
    head = b"".join(reader.body(reader.last_size))
    reader.head(SIGNATURE, SIGNATURE_SIZE)
    told = b"".join(reader.body(SIGNATURE_SIZE))
    found = re.fullmatch(rb"([0-9a-f]{128})\n", told)
    if not found or not is_signed(public, head, bytes.fromhex(found[1].decode())):
        raise ParcelRefused("签名不对：不是这把钥匙签的，或被改过", "请核对公钥和文件来源")
    return head


def _put(file: BinaryIO, name: str, size: int, pieces: Iterable[bytes]) -> None:
    file.write(_head(name, size))
    written = 0
    for piece in pieces:
        written += file.write(piece)
    if written != size:
        raise OSError(5, f"{name} changed while it was read")
    file.write(bytes(-size % BLOCK))


def _head(name: str, size: int) -> bytes:
    """The one head that such a member has: no owner, no time."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _size_in(raw: bytes) -> int:
    """The size field of a tar head: octal digits."""
    digits = raw[124:135]
    return int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(PIECE), b"")

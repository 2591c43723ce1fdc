"""What a disk may hold after a cut. Knows files, folders and syncs; no gateway, no SQLite.

The rules are POSIX at its meanest, short of lying: a file's bytes are safe once that file was
synced, a name (made, moved, taken away) once its folder was; of everything else anything may have
arrived, in any order, in part. A write to a file that is open with O_DSYNC makes itself safe, and
only itself. Two mercies, which SQLite and every journaling file system assume too: a move happens
whole or not at all, and a write harms no bytes but its own. `neighbour` takes the second one away.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeGuard

HEAD = struct.Struct("<cIIq")
SECTOR, PAGE = 512, 4096
SYNCS = "SY"
"""Kinds of calls that make something durable."""


class Event(NamedTuple):
    """One call of the recorded program; kinds as in shim.c."""

    kind: str
    path: str
    data: bytes
    offset: int


def read_trace(file: Path) -> list[Event]:
    raw, at, events = file.read_bytes(), 0, []
    while at < len(raw):
        kind, path_size, data_size, offset = HEAD.unpack_from(raw, at)
        at += HEAD.size
        path, at = raw[at : at + path_size].decode(), at + path_size
        events.append(Event(kind.decode(), path, raw[at : at + data_size], offset))
        at += data_size
    return events


class Content(bytearray):
    """Bytes of a file, and their digest once somebody asked; `_put` forgets it."""

    __slots__ = ("_digest",)

    @property
    def digest(self) -> bytes:
        if not hasattr(self, "_digest"):
            self._digest = hashlib.sha256(self).digest()
        return self._digest

    def forget(self) -> None:
        if hasattr(self, "_digest"):
            del self._digest


@dataclass(eq=False, slots=True)
class Node:
    """A file or folder, whatever its name; `data` is what is durable of it."""

    is_folder: bool
    data: Content = field(default_factory=Content)


class Written(NamedTuple):
    node: Node
    at: int
    data: bytes


class Shortened(NamedTuple):
    node: Node
    size: int


class Named(NamedTuple):
    path: str
    node: Node


class Unnamed(NamedTuple):
    path: str
    node: Node


class Moved(NamedTuple):
    path: str
    """Where to."""
    node: Node
    origin: str


Change = Written | Shortened | Named | Unnamed | Moved
Image = dict[str, bytes | bytearray | None]
"""Path below the root → content; None for a folder."""


class Disk:
    """Follows a recorded program, call by call."""

    def __init__(self, image: Mapping[str, bytes | bytearray | None] | None = None) -> None:
        """`image`: what is there, and durable, from the start."""
        self.pending: list[Change] = []
        """What was done and is not durable yet, in order."""
        self._durable = {
            path: Node(content is None, Content(content or b""))
            for path, content in {"": None, **(image or {})}.items()
        }
        self._live = dict(self._durable)
        self._count, self._synced = 0, 0
        self._numbers: dict[int, int] = {}
        """Of each pending change, by identity."""

    def do(self, event: Event) -> None:
        """Follow one call."""
        path, live = event.path, self._live
        match event.kind:
            case "C" | "D":
                live[path] = Node(event.kind == "D")
                self._later(Named(path, live[path]))
            case "W":
                self._later(Written(live[path], event.offset, event.data))
            case "T":
                self._later(Shortened(live[path], event.offset))
            case "R":
                target = event.data.decode()
                live[target] = live.pop(path)
                self._later(Moved(target, live[target], path))
            case "U" | "X":
                self._later(Unnamed(path, live.pop(path)))
            case "S":
                self._sync(path, live[path])
            case "Y":
                self._sync_newest(live[path])

    def name(self, arrived: Iterable[Change]) -> tuple[int, ...] | None:
        """Equal names, equal images, without making them; None if a change arrived in part."""
        try:
            return (self._synced, *(self._numbers[id(change)] for change in arrived))
        except KeyError:
            return None

    def image(self, arrived: Iterable[Change]) -> Image:
        """The disk if, of what is pending, just this arrived."""
        names, touched = dict(self._durable), dict[Node, Content]()
        for change in arrived:
            if isinstance(change, Written | Shortened):
                if change.node not in touched:
                    touched[change.node] = Content(change.node.data)
                _put(touched[change.node], change)
            else:
                _name(names, change)
        return {
            path: None if node.is_folder else touched.get(node, node.data)
            for path, node in names.items()
            if path and _is_reachable(path, names)
        }

    def _later(self, change: Change) -> None:
        self._count += 1
        self._numbers[id(change)] = self._count
        self.pending.append(change)

    def _keep(self, left: list[Change]) -> None:
        """All else that was pending is durable now."""
        self._synced += len(left) != len(self.pending)
        self._numbers = {id(change): self._numbers[id(change)] for change in left}
        self.pending = left

    def _sync(self, path: str, node: Node) -> None:
        left: list[Change] = []
        for change in self.pending:
            if isinstance(change, Written | Shortened):
                if change.node is node:
                    _put(node.data, change)
                    continue
            elif node.is_folder and parent(change.path) == path:
                _name(self._durable, change)
                if isinstance(change, Moved):  # a name it had before cannot come back
                    left = [old for old in left if old != Named(change.origin, change.node)]
                continue
            left.append(change)
        self._keep(left)

    def _sync_newest(self, node: Node) -> None:
        """The write just made is durable, and with it what else was waiting for those blocks."""
        write = self.pending[-1]
        assert isinstance(write, Written)
        assert write.node is node
        left: list[Change] = []
        for change in self.pending:
            if _is_bytes_of(change, node) and _touches(change, write):
                _put(node.data, change)
            else:
                left.append(change)
        self._keep(left)


def _is_bytes_of(change: Change, node: Node) -> TypeGuard[Written | Shortened]:
    return isinstance(change, Written | Shortened) and change.node is node


def _touches(change: Written | Shortened, write: Written) -> bool:
    if isinstance(change, Shortened):
        return True
    end = write.at + len(write.data)
    return change.at < end and write.at < change.at + len(change.data)


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def _is_reachable(path: str, names: Mapping[str, Node]) -> bool:
    while path := parent(path):
        if path not in names:
            return False
    return True


def _put(data: Content, change: Written | Shortened) -> None:
    data.forget()
    if isinstance(change, Shortened):
        data[change.size :] = bytes(max(0, change.size - len(data)))
        return
    data.extend(bytes(max(0, change.at - len(data))))
    data[change.at : change.at + len(change.data)] = change.data


def _name(names: dict[str, Node], change: Named | Unnamed | Moved) -> None:
    """A name that was not there to be moved or taken away stays as it is: that call came first."""
    gone = change.path if isinstance(change, Unnamed) else getattr(change, "origin", None)
    if gone is not None and names.get(gone) is change.node:
        del names[gone]
    if not isinstance(change, Unnamed):
        names[change.path] = change.node


# ---- what arrives of the pending -------------------------------------------------------------


def nothing(_: Sequence[Change], __: Random) -> list[Change]:
    return []


def everything(pending: Sequence[Change], _: Random) -> list[Change]:
    return list(pending)


def prefix(pending: Sequence[Change], chance: Random) -> list[Change]:
    return list(pending[: chance.randint(0, len(pending))])


def subset(pending: Sequence[Change], chance: Random) -> list[Change]:
    share = chance.choice((0.1, 0.5, 0.9))
    return [change for change in pending if chance.random() < share]


def torn(size: int) -> Callable[[Sequence[Change], Random], list[Change]]:
    """Each write arrives as any of its sectors, each alone."""

    def choose(pending: Sequence[Change], chance: Random) -> list[Change]:
        arrived: list[Change] = []
        for change in subset(pending, chance):
            if isinstance(change, Written) and chance.random() < 0.7:
                arrived += [piece for piece in _sectors(change, size) if chance.random() < 0.5]
            else:
                arrived.append(change)
        return arrived

    return choose


def garbage(pending: Sequence[Change], chance: Random) -> list[Change]:
    """One sector that was being written holds neither the old bytes nor the new ones."""
    arrived = subset(pending, chance)
    writes = [change for change in pending if isinstance(change, Written)]
    if writes:
        broken = chance.choice(list(_sectors(chance.choice(writes), SECTOR)))
        arrived.append(broken._replace(data=chance.randbytes(len(broken.data))))
    return arrived


def neighbour(pending: Sequence[Change], chance: Random) -> list[Change]:
    """A whole page in which something was being written is spoilt, synced bytes and all.

    What a card does that rewrites a page to change a sector, and is cut off between.
    """
    arrived = subset(pending, chance)
    writes = [change for change in pending if isinstance(change, Written)]
    if writes:
        write = chance.choice(writes)
        last = write.at + len(write.data)
        page = chance.choice(range(write.at // PAGE, -(-last // PAGE))) * PAGE
        end = min(page + PAGE, max(last, len(write.node.data)))
        spoilt = bytes(end - page) if chance.random() < 0.3 else chance.randbytes(end - page)
        arrived.append(Written(write.node, page, spoilt))
    return arrived


KINDS: dict[str, Callable[[Sequence[Change], Random], list[Change]]] = {
    "nothing": nothing,
    "everything": everything,
    "prefix": prefix,
    "subset": subset,
    "torn512": torn(SECTOR),
    "torn4096": torn(PAGE),
    "garbage": garbage,
}
ALL_KINDS = {**KINDS, "neighbour": neighbour}
"""For a box that was told to expect it (`log.BLOCK` 4096)."""
CERTAIN = frozenset({"nothing", "everything"})
"""Where chance has no say."""


def _sectors(write: Written, size: int) -> Iterator[Written]:
    """The write in pieces, cut where the disk's sectors end."""
    at, data = write.at, write.data
    while data:
        length = size - at % size
        yield Written(write.node, at, data[:length])
        at, data = at + length, data[length:]


# ---- images and folders ----------------------------------------------------------------------


def digest(image: Image) -> bytes:
    seen = hashlib.sha256()
    for path in sorted(image):
        content = image[path]
        seen.update(path.encode())
        seen.update(b"\0" if content is None else b"\1" + _digest(content))
    return seen.digest()


def _digest(content: bytes | bytearray) -> bytes:
    if isinstance(content, Content):
        return content.digest
    return hashlib.sha256(content).digest()


def lay_out(image: Image, folder: Path) -> None:
    """Make the folder hold just this. It must be empty or missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(image):
        content, target = image[path], folder / path.lstrip("/")
        if content is None:
            target.mkdir()
        else:
            target.write_bytes(content)


def look_at(folder: Path) -> Image:
    """The image that a folder holds now, SQLite's shared memory left out."""
    return {
        f"/{path.relative_to(folder)}": None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith("-shm")
    }

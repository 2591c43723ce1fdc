"""Compiled fare tables at hand: files of one folder, made by a child, opened for look-ups.

The files' own words are the truth of what is here. A package's bytes are kept beside its table, so
that a damaged one can be made again without the centre. A start opens what is there and waits for
nothing: what must first be compiled is compiled behind the lane's back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from gateway.child import OrderRefused, ask
from gateway.durable import sync_folder
from gateway.errors import ParameterInvalid
from gateway.faretable.compiled import FareTable
from gateway.faretable.compiler import NAME, Order
from gateway.params import MinimumFare, Ready, TableDamaged
from gateway.sync.center import ManifestEntry
from gateway.sync.fetch import sha256_of

log = logging.getLogger(__name__)

CHILD, CHILD_S_MAX = "gateway.faretable", 900.0
E_FARES = "E-214"


class FareTables:
    """One folder; its only writer."""

    def __init__(self, folder: Path, exit_hex: str | None) -> None:
        self._folder, self._exit_hex = folder, exit_hex or ""
        self._awaited: list[Path] = []
        self._opened: set[str] = set()
        """Stems of the tables that serve: SHA-256 of their packages."""
        self._installed: set[str] = set()
        """The same of packages that came with the box: there they are again at the next start."""
        self._one_child = asyncio.Lock()  # two might write the same file
        self.left_out: dict[str, str] = {}
        """File → why it is not used, in words for people."""
        self.being_made = ""
        """The file that a table is being made of."""
        self.on_damage: Callable[[str, str], None] = lambda *_: None
        """Hears version and why, of a table in use that cannot be read."""

    @property
    def is_awaiting(self) -> bool:
        """May there be more tables than are open?"""
        return bool(self._awaited)

    async def load(self, installed: Iterable[Path] = ()) -> list[Ready]:
        """All that are whole, at once. Packages without a table, among them those `installed` with
        the box, are awaited then: see `make_awaited`."""
        found: list[Ready] = []
        for path in await asyncio.to_thread(self._paths, "*.db"):
            try:
                found.append(await asyncio.to_thread(self._open, path))
            except TableDamaged as bad:
                self._leave_out(path, bad.detail)
        packages = await asyncio.to_thread(self._paths, "*.json")
        lacking = [path for path in packages if path.stem not in self._opened]
        self._awaited = [*lacking, *installed]
        return found

    async def make_awaited(self) -> AsyncIterator[Ready]:
        """One table after the other. A package that is broken is left out, one that could not be
        read or compiled this time (a disk) is still awaited then."""
        for package in tuple(self._awaited):
            try:
                ready = await self._made(package)
            except ParameterInvalid as bad:
                self._leave_out(package, bad.detail)
            except OSError as no:
                self._leave_out(package, f"磁盘读写失败（{no.strerror or no}），稍后再试")
                continue
            else:
                self.left_out.pop(package.name, None)
                if ready is not None:
                    yield ready
            self._awaited.remove(package)

    def stand_in(self, since: datetime) -> Ready:
        """In force while there is no table at all: every fare from it is a named fault."""
        version = "准备中" if self._awaited else "没有"
        none = NoFares(self._exit_hex, self._why_none)
        return Ready(name=NAME, version=version, effective_from=since, ready=none)

    def notice(self, *, is_there_one: bool) -> tuple[str, str, str] | None:
        """(code, detail, action) for the screen. `is_there_one`: some table is in force."""
        if self.being_made and is_there_one:
            return E_FARES, "新的最小费额表正在准备，现在先用已有的", "可以继续收费，备好后自动使用"
        if not is_there_one:
            return E_FARES, self._why_none(), "可以继续收费；算不出路径费的车请站长处理"
        if self.left_out:
            told = "；".join(f"{file}：{why}" for file, why in self.left_out.items())
            return E_FARES, f"有最小费额表没有使用：{told}", "可以继续收费；请维护人员检查磁盘"
        return None

    def room(self, entry: ManifestEntry) -> Path:
        """Where this package may be put down while it is fetched; survives a restart."""
        return self._folder / f"{entry.sha256.lower()}.part"

    async def make(
        self, entry: ManifestEntry, effective_from_ms: int, key: str, base: Ready | None
    ) -> Ready:
        """Check and compile what lies in the room. Raises: ParameterInvalid, nothing has changed
        then and the room is empty; OSError, it may go well another time."""
        part, sha256 = self.room(entry), entry.sha256.lower()
        order = Order(
            package=part,
            out=self._folder / f"{sha256}.db",
            version=entry.version,
            effective_from_ms=effective_from_ms,
            size=entry.size,
            sha256=sha256,
            signature=entry.signature,
            key=key,
            exit_hex=self._exit_hex,
            base=base and base.ready.path,
            base_version=entry.base,
        )
        try:
            await self._compile(order)
        except ParameterInvalid:
            await asyncio.to_thread(part.unlink, missing_ok=True)
            raise
        await asyncio.to_thread(self._settle, part, base is None)
        return await asyncio.to_thread(self._open, order.out)

    def forget(self, kept: Iterable[Ready]) -> None:
        """Remove all tables but these, those that are awaited and those that would only be made
        again. Raises: OSError."""
        stems = {one.ready.path.stem for one in kept} | {path.stem for path in self._awaited}
        stems |= self._installed
        for path in self._paths("*.db") + self._paths("*.json"):
            if path.stem not in stems:
                path.unlink(missing_ok=True)
                self._opened.discard(path.stem)
                self.left_out.pop(path.name, None)

    # ---- inside ----

    def _paths(self, pattern: str) -> list[Path]:
        """None of a folder that cannot be read: the disk's own watch says that."""
        try:
            return sorted(self._folder.glob(pattern))
        except OSError as no:
            log.error("fare tables cannot be listed", extra={"reason": no.strerror})
            return []

    def _open(self, path: Path) -> Ready:
        """Raises: TableDamaged."""
        table = FareTable.open(path)
        about = table.about
        table.on_damage = lambda why: self.on_damage(about.version, why)
        self._opened.add(path.stem)
        self.left_out.pop(path.name, None)
        return Ready(
            name=NAME, version=about.version, effective_from=about.effective_from, ready=table
        )

    def _leave_out(self, path: Path, why: str) -> None:
        if self.left_out.get(path.name) != why:
            log.error("a fare table is left out", extra={"file": path.name, "why": why})
        self.left_out[path.name] = why

    def _why_none(self) -> str:
        if any(package.name not in self.left_out for package in self._awaited):
            return "最小费额表正在准备，现在不能按它算路径费"
        return "；".join(["本机没有可用的最小费额表", *self.left_out.values()])

    def _settle(self, part: Path, is_full: bool) -> None:
        if is_full:
            part.replace(part.with_suffix(".json"))
            sync_folder(self._folder)
        else:
            part.unlink()

    async def _made(self, package: Path) -> Ready | None:
        """None: its table is open already. Raises: ParameterInvalid; OSError."""
        sha256 = await asyncio.to_thread(sha256_of, package)
        if package.parent == self._folder and sha256 != package.stem:
            with suppress(OSError):
                await asyncio.to_thread(package.unlink)
            raise ParameterInvalid("参数文件损坏，等中心重新下发")
        if package.parent != self._folder:
            self._installed.add(sha256)
        if sha256 in self._opened:
            return None
        size = (await asyncio.to_thread(package.stat)).st_size
        out = self._folder / f"{sha256}.db"
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        self.being_made = package.name
        try:
            await self._compile(
                Order(package=package, out=out, size=size, sha256=sha256, exit_hex=self._exit_hex)
            )
        finally:
            self.being_made = ""
        return await asyncio.to_thread(self._open, out)

    async def _compile(self, order: Order) -> None:
        """Raises: ParameterInvalid; OSError."""
        async with self._one_child:
            try:
                await ask(CHILD, order, CHILD_S_MAX)
            except TimeoutError as late:
                raise ParameterInvalid(f"参数 {NAME} 没有按时检查完") from late
            except OrderRefused as no:
                raise ParameterInvalid(str(no)) from no


class NoFares:
    """In the place of a table: says why there is none."""

    def __init__(self, exit_hex: str, why: Callable[[], str]) -> None:
        self.exit_hex, self._why = exit_hex, why

    def find(self, *_: object) -> MinimumFare | None:
        """Raises: TableDamaged, always."""
        raise TableDamaged(self._why())

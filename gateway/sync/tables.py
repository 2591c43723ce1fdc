"""Compiled fare tables at hand: files of one folder, made by a child, opened for look-ups.

The files' own words are the truth of what is here. A package's bytes are kept beside its table, so
that a damaged one can be made again without the centre.
"""

import asyncio
import errno
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gateway.durable import sync_folder
from gateway.errors import ParameterInvalid
from gateway.faretable.compiled import About, FareTable
from gateway.faretable.compiler import NAME, Order
from gateway.params import Ready, TableDamaged
from gateway.sync.center import ManifestEntry
from gateway.sync.fetch import sha256_of

log = logging.getLogger(__name__)

CHILD_S_MAX = 900.0


class FareTables:
    """One folder; its only writer."""

    def __init__(self, folder: Path, exit_hex: str | None) -> None:
        self._folder, self._exit_hex = folder, exit_hex or ""
        self.on_damage: Callable[[str, str], None] = lambda *_: None
        """Hears version and why, of a table in use that cannot be read."""

    async def load(self) -> list[Ready]:
        """All that are whole. One whose file is damaged is made again of its package."""
        found: list[Ready] = []
        for path in await asyncio.to_thread(self._paths, "*.db"):
            try:
                found.append(await asyncio.to_thread(self._open, path))
            except TableDamaged as bad:
                log.error("a fare table is damaged", extra={"why": bad.detail})
                await asyncio.to_thread(path.unlink)
        made = {ready.ready.path.stem for ready in found}
        for package in await asyncio.to_thread(self._paths, "*.json"):
            if package.stem not in made and (again := await self._again(package)):
                found.append(again)
        return found

    async def adopt(self, package: Path) -> Ready | None:
        """A package that was installed with the box, trusted as its files are. None: broken."""
        sha256 = await asyncio.to_thread(sha256_of, package)
        out = self._folder / f"{sha256}.db"
        if out in await asyncio.to_thread(self._paths, "*.db"):
            with suppress(TableDamaged):
                return await asyncio.to_thread(self._open, out)
        try:
            await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            size = (await asyncio.to_thread(package.stat)).st_size
            mine = self._exit_hex
            order = Order(package=package, out=out, size=size, sha256=sha256, exit_hex=mine)
            await _child(order)
            return await asyncio.to_thread(self._open, out)
        except (ParameterInvalid, OSError) as bad:
            log.error("a fare table is left out", extra={"file": package.name, "why": str(bad)})
            return None

    def room(self, entry: ManifestEntry) -> Path:
        """Where this package may be put down while it is fetched; survives a restart."""
        return self._folder / f"{entry.sha256.lower()}.part"

    async def make(
        self, entry: ManifestEntry, effective_from_ms: int, key: str, base: Ready | None
    ) -> Ready:
        """Check and compile what lies in the room. Raises: ParameterInvalid; nothing has changed
        then and the room is empty."""
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
            await _child(order)
        except ParameterInvalid:
            await asyncio.to_thread(part.unlink, missing_ok=True)
            raise
        await asyncio.to_thread(self._settle, part, base is None)
        return await asyncio.to_thread(self._open, order.out)

    def forget(self, kept: Iterable[Ready]) -> None:
        """Remove all tables but these. Raises: OSError."""
        stems = {one.ready.path.stem for one in kept}
        for path in self._paths("*.db") + self._paths("*.json"):
            if path.stem not in stems:
                path.unlink(missing_ok=True)

    def _paths(self, pattern: str) -> list[Path]:
        return sorted(self._folder.glob(pattern))

    def _open(self, path: Path) -> Ready:
        table = FareTable.open(path)
        about = table.about
        table.on_damage = lambda why: self.on_damage(about.version, why)
        return Ready(
            name=NAME, version=about.version, effective_from=about.effective_from, ready=table
        )

    def _settle(self, part: Path, is_full: bool) -> None:
        if is_full:
            part.replace(part.with_suffix(".json"))
            sync_folder(self._folder)
        else:
            part.unlink()

    async def _again(self, package: Path) -> Ready | None:
        def order() -> Order:
            return Order(
                package=package,
                out=package.with_suffix(".db"),
                size=package.stat().st_size,
                sha256=package.stem,
                exit_hex=self._exit_hex,
            )

        try:
            if await asyncio.to_thread(sha256_of, package) == package.stem:
                await _child(await asyncio.to_thread(order))
                return await asyncio.to_thread(self._open, package.with_suffix(".db"))
        except (ParameterInvalid, OSError) as bad:
            log.error("a fare table cannot be made again", extra={"why": str(bad)})
        await asyncio.to_thread(package.unlink)
        return None


async def _child(order: Order) -> About:
    """Raises: ParameterInvalid."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.faretable"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHILD_S_MAX):
            said, _ = await child.communicate(order.model_dump_json().encode())
    except TimeoutError as late:
        raise ParameterInvalid(f"参数 {NAME} 没有按时检查完") from late
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode is not None and child.returncode < 0:
        raise OSError(errno.EINTR, "the child was ended")  # by whoever: tried again
    if child.returncode:
        told = said.decode(errors="replace").strip()
        raise ParameterInvalid(told or f"参数 {NAME} 的检查中断（{child.returncode}）")
    return About.model_validate_json(said)

"""Parameter packages at hand: checked, staged, and switched when their time has come.

What is in force stays in force until something newer has proved itself whole: right size, right
SHA-256, right signature (when a key is configured), a table that can be read. A replayed older
version changes nothing. A broken one is kept as a rejected row with its reason.
"""

import asyncio
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.errors import ParameterInvalid
from gateway.params import TABLES, Package, Parameters, read_package
from gateway.statuslist.archive import Archive
from gateway.statuslist.form import Head, rank
from gateway.store import Store
from gateway.sync.center import ManifestEntry
from gateway.sync.packages import Packages
from gateway.units import Clock, beijing

log = logging.getLogger(__name__)

OLDER_KEPT = 2  # of each table, behind the one in force: the clock may be set back
CONFIRMED = "parameters_confirmed"

KEEP = "INSERT OR REPLACE INTO parameter VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
FORGET_REJECTED = """
DELETE FROM parameter WHERE name = ? AND state = 'rejected' AND effective_from_ms <= ?
"""
FORGET_OLD = """
DELETE FROM parameter WHERE name = ?1 AND version IN (
  SELECT version FROM parameter WHERE name = ?1 AND effective_from_ms < ?2
  ORDER BY effective_from_ms DESC, version DESC LIMIT -1 OFFSET ?3)
"""


def public_key(hex_digits: str) -> Ed25519PublicKey:
    """64 hex digits from the configuration. Raises: ValueError."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(hex_digits))


class ParameterShelf:
    """All usable packages at hand, and the tables in force now."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        folder: Path | None,
        key: Ed25519PublicKey | None,
        *,
        exit_hex: str | None = None,
        on_change: Callable[[], None] = lambda: None,
        copies: Path | None = None,
        lists: Archive | None = None,
    ) -> None:
        """`folder`: packages installed with the box, trusted as its files are. `key`: what
        packages from the centre must be signed with. `exit_hex`: minimum fares of any other
        exit station are refused. `copies`: where packages from the centre lie a second time.
        `lists`: big status lists; the newer one of those and of the packages is in force."""
        self._lists = lists
        self._copies = Packages(copies) if copies else None
        self._files: dict[tuple[str, str], str] = {}
        """Names of the second copies, by table and version."""
        self._store, self._clock, self._folder, self._key = store, clock, folder, key
        self._exit_hex, self._on_change = exit_hex, on_change
        self._shelf: dict[str, dict[str, Package]] = {name: {} for name in TABLES}
        self._rejected: dict[str, dict[str, str]] = {name: {} for name in TABLES}
        self._confirmed: dict[str, tuple[int, str]] = {}
        """When the centre last said that this version of a table is the newest."""
        self._now: Parameters | None = None
        self._window_ms = (0, 0)  # the tables in force are right from … until before …

    @property
    def key(self) -> Ed25519PublicKey | None:
        """What packages and lists from the centre must be signed with."""
        return self._key

    def trust(self, key: Ed25519PublicKey) -> None:
        """What packages from the centre must be signed with, from now on."""
        self._key = key

    async def load(self) -> None:
        """Read folder and store. A broken package is noted and left out.

        Raises: ParameterInvalid, if some table has no usable package in force.
        """
        for raw, origin in self._local():
            self._try(raw, origin)
        rows = await self._store.rows("SELECT * FROM parameter ORDER BY fetched_ms")
        for row in rows:
            if row["state"] == "rejected" and row["name"] in TABLES:
                self._rejected[row["name"]][row["version"]] = row["reason"] or ""
            elif hashlib.sha256(row["body"]).hexdigest() == row["sha256"].lower():
                self._try(row["body"], f"{row['name']} {row['version']}")
            else:
                log.error("a parameter row is damaged", extra={"table": row["name"]})
        for name, raw in await asyncio.to_thread(self._second_copies):
            if package := self._try(raw, f"copy {name}"):
                self._files[package.name, package.version] = name
        marks = await self._store.rows("SELECT value FROM sync_mark WHERE name = ?", CONFIRMED)
        told = json.loads(marks[0]["value"]) if marks else {}
        self._confirmed = {
            name: (at[0], at[1]) for name, at in told.items() if isinstance(at, list)
        }
        if self._lists is not None:
            await asyncio.to_thread(self._lists.load, self._clock.now_ms())
        self._window_ms = (0, 0)
        self.current()

    def current(self) -> Parameters:
        """The tables in force at this moment; switches by itself when a package's time comes.

        A clock that fell behind every package changes nothing once tables were in force.
        Raises: ParameterInvalid, if a table is missing.
        """
        now_ms = self._clock.now_ms()
        if self._now is None or not self._window_ms[0] <= now_ms < self._window_ms[1]:
            self._switch(now_ms)
        assert self._now is not None
        return self._now

    def upcoming(self) -> list[Package]:
        """Staged packages whose time has not come, soonest first."""
        now_ms = self._clock.now_ms()
        staged = (p for by_version in self._shelf.values() for p in by_version.values())
        return sorted(
            (p for p in staged if p.effective_from_ms > now_ms), key=lambda p: p.effective_from_ms
        )

    def ages(self) -> list[dict[str, Any]]:
        """For GET /api/parameters and the snapshot, one a table: `{name, version,
        effective_from_ms, age_s, next, rejected}`."""
        now = self.current()
        return [self._age(name, now) for name in TABLES]

    def age_s(self, name: str) -> int:
        """Seconds since this table was known to be the newest: since the centre last confirmed
        its manifest, or else since it took effect."""
        now = self.current()
        known_ms, version = self._confirmed.get(name, (0, ""))
        if version != now.versions[name]:
            known_ms = 0
        known_ms = max(now.effective_from_ms[name], known_ms)
        return max(0, self._clock.now_ms() - known_ms) // 1000

    def wants(self, entry: ManifestEntry) -> bool:
        """Is this package news? Held ones, older ones and tables we do not know are not."""
        if entry.name not in TABLES or entry.version in self._shelf[entry.name]:
            return False
        ours = self._newest(entry.name, self._clock.now_ms())
        theirs = rank(moment_ms(entry.effective_from), entry.version)
        if entry.name == "status_list" and self._listed_rank() >= theirs:
            return False
        return ours is None or theirs > rank(ours.effective_from_ms, ours.version)

    async def stage(self, entry: ManifestEntry, raw: bytes) -> Package:
        """Check a fetched package, keep it, put it on the shelf.

        Raises: ParameterInvalid; the package is then kept as rejected, nothing else changes.
        """
        try:
            package = self._check(entry, raw)
        except ParameterInvalid as bad:
            await self.refuse(entry, bad.detail)
            raise
        await self._keep(entry, raw, "staged", None)
        self._rejected[entry.name].clear()
        self._shelf[entry.name][entry.version] = package
        await self._copy(package, raw)
        self._window_ms = (0, 0)
        log.info("parameter package staged", extra=_facts(entry, ""))
        self._on_change()
        return package

    async def confirm(self, names: Iterable[str]) -> None:
        """For these tables the centre's manifest has nothing newer than what is here."""
        now_ms = self._clock.now_ms()
        try:
            versions = self.current().versions
        except ParameterInvalid:
            return  # still without all tables: nothing is in force that could be confirmed
        self._confirmed |= {name: (now_ms, versions[name]) for name in names if name in TABLES}
        row = (CONFIRMED, json.dumps(self._confirmed), now_ms)

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO sync_mark (name, value, at_ms) VALUES (?, ?, ?)", row
            )

        await self._store.write(work)

    async def refuse(self, entry: ManifestEntry, reason: str) -> None:
        """A package that is not taken: kept as a row with its reason, shown, logged."""
        await self._keep(entry, b"", "rejected", reason)
        self._rejected[entry.name][entry.version] = reason
        log.error("parameter package rejected", extra=_facts(entry, reason))

    def relist(self) -> None:
        """Another status list serves, or one is yet to come."""
        self._rejected["status_list"].clear()
        self._window_ms = (0, 0)
        self._on_change()

    # ---- inside ----

    def _second_copies(self) -> list[tuple[str, bytes]]:
        return list(self._copies.all()) if self._copies else []

    async def _copy(self, package: Package, raw: bytes) -> None:
        """The second copy can wait for a better disk: the first one is in the database."""
        if self._copies is None:
            return
        table, held = package.name, self._shelf[package.name]
        old = [key for key in self._files if key[0] == table and key[1] not in held]
        try:
            name = await asyncio.to_thread(self._copies.keep, table, raw)
            await asyncio.to_thread(self._copies.forget, [self._files.pop(key) for key in old])
        except OSError as no:
            log.error("no second copy of a parameter package", extra={"reason": no.strerror})
        else:
            self._files[table, package.version] = name

    def _local(self) -> Iterable[tuple[bytes, str]]:
        for path in sorted(self._folder.glob("*.json")) if self._folder else []:
            try:
                raw = path.read_bytes()
            except OSError as no:
                facts = {"file": path.name, "reason": no.strerror}
                log.error("parameter file cannot be read", extra=facts)
            else:
                yield raw, path.name

    def _try(self, raw: bytes, origin: str) -> Package | None:
        try:
            package = read_package(raw)
            self._check_exit(package)
        except ParameterInvalid as bad:
            log.error("parameter package left out", extra={"file": origin, "reason": bad.detail})
            name = next((n for n in TABLES if origin.startswith(n)), None)
            if name is not None:
                self._rejected[name][origin] = bad.detail
            return None
        self._shelf[package.name][package.version] = package
        return package

    def _check(self, entry: ManifestEntry, raw: bytes) -> Package:
        """Everything that can be wrong with a package, in the order it is cheap to tell."""
        what = f"参数 {entry.name} 版本 {entry.version}"
        if len(raw) != entry.size:
            raise ParameterInvalid(f"{what} 长度不符：应为 {entry.size} 字节，收到 {len(raw)} 字节")
        if hashlib.sha256(raw).hexdigest() != entry.sha256.lower():
            raise ParameterInvalid(f"{what} 校验和不符")
        self._check_signature(what, entry, raw)
        package = read_package(raw)
        if (package.name, package.version) != (entry.name, entry.version):
            raise ParameterInvalid(f"{what} 的内容是 {package.name} 版本 {package.version}")
        if package.effective_from_ms != moment_ms(entry.effective_from):
            raise ParameterInvalid(f"{what} 的生效时间与目录不符")
        self._check_exit(package)
        return package

    def _check_signature(self, what: str, entry: ManifestEntry, raw: bytes) -> None:
        if self._key is None:
            return
        try:
            self._key.verify(bytes.fromhex(entry.signature), raw)
        except (InvalidSignature, ValueError) as bad:
            raise ParameterInvalid(f"{what} 签名不对") from bad

    def _check_exit(self, package: Package) -> None:
        exit_hex = package.body.get("exit_hex", self._exit_hex)
        if package.name == "minimum_fares" and self._exit_hex not in (None, exit_hex):
            raise ParameterInvalid(f"最小费额表是出口站 {exit_hex} 的，不是本站的")

    async def _keep(self, entry: ManifestEntry, raw: bytes, state: str, reason: str | None) -> None:
        """In one transaction with forgetting what a good package makes useless."""
        effective_ms = moment_ms(entry.effective_from)
        in_force = self._newest(entry.name, self._clock.now_ms())
        old = (entry.name, in_force.effective_from_ms if in_force else 0, OLDER_KEPT)
        row = (entry.name, entry.version, entry.sha256, effective_ms)
        more = (self._clock.now_ms(), state, reason, raw if state == "staged" else b"")

        def work(db: sqlite3.Connection) -> None:
            if state == "staged":
                db.execute(FORGET_REJECTED, (entry.name, effective_ms))
            db.execute(KEEP, row + more)
            db.execute(FORGET_OLD, old)

        await self._store.write(work)

    def _switch(self, now_ms: int) -> None:
        in_force = {name: self._newest(name, now_ms) for name in TABLES}
        usable = {name: package for name, package in in_force.items() if package is not None}
        starts = [p.effective_from_ms for v in self._shelf.values() for p in v.values()]
        serving = self._lists.serving if self._lists else None
        if len(usable) + bool(serving) < len(TABLES) and self._now is not None:
            return  # the clock fell back behind every package: keep what is in force
        before, self._now = self._now, self._with_list(usable)
        self._window_ms = (
            max((s for s in starts if s <= now_ms), default=0),
            min((s for s in starts if s > now_ms), default=2**63),
        )
        for name, package in usable.items():
            self._forget_old(name, package)
        if before is not None and before.versions != self._now.versions:
            log.info("parameters switched", extra={"versions": dict(self._now.versions)})

    def _with_list(self, packages: dict[str, Package]) -> Parameters:
        """The big status list instead of the package, if it is newer or the only one."""
        held, serving = packages.get("status_list"), self._lists and self._lists.serving
        if not serving or (held and _rank_of(held) >= serving.head.rank):
            return Parameters.of(packages)
        now = Parameters.of({**packages, "status_list": _stand_in(serving.head)})
        return now.model_copy(update={"status_list": serving})

    def _listed_rank(self) -> tuple[int, str]:
        newest = self._lists.newest if self._lists else None
        return newest.rank if newest else (0, "")

    def _newest(self, name: str, now_ms: int) -> Package | None:
        due = [p for p in self._shelf[name].values() if p.effective_from_ms <= now_ms]
        return max(due, key=_rank_of, default=None)

    def _forget_old(self, name: str, in_force: Package) -> None:
        """A status list comes every five minutes; memory must not grow with it."""
        line_ms = in_force.effective_from_ms
        older = sorted(
            (p for p in self._shelf[name].values() if p.effective_from_ms < line_ms),
            key=_rank_of,
        )
        for package in older[:-OLDER_KEPT]:
            del self._shelf[name][package.version]

    def _age(self, name: str, now: Parameters) -> dict[str, Any]:
        coming = next((p for p in self.upcoming() if p.name == name), None)
        if name == "status_list" and (listed := self._lists and self._lists.newest):
            is_coming = listed.effective_from_ms > self._clock.now_ms()
            coming = _stand_in(listed) if is_coming else coming
        return {
            "name": name,
            "version": now.versions[name],
            "effective_from_ms": now.effective_from_ms[name],
            "age_s": self.age_s(name),
            "next": coming
            and {"version": coming.version, "effective_from_ms": coming.effective_from_ms},
            "rejected": [
                {"version": version, "reason": reason}
                for version, reason in self._rejected[name].items()
            ],
        }


def _stand_in(head: Head) -> Package:
    """For a big list among the packages: who it is, not who is on it."""
    return Package(
        name="status_list",
        version=head.version,
        effective_from=head.effective_from,
        body={"rows": []},
    )


def _rank_of(package: Package) -> tuple[int, str]:
    return rank(package.effective_from_ms, package.version)


def moment_ms(effective_from: str) -> int:
    """Raises: ValueError, also for a time without zone."""
    moment = datetime.fromisoformat(effective_from)
    if moment.tzinfo is None:
        raise ValueError("effective_from has no zone")
    return round(moment.timestamp() * 1000)


def _facts(entry: ManifestEntry, reason: str) -> dict[str, str]:
    from_ms = beijing(moment_ms(entry.effective_from)).isoformat()
    return {
        "table": entry.name,
        "version": entry.version,
        "effective_from": from_ms,
        "reason": reason,
    }

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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.errors import ParameterInvalid
from gateway.params import TABLES, Package, Parameters, Ready, read_package
from gateway.statuslist.archive import Archive
from gateway.statuslist.form import Head, rank
from gateway.store import Store
from gateway.sync.center import ManifestEntry
from gateway.sync.packages import Packages
from gateway.sync.scrutiny import check_exit, scrutinise, self_check
from gateway.sync.tables import FareTables, NoFares
from gateway.units import Clock, beijing, moment_ms

log = logging.getLogger(__name__)

OLDER_KEPT = 2  # of each table, behind the one in force: the clock may be set back
CONFIRMED = "parameters_confirmed"
PREPARE_S = 60.0
FARES = "minimum_fares"
FARES_BYTES_MAX = 256 * 1024
"""A larger fare table is compiled by a child and asked row by row."""

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
    """All usable packages at hand, and the tables in force now. As a service it makes the large
    tables that were not ready at the start."""

    name = "parameter tables"

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
        fares: FareTables | None = None,
    ) -> None:
        """`folder`: packages installed with the box, trusted as its files are. `key`: what
        packages from the centre must be signed with. `exit_hex`: minimum fares of any other
        exit station are refused. `copies`: where packages from the centre lie a second time.
        `lists`: big status lists; the newer one of those and of the packages is in force.
        `fares`: minimum-fare tables too large to be held."""
        self._lists, self._fares = lists, fares
        self._copies = Packages(copies) if copies else None
        self._files: dict[tuple[str, str], str] = {}
        """Names of the second copies, by table and version."""
        self._store, self._clock, self._folder, self._key = store, clock, folder, key
        self._exit_hex, self._on_change = exit_hex, on_change
        self._shelf: dict[str, dict[str, Package]] = {name: {} for name in TABLES}
        self._rejected: dict[str, dict[str, str]] = {name: {} for name in TABLES}
        self._confirmed: dict[str, tuple[int, str]] = {}
        """When the centre last said that this version of a table is the newest."""
        self._damaged: dict[str, str] = {}
        self._large: list[Path] = []
        self._reports: dict[tuple[str, str], dict[str, Any]] = {}
        self._now: Parameters | None = None
        self._in_force: dict[str, Package] = {}
        self._then: tuple[Mapping[str, str], Parameters] | None = None
        self._window_ms = (0, 0)  # the tables in force are right from … until before …

    @property
    def key(self) -> Ed25519PublicKey | None:
        """What packages and lists from the centre must be signed with."""
        return self._key

    def trust(self, key: Ed25519PublicKey) -> None:
        """What packages from the centre must be signed with, from now on."""
        self._key = key

    async def load(self) -> None:
        """Read folder and store. A broken package is noted and left out; a large fare table that
        must first be compiled is waited for by nobody (see `run`).

        Raises: ParameterInvalid, if some other table has no usable package in force.
        """
        for raw, origin in await asyncio.to_thread(lambda: list(self._local())):
            await self._try(raw, origin)
        await self._load_rows()
        for name, raw in await asyncio.to_thread(self._second_copies):
            if package := await self._try(raw, f"copy {name}"):
                self._files[package.name, package.version] = name
        if self._fares is not None:
            self._fares.on_damage = self._fares_damaged
            for ready in await self._fares.load(self._large):
                self._shelf[ready.name][ready.version] = ready
        if self._lists is not None:
            await asyncio.to_thread(self._lists.load, self._clock.now_ms())
        self._window_ms = (0, 0)
        self.current()

    async def _load_rows(self) -> None:
        rows = await self._store.rows("SELECT * FROM parameter ORDER BY fetched_ms")
        for row in rows:
            if row["state"] == "rejected" and row["name"] in TABLES:
                self._rejected[row["name"]][row["version"]] = row["reason"] or ""
            elif hashlib.sha256(row["body"]).hexdigest() == row["sha256"].lower():
                await self._try(row["body"], f"{row['name']} {row['version']}")
            else:
                log.error("a parameter row is damaged", extra={"table": row["name"]})
        marks = await self._store.rows("SELECT value FROM sync_mark WHERE name = ?", CONFIRMED)
        told = json.loads(marks[0]["value"]) if marks else {}
        self._confirmed = {
            name: (at[0], at[1]) for name, at in told.items() if isinstance(at, list)
        }

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self.prepare()
            await self._clock.sleep(PREPARE_S)

    async def prepare(self) -> None:
        """Compile what a start found without a table, one after the other. What a disk did not
        let be is tried again next time."""
        if self._fares is None or not self._fares.is_awaiting:
            return
        async for ready in self._fares.make_awaited():
            self._shelf[ready.name][ready.version] = ready
            self.relist()
        self.relist()

    @property
    def lacks_fares(self) -> bool:
        """There is no table of minimum fares, or not yet."""
        self.current()
        return _stands_in(self._in_force[FARES])

    def notice(self) -> tuple[str, str, str] | None:
        """(code, detail, action): what people should know of the fares."""
        if self._fares is None:
            return None
        return self._fares.notice(is_there_one=not self.lacks_fares)

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

    def rejected(self) -> dict[str, str]:
        """Table and version → why it was refused or rolled back; gone once a good one came."""
        return {
            f"{name} {version}": reason
            for name in TABLES
            for version, reason in self._refused(name).items()
        }

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
        base = self._shelf[entry.name].get(entry.base) if entry.base else None
        try:
            package, raw = await asyncio.to_thread(
                scrutinise, entry, raw, self._key, self._exit_hex, base
            )
        except ParameterInvalid as bad:
            await self.refuse(entry, bad.detail)
            raise
        await self._keep(entry, raw, "staged", None)
        self._put(entry, package)
        await self._copy(package, raw)
        return package

    def room(self, entry: ManifestEntry) -> Path | None:
        """Where to put a package that is not to be held in memory; None: fetch it as it is."""
        base = self._shelf[entry.name].get(entry.base) if entry.base else None
        is_large = entry.size > FARES_BYTES_MAX or isinstance(base, Ready)
        if self._fares is None or entry.name != FARES or not is_large:
            return None
        return self._fares.room(entry)

    async def stage_large(self, entry: ManifestEntry) -> Package:
        """As `stage`, of a fare table that lies in its room. A child does the work."""
        assert self._fares is not None
        base = self._shelf[entry.name].get(entry.base) if entry.base else None
        try:
            if entry.base and not isinstance(base, Ready):
                told = f"参数 {entry.name} 版本 {entry.version} 的基础版本 {entry.base} 不在本机"
                raise ParameterInvalid(told)
            key = self._key.public_bytes_raw().hex() if self._key else ""
            large = base if isinstance(base, Ready) else None
            ready = await self._fares.make(entry, moment_ms(entry.effective_from), key, large)
        except ParameterInvalid as bad:
            await self.refuse(entry, bad.detail)
            raise
        self._put(entry, ready)
        await self.took(entry)
        with suppress(ParameterInvalid):  # other tables may still be missing
            self.current()
        held = [one for one in self._shelf[entry.name].values() if isinstance(one, Ready)]
        await asyncio.to_thread(self._fares.forget, held)
        return ready

    def rehearsed(self, report: Mapping[str, Any]) -> None:
        """What the coming version of a table would have changed: shown beside it."""
        self._reports[report["table"], report["version"]] = dict(report)

    def in_force(self) -> list[Package]:
        """One of each table; of the status list only a word."""
        now, kept = self.current(), dict(self._in_force)
        kept["status_list"] = Package(
            name="status_list",
            version=now.versions["status_list"],
            effective_from=beijing(now.effective_from_ms["status_list"]),
            body={"rows": []},
        )
        return [kept[name] for name in TABLES]

    def can_apply(self, entry: ManifestEntry) -> bool:
        """A full package, or a delta whose base is here."""
        return not entry.base or entry.base in self._shelf[entry.name]

    def of(self, versions: Mapping[str, str]) -> Parameters:
        """The tables of these versions as far as they are still here, else those in force: a
        passage is finished with what it began with. The status list is always the newest."""
        now = self.current()
        if self._is_now(versions, now):
            return now
        if self._then is None or self._then[0] != versions:
            self._then = (dict(versions), self._as_of(versions, now))
        return self._then[1]

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

    def leave_out(self, name: str, version: str, reason: str) -> None:
        """What the manifest says of a package cannot be believed: shown, logged, no more."""
        if name in TABLES and self._rejected[name].get(version) != reason:
            self._rejected[name][version] = reason
            facts = {"table": name, "version": version, "reason": reason}
            log.error("manifest entry is malformed", extra=facts)

    async def took(self, entry: ManifestEntry) -> None:
        """A package was good whose bytes are kept elsewhere: what was refused before it is past."""
        self._rejected[entry.name].clear()
        past = (entry.name, moment_ms(entry.effective_from))
        await self._store.write(lambda db: db.execute(FORGET_REJECTED, past) and None)

    def relist(self) -> None:
        """Another status list serves, or one is yet to come."""
        self._window_ms = (0, 0)
        self._on_change()

    # ---- inside ----

    def _put(self, entry: ManifestEntry, package: Package) -> None:
        self._rejected[entry.name].clear()
        self._shelf[entry.name][entry.version] = package
        self._window_ms = (0, 0)
        log.info("parameter package staged", extra=_facts(entry, ""))
        self._on_change()

    def _is_now(self, versions: Mapping[str, str], now: Parameters) -> bool:
        return all(
            now.versions[name] == version
            for name, version in versions.items()
            if name in TABLES and name != "status_list"
        )

    def _as_of(self, versions: Mapping[str, str], now: Parameters) -> Parameters:
        held = {
            name: self._shelf[name].get(versions.get(name, "")) or self._in_force[name]
            for name in TABLES
            if name != "status_list"
        }
        then = self._with_list({**held, "status_list": self._in_force["status_list"]})
        return then.model_copy(update={"status_list": now.status_list})

    def _fares_damaged(self, version: str, why: str) -> None:
        """Called from whatever thread asked; the next look at the tables falls back."""
        self._damaged[version] = why
        self._window_ms = (0, 0)

    def _withdraw(self, name: str, version: str, why: str) -> None:
        """Roll back: what was in force before is again, if it is still here."""
        del self._shelf[name][version]
        self._rejected[name][version] = why
        facts = {"table": name, "version": version, "reason": why}
        log.error("a parameter table was rolled back", extra=facts)

    def _second_copies(self) -> list[tuple[str, bytes]]:
        try:
            return list(self._copies.all()) if self._copies else []
        except OSError as no:
            log.error("second copies cannot be listed", extra={"reason": no.strerror})
            return []

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
        for path in _files(self._folder) if self._folder else []:
            try:
                if self._fares and _is_large(path):
                    self._large.append(path)
                    continue
                raw = path.read_bytes()
            except OSError as no:
                facts = {"file": path.name, "reason": no.strerror}
                log.error("parameter file cannot be read", extra=facts)
            else:
                yield raw, path.name

    async def _try(self, raw: bytes, origin: str) -> Package | None:
        try:
            package = await asyncio.to_thread(read_package, raw)
            if package.base:
                raise ParameterInvalid(f"参数 {package.name} 版本 {package.version} 只是增量")
            check_exit(package, self._exit_hex)
        except ParameterInvalid as bad:
            log.error("parameter package left out", extra={"file": origin, "reason": bad.detail})
            name = next((n for n in TABLES if origin.startswith(n)), None)
            if name is not None:
                self._rejected[name][origin] = bad.detail
            return None
        self._shelf[package.name][package.version] = package
        return package

    async def _keep(self, entry: ManifestEntry, raw: bytes, state: str, reason: str | None) -> None:
        """In one transaction with forgetting what a good package makes useless."""
        effective_ms = moment_ms(entry.effective_from)
        in_force = self._newest(entry.name, self._clock.now_ms())
        old = (entry.name, in_force.effective_from_ms if in_force else 0, OLDER_KEPT)
        sha256 = hashlib.sha256(raw).hexdigest() if state == "staged" else entry.sha256
        row = (entry.name, entry.version, sha256, effective_ms)
        more = (self._clock.now_ms(), state, reason, raw if state == "staged" else b"")

        def work(db: sqlite3.Connection) -> None:
            if state == "staged":
                db.execute(FORGET_REJECTED, (entry.name, effective_ms))
            db.execute(KEEP, row + more)
            db.execute(FORGET_OLD, old)

        await self._store.write(work)

    def _switch(self, now_ms: int) -> None:
        usable = self._usable(now_ms)
        starts = [p.effective_from_ms for v in self._shelf.values() for p in v.values()]
        serving = self._lists.serving if self._lists else None
        if len(usable) + bool(serving) < len(TABLES) and self._now is not None:
            return  # the clock fell back behind every package: keep what is in force
        before, self._now = self._now, self._with_list(usable)
        self._in_force, self._then = usable, None
        self._window_ms = (
            max((s for s in starts if s <= now_ms), default=0),
            min((s for s in starts if s > now_ms), default=2**63),
        )
        for name, package in usable.items():
            self._forget_old(name, package)
        if before is not None and before.versions != self._now.versions:
            log.info("parameters switched", extra={"versions": dict(self._now.versions)})

    def _usable(self, now_ms: int) -> dict[str, Package]:
        """The newest of each table that is due and passes its self-check; one that does not is
        withdrawn where an older one can serve instead."""
        usable: dict[str, Package] = {}
        for name in TABLES:
            while (package := self._newest(name, now_ms)) is not None:
                why = self._why_not(name, package)
                is_last = sum(p.effective_from_ms <= now_ms for p in self._shelf[name].values()) < 2
                if not why or is_last:
                    usable[name] = package
                    break
                self._withdraw(name, package.version, f"没有通过切换自检，已退回旧版本：{why}")
        if self._fares is not None and FARES not in usable and self._had_no_fares():
            usable[FARES] = self._fares.stand_in(beijing(now_ms))
        return usable

    def _had_no_fares(self) -> bool:
        held = self._in_force.get(FARES)
        return held is None or _stands_in(held)

    def _why_not(self, name: str, package: Package) -> str:
        if name == FARES and (why := self._damaged.pop(package.version, "")):
            return why
        if self._in_force.get(name) is package:
            return ""
        return self_check(package, self._exit_hex)

    def _with_list(self, packages: dict[str, Package]) -> Parameters:
        """The big status list instead of the package, if it is newer or the only one."""
        held, serving = packages.get("status_list"), self._lists and self._lists.serving
        if not serving or (held and _rank_of(held) >= serving.head.rank):
            return Parameters.of(packages)
        now = Parameters.of({**packages, "status_list": _stand_in(serving.head)})
        return now.model_copy(update={"status_list": serving})

    def _listed(self, name: str, now: Parameters) -> dict[str, Any]:
        serving = self._lists.serving if self._lists else None
        if name != "status_list" or serving is None or now.status_list is not serving:
            return {}
        assert self._lists is not None
        return {"listed": {"entries": serving.entries, "is_damaged": self._lists.is_damaged}}

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
            and {
                "version": coming.version,
                "effective_from_ms": coming.effective_from_ms,
                "rehearsal": self._reports.get((name, coming.version)),
            },
            **self._listed(name, now),
            "rejected": [
                {"version": version, "reason": reason}
                for version, reason in self._refused(name).items()
            ],
        }

    def _refused(self, name: str) -> dict[str, str]:
        """Version, or file, → why it is not used."""
        left_out = self._fares.left_out if self._fares and name == FARES else {}
        return {**left_out, **self._rejected[name]}


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.json"))
    except OSError as no:
        facts = {"folder": folder.name, "reason": no.strerror}
        log.error("parameter files cannot be listed", extra=facts)
        return []


def _stands_in(package: Package) -> bool:
    return isinstance(package, Ready) and isinstance(package.ready, NoFares)


def _is_large(path: Path) -> bool:
    return path.name.startswith(FARES) and path.stat().st_size > FARES_BYTES_MAX


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


def _facts(entry: ManifestEntry, reason: str) -> dict[str, str]:
    from_ms = beijing(moment_ms(entry.effective_from)).isoformat()
    return {
        "table": entry.name,
        "version": entry.version,
        "effective_from": from_ms,
        "reason": reason,
    }

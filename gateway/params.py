"""Parameter tables as values: stations, fares, limits, lists, people, policy. No I/O.

A package is one JSON document `{"name", "version", "effective_from", "body": {...}}`. A broken
one raises ParameterInvalid and changes nothing: what was in force stays in force. Facts that are
uncertain (domain.md §12) live in `policy`, not in code.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol, Self, runtime_checkable

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from gateway.errors import ParameterInvalid
from gateway.records import PROVINCE_MAX, SHARES_MAX
from gateway.units import FEN_MAX, plausible

TEXT_MAX = 500
"""Characters of any one text in a table: they end in journal rows, and those are bounded. A bound
also keeps out halves of characters, which JSON can name and no row can hold."""


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=TEXT_MAX)


class Station(Table):
    hex: str = Field(pattern=r"^\d{4}[0-9A-F]{4}$")
    """站Hex码: network (4 decimal digits) + station (domain.md §4)."""
    id: str = Field(min_length=14, max_length=14)
    name: str = Field(min_length=1)
    pinyin: str = ""
    """Initials, for the search by name: lzd = 兰州东."""


class Stations(Table):
    rows: tuple[Station, ...]

    @model_validator(mode="after")
    def _hex_is_unique(self) -> Self:
        if len({row.hex for row in self.rows}) != len(self.rows):
            raise ValueError("two stations share one Hex")
        return self

    def by_hex(self, station_hex: str) -> Station | None:
        return next((row for row in self.rows if row.hex == station_hex), None)


class ProvinceShare(Table):
    province: str = Field(max_length=PROVINCE_MAX)
    fee: int = Field(ge=0, le=FEN_MAX)
    fee95: int = Field(ge=0, le=FEN_MAX)
    mileage_m: int = Field(ge=0, le=FEN_MAX)


class MinimumFare(Table):
    """One row of the 全网最小费额 table (domain.md §6.3). `fee95` is looked up, never computed."""

    entry_hex: str
    vehicle_type: int
    fee: int = Field(ge=0, le=FEN_MAX)
    fee95: int = Field(ge=0, le=FEN_MAX)
    mileage_m: int = Field(ge=0, le=FEN_MAX)
    shares: tuple[ProvinceShare, ...] = Field(default=(), max_length=SHARES_MAX)

    @model_validator(mode="after")
    def _a_discount_makes_nothing_dearer(self) -> Self:
        """Columns that were mixed up would be debited, and no record could say so."""
        if self.fee95 > self.fee:
            raise ValueError(f"fee95（{self.fee95}）大于 fee（{self.fee}），可能两列颠倒")
        return self


class TableDamaged(ParameterInvalid):
    """A row of a table on disk is not what was written: no fare can be had from it."""

    code = "parameter.damaged"


@runtime_checkable
class Fares(Protocol):
    """The minimum fares in force, however many."""

    exit_hex: str

    def find(self, entry_hex: str, vehicle_type: int) -> MinimumFare | None:
        """Raises: TableDamaged, if it cannot be said."""


class MinimumFares(Table):
    """For one exit station."""

    exit_hex: str
    rows: tuple[MinimumFare, ...]

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, int], MinimumFare]:
        return {(row.entry_hex, row.vehicle_type): row for row in self.rows}

    def find(self, entry_hex: str, vehicle_type: int) -> MinimumFare | None:
        return self._by_key.get((entry_hex, vehicle_type))


class AxleLimit(Table):
    axle_count: int = Field(ge=2, le=40)
    limit_kg: int = Field(gt=0)


class AxleLimits(Table):
    rows: tuple[AxleLimit, ...] = Field(min_length=1)

    def limit_kg(self, axle_count: int) -> int:
        """The limit for so many axles; the last row serves all above it."""
        fitting = [row.limit_kg for row in self.rows if row.axle_count <= axle_count]
        return fitting[-1] if fitting else self.rows[0].limit_kg


class VehicleType(Table):
    code: int
    name: str
    is_truck: bool
    axle_counts: tuple[int, ...]
    """Axles such a vehicle may have; others are 特情 60."""


class VehicleTypes(Table):
    rows: tuple[VehicleType, ...]

    def find(self, code: int) -> VehicleType | None:
        return next((row for row in self.rows if row.code == code), None)


class VehicleClass(Table):
    code: int
    name: str
    is_free: bool = False


class VehicleClasses(Table):
    rows: tuple[VehicleClass, ...]

    def find(self, code: int) -> VehicleClass | None:
        return next((row for row in self.rows if row.code == code), None)


class Listed(Table):
    """One entry of the 状态名单 (domain.md §7)."""

    number: str
    """20-digit card id, or 16-digit OBU contract serial."""
    type: int
    reason: str
    listed_at: str


class ListDamaged(ParameterInvalid):
    """Bytes of a status list that are not those which were written: no answer can be had."""

    code = "statuslist.damaged"


@runtime_checkable
class Listing(Protocol):
    """The status list in force, however large."""

    def find(self, number: str) -> Listed | None:
        """Raises: ListDamaged, if it cannot be said whether this number is listed."""


@dataclass(frozen=True, slots=True)
class Hits:
    """What the status list says of one card and one tag."""

    card: Listed | None = None
    tag: Listed | None = None
    fault: str = ""
    """Why it could not be asked, or not about all: nobody is barred by what is not known."""


def look_up(listing: Listing, card_id: str, serial: str | None) -> Hits:
    """Both numbers; `serial` None: no tag. May wait for a disk."""
    found: list[Listed | None] = []
    fault = ""
    for number in (card_id, serial):
        try:
            found.append(listing.find(number) if number else None)
        except ListDamaged as bad:
            fault = bad.detail
            found.append(None)
    return Hits(found[0], found[1], fault)


class StatusList(Table):
    rows: tuple[Listed, ...]

    @cached_property
    def _by_number(self) -> Mapping[str, Listed]:
        return {row.number: row for row in self.rows}

    def find(self, number: str) -> Listed | None:
        return self._by_number.get(number)


class Operator(Table):
    number: str = Field(pattern=r"^\d{4,6}$")
    name: str
    role: Literal["collector", "master", "engineer"]
    password_hash: str
    """argon2id, as argon2-cffi writes it."""


class Operators(Table):
    rows: tuple[Operator, ...]

    def find(self, number: str) -> Operator | None:
        return next((row for row in self.rows if row.number == number), None)


class Policy(Table):
    """What provinces and stations decide differently, and what nobody could tell us for sure."""

    finding_levels: dict[int, Literal["stops", "master", "warns"]] = {}
    """特情 code → level, where it differs from flow/checks.py."""
    hex_from_card: bool = False
    """May the entry Hex be taken from the card when table and fare agree (ui.md §2.8)?"""
    duplicate_minutes: int = Field(default=10, ge=0)
    ceiling_percent: int = Field(default=150, ge=100)
    """Accumulated amounts above this share of the minimum fare are not believed (§6.1)."""
    full_price_findings: tuple[int, ...] = ()
    """特情 codes that take the ETC discount away (domain.md §12.11)."""
    weight_tolerance_kg: int = Field(default=20, ge=0)
    status_list_stale_hours: int = Field(default=72, ge=1)


TABLES: dict[str, type[Table]] = {
    "stations": Stations,
    "minimum_fares": MinimumFares,
    "axle_limits": AxleLimits,
    "vehicle_types": VehicleTypes,
    "vehicle_classes": VehicleClasses,
    "status_list": StatusList,
    "operators": Operators,
    "policy": Policy,
}


ROW_KEYS: dict[str, tuple[str, ...]] = {
    "stations": ("hex",),
    "minimum_fares": ("entry_hex", "vehicle_type"),
    "axle_limits": ("axle_count",),
    "vehicle_types": ("code",),
    "vehicle_classes": ("code",),
    "status_list": ("number",),
    "operators": ("number",),
}
"""What makes a row of a table the same row; `policy` has no rows."""


def digest_of(rows: Iterable[Table]) -> tuple[int, str]:
    """How many, and SHA-256 over them: one line of canonical JSON each (all fields, sorted names,
    no blanks), rows in the order of their keys. What a delta's `becomes` is compared with."""
    count, sha = 0, hashlib.sha256()
    for row in rows:
        told = row.model_dump(mode="json")
        line = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        sha.update(line.encode() + b"\n")
        count += 1
    return count, sha.hexdigest()


class Package(BaseModel):
    """One parameter file, read and checked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str = Field(min_length=1, max_length=40)
    base: str = ""
    """Of a delta: the version it changes."""
    effective_from: Annotated[datetime, AfterValidator(plausible)]
    body: dict[str, Any]

    @property
    def effective_from_ms(self) -> int:
        return round(self.effective_from.timestamp() * 1000)

    def table(self) -> Any:
        """Raises: ParameterInvalid, naming table, version and the first fault."""
        return self._table

    @cached_property
    def _table(self) -> Table:
        try:
            return TABLES[self.name].model_validate(self.body)
        except (KeyError, ValidationError) as bad:
            raise ParameterInvalid(
                f"参数 {self.name} 版本 {self.version} 不能用：{_first(bad)}"
            ) from bad


def apply_delta(base: Package, delta: Package) -> Package:
    """A delta's body has fields that change, `rows` that are new or changed, keys `removed`, and
    what the table `becomes`: `{rows, digest}`. → the full package. Raises: ParameterInvalid."""
    what = f"参数 {delta.name} 版本 {delta.version}"
    fields = {k: v for k, v in delta.body.items() if k not in ("rows", "removed", "becomes")}
    body = {**base.body, **fields}
    if keys := ROW_KEYS.get(delta.name):
        try:
            rows = {tuple(row[k] for k in keys): row for row in base.body["rows"]}
            for key in delta.body.get("removed", []):
                rows.pop(tuple(key) if isinstance(key, list) else (key,), None)
            rows |= {tuple(row[k] for k in keys): row for row in delta.body.get("rows", [])}
            body["rows"] = [rows[key] for key in sorted(rows)]
        except (TypeError, KeyError) as bad:
            raise ParameterInvalid(f"{what} 不能用：增量看不懂") from bad
    full = delta.model_copy(update={"body": body, "base": ""})
    table, becomes = full.table(), delta.body.get("becomes")
    if becomes and keys:
        rows_, digest = digest_of(sorted(table.rows, key=lambda r: [getattr(r, k) for k in keys]))
        if becomes != {"rows": rows_, "digest": digest}:
            raise ParameterInvalid(f"{what} 用在基础版本上，结果与中心说的不同")
    return full


class Ready(Package):
    """A package whose table stands ready in a file."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    ready: Any
    body: dict[str, Any] = {}

    def table(self) -> Any:
        return self.ready


def read_package(raw: bytes) -> Package:
    """Bytes of a parameter file → package, its table checked too; a delta's is checked once it is
    applied. Raises: ParameterInvalid."""
    try:
        package = Package.model_validate_json(raw)
    except ValidationError as bad:
        raise ParameterInvalid(f"参数文件不完整或格式不对：{_first(bad)}") from bad
    if package.effective_from.tzinfo is None:
        raise ParameterInvalid(f"参数 {package.name} 的生效时间没有时区")
    if not package.base:
        package.table()
    return package


class Parameters(BaseModel):
    """All tables in force at one moment, and their versions."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    versions: Mapping[str, str]
    effective_from_ms: Mapping[str, int]
    stations: Stations
    minimum_fares: Fares
    axle_limits: AxleLimits
    vehicle_types: VehicleTypes
    vehicle_classes: VehicleClasses
    status_list: Listing
    operators: Operators
    policy: Policy

    @classmethod
    def of(cls, packages: Mapping[str, Package]) -> Self:
        """One package per table name. Raises: ParameterInvalid, if one is missing or broken."""
        missing = sorted(set(TABLES) - set(packages))
        if missing:
            raise ParameterInvalid(f"缺少参数：{'、'.join(missing)}")
        return cls(
            versions={name: packages[name].version for name in TABLES},
            effective_from_ms={name: packages[name].effective_from_ms for name in TABLES},
            **{name: packages[name].table() for name in TABLES},
        )


def _first(bad: Exception) -> str:
    if isinstance(bad, ValidationError):
        fault = bad.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))} {fault['msg']}"
    return f"没有这张表 {bad}"

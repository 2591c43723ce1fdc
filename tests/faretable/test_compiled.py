"""A large fare table: read as a stream, checked row by row, asked from a file with sums."""

import hashlib
import io
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import ParameterInvalid
from gateway.faretable import stream
from gateway.faretable.compiled import FareTable
from gateway.faretable.compiler import Order, compile_table
from gateway.faretable.stream import PackageStream
from gateway.params import MinimumFares, Parameters, TableDamaged, digest_of
from tests.flow.rig import demo_parameters

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
EXIT = "62010B31"
FROM = "2025-12-01T00:00:00+08:00"
FROM_MS = 1_764_518_400_000


def row(number: int, kind: int = 1, fee: int = 1000) -> dict[str, Any]:
    shares = [{"province": "62", "fee": fee, "fee95": fee * 95 // 100, "mileage_m": 9}]
    entry_hex = f"6201{number:04X}"
    fares = {"fee": fee, "fee95": fee * 95 // 100, "mileage_m": number + 9}
    return {"entry_hex": entry_hex, "vehicle_type": kind, **fares, "shares": shares}


def package(version: str, rows: list[dict[str, Any]], base: str = "", **body: Any) -> bytes:
    facts = {"name": "minimum_fares", "version": version, "effective_from": FROM}
    told = {**facts, **({"base": base} if base else {})}
    return json.dumps({**told, "body": {"exit_hex": EXIT, "rows": rows, **body}}).encode()


def order(folder: Path, raw: bytes, version: str, **more: Any) -> Order:
    path = folder / f"{version}.json"
    path.write_bytes(raw)
    facts = {
        "package": path,
        "out": folder / f"{version}.db",
        "version": version,
        "effective_from_ms": FROM_MS,
        "size": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "signature": KEY.sign(raw).hex(),
        "key": KEY.public_key().public_bytes_raw().hex(),
        "exit_hex": EXIT,
    }
    return Order(**{**facts, **more})


def compiled(folder: Path, rows: list[dict[str, Any]], version: str = "1") -> FareTable:
    told = order(folder, package(version, rows), version)
    compile_table(told)
    return FareTable.open(told.out)


def test_every_row_is_found_as_it_was_and_no_other(tmp_path: Path) -> None:
    rows = [row(number, kind) for number in range(300) for kind in (1, 2, 11)]
    random.Random(1).shuffle(rows)
    table = compiled(tmp_path, rows)
    table.check()
    small = MinimumFares.model_validate({"exit_hex": EXIT, "rows": rows})
    for one in rows:
        key = (one["entry_hex"], one["vehicle_type"])
        assert table.find(*key) == small.find(*key) is not None
    assert table.find("62010000", 3) is None
    assert table.find("FFFFFFFF", 1) is None
    assert table.about.rows == 900


def test_a_small_and_a_large_table_have_one_digest(tmp_path: Path) -> None:
    rows = [row(number) for number in range(30)]
    small = MinimumFares.model_validate({"exit_hex": EXIT, "rows": rows})
    about = compiled(tmp_path, rows).about
    assert digest_of(small.rows) == (about.rows, about.digest)


@pytest.mark.parametrize(
    ("raw", "more", "why"),
    [
        (package("1", [row(1), row(1)]), {}, "重复"),
        (package("1", [{**row(1), "fee": -1}]), {}, r"rows\.0\.fee"),
        (package("1", [row(1), {**row(2), "odd": 1}]), {}, r"rows\.1\.odd"),
        (package("1", [row(1)], surprise=2), {}, "surprise"),
        (package("2", [row(1)]), {}, "版本 2"),
        (package("1", []), {}, "是空的"),
        (package("1", [row(1)], exit_hex="62010A12"), {}, "62010A12"),
        (package("1", [row(1)])[:-3], {}, "不完整"),
        (package("1", [row(1)]) + b"x", {}, "末尾"),
        (package("1", [row(1)]), {"size": 7}, "长度不符"),
        (package("1", [row(1)]), {"sha256": "0" * 64}, "校验和不符"),
        (package("1", [row(1)]), {"signature": "00" * 64}, "签名不对"),
        (package("1", [row(1)]), {"signature": ""}, "签名不对"),
        (package("1", [row(1)]), {"effective_from_ms": 5}, "生效时间"),
        (package("1", [row(1)], base="0"), {}, "的内容是"),
        (b"\xff\xfe{", {}, "不完整"),
        (b"[]", {}, "不完整"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_no_table(
    tmp_path: Path, raw: bytes, more: dict[str, Any], why: str
) -> None:
    told = order(tmp_path, raw, "1", **more)
    with pytest.raises(ParameterInvalid, match=why):
        compile_table(told)
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]


def test_a_delta_changes_what_it_says_and_proves_what_it_became(tmp_path: Path) -> None:
    rows = {number: row(number) for number in range(50)}
    compiled(tmp_path, list(rows.values()))
    rows |= {7: row(7, fee=777), 60: row(60)}
    del rows[3]
    after = MinimumFares.model_validate({"exit_hex": EXIT, "rows": list(rows.values())})
    keyed = sorted(after.rows, key=lambda fare: (fare.entry_hex, fare.vehicle_type))
    count, digest = digest_of(keyed)
    body = {"removed": [["62010003", 1]], "becomes": {"rows": count, "digest": digest}}
    raw = package("2", [rows[7], rows[60]], base="1", **body)
    told = order(tmp_path, raw, "2", base=tmp_path / "1.db", base_version="1")
    assert compile_table(told).rows == 50
    table = FareTable.open(told.out)
    assert table.find("62010003", 1) is None
    found = table.find("62010007", 1)
    assert found is not None
    assert found.fee == 777

    wrong = package("3", [row(9, fee=1)], base="1", **body)
    told = order(tmp_path, wrong, "3", base=tmp_path / "1.db", base_version="1")
    with pytest.raises(ParameterInvalid, match="结果与中心说的不同"):
        compile_table(told)
    assert not told.out.exists()


def test_no_changed_byte_gives_a_wrong_fare(tmp_path: Path) -> None:
    rows = [row(number, fee=1000 + number) for number in range(200)]
    table = compiled(tmp_path, rows)
    whole, chance, damaged = table.path.read_bytes(), random.Random(2), 0
    for _ in range(150):
        raw = bytearray(whole)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        table.path.write_bytes(raw)
        try:
            opened = FareTable.open(table.path)
        except TableDamaged:
            damaged += 1
            continue
        for one in chance.sample(rows, 15):
            try:
                found = opened.find(one["entry_hex"], 1)
            except TableDamaged:
                damaged += 1
            else:
                assert found is None or found.fee == one["fee"]
        opened.close()
    assert damaged > 0


def test_damage_is_told_and_a_full_check_finds_it(tmp_path: Path) -> None:
    table = compiled(tmp_path, [row(number) for number in range(200)])
    table.close()
    with sqlite3.connect(table.path) as db:
        change = "UPDATE fare SET told = CAST(replace(told, '1000', '1001') AS BLOB)"
        db.execute(f"{change} WHERE entry_hex > '620100B0'")
    told: list[str] = []
    opened = FareTable.open(table.path)
    opened.on_damage = told.append
    assert opened.find("62010001", 1) is not None
    with pytest.raises(TableDamaged):
        opened.find("620100C0", 1)
    assert told
    with pytest.raises(TableDamaged):
        opened.check()


def test_a_fare_that_cannot_be_read_is_no_fare(tmp_path: Path) -> None:
    parameters: Parameters = demo_parameters()
    table = compiled(tmp_path, [row(number) for number in range(3)])
    table.close()
    assert parameters.model_copy(update={"minimum_fares": table}).minimum_fares is table
    with pytest.raises(TableDamaged):
        table.find("62010001", 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(
    rows=st.lists(JSON, max_size=8),
    body=st.dictionaries(st.text().filter(lambda t: t != "rows"), JSON, max_size=4),
    facts=st.dictionaries(st.text().filter(lambda t: t != "body"), JSON, max_size=4),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 3),
)
def test_any_document_comes_out_as_it_went_in(
    rows: list[Any], body: dict[str, Any], facts: dict[str, Any], chunk: int, indent: int | None
) -> None:
    text = json.dumps({**facts, "body": {**body, "rows": rows}}, indent=indent)
    before, stream.CHUNK = stream.CHUNK, chunk
    try:
        read = PackageStream(io.StringIO(text))
        assert list(read.rows()) == rows
        assert (read.facts, read.body) == (facts, body)
    finally:
        stream.CHUNK = before

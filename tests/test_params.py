import json
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.errors import ParameterInvalid
from gateway.params import TABLES, Operator, Package, Parameters, read_package
from tests.tools import demo_parameters

DEMO = Path(__file__).parents[1] / "gateway" / "parameters" / "demo"


def demo() -> dict[str, Package]:
    packages = [read_package(path.read_bytes()) for path in DEMO.glob("*.json")]
    return {package.name: package for package in packages}


def changed(name: str, **body: Any) -> bytes:
    document = json.loads((DEMO / f"{name}.json").read_text())
    return json.dumps({**document, "body": {**document["body"], **body}}).encode()


@pytest.fixture(scope="module")
def parameters() -> Parameters:
    return Parameters.of(demo())


def test_the_demo_set_is_what_its_generator_writes() -> None:
    for name, document in demo_parameters.packages().items():
        assert (DEMO / f"{name}.json").read_text() == demo_parameters.text(document)


def test_every_table_is_there_with_its_version(parameters: Parameters) -> None:
    assert set(parameters.versions) == set(TABLES)
    assert set(parameters.versions.values()) == {"20251118001"}


def test_every_station_has_a_minimum_fare_for_every_vehicle_type(parameters: Parameters) -> None:
    assert len(parameters.vehicle_types.rows) == 16
    for station in parameters.stations.rows:
        for vehicle_type in parameters.vehicle_types.rows:
            fare = parameters.minimum_fares.find(station.hex, vehicle_type.code)
            assert fare is not None
            assert fare.fee == sum(share.fee for share in fare.shares)
            assert fare.fee95 == sum(share.fee95 for share in fare.shares)
            assert 0 < fare.fee95 <= fare.fee


@pytest.mark.parametrize(
    "bad",
    [
        {"fee": 3610, "fee95": 3800},
        {"fee": 2**32, "fee95": 3610},
        {"shares": [{"province": "62", "fee": 1, "fee95": 1, "mileage_m": 1}] * 65},
        {"shares": [{"province": "6" * 17, "fee": 1, "fee95": 1, "mileage_m": 1}]},
    ],
)
def test_a_minimum_fare_that_no_record_could_tell_refuses_the_package(bad: dict[str, Any]) -> None:
    row = {"entry_hex": "62010A12", "vehicle_type": 1, "fee": 3800, "fee95": 3610, "mileage_m": 1}
    with pytest.raises(ParameterInvalid, match=r"minimum_fares .*不能用：rows\.0"):
        read_package(changed("minimum_fares", rows=[{**row, **bad}]))
    assert read_package(changed("minimum_fares", rows=[row])).table().rows


@pytest.mark.parametrize("name", ["甲" * 501, "\ud800"])
def test_a_text_that_no_record_could_hold_refuses_the_table(name: str) -> None:
    with pytest.raises(ValidationError):
        Operator(number="1001", name=name, role="collector", password_hash="x")


def test_the_etc_price_is_looked_up_because_no_factor_gives_it(parameters: Parameters) -> None:
    """domain.md §6.3: some rows are 0.95 exactly, others are not."""
    rows = parameters.minimum_fares.rows
    assert any(row.fee95 * 100 == row.fee * 95 for row in rows)
    assert any(row.fee95 != round(row.fee * 0.95) for row in rows)
    known = parameters.minimum_fares.find("62010A12", 1)
    assert known is not None
    assert (known.fee, known.fee95, known.mileage_m) == (3800, 3610, 95_000)


def test_limits_follow_the_axles(parameters: Parameters) -> None:
    """domain.md §5.3"""
    limits = [parameters.axle_limits.limit_kg(axles) for axles in (2, 3, 4, 5, 6, 7)]
    assert limits == [18_000, 25_000, 31_000, 43_000, 49_000, 49_000]


def test_the_demo_operators_can_sign_in_and_no_hash_is_plain(parameters: Parameters) -> None:
    for number, role in (("1001", "collector"), ("9001", "master"), ("7001", "engineer")):
        operator = parameters.operators.find(number)
        assert operator is not None
        assert operator.role == role
        assert operator.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert PasswordHasher().verify(operator.password_hash, number)


def test_listed_numbers_are_found_and_others_are_not(parameters: Parameters) -> None:
    listed = parameters.status_list.find("62012045220000009001")
    assert listed is not None
    assert (listed.type, listed.reason) == (1, "卡挂失")
    assert parameters.status_list.find("6201010199009001") is not None
    assert parameters.status_list.find("62012045230000123456") is None


def test_free_classes_are_marked(parameters: Parameters) -> None:
    free = [row.code for row in parameters.vehicle_classes.rows if row.is_free]
    assert free == [8, 10, 12]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "参数文件不完整"),
        (b"\x00" * 100, "参数文件不完整"),
        (changed("policy")[:-5], "参数文件不完整"),
        (changed("policy", duplicate_minutes=-1), "不能用"),
        (changed("policy", not_a_policy=1), "不能用"),
        (changed("stations", rows=[]).replace(b"stations", b"unheard"), "没有这张表"),
        (changed("policy").replace(b"+08:00", b""), "没有时区"),
        (changed("axle_limits", rows=[]), "不能用"),
    ],
)
def test_a_broken_file_is_refused_in_chinese(raw: bytes, reason: str) -> None:
    with pytest.raises(ParameterInvalid, match=reason):
        read_package(raw)


def test_two_stations_cannot_share_one_hex() -> None:
    rows = demo()["stations"].body["rows"]
    with pytest.raises(ParameterInvalid, match="share one Hex"):
        read_package(changed("stations", rows=[*rows, rows[0]]))


def test_a_missing_table_is_named() -> None:
    packages = demo()
    del packages["policy"]
    with pytest.raises(ParameterInvalid, match="缺少参数：policy"):
        Parameters.of(packages)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_at_all_do_anything_but_parse_or_be_refused(raw: bytes) -> None:
    with pytest.raises(ParameterInvalid):
        read_package(raw)

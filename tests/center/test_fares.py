import pytest

from gateway.center.fares import (
    EXAMPLE,
    EXAMPLE_ANSWER,
    FEN_PER_KM,
    ROUTES,
    NoFare,
    Question,
    price,
)
from gateway.params import MinimumFares, read_package
from tests.sync.rig import DEMO


def ask(**changes: object) -> object:
    return price(Question.model_validate({**EXAMPLE, **changes}))


def test_the_example_is_what_the_centre_answers() -> None:
    answer = price(Question.model_validate({**EXAMPLE, "a_new_field": 1}))
    assert not isinstance(answer, NoFare)
    assert answer.model_dump(mode="json", by_alias=True) == EXAMPLE_ANSWER


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"entryHex": "62010E05"}, 994),
        ({"entryHex": "62019999"}, 996),
        ({"exitHex": "62010A12"}, 996),
        ({"kind": 4}, 701),
        ({"vehicleType": 5}, 997),
    ],
)
def test_why_there_is_no_fare_has_a_code(changes: dict[str, object], code: int) -> None:
    answer = ask(**changes)
    assert isinstance(answer, NoFare)
    assert answer.code == code


def test_a_free_class_costs_nothing() -> None:
    answer = ask(vehicleClass=12)
    assert not isinstance(answer, NoFare)
    assert (answer.amount_fen, answer.fee95_fen) == (0, 0)  # type: ignore[attr-defined]


def test_no_online_fare_is_below_the_minimum_or_above_what_is_believed() -> None:
    """domain.md §6.1: between the minimum fare and 1.5 of it."""
    minimum = read_package((DEMO / "minimum_fares.json").read_bytes()).table()
    assert isinstance(minimum, MinimumFares)
    for entry_hex in ROUTES:
        for vehicle_type in FEN_PER_KM:
            answer = ask(entryHex=entry_hex, vehicleType=vehicle_type)
            floor = minimum.find(entry_hex, vehicle_type)
            assert floor is not None
            if entry_hex != "62010B31":  # in and out at one station: the table has a lump sum
                assert floor.fee <= answer.amount_fen <= floor.fee * 3 // 2  # type: ignore[attr-defined]

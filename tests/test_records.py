"""What goes over the wire: records that agree with themselves, answers read kindly but safely."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.records import ExitRecord, FareAnswer
from tests.flow.rig import Box, World, drive_through


@pytest.fixture
async def record(tmp_path: Any) -> dict[str, Any]:
    box = await Box.power_on(World(), tmp_path)
    await drive_through(box)
    (record,) = await box.records()
    await box.power_off()
    return record


async def test_ids_have_the_lengths_the_centre_knows(record: dict[str, Any]) -> None:
    """domain.md §4: id 37, passId 36, cardId 20 characters; vehicleId is plate _ colour."""
    assert (len(record["id"]), len(record["passId"]), len(record["cardId"])) == (37, 36, 20)
    assert record["id"].startswith("G00306200100202010030")
    assert record["passId"][2:22] == record["cardId"]
    assert record["vehicleId"] == "甘A12345_0"
    assert (record["transPayType"], record["transType"]) == (2, "09")


async def test_the_sums_of_a_record_agree_or_there_is_no_record(record: dict[str, Any]) -> None:
    assert record["payFee"] == record["fee"] + record["discountFee"]
    assert record["preBalance"] - record["postBalance"] == record["transFee"] == record["fee"]
    ExitRecord.model_validate(record)
    for wrong in ({"payFee": record["payFee"] + 1}, {"postBalance": 0}, {"preBalance": None}):
        with pytest.raises(ValidationError):
            ExitRecord.model_validate(record | wrong)


async def test_what_is_not_paid_from_the_card_needs_no_balances(record: dict[str, Any]) -> None:
    by_hand = record | {"outcome": "by_hand", "means": "cash", "preBalance": None}
    ExitRecord.model_validate(by_hand | {"postBalance": None})


@pytest.mark.parametrize(
    ("raw", "amount_fen"),
    [
        ('{"amount_fen": 3800, "kind": 4}', 3800),
        ('{"amount": 3800, "unknown": true}', 3800),
        ('{"amount_fen": 3800, "split": [{"province": "62"}]}', 3800),
        ('{"amount_fen": 3800, "split": "62:3800"}', 3800),
    ],
)
def test_a_fare_is_not_lost_over_a_split_or_a_field_we_do_not_know(
    raw: str, amount_fen: int
) -> None:
    read = FareAnswer.model_validate_json(raw)
    assert (read.amount_fen, read.split) == (amount_fen, ())


@pytest.mark.parametrize(
    "raw", ['{"kind": 4}', '{"amount_fen": -1}', '{"amount_fen": 1, "kind": 9}']
)
def test_a_fare_without_a_sound_amount_is_none(raw: str) -> None:
    with pytest.raises(ValidationError):
        FareAnswer.model_validate_json(raw)

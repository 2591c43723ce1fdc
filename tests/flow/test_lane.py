"""The lane on twins: the whole flow, its branches, and what it refuses."""

from pathlib import Path

import pytest

from tests.flow.rig import Box, World, damage, drive_through


@pytest.fixture
async def box(tmp_path: Path):
    box = await Box.power_on(World(), tmp_path)
    yield box
    await box.power_off()


async def test_a_car_pays_once_and_leaves_one_record(box: Box, tmp_path: Path) -> None:
    before = box.world.card.balance

    await drive_through(box)

    (record,) = await box.records()
    (debit,) = box.world.card.ledger
    assert before - box.world.card.balance == record["fee"] == debit.amount_fen > 0
    assert record["tac"] == debit.tac
    assert record["terminalTransNo"] == f"{debit.terminal_seq:08X}"
    assert record["cardTransNo"] == f"{debit.card_seq:04X}"
    assert (record["mac2"], record["tacSource"]) == ("verified", "answered")
    assert damage(tmp_path) == []

"""Exports and receipts of a running demo: by file, past its own centre, and back over its API."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.center.carry import take
from gateway.export import export
from gateway.keys import read_public
from gateway.units import SystemClock
from tests.e2e.booth import Booth, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


async def carried(booth: Booth, folder: Path, db: Path) -> Path:
    """Export the running box, book it in the centre's file, and bring the receipt."""
    folder.mkdir(exist_ok=True)
    out, receipt = folder / "out.tar", folder / "receipt.tar"
    await asyncio.to_thread(export, booth.data, out)
    public = read_public(str(booth.data / "keys" / "lane.pub"))
    await asyncio.to_thread(take, out, db, public, receipt, SystemClock())
    return receipt


async def hand_in(booth: Booth, file: Path, number: str = "9001") -> Any:
    await booth.sign_in(number)
    try:
        body = file.read_bytes()
        headers = {"Content-Type": "application/x-tar"}
        return await booth.call("POST", "/api/receipts", data=body, headers=headers)
    finally:
        await booth.sign_in()


async def test_a_receipt_carried_in_settles_what_the_line_could_not(
    booth: Booth, tmp_path: Path
) -> None:
    """The centre is down for the line; its books are reached on foot."""
    (db,) = booth.data.rglob("center.db")
    await booth.put("car")
    await booth.arm("center", "down")
    await booth.drive()
    shot = await booth.look()
    seq = shot["passage"]["record"]["seq"]
    assert shot["sync"]["unsent"] >= 1
    receipt = await carried(booth, tmp_path / "a", db)
    refused = await hand_in(booth, receipt, "1001")
    assert (refused.status, refused.body["code"]) == (403, "access.refused")
    taken = await hand_in(booth, receipt)
    assert taken.status == 200, taken
    assert taken.body["settled"] >= 1

    async def is_settled() -> bool:
        return (await booth.look())["sync"]["unsent"] == 0

    await until(is_settled, "nothing unsent any more")
    facts = await booth.get(f"/api/passages/{shot['passage']['id']}")
    assert (facts["fate"]["via"], facts["delivery"]) == ("receipt", "已确认")
    again = await hand_in(booth, receipt)
    assert again.body == {**taken.body, "settled": 0, "said": {}, "was_known": True}
    assert (await booth.center.lane())["high_water"] >= seq


async def test_what_is_no_receipt_of_ours_is_refused_in_words(booth: Booth, tmp_path: Path) -> None:
    (db,) = booth.data.rglob("center.db")
    other = tmp_path / "other.db"
    foreign = await carried(booth, tmp_path / "b", other)
    torn = tmp_path / "torn.tar"
    shutil.copy(await carried(booth, tmp_path / "c", db), torn)
    torn.write_bytes(torn.read_bytes()[:-600])
    for file in (foreign, torn, Path(__file__)):
        answer = await hand_in(booth, file)
        assert (answer.status, answer.body["code"]) == (422, "parcel.refused")
        assert answer.body["action"]


async def test_the_centre_learns_the_boxs_key_by_heartbeat(booth: Booth) -> None:
    public = read_public(str(booth.data / "keys" / "lane.pub")).hex()

    async def is_told() -> bool:
        beat = (await booth.center.lane())["last_heartbeat"]
        return beat is not None and beat["lane_key"] == public

    await until(is_told, "the key in a heartbeat")

"""The centre away, dead or difficult for a whole passage: the lane sells, the record comes once."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.booth import Booth, agree, is_chinese, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

Json = dict[str, Any]


async def offline(booth: Booth) -> Json:
    """Wait until the screen says so."""

    async def ask() -> Json | None:
        shot = await booth.look()
        return None if shot["sync"]["online"] else shot

    return await until(ask, "the screen says offline")


async def all_sent(booth: Booth) -> Json:
    async def ask() -> Json | None:
        shot = await booth.look()
        return shot if shot["sync"]["online"] and not shot["sync"]["unsent"] else None

    return await until(ask, "everything is sent", 60)


async def owed(booth: Booth, count: int) -> None:
    sync = await booth.get("/api/sync")
    assert (sync["online"], sync["backlog"]["count"]) == (False, count)
    shot = await booth.look()
    assert shot["sync"]["unsent"] == count
    if count == 1:
        assert shot["sync"]["oldest_unsent_ms"] == shot["last"]["saved_at_ms"]


async def lines_of(booth: Booth, record_id: str) -> list[Json]:
    return [line for line in await booth.center.lines() if line["id"] == record_id]


def center_of(booth: Booth) -> psutil.Process:
    """The demo's embedded centre."""
    assert booth.process is not None
    children = psutil.Process(booth.process.pid).children()
    (found,) = [child for child in children if "gateway.center" in child.cmdline()]
    return found


async def test_with_the_centre_down_a_car_pays_by_what_it_accumulated(booth: Booth) -> None:
    await booth.arm("center", "down")
    car = await booth.put("car")
    await booth.look()
    shot = await booth.drive()
    assert shot["passage"]["quote"]["kind"] == 1
    await offline(booth)
    await owed(booth, 1)
    record_id = shot["passage"]["record"]["id"]
    assert await lines_of(booth, record_id) == []
    facts = await booth.get(f"/api/passages/{shot['passage']['id']}")
    assert (facts["state"], facts["delivery"]) == ("saved", "未传")

    await booth.disarm()
    await all_sent(booth)
    record = await booth.saved()
    assert (record["id"], record["fee"]) == (record_id, car["paid_fen"])


async def test_with_the_centre_down_the_minimum_fare_is_the_masters(booth: Booth) -> None:
    """No accumulated sum, no network: nobody can price it but the table and the master."""
    await booth.arm("center", "down")
    await booth.put("car", obu=False)
    shot = await booth.drive("unpriced")
    assert is_chinese(shot["problem"]["detail"])
    shot = await booth.drive_on("saved")
    assert shot["passage"]["quote"]["kind"] == 6
    await offline(booth)
    assert await lines_of(booth, shot["passage"]["record"]["id"]) == []
    await booth.disarm()
    await all_sent(booth)
    record = await booth.saved()
    assert (record["exitFeeType"], record["discountFee"]) == (6, 0)


async def test_three_cars_behind_a_dead_line_arrive_in_order_and_once(booth: Booth) -> None:
    before = await booth.center.lane()
    await booth.arm("center", "down")
    records = []
    for _ in range(3):
        await booth.put("car")
        records.append((await booth.drive())["passage"]["record"])
    await offline(booth)
    await owed(booth, 3)
    await booth.disarm()
    await all_sent(booth)
    lines = [line for line in await booth.center.lines() if line["seq"] >= records[0]["seq"]]
    assert [(line["id"], line["seq"]) for line in lines] == [(r["id"], r["seq"]) for r in records]
    after = await booth.center.lane()
    assert after["stored"] == before["stored"] + 3
    assert (after["holes"], after["high_water"]) == ([], records[-1]["seq"])


async def test_the_centres_process_killed_in_mid_passage_comes_back_and_gets_the_record(
    booth: Booth,
) -> None:
    await booth.put("car")
    await booth.drive("agreed")
    dead = center_of(booth)
    os.kill(dead.pid, signal.SIGKILL)
    shot = await booth.do("save")
    assert shot["state"] == "saved"

    async def is_back() -> bool:
        return await booth.center.is_up()

    await until(is_back, "the centre is started again", 60)
    assert center_of(booth).pid != dead.pid
    await all_sent(booth)
    await booth.saved()


async def test_a_centre_that_only_answers_too_late_does_not_hold_up_the_lane(booth: Booth) -> None:
    await booth.arm("center", "slow", seconds=20)
    await booth.put("car", obu=False)
    shot = await booth.drive("unpriced")
    assert is_chinese(shot["problem"]["detail"])
    await booth.disarm()
    shot = await booth.do("quote")
    assert shot["passage"]["quote"]["kind"] in (4, 5)
    await booth.drive_on("saved")
    await booth.saved()


@pytest.mark.parametrize("fault", ["html", "redirect", "garbage", "denied", "busy", "retry"])
async def test_an_answer_that_is_no_verdict_means_later(booth: Booth, fault: str) -> None:
    await booth.arm("center", fault, **({"seconds": 1} if fault == "busy" else {}))
    await booth.put("car")
    shot = await booth.drive()
    record_id = shot["passage"]["record"]["id"]

    async def owes() -> bool:
        return (await booth.get("/api/sync"))["backlog"]["count"] == 1

    await until(owes, "one is owed")
    assert await lines_of(booth, record_id) == []
    assert (await booth.get("/api/receipts"))["receipts"] == []
    await booth.disarm()
    await all_sent(booth)
    await booth.saved()


async def test_a_lost_answer_is_sent_again_and_booked_once(booth: Booth) -> None:
    """The centre has it; we do not know that it has."""
    await booth.arm("center", "lost_answer")
    await booth.put("car")
    shot = await booth.drive()
    record_id = shot["passage"]["record"]["id"]
    await booth.center.arrived(record_id)
    await offline(booth)
    assert (await booth.look())["sync"]["unsent"] == 1
    await booth.disarm()
    await all_sent(booth)
    assert len(await lines_of(booth, record_id)) == 1
    facts = await booth.get(f"/api/passages/{shot['passage']['id']}")
    assert facts["fate"]["verdict"] == "duplicate"
    await booth.saved()


async def test_a_refused_record_is_parked_with_the_centres_words_and_holds_up_nobody(
    booth: Booth,
) -> None:
    await booth.arm("center", "refuse")
    car = await booth.put("car")
    shot = await booth.drive()
    parked = shot["passage"]["record"]

    async def is_parked() -> list[Json] | None:
        told = (await booth.get("/api/receipts"))["receipts"]
        return [one for one in told if one["seq"] == parked["seq"]] or None

    (receipt,) = await until(is_parked, "the record is parked")
    assert receipt["id"] == parked["id"]
    assert "拒收" in receipt["reason"]

    async def is_shown() -> bool:
        return bool((await booth.look())["sync"]["parked"] == 1)

    await until(is_shown, "the screen counts it")
    facts = await booth.get(f"/api/passages/{shot['passage']['id']}")
    assert facts["delivery"] == "被退回"
    (debit,) = (await booth.truth())["card"]["debits"]
    assert debit["amount_fen"] == car["paid_fen"]

    await booth.disarm()
    await booth.put("car")
    await booth.drive()
    record = await booth.saved()  # also: no hole below it, the stub fills the slot
    assert record["seq"] == parked["seq"] + 1
    (stub,) = await lines_of(booth, parked["id"])
    assert stub["stub"]
    assert "拒收" in stub["record"]["refused"]
    assert (await all_sent(booth))["sync"]["parked"] == 1


async def test_the_lane_restarted_offline_still_owes_and_still_pays_its_debt(booth: Booth) -> None:
    await booth.arm("center", "down")
    car = await booth.put("car")
    shot = await booth.drive()
    await booth.kill()
    await booth.start()  # its centre comes back with it
    await all_sent(booth)
    record = await booth.center.arrived(shot["passage"]["record"]["id"])
    agree(record, await booth.look(), car, await booth.truth())


async def test_at_the_end_the_books_are_whole(booth: Booth) -> None:
    """Everything this file did: each money debit has its one record, and the chain holds."""
    debits = [debit for debit in await booth.ledger() if debit["amount_fen"]]
    paid = [
        line["record"]
        for line in await booth.center.lines()
        if line["record"].get("outcome") == "paid" and line["record"]["fee"]
    ]
    stubs = [line for line in await booth.center.lines() if line["stub"]]
    assert len(debits) == len(paid) + len(stubs)
    assert {record["tac"] for record in paid} <= {debit["tac"] for debit in debits}
    verify = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "journal", "verify", str(booth.data)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(verify.communicate(), 60)
    assert (verify.returncode, said.decode().strip()) == (0, "流水完好")

"""Sneaker-net: out by hand, booked by a centre that never had a line, back by hand; once."""

import asyncio
import json
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway import parcel as parcels
from gateway.__main__ import main
from gateway.center.carry import LaneSaid, take
from gateway.errors import KeyMissing, ParcelRefused, StoreUnavailable
from gateway.export import export, span
from gateway.keys import Signer, read_public
from gateway.parcel import Parcel, Writing
from gateway.runtime import hold
from gateway.store import Store
from gateway.sync import receipts
from gateway.sync.center import CenterClient, Verdict
from gateway.sync.ledger import PUSH, Ledger
from gateway.sync.outbox import Outbox
from gateway.sync.receipts import NEWEST, Receipts
from tests.rig.filled import delivery, fill, filled
from tests.sync.rig import TOKEN, HurriedClock, center


class Trip:
    """A box and a centre in one folder, and what is carried between them."""

    def __init__(self, folder: Path, clock: HurriedClock) -> None:
        self.folder, self.clock = folder, clock
        self.data, self.db = folder / "data", folder / "center.db"

    @property
    def box_key(self) -> bytes:
        return read_public(str(self.data / "keys" / "lane.pub"))

    @property
    def center_key(self) -> bytes:
        return read_public(str(self.folder / "center-key.pub"))

    def export(self, name: str = "out.tar", since: str = "", until: str = "") -> Path:
        export(self.data, self.folder / name, span(since or None, until or None))
        return self.folder / name

    async def book(self, file: Path, name: str = "receipt.tar") -> tuple[Path, list[LaneSaid]]:
        args = (file, self.db, self.box_key, self.folder / name, self.clock)
        return self.folder / name, await asyncio.to_thread(take, *args)

    async def back(self, receipt: Path) -> Any:
        store = await Store.open(self.data / "lane.db")
        try:
            return await Receipts(store, lambda: self.center_key, self.clock).take(receipt)
        finally:
            await store.close()

    async def delivered(self) -> dict[int, tuple[str, str]]:
        return await delivery(self.data)

    def at_center(self) -> list[tuple[int, int, bytes]]:
        db = sqlite3.connect(self.db)
        try:
            return db.execute("SELECT seq, is_stub, line FROM record ORDER BY lane, seq").fetchall()
        finally:
            db.close()


@pytest.fixture
async def trip(tmp_path: Path, clock: HurriedClock) -> Trip:
    trip = Trip(tmp_path, clock)
    await filled(trip.data, {"X03": 12})
    return trip


def all_of(last: int, verdict: str = "accepted", first: int = 1) -> dict[int, tuple[str, str]]:
    return dict.fromkeys(range(first, last + 1), (verdict, "receipt"))


# ---- the way there and back -------------------------------------------------------------------


async def test_a_centre_that_never_had_a_line_gets_everything_and_says_so(trip: Trip) -> None:
    receipt, (said,) = await trip.book(trip.export())
    assert (said.said["accepted"], said.high_water) == (12, 12)
    taken = await trip.back(receipt)
    assert (taken.number, taken.settled, taken.said) == (1, 12, {"accepted": 12})
    assert await trip.delivered() == all_of(12)
    store = await Store.open(trip.data / "lane.db")
    lines = await store.rows("SELECT seq, 0, line FROM record ORDER BY seq")
    assert [(s, b, line.encode()) for s, b, line in lines] == trip.at_center()
    debt = await Ledger(store).debt("X03", 0)
    notes = await store.rows("SELECT body FROM journal WHERE event = 'receipt_taken'")
    await store.close()
    assert (debt.unsent, debt.parked) == (0, 0)
    assert json.loads(notes[0]["body"])["accepted"] == 12


async def test_the_same_export_twice_is_all_duplicates_and_success(trip: Trip) -> None:
    file = trip.export()
    await trip.book(file, "r1.tar")
    held = trip.at_center()
    receipt, (said,) = await trip.book(file, "r2.tar")
    assert said.said == {"duplicate": 12}
    assert trip.at_center() == held
    await trip.back(receipt)
    assert await trip.delivered() == all_of(12, "duplicate")


async def test_the_same_receipt_twice_is_once(trip: Trip) -> None:
    receipt, _ = await trip.book(trip.export())
    await trip.back(receipt)
    before = await trip.delivered()
    again = await trip.back(receipt)
    assert (again.was_known, again.settled) == (True, 0)
    assert await trip.delivered() == before


async def test_overlapping_exports_add_up(trip: Trip) -> None:
    first = trip.export("a.tar", until="2025-11-21T08:00:08")
    second = trip.export("b.tar", since="2025-11-21T08:00:05")
    r1, (one,) = await trip.book(first, "r1.tar")
    r2, (two,) = await trip.book(second, "r2.tar")
    assert (one.said, one.high_water) == ({"accepted": 7}, 7)
    assert (two.said, two.high_water) == ({"duplicate": 3, "accepted": 5}, 12)
    assert (await trip.back(r1)).settled == 7
    assert (await trip.back(r2)).settled == 5
    assert sorted(await trip.delivered()) == list(range(1, 13))


async def test_receipts_may_come_back_in_any_order(trip: Trip) -> None:
    """The older one has news of its own: it is taken."""
    r1, _ = await trip.book(trip.export("a.tar", until="2025-11-21T08:00:08"), "r1.tar")
    r2, _ = await trip.book(trip.export("b.tar", since="2025-11-21T08:00:08"), "r2.tar")
    assert (await trip.back(r2)).settled == 5
    assert (await trip.back(r1)).settled == 7
    assert await trip.delivered() == all_of(12)


async def test_a_receipt_for_what_was_pushed_meanwhile_changes_nothing(trip: Trip) -> None:
    receipt, _ = await trip.book(trip.export())
    store = await Store.open(trip.data / "lane.db")
    async with center(trip.db) as truth:
        client = CenterClient(truth.url, TOKEN, trip.clock)
        await Outbox(store, client, ["X03"], trip.clock).drain()
        await client.close()
    await store.close()
    pushed = await trip.delivered()
    assert set(pushed.values()) == {("duplicate", "push")}
    taken = await trip.back(receipt)
    assert (taken.settled, taken.was_known) == (0, False)
    assert await trip.delivered() == pushed


async def test_after_a_receipt_nothing_is_pushed_again(trip: Trip) -> None:
    receipt, _ = await trip.book(trip.export())
    await trip.back(receipt)
    store = await Store.open(trip.data / "lane.db")
    await fill(store, 1)
    async with center(trip.db) as truth:
        client = CenterClient(truth.url, TOKEN, trip.clock)
        outbox = Outbox(store, client, ["X03"], trip.clock)
        await outbox.refresh()
        assert outbox.state()["unsent"] == 1
        await outbox.drain()
        assert (await truth.lane())["high_water"] == 13
        await client.close()
    await store.close()


async def test_what_the_centre_refuses_is_parked_and_its_slot_is_closed(trip: Trip) -> None:
    """Nobody sends a stub over a line that is not there: the centre closes the slot itself."""
    store = await Store.open(trip.data / "lane.db")
    await fill(store, 1, card_id="1" * 19 + "x")
    await fill(store, 2)
    await store.close()
    file = trip.export()
    receipt, (said,) = await trip.book(file)
    assert (said.said, said.high_water) == ({"accepted": 14, "refused": 1}, 15)
    await trip.back(receipt)
    fates = await trip.delivered()
    assert fates[13] == ("refused", "receipt")
    store = await Store.open(trip.data / "lane.db")
    assert await Ledger(store).owed("X03", 0, 100) == []
    (parked,) = await Ledger(store).parked("X03")
    await store.close()
    assert parked["reason"] == "卡号应为 20 位数字"
    again, (said,) = await trip.book(file, "again.tar")
    assert said.said == {"duplicate": 14, "refused": 1}
    await trip.back(again)
    assert await trip.delivered() == fates


async def test_a_parked_record_that_the_centre_took_after_all_is_delivered(trip: Trip) -> None:
    store = await Store.open(trip.data / "lane.db")
    owed = await Ledger(store).owed("X03", 0, 1)
    said = [Verdict(1, owed[0].line.id, "refused", "站码不存在")]
    await Ledger(store).settle("X03", owed, said, PUSH, 1)
    await store.close()
    receipt, _ = await trip.book(trip.export())
    await trip.back(receipt)
    assert (await trip.delivered())[1] == ("accepted", "receipt")


async def test_a_restored_centre_is_owed_again_what_came_by_hand(trip: Trip) -> None:
    """And the receipt from before it was restored is no proof any more."""
    receipt, _ = await trip.book(trip.export())
    await trip.back(receipt)
    trip.clock.ahead_ms += 1000
    store = await Store.open(trip.data / "lane.db")
    outbox = Outbox(store, CenterClient("http://127.0.0.1:9", "", trip.clock), ["X03"], trip.clock)
    await outbox.refresh()
    await outbox.heard("X03", 4, outbox.marks("X03"))
    await store.close()
    assert await trip.delivered() == all_of(4)
    forget_newest(trip.data)
    with pytest.raises(ParcelRefused, match="又说没有 X03 第 4 条以后的流水"):
        await trip.back(receipt)
    assert await trip.delivered() == all_of(4)
    trip.clock.ahead_ms += 1000
    fresh, _ = await trip.book(trip.export(), "fresh.tar")
    await trip.back(fresh)
    assert sorted(await trip.delivered()) == list(range(1, 13))


def forget_newest(data: Path) -> None:
    db = sqlite3.connect(data / "lane.db")
    with db:
        db.execute("DELETE FROM sync_mark WHERE name = ?", (NEWEST,))
    db.close()


async def test_a_receipt_that_was_cut_off_in_the_middle_is_taken_again(
    trip: Trip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says no behind the first piece: what was settled stays, the rest comes next time."""
    monkeypatch.setattr(receipts, "AT_ONCE", 5)
    receipt, _ = await trip.book(trip.export())
    store = await Store.open(trip.data / "lane.db")
    honest, writes = store.write, 0

    async def failing(work: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise StoreUnavailable("磁盘不能写")
        return await honest(work)

    monkeypatch.setattr(store, "write", failing)
    desk = Receipts(store, lambda: trip.center_key, trip.clock)
    with pytest.raises(StoreUnavailable):
        await desk.take(receipt)
    taken = await desk.take(receipt)
    await store.close()
    assert (taken.settled, taken.was_known) == (7, False)
    assert await trip.delivered() == all_of(12)


async def test_a_lane_that_sells_meanwhile_is_not_disturbed(trip: Trip) -> None:
    """Records that came after the export stay owed."""
    file = trip.export()
    store = await Store.open(trip.data / "lane.db")
    await fill(store, 3)
    await store.close()
    receipt, _ = await trip.book(file)
    await trip.back(receipt)
    store = await Store.open(trip.data / "lane.db")
    assert [owed.line.seq for owed in await Ledger(store).owed("X03", 0, 99)] == [13, 14, 15]
    await store.close()


# ---- what is refused --------------------------------------------------------------------------


async def test_an_older_receipt_without_news_is_refused(trip: Trip) -> None:
    file = trip.export()
    r1, _ = await trip.book(file, "r1.tar")
    r2, _ = await trip.book(file, "r2.tar")
    await trip.back(r2)
    before = await trip.delivered()
    with pytest.raises(ParcelRefused, match="第 1 号回执比已导入的第 2 号旧"):
        await trip.back(r1)
    assert await trip.delivered() == before


async def test_another_centres_or_another_boxs_receipt_is_refused(
    trip: Trip, tmp_path: Path, clock: HurriedClock
) -> None:
    receipt, _ = await trip.book(trip.export())
    other = Trip(tmp_path / "other", clock)
    await filled(other.data, {"X04": 3})
    with pytest.raises(KeyMissing):
        await other.back(receipt)  # there is no centre over there yet
    theirs, _ = await other.book(other.export())
    with pytest.raises(ParcelRefused, match="签名不对"):
        await trip.back(theirs)
    shutil.copy(tmp_path / "center-key.pub", other.folder / "center-key.pub")
    with pytest.raises(ParcelRefused, match="不是本机的流水"):
        await other.back(receipt)  # the same centre, another lane
    assert (await trip.delivered(), await other.delivered()) == ({}, {})


async def test_a_lane_of_the_same_name_with_other_records_is_another_box(
    trip: Trip, tmp_path: Path, clock: HurriedClock
) -> None:
    receipt, _ = await trip.book(trip.export())
    other = Trip(tmp_path / "other", clock)
    await filled(other.data, {"X03": 5})
    shutil.copy(tmp_path / "center-key.pub", other.folder / "center-key.pub")
    with pytest.raises(ParcelRefused, match=r"第 6 条.*不是本机的流水"):
        await other.back(receipt)
    assert await other.delivered() == {}


async def test_every_changed_byte_of_a_receipt_is_noticed(trip: Trip) -> None:
    receipt, _ = await trip.book(trip.export())
    whole, rng = receipt.read_bytes(), random.Random(3)
    bad = trip.folder / "bad.tar"
    for at in sorted(rng.sample(range(len(whole)), 1500)):
        raw = bytearray(whole)
        raw[at] ^= 1 << rng.randrange(8)
        bad.write_bytes(raw)
        with pytest.raises(ParcelRefused):
            Parcel.open(bad, trip.center_key, "receipt")


async def test_a_tampered_export_is_booked_in_no_part(trip: Trip) -> None:
    file = trip.export()
    whole = file.read_bytes()
    for at in (100, 600, 3000, len(whole) // 2, len(whole) - 2000, len(whole) - 1):
        raw = bytearray(whole)
        raw[at] ^= 4
        file.write_bytes(raw)
        with pytest.raises(ParcelRefused):
            await trip.book(file)
    assert not trip.db.exists()
    assert not (trip.folder / "receipt.tar").exists()


@pytest.mark.parametrize("lie", ["verdict", "missing", "lane", "number", "early", "late", "high"])
async def test_a_receipt_that_is_signed_and_still_nonsense_changes_nothing(
    trip: Trip, lie: str
) -> None:
    receipt, _ = await trip.book(trip.export())
    honest = Parcel.open(receipt, trip.center_key, "receipt")
    (name,) = [part["name"] for part in honest.manifest["parts"]]
    manifest = {k: v for k, v in honest.manifest.items() if k not in ("format", "parts")}
    written = Writing(trip.folder, name)
    for number, line in enumerate(honest.lines(name)):
        is_last = number == 11
        line = line.replace(b"accepted", b"perhaps") if lie == "verdict" and is_last else line
        written.add(line.replace(b'"id":"G', b'"id":"H') if lie == "lane" and is_last else line)
    parts = [] if lie == "missing" else [(written.done(), written.path)]
    written.close()
    if lie == "number":
        manifest["number"] = "1"
    if lie in ("early", "late"):
        manifest["made_ms"] = -(10**18) if lie == "early" else 10**18
    if lie == "high":
        manifest["lanes"] = [{**lane, "high_water": 2**64 - 1} for lane in manifest["lanes"]]
    signer = Signer.read(trip.folder / "center-key.pem")
    parcels.write(receipt, signer, manifest, parts)
    with pytest.raises(ParcelRefused):
        await trip.back(receipt)
    assert await trip.delivered() == {}


# ---- the command line -------------------------------------------------------------------------


async def commands(*arguments: str) -> int:
    return await asyncio.to_thread(main, list(arguments))


async def test_the_whole_trip_by_commands(trip: Trip, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = str(trip.data), str(trip.folder / "out.tar")
    receipt, db = str(trip.folder / "receipt.tar"), str(trip.db)
    key, center_key = str(trip.data / "keys" / "lane.pub"), str(trip.folder / "center-key.pub")
    assert await commands("journal", "export", data, "--out", out) == 0
    booked = ("center", "import", out, "--db", db, "--key", key, "--out", receipt)
    assert await commands(*booked) == 0
    assert "X03：新收 12 条；连续到第 12 条" in capsys.readouterr().out
    back = ("journal", "import-receipt", data, receipt, "--center-key", center_key)
    assert await commands(*back) == 0
    assert "第 1 号回执已导入：新收 12 条；新落定 12 条" in capsys.readouterr().out
    assert await commands(*back) == 0
    assert "已经导入过，没有改动" in capsys.readouterr().out
    assert await commands(*back[:-1], key) == 1
    assert await commands("journal", "import-receipt", str(trip.folder), *back[3:]) == 1
    assert await trip.delivered() == all_of(12)


async def test_a_running_gateway_is_not_gone_behind(
    trip: Trip, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    receipt, _ = await trip.book(trip.export())
    held = hold(trip.data)
    center_key = str(trip.folder / "center-key.pub")
    back = ("journal", "import-receipt", str(trip.data), str(receipt), "--center-key", center_key)
    assert await commands(*back) == 2
    told = capsys.readouterr().err
    assert "正在这个数据文件夹上运行" in told
    assert "/api/receipts" in told
    assert await commands("journal", "export", str(trip.data), "--out", str(receipt)) == 0
    os.close(held)
    assert await trip.delivered() == {}

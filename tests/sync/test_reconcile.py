"""Both sides say what they hold; where they differ, the record is found and mended or named."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import CenterUnavailable, StoreUnavailable
from gateway.keys import Signer, is_signed
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict
from gateway.sync.outbox import Outbox
from gateway.sync.reconcile import Reconciler
from gateway.tally import Statement, signed_bytes, split
from tests.sync.rig import SAVED_MS, TOKEN, HurriedClock, Truth, center, save
from tests.sync.test_outbox import verdicts

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
COUNT = 300
Tamper = Callable[..., None]


@pytest.fixture
async def clock() -> HurriedClock:
    """Two days after the first record."""
    clock = HurriedClock()
    clock.ahead_ms = SAVED_MS + 2 * DAY_MS - HurriedClock().now_ms()
    return clock


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def reconciler(
    store: Store,
    client: CenterClient,
    outbox: Outbox,
    clock: HurriedClock,
    signer: Signer,
    truth: Truth,
) -> Reconciler:
    key = bytes.fromhex(truth.public_key)
    return Reconciler(store, client, outbox, ["X03"], clock, lambda: signer, lambda: key)


@pytest.fixture
async def a_day(store: Store, outbox: Outbox) -> None:
    """300 records of one shift that is over, all delivered."""
    one = await save(store, 1)
    (row,) = await store.rows("SELECT * FROM record")
    told = json.loads(row["line"])

    def many(db: sqlite3.Connection) -> None:
        for seq in range(2, COUNT + 1):
            own = {**told, "seq": seq, "id": f"{one.id[:-6]}{seq:06d}", "fee": 0}
            own["payFee"] = own["fee"] + own["discountFee"]
            line = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
            values = {
                **dict(row), "seq": seq, "id": own["id"], "passage_id": f"p{seq}", "line": line,
                "saved_ms": SAVED_MS + seq * 1000,
            }  # fmt: skip
            marks = ",".join("?" * len(values))
            db.execute(f"INSERT INTO record VALUES ({marks})", tuple(values.values()))
        db.execute("INSERT INTO shift VALUES (1, 'X03', '1001', 1, 0, 1, NULL)")

    await store.write(many)
    await outbox.drain()


@pytest.fixture
def tamper(tmp_path: Path) -> Tamper:
    """Somebody at the centre's own database."""

    def work(sql: str, *values: Any) -> None:
        with closing(sqlite3.connect(tmp_path / "center.db", timeout=5)) as db:
            assert db.execute(sql, values).rowcount == 1
            db.commit()

    return work


async def findings(store: Store, reconciler: Reconciler, of: str = "shift") -> list[Any]:
    (shown,) = [one for one in await reconciler.shown() if one["of"] == of]
    return [(one["seq"], one["what"]) for one in shown["findings"]]


@pytest.mark.usefixtures("a_day")
async def test_a_shift_and_a_day_agree_and_both_have_signed(
    store: Store, reconciler: Reconciler, truth: Truth
) -> None:
    assert await reconciler.compare_due() == 2
    shift, day = sorted(await reconciler.shown(), key=lambda one: one["of"], reverse=True)
    assert (shift["of"], shift["name"], day["of"], day["name"]) == (
        "shift",
        "1",
        "day",
        "2025-11-21",
    )
    assert (shift["agrees"], day["agrees"], shift["count"]) == (True, True, COUNT)
    theirs = Statement.model_validate(shift["theirs"])
    signature = bytes.fromhex(shift["signature"])
    assert is_signed(bytes.fromhex(truth.public_key), signed_bytes(theirs), signature)
    assert {one["agrees"] for one in (await truth.lane())["reconciled"]} == {True}
    rows = await store.rows("SELECT body FROM journal WHERE event = 'reconciled'")
    assert {json.loads(row["body"])["of"] for row in rows} == {"shift", "day"}
    assert await reconciler.compare_due() == 0  # once


@pytest.mark.usefixtures("a_day")
async def test_a_record_that_the_centre_lost_is_found_and_sent_again(
    store: Store,
    reconciler: Reconciler,
    outbox: Outbox,
    truth: Truth,
    tamper: Tamper,
    clock: HurriedClock,
) -> None:
    """In the middle, where its high water says nothing."""
    tamper("DELETE FROM record WHERE seq = 137")
    assert (await truth.lane())["high_water"] == COUNT
    await reconciler.compare_due()
    assert await findings(store, reconciler) == [(137, "lost")]
    await outbox.drain()
    assert (await truth.lane())["missing"] == 0
    clock.ahead_ms += 120_000
    await reconciler.compare_due()
    assert all(one["agrees"] for one in await reconciler.shown())


@pytest.mark.usefixtures("a_day")
@pytest.mark.parametrize(("cut_at", "rows"), [("log", 0), ("owe_lost", 1), ("write", 1)])
async def test_a_cut_sends_nothing_without_its_row_and_the_next_life_compares_again(
    store: Store,
    reconciler: Reconciler,
    outbox: Outbox,
    truth: Truth,
    tamper: Tamper,
    monkeypatch: pytest.MonkeyPatch,
    cut_at: str,
    rows: int,
) -> None:
    async def cut(*_: Any) -> None:
        raise StoreUnavailable("断电")

    tamper("DELETE FROM record WHERE seq = 137")
    with monkeypatch.context() as patch:
        patch.setattr(outbox if cut_at == "owe_lost" else store, cut_at, cut)
        with pytest.raises(StoreUnavailable):
            await reconciler.compare_due()
    told = await store.rows("SELECT 1 FROM journal WHERE event = 'reconcile_differs'")
    assert len(told) == rows
    assert len(await verdicts(store)) == COUNT
    assert await reconciler.shown() == []
    await reconciler.compare_due()
    assert await findings(store, reconciler) == [(137, "lost")]
    await outbox.drain()
    assert (await truth.lane())["missing"] == 0


@pytest.mark.usefixtures("a_day")
async def test_a_record_that_was_altered_at_the_centre_is_named_and_nothing_is_overwritten(
    store: Store, reconciler: Reconciler, outbox: Outbox, truth: Truth, tamper: Tamper
) -> None:
    tamper("UPDATE record SET line = CAST(replace(line, '3610', '3611') AS BLOB) WHERE seq = 1")
    await reconciler.compare_due()
    assert await findings(store, reconciler) == [(1, "altered")]
    (shift,) = [one for one in await reconciler.shown() if one["of"] == "shift"]
    assert not shift["agrees"]
    assert shift["theirs"]["sum_fen"] == shift["ours"]["sum_fen"] + 1
    assert len(await verdicts(store)) == COUNT
    row, *_ = await store.rows("SELECT body FROM journal WHERE event = 'reconcile_differs'")
    assert json.loads(row["body"])["findings"] == [{"seq": 1, "what": "altered"}]
    assert not [o for o in (await truth.lane())["reconciled"] if o["agrees"]]


async def test_a_record_too_many_is_named(
    store: Store, reconciler: Reconciler, outbox: Outbox, tamper: Tamper
) -> None:
    """In a slot that this box has left out (a lane that was raised)."""
    for seq in (1, 2, 4):
        await save(store, seq)
    await store.write(
        lambda db: db.execute("INSERT INTO shift VALUES (1, 'X03', '', 1, 0, 1, NULL)").rowcount
    )
    await outbox.drain()
    tamper(
        "INSERT INTO record (lane, seq, id, is_stub, line, received_ms)"
        " SELECT lane, 3, 'another', 0, line, 0 FROM record WHERE seq = 2"
    )
    await reconciler.compare_due()
    assert await findings(store, reconciler) == [(3, "extra")]


@pytest.mark.usefixtures("a_day")
async def test_a_stub_where_we_delivered_the_whole_is_mended(
    store: Store, reconciler: Reconciler, outbox: Outbox, truth: Truth, tamper: Tamper
) -> None:
    tamper("UPDATE record SET is_stub = 1, line = CAST('{}' AS BLOB) WHERE seq = 7")
    await reconciler.compare_due()
    assert await findings(store, reconciler) == [(7, "lost")]
    await outbox.drain()
    assert (await truth.lane())["stubs"] == 0


async def test_a_photo_that_the_centre_lost_is_owed_again(
    store: Store, reconciler: Reconciler, outbox: Outbox
) -> None:
    """Its record is there: only the comparison can tell."""
    photo = "ab" * 32
    await save(store, 1, photo=photo)

    def work(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO evidence_delivery VALUES (?, 0)", (photo,))
        db.execute("INSERT INTO shift VALUES (1, 'X03', '', 1, 0, 1, NULL)")

    await store.write(work)
    await outbox.drain()
    await reconciler.compare_due()
    assert (await reconciler.shown())[0]["agrees"]
    assert not await store.rows("SELECT 1 FROM evidence_delivery")


async def test_what_is_still_owed_is_not_compared(
    store: Store, reconciler: Reconciler, outbox: Outbox
) -> None:
    await save(store, 1)
    assert await reconciler.compare_due() == 0
    await outbox.drain()
    assert await reconciler.compare_due() == 1  # the day; its shift is open


async def test_a_refused_record_is_a_stub_on_both_sides(
    store: Store, reconciler: Reconciler, outbox: Outbox
) -> None:
    await save(store, 1)
    await save(store, 2, card_id="not-a-card")
    await outbox.drain()
    await reconciler.compare_due()
    (day,) = await reconciler.shown()
    assert (day["agrees"], day["ours"]["stubs"], day["count"]) == (True, 1, 2)


@pytest.mark.usefixtures("a_day")
async def test_an_answer_that_another_signed_is_not_believed(
    store: Store, reconciler: Reconciler
) -> None:
    other = bytes.fromhex(Signer(Ed25519PrivateKey.generate()).public_hex)
    reconciler._center_key = lambda: other
    with pytest.raises(CenterUnavailable):
        await reconciler.compare_due()
    assert await reconciler.shown() == []


async def test_a_statement_that_was_changed_on_the_way_is_refused(
    store: Store, reconciler: Reconciler, client: CenterClient, outbox: Outbox, monkeypatch: Any
) -> None:
    await save(store, 1)
    await outbox.drain()
    real = client.reconcile

    async def changed(body: dict[str, Any]) -> Any:
        body["statement"]["sum_fen"] += 1
        return await real(body)

    monkeypatch.setattr(client, "reconcile", changed)
    with pytest.raises(CenterUnavailable):
        await reconciler.compare_due()


async def test_an_older_centre_is_asked_in_vain_and_nothing_is_kept(
    store: Store, outbox: Outbox, clock: HurriedClock, signer: Signer, tmp_path: Path
) -> None:
    async with center(tmp_path / "c.db") as truth, CenterClient(truth.url, TOKEN, clock) as client:

        async def none(_: Any) -> None:
            return None

        client.reconcile = none  # type: ignore[method-assign, assignment]
        one = Reconciler(store, client, outbox, ["X03"], clock, lambda: signer, lambda: None)
        await save(store, 1)
        await Outbox(store, client, ["X03"], clock).drain()
        assert await one.compare_due() == 0
        assert await one.shown() == []


def test_a_range_is_split_without_gap_or_overlap() -> None:
    for last in (1, 2, 15, 16, 17, 300):
        parts = split(1, last, 16)
        assert [seq for a, b in parts for seq in range(a, b + 1)] == list(range(1, last + 1))
        assert len(parts) <= 16


async def test_a_statement_that_gets_no_answer_holds_up_neither_later_ones_nor_other_lanes(
    store: Store,
    reconciler: Reconciler,
    client: CenterClient,
    outbox: Outbox,
    clock: HurriedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes, a_day_later = ("X03", "X04"), "UPDATE record SET saved_ms = ? WHERE seq = 2"
    for lane in lanes:
        await save(store, 1, lane=lane)
        await save(store, 2, lane=lane)
    await store.write(lambda db: db.execute(a_day_later, (SAVED_MS + DAY_MS,)).rowcount)
    await outbox.drain()
    clock.ahead_ms += DAY_MS
    reconciler.lanes = list(lanes)
    real, is_ill = client.reconcile, True
    asked = list[tuple[str, str]]()

    async def choosy(body: dict[str, Any]) -> Any:
        told = body["statement"]["lane"], body["statement"]["name"]
        asked.append(told)
        if is_ill and told == ("X03", "2025-11-21"):
            raise NotAVerdict("中心回答 413，稍后再试")
        return await real(body)

    monkeypatch.setattr(client, "reconcile", choosy)
    for _ in range(2):
        with suppress(NotAVerdict):
            await reconciler.compare_due()
    days = [(lane, day) for lane in lanes for day in ("2025-11-21", "2025-11-22")]
    assert asked == days, "each once: the one without an answer waits"
    assert len(await reconciler.shown()) == 3

    is_ill = False
    clock.ahead_ms += HOUR_MS
    assert await reconciler.compare_due() == 1
    assert [one["agrees"] for one in await reconciler.shown()] == [True] * 4
    clock.ahead_ms += HOUR_MS
    assert await reconciler.compare_due() == 0


@pytest.mark.usefixtures("a_day")
@pytest.mark.parametrize("what", ["no record explains it", "sending did not mend it"])
async def test_what_sending_does_not_mend_is_not_compared_every_minute(
    store: Store,
    reconciler: Reconciler,
    client: CenterClient,
    outbox: Outbox,
    clock: HurriedClock,
    tamper: Tamper,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    real, asked = client.reconcile, list[str]()

    async def odd(body: dict[str, Any]) -> Any:
        asked.append(body["statement"]["of"])
        told = await real(body)
        assert told is not None
        if what == "no record explains it":
            ours = told.ours.model_copy(update={"sum_fen": told.ours.sum_fen + 1})
            return told.model_copy(update={"ours": ours})
        return told

    reconciler._center_key = lambda: None
    monkeypatch.setattr(client, "reconcile", odd)
    for _ in range(4):
        if what == "sending did not mend it":
            with suppress(AssertionError):  # not sent again: it was not asked for
                tamper("DELETE FROM record WHERE seq = 137")
        await reconciler.compare_due()
        await outbox.drain()
        clock.ahead_ms += 120_000
    assert Counter(asked) == {"shift": 2, "day": 2}
    (mark,) = await store.rows("SELECT value FROM sync_mark WHERE name LIKE 'reconciled-days:%'")
    assert json.loads(mark["value"]) == {"last_seq": COUNT}, "later days have their turn"

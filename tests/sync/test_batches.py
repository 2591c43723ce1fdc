import gzip
import hashlib
import json

import pytest

from gateway.errors import NotFound
from gateway.store import Store
from gateway.sync.batches import NO_BATCH, SEAL_BYTES, Batches
from gateway.sync.holdings import Holdings
from gateway.sync.outbox import Outbox
from tests.sync.rig import HurriedClock, Truth, save


@pytest.fixture
def batches(store: Store, clock: HurriedClock) -> Batches:
    return Batches(store, ["X03", "X04"], clock, seal_count=3)


def verdicts(records: list[dict[str, object]], word: str = "accepted") -> list[dict[str, object]]:
    return [{"id": r["id"], "seq": r["seq"], "verdict": word} for r in records]


async def lines(batches: Batches, batch: int) -> list[dict[str, object]]:
    text = gzip.decompress(await batches.body(batch)).decode()
    return [json.loads(line) for line in text.splitlines()]


async def test_a_batch_is_sealed_when_full_and_its_bytes_never_change(
    store: Store, batches: Batches
) -> None:
    for seq in range(1, 5):
        await save(store, seq, fee=1000 + seq)
    await batches.seal_due()
    manifest, rest = await batches.manifests(0, 100)
    assert (manifest["first_seq"], manifest["last_seq"], manifest["count"]) == (1, 3, 3)
    assert manifest["sum_fen"] == 1001 + 1002 + 1003
    assert manifest["prev_sha256"] == NO_BATCH
    assert rest["prev_sha256"] == manifest["sha256"]

    first = await batches.body(manifest["batch"])
    assert hashlib.sha256(first).hexdigest() == manifest["sha256"]
    await save(store, 5)
    await batches.seal_due()
    assert await batches.body(manifest["batch"]) == first
    rows = await store.rows("SELECT line FROM record WHERE seq <= 3 ORDER BY seq")
    assert gzip.decompress(first).decode() == "".join(f"{row['line']}\n" for row in rows)


async def test_a_young_record_waits_for_company_and_an_old_one_does_not(
    store: Store, clock: HurriedClock
) -> None:
    patient = Batches(store, ["X03"], clock, seal_count=3, seal_age_s=10**9)
    await save(store, 1)
    await patient.seal_due()
    assert await patient.manifests(0, 10) == []
    await Batches(store, ["X03"], clock, seal_count=3).seal_due()
    assert len(await patient.manifests(0, 10)) == 1


async def test_a_clock_set_back_does_not_keep_records_from_being_sealed(
    store: Store, clock: HurriedClock, batches: Batches
) -> None:
    clock.ahead_ms = -40 * 365 * 86_400_000
    await save(store, 1)
    await batches.seal_due()
    assert len(await batches.manifests(0, 10)) == 1


async def test_long_records_make_short_batches(store: Store, clock: HurriedClock) -> None:
    batches = Batches(store, ["X03"], clock)
    for seq in range(1, 4):
        await save(store, seq, description="长" * (SEAL_BYTES // 8))
    await batches.seal_due()
    assert [m["count"] for m in await batches.manifests(0, 10)] == [2, 1]


async def test_each_record_is_in_exactly_one_batch_of_its_lane(
    store: Store, batches: Batches
) -> None:
    for seq in range(1, 8):
        await save(store, seq)
        await save(store, seq, lane="X04")
        await batches.seal_due()
    seen = [
        (manifest["lane"], line["seq"])
        for manifest in await batches.manifests(0, 100)
        for line in await lines(batches, manifest["batch"])
    ]
    assert sorted(seen) == [(lane, seq) for lane in ("X03", "X04") for seq in range(1, 8)]


async def test_two_consumers_have_their_own_cursors(store: Store, batches: Batches) -> None:
    for seq in range(1, 7):
        await save(store, seq)
    await batches.seal_due()
    first, second = (m["batch"] for m in await batches.manifests(0, 10))
    settled = await batches.settle("province", first, verdicts(await lines(batches, first)))
    assert settled == {"batch": first, "cursor": first, "settled": 3, "retry": 0}
    assert await batches.cursor("province") == first
    assert await batches.cursor("section") == 0
    again = await batches.settle("province", first, verdicts(await lines(batches, first)))
    assert again["cursor"] == first
    await batches.settle("province", second, verdicts(await lines(batches, second)))
    assert await batches.cursor("province") == second
    assert len(await batches.manifests(0, 10)) == 2  # nothing is deleted


async def test_a_cursor_never_jumps_over_a_batch_or_a_retry(store: Store, batches: Batches) -> None:
    for seq in range(1, 7):
        await save(store, seq)
    await batches.seal_due()
    first, second = (m["batch"] for m in await batches.manifests(0, 10))
    assert (await batches.settle("c", second, verdicts(await lines(batches, second))))[
        "cursor"
    ] == 0
    partly = verdicts(await lines(batches, first))[:2]
    assert await batches.settle("c", first, partly) == {
        "batch": first,
        "cursor": 0,
        "settled": 2,
        "retry": 1,
    }
    with pytest.raises(NotFound):
        await batches.settle("c", 99, [])


async def test_pulled_and_accepted_is_not_pushed_again(
    store: Store, batches: Batches, outbox: Outbox, truth: Truth
) -> None:
    for seq in range(1, 4):
        await save(store, seq)
    await batches.seal_due()
    (manifest,) = await batches.manifests(0, 10)
    await batches.settle("province", manifest["batch"], verdicts(await lines(batches, 1)))
    await outbox.drain()
    assert await truth.seqs() == []
    assert outbox.state()["unsent"] == 0
    await outbox.heard("X03", 0, outbox.marks("X03"))  # it never pushed them: no loss
    await outbox.drain()
    assert await truth.seqs() == []


async def test_a_centre_that_never_got_the_pulled_ones_has_not_lost_the_pushed_ones(
    store: Store, batches: Batches, outbox: Outbox, truth: Truth
) -> None:
    """Its high water stands below the pulled ones for ever; that is no loss."""
    for seq in range(1, 4):
        await save(store, seq)
    await batches.seal_due()
    await batches.settle("province", 1, verdicts(await lines(batches, 1)))
    await save(store, 4)
    await outbox.drain()
    assert (await truth.lane())["high_water"] == 0
    await outbox.heard("X03", 0, outbox.marks("X03"))
    await outbox.refresh()
    assert outbox.state()["unsent"] == 0


async def test_pushed_and_accepted_is_shown_to_pullers_as_delivered(
    store: Store, batches: Batches, outbox: Outbox
) -> None:
    for seq in range(1, 4):
        await save(store, seq)
    await batches.seal_due()
    assert (await batches.manifests(0, 10))[0]["delivered"] == 0
    await outbox.drain()
    assert (await batches.manifests(0, 10))[0]["delivered"] == 3


async def test_a_consumers_refusal_parks_the_record_and_never_undoes_a_delivery(
    store: Store, batches: Batches, outbox: Outbox, truth: Truth
) -> None:
    await save(store, 1)
    await outbox.drain()
    await save(store, 2)
    await batches.seal_due()
    (manifest,) = await batches.manifests(0, 10)
    said = verdicts(await lines(batches, 1), "refused")
    await batches.settle("province", manifest["batch"], [{**v, "reason": "不认"} for v in said])
    rows = await store.rows("SELECT seq, verdict, via FROM delivery ORDER BY seq")
    assert [tuple(row) for row in rows] == [(1, "accepted", "push"), (2, "refused", "province")]
    assert [row["reason"] for row in await outbox.parked()] == ["不认"]
    await outbox.drain()
    assert (await truth.lane())["high_water"] == 2  # its stub


async def test_holdings_and_digest_tell_what_is_there(store: Store, outbox: Outbox) -> None:
    await save(store, 1, shift_id=7)
    await save(store, 2, shift_id=7, card_id="bad")
    await save(store, 3, shift_id=7, means="cash", outcome="by_hand", fee=500)
    await outbox.drain()
    await save(store, 4, shift_id=8)
    holdings = Holdings(store, ["X03"])
    held = await holdings.lane("X03")
    assert (held["first_seq"], held["last_seq"], held["unsent"]) == (1, 4, 1)
    assert [row["seq"] for row in held["parked"]] == [2]

    digest = await holdings.digest(7)
    (lane,) = digest["lanes"]
    assert (lane["first_seq"], lane["last_seq"], lane["count"]) == (1, 3, 3)
    assert lane["sum_fen"] == 3610 * 2 + 500
    assert {(p["kind"], p["means"]): p["sum_fen"] for p in lane["parts"]} == {
        ("paid", "etc_card"): 7220,
        ("by_hand", "cash"): 500,
    }
    assert lane["chain_head"] == f"{3:064x}"
    assert digest == await holdings.digest(7)
    with pytest.raises(NotFound):
        await holdings.digest(99)


async def test_a_batch_that_is_judged_in_several_calls_moves_the_cursor(
    store: Store, batches: Batches
) -> None:
    for seq in range(1, 4):
        await save(store, seq)
    await batches.seal_due()
    said = verdicts(await lines(batches, 1))
    left = [(await batches.settle("c", 1, part))["retry"] for part in (said[:1], said[:1])]
    assert left == [2, 2]
    assert await batches.settle("c", 1, said[1:]) == {
        "batch": 1,
        "cursor": 1,
        "settled": 3,
        "retry": 0,
    }
    assert await batches.cursor("another") == 0
    assert await store.rows("SELECT 1 FROM judged") == []


async def test_the_cursor_moves_over_every_batch_that_was_judged_before_its_turn(
    store: Store, batches: Batches
) -> None:
    for seq in range(1, 16):
        await save(store, seq)
    await batches.seal_due()
    cursors = []
    for batch in (1, 5, 3, 4, 2):
        said = verdicts(await lines(batches, batch))
        cursors.append((await batches.settle("c", batch, said))["cursor"])
        rows = await store.rows("SELECT batch, seq FROM judged ORDER BY batch")
        assert all(row["seq"] == 0 and row["batch"] > cursors[-1] for row in rows), "one a batch"
    assert cursors == [1, 1, 1, 1, 5]
    assert await store.rows("SELECT 1 FROM judged") == []
    assert (await batches.settle("c", 3, []))["cursor"] == 5


async def test_a_reason_of_any_length_is_kept_short(store: Store, batches: Batches) -> None:
    await save(store, 1)
    await batches.seal_due()
    said = verdicts(await lines(batches, 1), "refused")
    await batches.settle("c", 1, [{**one, "reason": "长" * 100_000} for one in said])
    (row,) = await store.rows("SELECT length(reason) AS n FROM delivery")
    assert row["n"] == 500

"""A record has one id and one wording for ever: pushed, repeated, pulled, exported, rebuilt."""

import gzip
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.errors import CenterUnavailable
from gateway.export import export
from gateway.keys import of_box
from gateway.parcel import Parcel
from gateway.store import Store
from gateway.sync.batches import Batches
from gateway.sync.center import CenterClient, Line, Verdicts
from gateway.sync.holdings import Holdings
from gateway.sync.outbox import Outbox
from tests.rig.filled import fill, filled
from tests.sync.rig import TOKEN, HurriedClock, Truth, center


class Listened(CenterClient):
    """Notes what it was given to send."""

    sent: dict[int, set[tuple[str, str]]]
    tries: int

    async def submit(self, lane: str, lines: Sequence[Line]) -> Verdicts:
        self.tries += 1
        for line in lines:
            self.sent[line.seq].add((line.id, line.raw.decode()))
        return await super().submit(lane, lines)


async def bad_days(data: Path, truth: Truth, client: Listened, clock: HurriedClock) -> None:
    """Every way in which a sending fails, with a restart of the box after each."""
    for fault in ("down", "busy", "html", "garbage", "denied", "lost_answer", "retry"):
        store = await Store.open(data / "lane.db")
        await fill(store, 2)
        await truth.fault(fault, seconds=0)
        with suppress(CenterUnavailable):
            await Outbox(store, client, ["X03"], clock).drain()
        await store.close()
    await truth.fault("none")


async def test_a_record_never_changes_its_id_or_a_byte(tmp_path: Path, clock: HurriedClock) -> None:
    data = tmp_path / "data"
    await filled(data, {"X03": 3})
    async with center(tmp_path / "center.db") as truth, Listened(truth.url, TOKEN, clock) as client:
        client.sent, client.tries = defaultdict(set), 0
        await bad_days(data, truth, client, clock)
        store = await Store.open(data / "lane.db")
        await Outbox(store, client, ["X03"], clock).drain()
        held = {row["seq"]: row["id"] for row in await truth.rows()}
    assert client.tries > 10
    assert {len(sent) for sent in client.sent.values()} == {1}
    pushed = {seq: next(iter(sent)) for seq, sent in client.sent.items()}
    assert held == {seq: record_id for seq, (record_id, _) in pushed.items()}
    texts = [text for _, (_, text) in sorted(pushed.items())]
    assert len(texts) == 17

    batches = Batches(store, ["X03"], clock, seal_age_s=0)
    await batches.seal_due()
    pulled = b"".join(
        [gzip.decompress(await batches.body(m["batch"])) for m in await batches.manifests(0, 99)]
    )
    assert pulled.decode().splitlines() == texts
    lines = await Holdings(store, ["X03"]).lines("X03", 1, 99)
    assert [text for _, text in lines] == texts
    await store.close()

    export(data, tmp_path / "out.tar")
    parcel = Parcel.open(tmp_path / "out.tar", bytes.fromhex(of_box(data).public_hex), "export")
    assert [line.decode() for line in parcel.lines("records-X03.ndjson")] == texts

    (data / "lane.db").unlink()  # and rebuilt from the log
    store = await Store.open(data / "lane.db")
    lines = await Holdings(store, ["X03"]).lines("X03", 1, 99)
    assert [text for _, text in lines] == texts
    await store.close()

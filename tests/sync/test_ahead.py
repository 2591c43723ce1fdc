"""While one body is on its way the next one is made, and no more than one."""

import pytest

from gateway.errors import StoreUnavailable
from gateway.store import Store
from gateway.sync.center import Line, Packed, Verdict, Verdicts
from gateway.sync.outbox import Outbox
from tests.sync.rig import HurriedClock, save, until
from tests.sync.test_live import Obedient
from tests.sync.test_outbox import verdicts


class Watched(Obedient):
    """Answers once it has seen what was done meanwhile."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store, self.outbox = store, Outbox
        self.stored: list[set[int]] = []

    async def submit(self, lane: str, lines: list[Line]) -> Verdicts:
        assert isinstance(lines, Packed)
        is_last = lines[-1].seq == 6
        await until(lambda: self._has_looked_ahead(is_last))
        self.stored.append(set(await verdicts(self.store)))
        return await super().submit(lane, lines)

    async def _has_looked_ahead(self, is_last: bool) -> bool:
        assert isinstance(self.outbox, Outbox)
        held = len(await verdicts(self.store))
        is_ready = self.outbox._routes["X03"].ready is not None
        return held == sum(map(len, self.sent)) and (is_last or is_ready)


async def test_the_next_body_is_made_and_the_last_verdicts_are_stored_meanwhile(
    store: Store, clock: HurriedClock
) -> None:
    center = Watched(store)
    center.outbox = Outbox(store, center, ["X03"], clock)
    route = center.outbox._routes["X03"]
    route.pace.lines_max = 2
    route.pace.took = lambda *_: None
    for seq in range(1, 7):
        await save(store, seq)
    await center.outbox.drain()
    assert center.sent == [[1, 2], [3, 4], [5, 6]]
    assert center.stored == [set(), {1, 2}, {1, 2, 3, 4}]
    assert set(await verdicts(store)) == {1, 2, 3, 4, 5, 6}
    assert (route.ready, route.floor) == (None, 6)


async def test_verdicts_that_the_disk_did_not_take_are_asked_for_again(
    store: Store, clock: HurriedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    center = Obedient()
    outbox = Outbox(store, center, ["X03"], clock)  # type: ignore[arg-type]
    route = outbox._routes["X03"]
    route.pace.lines_max = 2
    route.pace.took = lambda *_: None  # type: ignore[method-assign]
    for seq in range(1, 7):
        await save(store, seq)
    real, calls = outbox._ledger.settle, 0

    async def settle(*given: object) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnavailable("磁盘已满")
        return await real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox._ledger, "settle", settle)
    with pytest.raises(StoreUnavailable):
        await outbox.drain()
    assert set(await verdicts(store)) == {1, 2}
    await outbox.drain()
    assert set(await verdicts(store)) == {1, 2, 3, 4, 5, 6}
    assert route.debt.unsent == 0


async def test_a_probe_drops_what_was_made_ahead(store: Store, clock: HurriedClock) -> None:
    """Somebody else found the line dead while a body was on its way."""
    center = Obedient()
    outbox = Outbox(store, center, ["X03"], clock)  # type: ignore[arg-type]
    route = outbox._routes["X03"]
    route.pace.lines_max = 2
    route.pace.took = lambda *_: None  # type: ignore[method-assign]
    for seq in range(1, 7):
        await save(store, seq)

    async def dies_once() -> None:
        center.is_online = len(center.sent) != 1

    center.meanwhile = dies_once
    await outbox.drain()
    assert center.sent == [[1, 2], [3], [4, 5], [6]]


async def test_what_is_put_off_and_what_comes_after_it_are_told_apart(
    store: Store, clock: HurriedClock
) -> None:
    class Halting(Obedient):
        async def submit(self, lane: str, lines: list[Line]) -> Verdicts:
            self.sent.append([line.seq for line in lines])
            word = "retry" if self.sent[-1] == [3, 4] and len(self.sent) < 4 else "accepted"
            return Verdicts(tuple(Verdict(x.seq, x.id, word) for x in lines), None)  # type: ignore[arg-type]

    center = Halting()
    outbox = Outbox(store, center, ["X03"], clock)  # type: ignore[arg-type]
    route = outbox._routes["X03"]
    route.pace.lines_max = 2
    route.pace.took = lambda *_: None  # type: ignore[method-assign]
    for seq in range(1, 7):
        await save(store, seq)
    assert await outbox.drain()
    assert set(await verdicts(store)) == {1, 2, 5, 6}
    assert (route.floor, route.put_off, outbox.has_money_to_send) == (2, 2, False)
    assert not await outbox.drain()
    assert center.sent == [[1, 2], [3, 4], [5, 6], [3, 4]]
    assert set(await verdicts(store)) == {1, 2, 3, 4, 5, 6}

"""Lane, card, disk, clock and centre driven together by chance, held against a ten-line model.

`python -m pytest tests/flow/test_machine.py --hypothesis-seed=N` tells one story again.
"""

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.devices.sim.card import SimUserCard
from gateway.errors import CenterUnavailable, GatewayError, StoreUnavailable
from gateway.spool import segment
from gateway.sync.center import Line, Verdict, Verdicts
from gateway.sync.outbox import Outbox
from tests.flow.rig import ENTRY_HEX, Box, HeldClock, Plug, PlugPulled, World, damage, entry
from tests.flow.tears import KINDS

T = TypeVar("T")
PRESSES: dict[str, dict[str, Any]] = {
    "read": {},
    "submit_plate": {"plate": "甘A12345", "colour": 0, "source": "lpr"},
    "classify": {"vehicle_type": 1, "vehicle_class": 0},
    "quote": {},
    "confirm_entry": {"station_hex": ENTRY_HEX},
    "minimum_fare": {"operator": "9001", "password": "9001"},
    "save": {},
    "prove": {},
    "suspend": {},
    "cancel": {"reason": "掉头"},
    "hand_over": {"reason": "司机收起了卡"},
    "settle_by_hand": {"means": "cash", "amount_fen": 500, "reason": "付现金",
                       "operator": "9001", "password": "9001"},
}  # fmt: skip
ONWARD = (
    "prove",
    "settle_by_hand",
    "save",
    "minimum_fare",
    "confirm_entry",
    "quote",
    "classify",
    "submit_plate",
    "read",
    "cancel",
)
STEPS_MAX = 40
DAY_MS = 86_400_000
seen: Counter[str] = Counter()
"""How often what happened, over all stories."""


class JumpingClock(HeldClock):
    """Its wall clock may be set; its monotonic one never notices."""

    offset_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_ms


class MoodyCentre:
    """Takes records for ever once; loses lines and answers as told."""

    is_online = True

    def __init__(self) -> None:
        self.mood = "well"
        self.held: dict[str, str] = {}
        self.complaints: list[str] = []

    def is_taken(self, lane: str) -> bool:
        return self.is_online

    async def submit(self, lane: str, lines: Sequence[Line]) -> Verdicts:
        if self.mood == "down":
            raise CenterUnavailable("没有网络")
        verdicts = tuple(self._judge(line) for line in lines)
        if self.mood == "mute":  # it took them, and its answer is lost
            raise CenterUnavailable("没有应答")
        return Verdicts(verdicts, high_water=None)

    def _judge(self, line: Line) -> Verdict:
        digest = hashlib.sha256(line.raw).hexdigest()
        if self.held.setdefault(line.id, digest) != digest:
            self.complaints.append(f"{line.id} was sent with other bytes than before")
        return Verdict(line.seq, line.id, "accepted")


class Booth(RuleBasedStateMachine):
    """What may happen at a booth, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.centre = MoodyCentre()
        self.cards: list[SimUserCard] = []
        self.box: Box | None = None
        # The model: what was promised, by whom to whom.
        self.told: dict[str, tuple[int, str]] = {}
        """Record id → (seq, chain) as the screen showed it."""
        self.rev = 0
        """The newest journal number that anybody saw."""
        self.refusal = ""
        self.refused: set[tuple[int, str]] = set()
        """(that number, command): what people do not press again before something has changed."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # ---- the world ----

    @initialize(kind=st.sampled_from(sorted(KINDS)))
    def opens(self, kind: str) -> None:
        self.world = World(card=self._card(kind), clock=JumpingClock(), plug=Plug())
        self.power_on()

    @rule(kind=st.sampled_from(sorted(KINDS)))
    def another_vehicle(self, kind: str) -> None:
        if self.box and self.box.lane.passage.state.value in ("idle", "saved"):
            self.world.card = self._card(kind)
            self.world.reader.insert(self.world.card)

    @rule(fault=st.sampled_from(("pulled_before", "pulled_after", "mute")), at=st.integers(1, 9))
    def the_card_will_be_torn_out(self, fault: str, at: int) -> None:
        self.world.reader.arm(fault, at)

    @rule(is_stranger=st.booleans())
    def a_card_is_laid_down(self, is_stranger: bool) -> None:
        if self.world.reader.chip is None or is_stranger:
            card = self._card("stored-3des") if is_stranger else self.world.card
            self.world.reader.insert(card)

    @rule(by_ms=st.sampled_from((-(10**12), -3_600_000, -60_000, 60_000, 3_600_000, 10**11)))
    def the_clock_jumps(self, by_ms: int) -> None:
        clock = self.world.clock  # the box's own keeper of time lets none be before 1970
        clock.offset_ms = max(clock.offset_ms + by_ms, -clock.ms + DAY_MS)

    @rule(mood=st.sampled_from(("well", "down", "mute")))
    def the_centre_is(self, mood: str) -> None:
        self.centre.mood = mood

    # ---- the box ----

    @rule(at=st.integers(1, 40), after=st.booleans())
    def the_plug_will_be_pulled(self, at: int, after: bool) -> None:
        plug = self.world.plug
        plug.at, plug.after = plug.touched + at, after

    @rule(is_full=st.booleans())
    def the_disk_is_full(self, is_full: bool) -> None:
        if self.box:
            self.box.store.pretend_full(is_full)

    @precondition(lambda self: self.box)
    @rule(is_cut=st.booleans(), seed=st.integers(0, 1 << 30), harm=st.sampled_from(
        ("none", "none", "tables", "wal gone", "tables gone", "log tail")))  # fmt: skip
    def power_is_cut_and_a_file_suffers(self, is_cut: bool, seed: int, harm: str) -> None:
        self._off(is_cut=is_cut)
        _harm(self.folder, "none" if is_cut else harm, Random(seed))
        self.power_on()

    @rule()
    def power_on(self) -> None:
        if self.box is None:
            self.world.plug.at = self.world.plug.at if self.world.plug.at else 0
            try:
                self.box = self.run(Box.power_on(self.world, self.folder))
            except PlugPulled:
                self.world.plug.at = 0
            else:
                seen["made anew"] += len(self.box.store.repairs)
                self._see()

    @precondition(lambda self: self.box)
    @rule(command=st.sampled_from(sorted(PRESSES)))
    def somebody_presses(self, command: str) -> None:
        if command in self.box.lane.snapshot()["allowed"]:
            self._press(command)

    @precondition(lambda self: self.box)
    @rule(times=st.integers(1, 8))
    def the_collector_goes_on(self, times: int) -> None:
        for _ in range(times):
            if self.box is None or self._onward() is None:
                return

    @precondition(lambda self: self.box)
    @rule()
    def a_suspended_one_comes_back(self) -> None:
        aside = list(self.box.lane.suspended)
        if aside and "resume" in self.box.lane.snapshot()["allowed"]:
            self._press("resume", passage=aside[0])

    @precondition(lambda self: self.box)
    @rule()
    def the_outbox_looks(self) -> None:
        self._guard(self._drain())

    # ---- what must always hold ----

    @invariant()
    def no_card_pays_twice(self) -> None:
        for card in self.cards:
            start = card.balance + sum(debit.amount_fen for debit in card.ledger)
            assert start == self.starts[card.info.card_id], "a purse does not add up"
            assert len([d for d in card.ledger if d.amount_fen]) <= self.passages_of(card)

    @invariant()
    def nothing_told_is_forgotten(self) -> None:
        if not self.box:
            return
        rows = {row[0]: (row[1], row[2]) for row in self._rows("SELECT id, seq, chain FROM record")}
        for record_id, shown in self.told.items():
            assert rows.get(record_id) == shown, "a record that was shown is not there"
        seqs = sorted(seq for seq, _ in rows.values())
        assert seqs == list(range(1, len(seqs) + 1)), "a hole among the records"
        assert self.box.lane.rev >= self.rev, "the journal is shorter than somebody saw"
        assert set(self.centre.held) <= set(rows), "the centre has what the box has not"
        assert not self.centre.complaints

    def teardown(self) -> None:
        """Faults end: everything is brought to its end, arrives once, and a fresh car passes."""
        if not hasattr(self, "world"):
            return
        self.world.plug.at, self.centre.mood, self.world.clock.offset_ms = 0, "well", 0
        self.world.reader.disarm()
        self.power_on()
        self.box.store.pretend_full(False)
        self._bring_all_to_an_end()
        self._a_fresh_car_passes()
        self.run(self._drain())
        self._money_is_right()
        self._off(is_cut=False)
        assert damage(self.folder) == []
        self.loop.close()
        shutil.rmtree(self.folder)

    # ---- inside ----

    @property
    def starts(self) -> dict[str, int]:
        return self.__dict__.setdefault("_starts", {})

    def passages_of(self, card: SimUserCard) -> int:
        return self.__dict__.setdefault("_reads", {}).get(card.info.card_id, 0)

    def _card(self, kind: str) -> SimUserCard:
        card_kind, algorithm, purse = KINDS[kind]
        number = f"{2045220000000001 + len(self.cards):016d}"
        card = SimUserCard.issue(card_kind=card_kind, algorithm=algorithm, balance_fen=purse,
                                 card_number=number, entry=entry())  # fmt: skip
        self.cards.append(card)
        self.starts[card.info.card_id] = purse
        return card

    def _press(self, command: str, **body: Any) -> None:
        if command == "read" and self.world.reader.chip is not None:
            reads = self.__dict__.setdefault("_reads", {})
            number = self.world.reader.chip.info.card_id
            reads[number] = reads.get(number, 0) + 1
        self._guard(self.box.do(command, **PRESSES.get(command, body)), command)
        self._see()

    def _onward(self) -> str | None:
        lane = self.box.lane
        allowed = lane.snapshot()["allowed"]
        if lane.passage.state.value == "saved" or not allowed:
            return None
        sensible = [c for c in ONWARD if c in allowed and not _is_dead_end(c, lane)]
        command = next((c for c in sensible if (self.rev, c) not in self.refused), None)
        if command:
            self._press(command)
        return command

    def _guard(self, work: Coroutine[Any, Any, Any], command: str = "") -> None:
        try:
            self.run(work)
        except GatewayError as no:
            self.refusal = f"{no.code} {no.detail}"
            if not isinstance(no, StoreUnavailable):  # a fare without an entry, say
                self.refused.add((self.rev, command))
            seen["refused by the disk"] += isinstance(no, StoreUnavailable)
            _has_words(no)
        except PlugPulled:
            seen["cuts"] += 1
            self.world.plug.at = 0
            self._off(is_cut=True)

    def _see(self) -> None:
        if self.box is None:
            return
        shot = self.box.lane.snapshot()
        self.rev = max(self.rev, shot["rev"])
        if record := (shot["passage"] or {}).get("record"):
            self.told[record["id"]] = record["seq"], record["chain"]

    def _off(self, *, is_cut: bool) -> None:
        if self.box:
            self.run(self.box.power_off(is_cut=is_cut))
            self.box = None

    async def _drain(self) -> None:
        outbox = Outbox(self.box.store, self.centre, ["X03"], self.world.clock)
        await outbox.drain()

    def _rows(self, sql: str) -> Sequence[Any]:
        try:
            return self.run(self.box.store.rows(sql))
        except GatewayError:  # the disk is full: looked at again later
            return self.run(_beside(self.folder, sql))

    def _bring_all_to_an_end(self) -> None:
        for _ in range(STEPS_MAX):
            self._mend()
            lane = self.box.lane
            is_free = lane.passage.state.value in ("idle", "saved")
            if is_free and not lane.suspended:
                return
            if is_free:
                self._press("resume", passage=next(iter(lane.suspended)))
                continue
            owner = self._owner_of(lane.passage)
            if owner and self.world.reader.chip is not owner:
                self.world.reader.insert(owner)
            self._onward()
        shot = self.box.lane.snapshot()
        raise AssertionError(f"nothing leads on from {shot['state']}: {self.refusal}, {shot}")

    def _a_fresh_car_passes(self) -> None:
        self.world.card = self._card("stored-3des")
        self.world.reader.insert(self.world.card)
        self._press("read")
        self._bring_all_to_an_end()
        assert self.box.lane.passage.state.value == "saved"
        assert len(self.world.card.ledger) == 1

    def _mend(self) -> None:
        """What `Lane.run` does between commands."""

        async def mend() -> None:
            lane = self.box.lane
            if lane._is_adrift:
                await lane._find_footing()
            if lane._unwritten:
                await lane._write_again()

        self.run(mend())

    def _owner_of(self, passage: Any) -> SimUserCard | None:
        number = passage.media.card.issue.card_id if passage.media else ""
        return next((card for card in self.cards if card.info.card_id == number), None)

    def _money_is_right(self) -> None:
        records = [json.loads(row[0]) for row in self._rows("SELECT line FROM record")]
        seen["saved"] += len(records)
        seen["arrived"] += len(self.centre.held)
        seen["debits"] += sum(len(card.ledger) for card in self.cards)
        ours, held = {r["id"] for r in records}, set(self.centre.held)
        assert not ours - held, f"of {len(ours)} records did not arrive: {sorted(ours - held)}"
        assert not held - ours, f"the centre has what the box has not: {sorted(held - ours)}"
        named = {(r["cardId"], r["cardTransNo"], r["terminalTransNo"]): r for r in records}
        for card in self.cards:
            for debit in card.ledger:
                key = card.info.card_id, f"{debit.card_seq:04X}", f"{debit.terminal_seq:08X}"
                assert key in named, "money was taken that no record names"
                record = named.pop(key)
                if record["outcome"] == "paid":
                    assert (record["transFee"], record["tac"]) == (debit.amount_fen, debit.tac)
        assert not [r for r in named.values() if r["outcome"] == "paid"], "paid, and no debit"


def _is_dead_end(command: str, lane: Any) -> bool:
    """Cancelling is for a passage that nothing else leads on from."""
    return command == "cancel" and lane.passage.state.value == "idle"


def _has_words(no: GatewayError) -> None:
    assert no.detail, "a refusal without words"
    assert no.action, "a refusal that says not what to do"


async def _beside(folder: Path, sql: str) -> Sequence[Any]:
    from gateway.store import Store

    copy = Path(tempfile.mkdtemp())
    shutil.copytree(folder, copy / "copy")
    store = await Store.open(copy / "copy" / "lane.db")
    rows = [tuple(row) for row in await store.rows(sql)]
    await store.close()
    shutil.rmtree(copy)
    return rows


def _harm(folder: Path, how: str, dice: Random) -> None:
    """One file of one copy is damaged while the box is off; the other copy has it all."""
    tables, log = folder / "lane.db", folder / "spool"
    if how == "tables" and tables.exists():
        raw = bytearray(tables.read_bytes())
        for _ in range(8):
            raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        tables.write_bytes(bytes(raw))
    elif how == "wal gone":
        tables.with_name("lane.db-wal").unlink(missing_ok=True)
    elif how == "tables gone":
        for file in folder.glob("lane.db*"):
            file.unlink()
    elif how == "log tail":
        numbers = [n for n in segment.numbers(log) if not _is_spare(segment.path_of(log, n))]
        if numbers:
            path = segment.path_of(log, numbers[-1])
            raw = bytearray(path.read_bytes())
            raw[dice.randrange(segment.HEAD_SIZE, len(raw))] ^= 0xFF
            path.write_bytes(bytes(raw))


def _is_spare(path: Path) -> bool:
    return segment.is_blank(path.read_bytes()[: segment.HEAD_SIZE])


Booth.TestCase.settings = settings(
    max_examples=int(os.environ.get("MACHINE_STORIES", "40")),
    derandomize="MACHINE_STORIES" not in os.environ,  # a long run looks for what is new
    stateful_step_count=40,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


class TestBooth(Booth.TestCase):  # type: ignore[misc, valid-type]
    def runTest(self) -> None:  # noqa: N802
        seen.clear()
        super().runTest()
        print(", ".join(f"{what} {count}" for what, count in sorted(seen.items())))
        # The stories were worth telling.
        for what in ("cuts", "saved", "debits", "made anew", "refused by the disk", "arrived"):
            assert seen[what] > 0, f"it never came to this: {what}"

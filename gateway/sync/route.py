"""One lane's way to the centre: how far it has come, and which lines go next.

Only a cache of the ledger, and forgotten at a restart. What is saved while a backlog is on its way
goes first, and then the backlog has its turn: at least every second body is its own. While a body
of the backlog is on its way the next one is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gateway.sync.center import Packed, packed
from gateway.sync.ledger import Debt, Ledger, Owed
from gateway.sync.pace import Pace

DOUBT_S_MIN, DOUBT_S_MAX = 5.0, 3600.0


class Chosen(NamedTuple):
    """The lines of the next body, oldest first."""

    owed: Sequence[Owed]
    is_live: bool = False
    """Saved since this pass began, and sent before older ones."""
    size: int = 0
    """Bytes before compression."""
    lowered: int = 0
    """`Route.lowered` then."""


class Body(NamedTuple):
    """What goes at once."""

    chosen: Chosen
    lines: Packed


@dataclass(slots=True)
class Route:
    """Where one lane's sending stands."""

    lane: str
    is_retired: bool = False
    """No configuration names it: nothing more is saved here, somebody else may."""
    floor: int | None = None
    """Everything up to here is settled; None = not looked yet."""
    lowered: int = 0
    """How often something below was owed again: dates a search for the floor."""
    cursor: int = 0
    """How far lines were chosen in this pass."""
    newest: int = 0
    """The newest record when this pass began, or that was chosen as a live one since."""
    passed_to: int = 0
    """How far they were offered, and what was said is in the ledger."""
    passed_live: int = 0
    """The same of live ones."""
    ready: Body | None = None
    """Of the backlog, up to the cursor: made while another one was on its way."""
    pace: Pace = field(default_factory=Pace)
    is_suspect: bool = False
    """The last record alone got no verdict; the next one shows whether it or the centre is ill."""
    shut: int = 0
    """So many passes in a row ended at answers that were none, while other lanes may get theirs."""
    is_live_turn: bool = False
    has_refused: bool = False
    """Stubs of this pass's refusals are owed, behind the cursor."""
    marks: int = 0
    """How often verdicts were stored: dates an answer about high water."""
    noted: int = 0
    """How many savings were heard of: dates a reading of the debt."""
    debt: Debt = field(default_factory=Debt)
    late: int = 0
    """So many were offered in this pass and got no verdict."""
    put_off: int = 0
    """The same of the last whole pass."""
    doubt_pause_s: float = 0.0
    doubt_until_ms: int = 0

    async def begin(self, ledger: Ledger) -> None:
        """From the oldest owed record on."""
        self.passed_live = await ledger.newest(self.lane)
        self.passed_to = await self._raised(ledger)
        self.retreat()
        self.is_suspect = self.has_refused = self.is_live_turn = False
        self.late = 0

    async def next(self, ledger: Ledger, *, is_probe: bool) -> Body | None:
        """None at the end of the pass. A probe is the oldest owed one alone."""
        if is_probe:
            self.retreat()
        elif self.is_live_turn and self.cursor < self.newest:
            self.is_live_turn = False
            if live := await ledger.owed(self.lane, self.newest, self.pace.lines):
                self.newest = live[-1].line.seq
                return await self._body(live, is_live=True)
        self.is_live_turn = True
        if self.ready is None:
            await self.prepare(ledger, 1 if is_probe else self.pace.lines)
        body, self.ready = self.ready, None
        return body

    async def prepare(self, ledger: Ledger, count: int = 0) -> None:
        """Make the next body of the backlog, if it is not there."""
        if self.ready is not None:
            return
        if owed := await ledger.owed(self.lane, self.cursor, count or self.pace.lines):
            self.ready = await self._body(owed)
            self.cursor = self.ready.chosen.owed[-1].line.seq

    def retreat(self) -> None:
        """What was chosen and not offered is chosen anew."""
        self.cursor, self.newest, self.ready = self.passed_to, self.passed_live, None

    async def _body(self, owed: Sequence[Owed], *, is_live: bool = False) -> Body:
        lowered = self.lowered
        chosen = _fitting(owed, self.pace.bytes)._replace(is_live=is_live, lowered=lowered)
        return Body(chosen, await packed(self.lane, (one.line for one in chosen.owed)))

    def passed(self, chosen: Chosen, settled: int) -> None:
        """Each of these was offered; so many have a verdict, and the ledger has it."""
        self.late += len(chosen.owed) - settled
        last = chosen.owed[-1].line.seq
        if chosen.is_live:
            self.passed_live = last
            return
        is_whole = not self.late and not self.has_refused and self.lowered == chosen.lowered
        if is_whole and self.floor == self.passed_to:
            self.floor = last  # nothing is left behind: the debt is counted from here
        self.passed_to = last

    def resent(self, seq: int) -> None:
        """This one is owed anew, however far the sending had come."""
        self._lower(seq - 1)

    def _lower(self, seq: int) -> None:
        self.floor, self.lowered = min(seq, self.floor or 0), self.lowered + 1

    def note(self, saved_ms: int) -> None:
        """One more record is on disk."""
        oldest_ms = self.debt.oldest_ms or saved_ms
        self.debt = replace(self.debt, unsent=self.debt.unsent + 1, oldest_ms=oldest_ms)
        self.noted += 1

    async def look(self, ledger: Ledger) -> None:
        """Read the debt anew; what is saved meanwhile counts too."""
        floor = await self._raised(ledger) if self.floor is None else self.floor
        noted = -1
        while noted != self.noted:
            noted = self.noted
            self.debt = await ledger.debt(self.lane, floor)

    async def _raised(self, ledger: Ledger) -> int:
        """The floor, as far up as it is by now. What is lowered while it is looked for stays
        lowered: nobody would ever look below again."""
        known, found = -1, 0
        while known != self.lowered:
            known = self.lowered
            found = await ledger.floor(self.lane, self.floor or 0)
        self.floor = found
        return found

    def doubt(self, high_water: int, now_ms: int) -> None:
        """The centre lost what it had; a centre that never moves is believed ever more rarely."""
        self._lower(high_water)
        self.doubt_pause_s = min(max(DOUBT_S_MIN, self.doubt_pause_s * 2), DOUBT_S_MAX)
        self.doubt_until_ms = now_ms + round(self.doubt_pause_s * 1000)


def _fitting(owed: Sequence[Owed], bytes_max: int) -> Chosen:
    """The first ones that stay within one body; at least one."""
    size = 0
    for count, one in enumerate(owed):
        more = len(one.line.raw) + 1
        if count and size + more > bytes_max:
            return Chosen(owed[:count], size=size)
        size += more
    return Chosen(owed, size=size)

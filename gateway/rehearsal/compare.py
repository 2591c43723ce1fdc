"""One passage priced by two sets of tables, and what many of them add up to. Pure."""

from dataclasses import dataclass, field, replace
from typing import Any

from gateway.errors import FareUnknown
from gateway.flow import fare
from gateway.flow.passage import Passage
from gateway.params import Parameters

WORST_MAX = 10
ONLINE = (4, 5)
"""Priced by a service: no table here can change that."""


@dataclass(frozen=True, slots=True)
class Priced:
    """What one set of tables says of a passage."""

    fee_fen: int | None
    why: str = ""
    """Why there is no fare from this source."""


def price(p: Passage, parameters: Parameters) -> Priced:
    """From the same source as then: free, sums of the gantries, or minimum fare."""
    assert p.quote is not None
    if p.entry_hex and parameters.stations.by_hex(p.entry_hex) is None:
        return Priced(None, f"站码表里没有 {p.entry_hex}")
    then = replace(p, fare_findings=(), quote=replace(p.quote, findings=()))
    try:
        entry = fare.entry_of(then, parameters)
        match p.quote.kind:
            case 0:
                is_free = fare.is_free(then, parameters)
                return Priced(0) if is_free else Priced(None, "车种不再免费")
            case 1:
                return Priced(fare.accumulated(then, entry, parameters).fee_fen)
            case _:
                return Priced(fare.minimum(then, entry, parameters).fee_fen)
    except FareUnknown as no:
        return Priced(None, no.detail)


@dataclass(slots=True)
class Difference:
    """Adds passages up. Sums are over those that both sets of tables price."""

    passages: int = 0
    online: int = 0
    unpriced: int = 0
    """Neither set of tables can price them."""
    same: int = 0
    dearer: int = 0
    cheaper: int = 0
    lost: int = 0
    """Priced now, and no longer from this source."""
    won: int = 0
    unreadable: int = 0
    before_fen: int = 0
    after_fen: int = 0
    worst: list[dict[str, Any]] = field(default_factory=list)

    def add(self, p: Passage, now: Parameters, coming: Parameters) -> None:
        self.passages += 1
        if p.quote is None or p.quote.kind in ONLINE:
            self.online += 1
            return
        before, after = price(p, now), price(p, coming)
        if before.fee_fen is None or after.fee_fen is None:
            self._missing(p, before, after)
            return
        self.before_fen += before.fee_fen
        self.after_fen += after.fee_fen
        if before.fee_fen == after.fee_fen:
            self.same += 1
            return
        self.dearer += after.fee_fen > before.fee_fen
        self.cheaper += after.fee_fen < before.fee_fen
        self._example(p, before, after)

    def told(self) -> dict[str, Any]:
        """For screen and centre. Money in fen."""
        return {
            "passages": self.passages,
            "online": self.online,
            "unpriced": self.unpriced,
            "same": self.same,
            "dearer": self.dearer,
            "cheaper": self.cheaper,
            "lost": self.lost,
            "won": self.won,
            "unreadable": self.unreadable,
            "before_fen": self.before_fen,
            "after_fen": self.after_fen,
            "difference_fen": self.after_fen - self.before_fen,
            "worst": self.worst,
        }

    def _missing(self, p: Passage, before: Priced, after: Priced) -> None:
        if before.fee_fen is None and after.fee_fen is None:
            self.unpriced += 1
            return
        self.lost += after.fee_fen is None
        self.won += before.fee_fen is None
        self._example(p, before, after)

    def _example(self, p: Passage, before: Priced, after: Priced) -> None:
        assert p.quote is not None
        self.worst.append(
            {
                "passage": p.id,
                "station_name": p.quote.station_name,
                "vehicle_type": p.vehicle_type,
                "kind": p.quote.kind,
                "before_fen": before.fee_fen,
                "after_fen": after.fee_fen,
                "why": after.why or before.why,
            }
        )
        self.worst.sort(key=_weight, reverse=True)
        del self.worst[WORST_MAX:]


def _weight(example: dict[str, Any]) -> int:
    """How far the fares are apart; one that is gone counts as its whole sum."""
    before: int = example["before_fen"] or 0
    after: int = example["after_fen"] or 0
    return abs(after - before)

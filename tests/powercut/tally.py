"""What a campaign tried and saw. Adds up over processes."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

KEPT_VIOLATIONS = 40
_NUMBERS = {ord(digit): "#" for digit in "0123456789"}


@dataclass(slots=True)
class Tally:
    """Counts, each named for what it counts."""

    states: int = 0
    """Different disks, each recovered by the gateway's own code and judged."""
    built: int = 0
    """Cuts and losses that were chosen; many leave the same disk."""
    contents: int = 0
    """Different money, tables and photos that recovery came to, in different worlds."""
    lives: int = 0
    """Boxes that were started on such a disk and lived on."""
    threaded: int = 0
    """Of these, with the store's own threads."""
    programs: int = 0
    """Whole programs that were started on such a disk and asked over HTTP."""
    served: int = 0
    """Of these, those that took a vehicle through."""
    torn: int = 0
    """States in which a torn write was wiped from the log."""
    mended: int = 0
    """States in which damage was found and mended."""
    violations: int = 0
    """States and lives in which anything was wrong."""
    cpu_s: float = 0.0
    life_cpu_s: float = 0.0
    depths: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    sorts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in self.__slots__}

    def add(self, other: dict[str, Any]) -> None:
        for name, value in other.items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            elif isinstance(mine, list):
                setattr(self, name, (mine + value)[:KEPT_VIOLATIONS])
            else:
                setattr(self, name, mine + value)

    def accuse(self, name: str, said: list[str]) -> None:
        """`name`: how to see it again."""
        if not said:
            return
        self.violations += 1
        self.sorts.update({sentence.translate(_NUMBERS) for sentence in said})
        if len(self.examples) < KEPT_VIOLATIONS:
            self.examples.append(f"{name}: {'; '.join(said)}")

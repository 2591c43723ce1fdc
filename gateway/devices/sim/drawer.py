"""Where the bench keeps chips and notes: files under a folder, or this process's memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.devices.sim.card import SimUserCard
from gateway.devices.sim.memory import ChipMemory


class Drawer:
    """One per bench. With a folder, what was saved survives a kill."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._notes: dict[tuple[str, ...], dict[str, Any]] = {}
        self._cards: dict[str, SimUserCard] = {}

    def memory(self, *name: str) -> ChipMemory:
        if self._folder is None:
            return ChipMemory()
        path = self._folder.joinpath(*name).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        return ChipMemory(path)

    def load(self, *name: str) -> dict[str, Any] | None:
        return self._notes.get(name) if self._folder is None else self.memory(*name).load()

    def save(self, note: dict[str, Any], *name: str) -> None:
        if self._folder is None:
            self._notes[name] = note
        else:
            self.memory(*name).save(note)

    def card(self, number: str) -> SimUserCard | None:
        """One object a card: what lies on the reader and what is asked are the same."""
        if number not in self._cards:
            card = SimUserCard.resume(self.memory("cards", number))
            if card is None:
                return None
            self._cards[number] = card
        return self._cards[number]

    def keep(self, number: str, issue: Callable[[ChipMemory], SimUserCard]) -> SimUserCard:
        self._cards[number] = issue(self.memory("cards", number))
        return self._cards[number]

    def cards(self) -> Iterator[SimUserCard]:
        if self._folder is None:
            yield from self._cards.values()
            return
        for file in sorted((self._folder / "cards").glob("*.json")):
            card = self.card(file.stem)
            if card is not None:
                yield card

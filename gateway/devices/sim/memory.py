"""A chip's memory: one JSON file per chip, on disk before the chip answers. Knows no chip.

A killed demo finds the same balances and counters again, as a card in a pocket would.
"""

import json
from pathlib import Path
from typing import Any

from gateway.durable import replace
from gateway.errors import DeviceGarbled


class ChipMemory:
    """Keeps one chip's state at `path`; with None it lives as long as the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    @property
    def is_kept(self) -> bool:
        """Whether anything is written at all."""
        return self._path is not None

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None if nothing was. Raises: DeviceGarbled, if it is damaged."""
        if self._path is None or not self._path.exists():
            return None
        try:
            state = json.loads(self._path.read_text(encoding="utf-8"))
        except ValueError as broken:
            raise DeviceGarbled(f"模拟卡片的存储损坏：{self._path.name}") from broken
        if not isinstance(state, dict):
            raise DeviceGarbled(f"模拟卡片的存储损坏：{self._path.name}")
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace what is stored, whole or not at all; it is on disk when this returns."""
        if self._path is not None:
            replace(self._path, json.dumps(state, ensure_ascii=False).encode())

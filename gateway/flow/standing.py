"""暂停 恢复 关闭车道: whether a lane takes vehicles, by whose word, and since when.

A word, not a fault: the vehicle in work is finished first, only the next one is not begun. Each is
a note in the journal, so a lane that was closed stays closed over a power cut.
"""

import json
from typing import Any, Literal, NamedTuple

from gateway.flow.messages import Problem

NEWEST = """
SELECT event, body, at_ms, operator FROM journal INDEXED BY journal_passage
WHERE passage_id = '' AND lane = ? AND event IN ('lane_opened', 'lane_paused', 'lane_closed')
ORDER BY seq DESC LIMIT 1
"""
"""By the few rows of no passage: a journal has a million others."""
_AFTER: dict[str, Literal["open", "paused", "closed"]] = {
    "lane_opened": "open",
    "lane_paused": "paused",
    "lane_closed": "closed",
}
EVENTS = {"open_lane": "lane_opened", "pause_lane": "lane_paused", "close_lane": "lane_closed"}
"""Command → the note it is."""
NAMES = {"paused": "暂停收费", "closed": "已关闭"}


class Standing(NamedTuple):
    """`state` and who said so; at the very beginning nobody did."""

    state: Literal["open", "paused", "closed"] = "open"
    reason: str = ""
    operator: str = ""
    at_ms: int | None = None

    @property
    def allowed(self) -> tuple[str, ...]:
        """What may be said next."""
        if self.state == "open":
            return "pause_lane", "close_lane"
        return ("open_lane", "close_lane") if self.state == "paused" else ("open_lane",)

    @property
    def problem(self) -> Problem | None:
        """Why no vehicle may be begun."""
        if self.state == "open":
            return None
        said = f"车道{NAMES[self.state]}（工号 {self.operator}，{self.reason}）"
        return Problem(f"lane.{self.state}", said, "要收费请先按恢复收费")

    def lamps(self) -> dict[str, dict[str, Any]]:
        """Beside the devices' lamps; none while the lane is open."""
        if self.state == "open":
            return {}
        return {"lane": {"name": "车道", "state": self.state, "text": self.reason}}


def told(event: str, body: str, at_ms: int, operator: str) -> Standing:
    """A row of NEWEST."""
    return Standing(_AFTER[event], json.loads(body)["reason"], operator, at_ms)

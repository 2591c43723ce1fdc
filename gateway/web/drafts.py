"""What a screen has half-typed, so that a killed page, or one that takes over, goes on there.

Kept in memory only: a page that lives sends it again to a gateway that was started anew, and has it
itself over a reload. No money is in it, and nothing here decides anything.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.flow.commands import REASON_MAX

KEPT_MAX = 16  # passages; a booth has a handful in work or put aside

Key = Annotated[str, Field(max_length=3)]
Digits = Annotated[str, Field(pattern=r"^[0-9]{0,8}$")]
Code = Annotated[int, Field(ge=0, le=999)]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Editor(_Shape):
    """The plate as far as it is keyed."""

    chars: Annotated[list[Key], Field(max_length=12)]
    at: int = Field(ge=0, le=12)
    wide: bool
    page: Literal["", "more", "letters", "digits"]


class Draft(_Shape):
    """As `static/state.js` has it."""

    passage: str = Field(min_length=1, max_length=64)
    editor: Editor
    origin: str = Field(max_length=12, alias="from")
    touched: bool
    typed: bool
    colour: Code
    colour_touched: bool = Field(alias="colourTouched")
    photo: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    hex: str = Field(pattern=r"^[0-9A-F]{0,8}$")
    type: Code | None
    group: Code | None = Field(alias="class")
    axles: Code | None
    kilos: Digits
    weight_reason: str = Field(max_length=REASON_MAX, alias="weightReason")
    look: Literal["", "plate", "vehicle"]
    means: Literal["cash", "mobile", "unpaid"]
    fen: Digits
    reason: str = Field(max_length=REASON_MAX)


class Drafts:
    """Passage → what its owner's screen has half-typed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keep(self, draft: Draft) -> None:
        self._kept[draft.passage] = draft.model_dump(by_alias=True)
        self._kept.move_to_end(draft.passage)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def of(self, snapshot: Mapping[str, Any]) -> dict[str, Any] | None:
        """Of the passage that stands there."""
        passage = snapshot["passage"]
        return self._kept.get(passage["id"]) if passage else None


DRAFTS = web.AppKey("drafts", Drafts)


class Kept(BaseModel):
    passage: str

"""One vehicle's way through the lane, as a value."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from gateway.flow.messages import (
    Authority,
    DebitTicket,
    Effect,
    Finding,
    Media,
    Problem,
    Quote,
    Reading,
)
from gateway.units import PassageId


class State(StrEnum):
    IDLE = "idle"  # 等待来车
    READING = "reading"  # 正在读卡
    REFUSED = "refused"  # 检查没有通过
    HELD = "held"  # 转人工（特情）
    CHECKED = "checked"  # 检查通过
    EVIDENCED = "evidenced"  # 车牌、照片已提交
    CLASSIFIED = "classified"  # 车型、车种、计重已定
    PRICED = "priced"  # 已算费，等 Hex 码
    UNPRICED = "unpriced"  # 算不出路径费
    AGREED = "agreed"  # 金额已确认，可以保存
    PREPARING = "preparing"  # 正在准备扣款，没有动钱
    DEBITING = "debiting"  # 正在扣款
    DOUBTFUL = "doubtful"  # 扣款结果未知
    DISPUTED = "disputed"  # 结果未知且卡已离开，转人工
    SAVED = "saved"  # 缴费成功，流水已落盘
    SUSPENDED = "suspended"  # 挂起


@dataclass(frozen=True, slots=True)
class Passage:
    """All facts about the vehicle in front of the booth. `Passage()` is an empty lane."""

    state: State = State.IDLE
    id: PassageId = PassageId("")
    operator: str = ""
    shift_id: int = 0
    owner: str = ""
    """booth, or the handheld that guides this passage."""
    opened_at_ms: int = 0
    parameters: dict[str, str] = field(default_factory=dict)

    media: Media | None = None
    findings: tuple[Finding, ...] = ()
    """What the checks at 读卡 found."""
    reading: Reading | None = None
    override: Authority | None = None
    override_reason: str = ""

    plate: str = ""
    plate_colour: int = 9
    plate_source: str = ""
    plate_findings: tuple[Finding, ...] = ()
    photo: str | None = None
    no_photo_reason: str = ""

    vehicle_type: int | None = None
    vehicle_class: int | None = None
    class_findings: tuple[Finding, ...] = ()
    axle_count: int | None = None
    weight_kg: int | None = None
    limit_kg: int | None = None
    weight_source: str = ""
    weight_reason: str = ""
    weight_findings: tuple[Finding, ...] = ()

    entry_hex: str = ""
    """Set only when the collector named another entry station than the card does."""
    entry_source: str = ""
    is_entry_confirmed: bool = False
    quote: Quote | None = None
    fare_findings: tuple[Finding, ...] = ()
    authority: Authority | None = None

    save_at_ms: int = 0
    ticket: DebitTicket | None = None
    earlier: DebitTicket | None = None
    """Of a debit that was refused. If the card's number has moved since, it was not."""
    tac: str | None = None
    mac2: str = ""
    debit_findings: tuple[Finding, ...] = ()
    how_paid: str = ""
    means: str = ""
    amount_by_hand_fen: int = 0
    reason: str = ""
    suspended_in: State | None = None
    problem: Problem | None = None

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Every finding so far, each code once, in the order they were made."""
        groups = (
            self.findings,
            self.plate_findings,
            self.class_findings,
            self.weight_findings,
            self.fare_findings,
            self.quote.findings if self.quote else (),
            self.debit_findings,
        )
        return tuple({f.code: f for group in groups for f in group}.values())


@dataclass(frozen=True, slots=True)
class Owed:
    """A record that this step owes the centre; of a cancelled passage only a stub, no money."""

    outcome: Literal["paid", "doubtful", "by_hand", "unpaid", "cancelled"]
    at_ms: int
    reason: str = ""
    """Why it was cancelled; the others' reasons are facts of the passage."""


@dataclass(frozen=True, slots=True)
class Change:
    """A decision: new facts about the passage, what to do, what to owe the centre."""

    facts: dict[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    owed: Owed | None = None
    anew: bool = False
    """Begin from an empty passage: the facts are all there is."""


@dataclass(frozen=True, slots=True)
class Step:
    passage: Passage
    effects: tuple[Effect, ...] = ()
    owed: Owed | None = None

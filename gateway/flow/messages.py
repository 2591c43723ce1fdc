"""What the lane hears (events) and what it asks for (effects). Data only; all is journaled."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Literal

from gateway.devices.etc_files import CardFacts, TagFacts
from gateway.units import PassageId


class AfterRestart(StrEnum):
    """What to do with an effect whose answer is not in the journal."""

    REDO = "redo"  # harmless twice
    PROVE = "prove"  # may have happened: ask the card, never repeat
    DROP = "drop"  # meaningless once the moment has passed


# ---- values that travel in events ---------------------------------------------------------


class Level(StrEnum):
    """What a finding does to the passage."""

    STOPS = "stops"  # manual handling only
    MASTER = "master"  # a station master may let it pass
    WARNS = "warns"  # goes into the record


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the checks at 读卡, or later in the passage."""

    code: int
    """特情 code (domain.md §3.5, §9)."""
    level: Level
    text: str
    """Chinese, for the collector."""


@dataclass(frozen=True, slots=True)
class Media:
    """What card and tag said, once."""

    card: CardFacts
    tag: TagFacts | None
    tag_fault: str
    """Why there is no tag, in Chinese; empty if there is one."""
    read_at_ms: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What the screen must say now: code of ui.md §2.7, what happened, what to do."""

    code: str
    detail: str
    action: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The camera's own recognition, kept to tell `lpr` from `lpr_edited`."""

    plate: str
    colour: int
    confidence: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """One province's part of a fare (splitProvince)."""

    province: str
    fee_fen: int
    pay_fee_fen: int
    mileage_m: int


@dataclass(frozen=True, slots=True)
class Quote:
    """A fare and where it comes from."""

    kind: int
    """exitFeeType: 1 accumulated, 4 province, 5 ministry, 6 minimum (domain.md §0.1-2)."""
    pay_fee_fen: int
    """应收, before discount."""
    fee_fen: int
    """What is taken from the card."""
    station_hex: str
    station_name: str
    """The entry station."""
    mileage_m: int
    table_version: str
    shares: tuple[Share, ...]
    explained: tuple[str, ...]
    """Chinese lines: 这笔费怎么来的."""
    findings: tuple[Finding, ...] = ()
    short_fee_fen: int = 0
    short_mileage_m: int = 0

    @property
    def discount_fen(self) -> int:
        return self.pay_fee_fen - self.fee_fen


@dataclass(frozen=True, slots=True)
class Authority:
    """Who let it pass, and how."""

    operator: str
    name: str
    how: Literal["booth", "handheld"]
    at_ms: int


@dataclass(frozen=True, slots=True)
class DebitTicket:
    """What both chips agreed on before any money moves; enough to prove the debit later."""

    card_id: str
    card_seq: int
    """Offline trade number of INITIALIZE, before the debit."""
    balance_before: int
    overdraft: int
    key_version: int
    algorithm: int
    terminal_no: str
    terminal_seq: int
    amount_fen: int
    at: str
    """yyyymmddHHMMSS as sent to both chips."""
    mac1: str
    toll_hex: str
    """The 43 bytes that the debit writes into 0019."""


# ---- events --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    pass


@dataclass(frozen=True, slots=True)
class ReadRequested(Event):
    """读卡: a new passage begins."""

    passage_id: PassageId
    operator: str
    shift_id: int
    owner: str
    at_ms: int
    parameters: dict[str, str] = field(default_factory=dict)
    """Parameter tables in force, name → version, stamped into the record."""


@dataclass(frozen=True, slots=True)
class ChecksPassed(Event):
    """卡签一致、有效、不在名单: findings may still warn."""

    media: Media
    findings: tuple[Finding, ...]
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class ChecksFailed(Event):
    """At least one finding stops the passage or needs the master."""

    media: Media
    findings: tuple[Finding, ...]
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class MediaUnreadable(Event):
    """没有读到卡"""

    problem: Problem


@dataclass(frozen=True, slots=True)
class OverrideApproved(Event):
    """站长同意: every finding that stood in the way was one a master may let pass."""

    authority: Authority
    reason: str


@dataclass(frozen=True, slots=True)
class PlateSubmitted(Event):
    """车牌号 颜色 提交图片数据"""

    plate: str
    colour: int
    source: Literal["lpr", "lpr_edited", "typed"]
    photo: str | None
    """sha256 of a stored JPEG; None = take the lane camera's picture now."""
    no_photo_reason: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class PhotoBound(Event):
    """照片已存"""

    sha256: str
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class PhotoMissing(Event):
    """没有拍到照片"""

    problem: Problem


@dataclass(frozen=True, slots=True)
class VehicleClassified(Event):
    """车型 车种"""

    vehicle_type: int
    vehicle_class: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class VehicleWeighed(Event):
    """计重信息"""

    axle_count: int
    weight_kg: int
    limit_kg: int
    source: Literal["scale", "typed"]
    reason: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class QuoteRequested(Event):
    """算费"""


@dataclass(frozen=True, slots=True)
class FareQuoted(Event):
    """计费完成"""

    quote: Quote


@dataclass(frozen=True, slots=True)
class FareUnknown(Event):
    """算不出: no path, no service, no entry."""

    problem: Problem
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class EntryConfirmed(Event):
    """站Hex码 equals the quoted one."""

    station_hex: str
    source: Literal["typed", "searched", "card"]


@dataclass(frozen=True, slots=True)
class EntryCorrected(Event):
    """The collector names the entry station himself; the fare is asked anew."""

    station_hex: str
    source: Literal["typed", "searched"]


@dataclass(frozen=True, slots=True)
class MinimumFareApproved(Event):
    """最小费额计费 + 站长权限"""

    quote: Quote
    authority: Authority


@dataclass(frozen=True, slots=True)
class SaveRequested(Event):
    """数据保存"""

    at_ms: int


@dataclass(frozen=True, slots=True)
class DebitPrepared(Event):
    """复合消费初始化完成: both chips named their counters, no money moved."""

    ticket: DebitTicket


@dataclass(frozen=True, slots=True)
class DebitRefused(Event):
    """Certainly no money moved."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class DebitConfirmed(Event):
    """扣款成功"""

    tac: str | None
    """8 hex digits; None if the counter proves the debit but no proof is to be had."""
    mac2: Literal["verified", "refused", "unchecked"]
    how: Literal["answered", "proved"]
    at_ms: int


@dataclass(frozen=True, slots=True)
class DebitUnanswered(Event):
    """结果未知: DEBIT was sent, or may have been, and no answer is on disk."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class ProofRequested(Event):
    """结果未知 → 查清"""


@dataclass(frozen=True, slots=True)
class ProofUnavailable(Event):
    """The card could not be asked: absent, another one, or silent."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class DebitNeverHappened(Event):
    """The card's own counter says that nothing was taken."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class HandedOver(Event):
    """特情: the normal way ends here; people decide."""

    reason: str


@dataclass(frozen=True, slots=True)
class CardGone(Event):
    """结果未知 and the card is gone: a recorded decision."""

    reason: str


@dataclass(frozen=True, slots=True)
class PaidByHand(Event):
    """按特情收费: cash or mobile, authorised."""

    means: Literal["cash", "mobile"]
    amount_fen: int
    authority: Authority
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ReleasedUnpaid(Event):
    """未收费放行, authorised."""

    authority: Authority
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Suspended(Event):
    """挂起"""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """续办"""

    owner: str


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """取消本笔"""

    reason: str
    at_ms: int = 0
    """0 in journals from before a cancelled passage left its stub."""


# ---- effects -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effect:
    after_restart: ClassVar[AfterRestart] = AfterRestart.DROP


@dataclass(frozen=True, slots=True)
class ReadMedia(Effect):
    """Read card and tag, check them."""

    after_restart = AfterRestart.REDO


@dataclass(frozen=True, slots=True)
class TakePhoto(Effect):
    after_restart = AfterRestart.REDO


@dataclass(frozen=True, slots=True)
class QuoteFare(Effect):
    after_restart = AfterRestart.REDO


@dataclass(frozen=True, slots=True)
class PrepareDebit(Effect):
    after_restart = AfterRestart.REDO
    amount_fen: int


@dataclass(frozen=True, slots=True)
class CommitDebit(Effect):
    after_restart = AfterRestart.PROVE
    ticket: DebitTicket


@dataclass(frozen=True, slots=True)
class ProveDebit(Effect):
    after_restart = AfterRestart.REDO
    ticket: DebitTicket

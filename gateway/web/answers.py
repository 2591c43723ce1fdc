"""The shapes of what the API answers, for the document and its tests. The lane makes the values."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.web.faults import Fault


class Shown(BaseModel):
    """More fields may come; those named here always do."""

    model_config = ConfigDict(extra="allow", defer_build=True)


class LprReading(Shown):
    plate: str
    colour: int
    confidence: list[float]


class CardShown(Shown):
    kind: Literal["stored", "credit"]
    number: str = Field(description="masked: 6201****3456")
    balance_fen: int | None
    plate: str
    colour: int
    vehicle_type: int
    valid_to: str


class TagShown(Shown):
    number: str
    plate: str
    colour: int
    vehicle_type: int


class EntryShown(Shown):
    """Never the station's Hex: keying it is a check."""

    station_name: str
    time: str | None
    at_ms: int | None
    source: str


class FindingShown(Shown):
    code: int
    level: Literal["stops", "master", "warns"]
    text: str


class VehicleShown(Shown):
    type: int | None
    type_name: str
    vehicle_class: int | None = Field(serialization_alias="class")
    class_name: str
    axle_count: int | None
    weight_kg: int | None
    limit_kg: int | None
    weight_source: str


class QuoteShown(Shown):
    amount_fen: int
    pay_fee_fen: int
    discount_fen: int
    kind: int
    kind_name: str
    station_name: str
    mileage_m: int
    table_version: str
    explained: list[str]


class ApprovalShown(Shown):
    operator: str
    name: str
    how: str
    at_ms: int


class PaidShown(Shown):
    means: Literal["etc_card", "cash", "mobile", "none"]
    amount_fen: int = Field(description="what was taken, not what was due")
    is_doubtful: bool = Field(description="the card may have been debited as well")


class RecordShown(Shown):
    id: str
    seq: int
    chain: str
    tac: str | None


class PassageShown(Shown):
    id: str
    owner: str
    opened_at_ms: int
    plate: str
    colour: int | None
    plate_source: str
    photo: str | None
    lpr: LprReading | None
    card: CardShown | None
    tag: TagShown | None
    tag_fault: str
    entry: EntryShown | None
    findings: list[FindingShown]
    vehicle: VehicleShown
    needs_weight: bool
    quote: QuoteShown | None
    entry_confirmed: bool
    approval: ApprovalShown | None
    paid: PaidShown | None = Field(description="once it is settled")
    record: RecordShown | None


class SuspendedShown(Shown):
    passage: str
    plate: str
    colour: int
    state: str
    opened_at_ms: int


class LastShown(Shown):
    plate: str
    colour: int | None
    amount_fen: int
    saved_at_ms: int
    record_id: str
    seq: int


class ShiftBrief(Shown):
    id: int
    operator: str
    shift: int
    opened_at_ms: int
    count: int
    sum_fen: int


class DeviceShown(Shown):
    name: str
    state: Literal["ok", "degraded", "missing", "simulated", "paused", "closed"]
    """The last two: the lane itself, by somebody's word."""
    text: str


class SyncBrief(Shown):
    online: bool
    unsent: int
    oldest_unsent_ms: int | None
    eta_s: float | None
    parked: int
    newest_refused: int = Field(0, description="number of the newest record the centre refused")


class ProblemShown(Shown):
    code: str
    detail: str
    action: str


class ApprovalBrief(BaseModel):
    id: str
    command: str
    state: Literal["pending", "approved", "refused", "expired", "used"]
    expires_at_ms: int


class StandingShown(BaseModel):
    """暂停, 关闭: who said so, and what may be said next."""

    state: Literal["open", "paused", "closed"] = "open"
    reason: str = ""
    operator: str = ""
    at_ms: int | None = None
    allowed: list[str] = []


class Snapshot(Shown):
    """A lane, whole: everything a screen draws."""

    rev: int
    lane: str
    lane_name: str
    state: str
    at_ms: int
    station: dict[str, Any]
    allowed: list[str]
    busy: str | None
    passage: PassageShown | None
    suspended: list[SuspendedShown]
    last: LastShown | None
    shift: ShiftBrief | None
    devices: dict[str, DeviceShown]
    sync: SyncBrief
    policy: dict[str, Any]
    parameters: dict[str, Any]
    approvals: list[ApprovalBrief] = []
    """What was asked of a master about this passage, and what became of it."""
    standing: StandingShown = StandingShown()
    """Whether this lane takes vehicles."""
    is_training: bool = False
    """Its devices are twins: the page says so, loudly."""
    problem: ProblemShown | None
    notices: list[ProblemShown] = []
    """What does not stop the lane and should be known: the disk, the clock."""
    top: dict[str, Any] = {}
    """shift, lamps and sync as [look, words…]; this and what follows are made for a screen."""
    strip: list[list[str]] = []
    """Of this vehicle, always on sight: [look, name, value]."""
    screen: dict[str, Any] = {}
    """name, step, title, look, blocks, bar and primary: deeds of the page."""
    side: list[dict[str, Any]] = []
    """Blocks beside the work."""
    survivor: dict[str, Any] | None = None
    """A screen to be read first: the passage stood here before the gateway started."""
    after: dict[str, Any] | None = None
    """The screen once a success was looked at."""
    draft: dict[str, Any] | None = None
    """What its owner's screen has half-typed of this passage."""


class Conflict(Fault):
    """What cannot be done now, and how the lane stands."""

    snapshot: Snapshot


class LaneShown(BaseModel):
    lane: str
    name: str
    enabled: bool
    devices: dict[str, DeviceShown]


class ShiftShown(BaseModel):
    id: int
    lane: str
    operator: str
    shift: Literal[1, 2, 3]
    opened_at_ms: int
    closed_at_ms: int | None


class KindShown(BaseModel):
    """What came in one way: `kind` and `means` as in the record."""

    kind: str
    means: str
    count: int
    sum_fen: int


class UnsentShown(BaseModel):
    count: int
    sum_fen: int


class StatementShown(ShiftShown):
    """A shift, what it took, what of that is not at the centre, and what was signed off."""

    count: int
    sum_fen: int = Field(description="collected money only: paid, and by hand")
    kinds: list[KindShown]
    unsent: UnsentShown
    signed_off: dict[str, Any] | None


class SessionShown(BaseModel):
    """Who is signed in; all null and empty when nobody is."""

    operator: str | None
    name: str | None
    role: Literal["collector", "master", "engineer"] | None
    owner: str
    shift: ShiftShown | None
    allowed: list[str]


class PhotoShown(BaseModel):
    sha256: str
    size: int


Delivery = Literal["未传", "已送达", "已确认", "被退回"]
"""已送达: a broker has it and the centre has not spoken yet. 已确认: the centre has."""


class PassageRow(BaseModel):
    """One vehicle in the history. `delivery` is null before there is a record."""

    id: str
    lane: str
    state: str
    plate: str
    colour: int | None
    amount_fen: int | None = Field(description="what was asked")
    kind: str | None = Field(description="its record's: paid, by_hand, unpaid, doubtful, cancelled")
    means: str | None
    fee_fen: int | None = Field(description="what was taken")
    opened_at_ms: int
    changed_at_ms: int
    operator: str
    shift_id: int
    record_id: str | None
    seq: int | None
    delivery: Delivery | None


class PassagePage(BaseModel):
    passages: list[PassageRow]
    next: str | None


class RecordFacts(BaseModel):
    """The record as it was frozen, without what only the centre needs."""

    id: str
    seq: int
    kind: str
    means: str
    fee_fen: int
    saved_at_ms: int
    chain: str
    tac: str | None
    photo: str | None


class DeliveryFate(BaseModel):
    verdict: str
    reason: str | None
    via: str
    at_ms: int


class CorrectionFacts(BaseModel):
    """A record that corrects an earlier one. `changed`: field → [before, now]."""

    record_id: str
    seq: int
    chain: str
    corrects: str
    kind: str
    means: str
    fee_fen: int
    adjust_fen: int
    changed: dict[str, list[Any]]
    reason: str
    approval: ApprovalShown
    saved_at_ms: int
    delivery: Delivery | None


class PassageFacts(PassageRow):
    """`record`: the first one; what counts now is the end of `corrections`, if there are any."""

    card: str = Field(description="masked: 6201****3456")
    ended: str | None
    record: RecordFacts | None
    fate: DeliveryFate | None
    corrections: list[CorrectionFacts]


class TimelineEntry(BaseModel):
    seq: int
    at_ms: int
    event: str
    state: str
    operator: str
    body: dict[str, Any]


class Timeline(BaseModel):
    entries: list[TimelineEntry]


class DevicesOfLane(BaseModel):
    lane: str
    name: str
    devices: dict[str, DeviceShown]


class Devices(BaseModel):
    lanes: list[DevicesOfLane]


class Backlog(Shown):
    count: int
    oldest_age_s: float | None
    drain_s: float | None


class Parked(Shown):
    seq: int
    id: str
    reason: str | None


class SyncShown(BaseModel):
    online: bool
    backlog: Backlog
    parked: list[Parked]
    by_broker: bool = False
    delivered: int = 0
    """So many of the backlog are with the broker."""


class Receipts(BaseModel):
    receipts: list[Parked]


class ParameterAge(Shown):
    name: str
    version: str


class ParametersShown(BaseModel):
    parameters: list[ParameterAge]


class Rows(BaseModel):
    version: str
    rows: list[dict[str, Any]]

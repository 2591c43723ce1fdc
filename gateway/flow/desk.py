"""What a person asked → the event it means, or the plain reason why not.

All branching that depends on facts (the table has no conditions) is decided here, before the
event is made. Nothing here changes anything; what was refused and matters to an auditor
(a wrong Hex, a wrong password) is raised and noted by the lane.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, assert_never

from gateway.access import Who
from gateway.devices.ports import Scale
from gateway.errors import (
    DeviceGarbled,
    DeviceUnavailable,
    EntryMismatch,
    FareUnknown,
    MasterRefused,
    PhotoInvalid,
    ReasonMissing,
    RequestInvalid,
    StationUnknown,
    UnexpectedEvent,
    WeightDiffers,
    WeightMissing,
)
from gateway.evidence import Evidence
from gateway.flow import checks, commands, fare
from gateway.flow.approvals import Approvals, Approve, Sensitive
from gateway.flow.commands import Command
from gateway.flow.messages import (
    Authority,
    Cancelled,
    CardGone,
    EntryConfirmed,
    EntryCorrected,
    Event,
    HandedOver,
    MinimumFareApproved,
    OverrideApproved,
    PaidByHand,
    PlateSubmitted,
    ProofRequested,
    Quote,
    QuoteRequested,
    ReadRequested,
    ReleasedUnpaid,
    SaveRequested,
    Suspended,
    VehicleClassified,
    VehicleWeighed,
)
from gateway.flow.passage import Passage, State
from gateway.flow.rules import RULES
from gateway.flow.view import needs_weight
from gateway.params import Parameters, Station
from gateway.plate import check_plate
from gateway.units import Clock

EVENTS: dict[str, tuple[type[Event], ...]] = {
    "read": (ReadRequested,),
    "submit_plate": (PlateSubmitted,),
    "classify": (VehicleClassified,),
    "weigh": (VehicleWeighed,),
    "quote": (QuoteRequested,),
    "confirm_entry": (EntryConfirmed, EntryCorrected),
    "minimum_fare": (MinimumFareApproved,),
    "override": (OverrideApproved,),
    "save": (SaveRequested,),
    "prove": (ProofRequested,),
    "hand_over": (HandedOver, CardGone),
    "settle_by_hand": (PaidByHand, ReleasedUnpaid),
    "suspend": (Suspended,),
    "cancel": (Cancelled,),
}
"""What each command may become; `resume` is the lane's own, it changes which passage is current."""

NAMES = {
    "read": "读卡",
    "submit_plate": "提交车牌",
    "classify": "选择车型车种",
    "weigh": "提交计重",
    "quote": "算费",
    "confirm_entry": "输入站Hex码",
    "minimum_fare": "最小费额计费",
    "override": "站长放行检查",
    "save": "数据保存",
    "prove": "查清扣款结果",
    "hand_over": "转特情",
    "settle_by_hand": "按特情处理",
    "suspend": "挂起",
    "resume": "续办",
    "cancel": "取消本笔",
    "pause_lane": "暂停收费",
    "close_lane": "关闭车道",
    "open_lane": "恢复收费",
}


def allowed(p: Passage, parameters: Parameters, has_suspended: bool) -> list[str]:
    """The commands that the table has a row for now, in the flow's order."""
    names = list(_in_table(p.state))
    if "override" in names and not checks.may_be_overridden(p.findings):
        names.remove("override")
    if "quote" in names and needs_weight(p, parameters):
        names.remove("quote")
    if "minimum_fare" in names and not fare.knows_entry(p, parameters):
        names.remove("minimum_fare")
    if "save" in names and p.quote is None:
        names.remove("save")
    if has_suspended and p.state in (State.IDLE, State.SAVED):
        names.append("resume")
    return names


@cache
def _in_table(state: State) -> tuple[str, ...]:
    return tuple(n for n, events in EVENTS.items() if any((state, e) in RULES for e in events))


class Desk:
    """Turns commands into events for one lane."""

    def __init__(
        self,
        parameters: Callable[[], Parameters],
        evidence: Evidence,
        scale: Scale | None,
        approve: Approve,
        approvals: Approvals,
        lane: str,
        clock: Clock,
    ) -> None:
        self._parameters, self._evidence, self._scale = parameters, evidence, scale
        self._approve, self._approvals, self._lane = approve, approvals, lane
        self._clock = clock

    async def event_for(self, command: Command, p: Passage, who: Who) -> Event:
        """Raises: RequestInvalid and its kinds (422), AccessRefused (403, 423)."""
        match command:
            case commands.SubmitPlate():
                return await self._plate(command, p)
            case commands.Classify():
                return self._class(command, p)
            case commands.Weigh():
                return await self._weight(command, p)
            case commands.Ask():
                return self._ask(p)
            case commands.ConfirmEntry():
                return self._entry(command, p)
            case commands.UseMinimumFare():
                return await self._minimum(command, p, who)
            case commands.Override():
                authority = await self._authority(command, p, who)
                return OverrideApproved(authority, command.reason)
            case commands.SettleByHand():
                return await self._by_hand(command, p, who)
            case _:
                return self._plain(command, p)

    def _plain(
        self,
        command: commands.Save
        | commands.Prove
        | commands.HandOver
        | commands.Suspend
        | commands.Resume
        | commands.Cancel
        | commands.Read
        | commands.PauseLane
        | commands.CloseLane
        | commands.OpenLane,
        p: Passage,
    ) -> Event:
        match command:
            case commands.Save():
                return SaveRequested(self._clock.now_ms())
            case commands.Prove():
                return ProofRequested()
            case commands.HandOver(reason=reason):
                return CardGone(reason) if p.state is State.DOUBTFUL else HandedOver(reason)
            case commands.Suspend():
                return Suspended()
            case commands.Cancel(reason=reason):
                return Cancelled(reason, self._clock.now_ms())
            case (
                commands.Read()
                | commands.Resume()
                | commands.PauseLane()
                | commands.CloseLane()
                | commands.OpenLane()
            ):
                raise AssertionError("the lane itself begins, resumes, pauses and closes")
        assert_never(command)

    async def _plate(self, c: commands.SubmitPlate, p: Passage) -> Event:
        plate = check_plate(c.plate.strip().upper(), c.colour)
        if c.photo and not await self._evidence.has(c.photo):
            raise PhotoInvalid("本机没有这张照片，可能还没有传完")
        assert p.media is not None
        policy = self._parameters().policy
        found = checks.check_plate_against_card(plate, c.colour, p.media, policy)
        return PlateSubmitted(
            plate, c.colour, _source(c, plate, p), c.photo, c.no_photo_reason.strip(), tuple(found)
        )

    def _class(self, c: commands.Classify, p: Passage) -> Event:
        parameters = self._parameters()
        if parameters.vehicle_types.find(c.vehicle_type) is None:
            raise RequestInvalid(f"车型表里没有 {c.vehicle_type}")
        if parameters.vehicle_classes.find(c.vehicle_class) is None:
            raise RequestInvalid(f"车种表里没有 {c.vehicle_class}")
        assert p.media is not None
        found = checks.check_class_against_card(
            c.vehicle_type, c.vehicle_class, p.media, parameters
        )
        return VehicleClassified(c.vehicle_type, c.vehicle_class, tuple(found))

    async def _weight(self, c: commands.Weigh, p: Passage) -> Event:
        parameters = self._parameters()
        by_table = parameters.axle_limits.limit_kg(c.axle_count)
        limit_kg = c.limit_kg or by_table
        if not c.reason.strip() and limit_kg != by_table:
            raise ReasonMissing(f"限重 {limit_kg} 与轴数表 {by_table} 不同，须说明原因")
        if not c.reason.strip() and c.source == "typed":
            raise ReasonMissing("人工填写重量须说明原因")
        if c.source == "scale":
            await self._compare(c.weight_kg, parameters.policy.weight_tolerance_kg)
        assert p.vehicle_type is not None
        kind = parameters.vehicle_types.find(p.vehicle_type)
        assert kind is not None, "the type was checked when it was chosen"
        found = checks.check_weight(kind, c.axle_count, c.weight_kg, limit_kg, parameters.policy)
        return VehicleWeighed(
            c.axle_count, c.weight_kg, limit_kg, c.source, c.reason.strip(), tuple(found)
        )

    async def _compare(self, claimed_kg: int, tolerance_kg: int) -> None:
        """What is called the scale's must be the scale's."""
        if self._scale is None:
            raise WeightDiffers("本车道没有称台")
        try:
            load = await self._scale.load()
        except (DeviceUnavailable, DeviceGarbled) as fault:
            raise WeightDiffers(f"没有称重数据：{fault.detail}") from fault
        if not load.is_stable:
            raise WeightDiffers("称台读数还没有稳定", "请等车停稳后再取数")
        if abs(load.weight_kg - claimed_kg) > tolerance_kg:
            raise WeightDiffers(f"称台读数是 {load.weight_kg} 千克，提交的是 {claimed_kg} 千克")

    def _ask(self, p: Passage) -> Event:
        if needs_weight(p, self._parameters()):
            raise WeightMissing("货车、专项作业车须先有计重信息")
        return QuoteRequested()

    def _entry(self, c: commands.ConfirmEntry, p: Passage) -> Event:
        typed = c.station_hex.upper()
        if c.source == "card" and not self._parameters().policy.hex_from_card:
            raise RequestInvalid("本站规定 Hex 码须由收费员输入", "请输入入口站 Hex 码")
        station = self._station(typed)
        if p.state is State.UNPRICED:
            return EntryCorrected(typed, "searched" if c.source == "searched" else "typed")
        assert p.quote is not None
        if typed != p.quote.station_hex:
            raise EntryMismatch(
                f"输入的是 {station.name}（{typed}），算费的入口站是 {p.quote.station_name}"
            )
        return EntryConfirmed(typed, c.source)

    def _station(self, station_hex: str) -> Station:
        parameters = self._parameters()
        station = parameters.stations.by_hex(station_hex)
        if station is None:
            version = parameters.versions["stations"]
            raise StationUnknown(f"站码表里没有 {station_hex}（表 {version}）")
        return station

    def subject(self, c: Sensitive, p: Passage) -> dict[str, Any]:
        """What a master who is asked from afar decides about. Raises as the command itself."""
        quote = p.quote
        if isinstance(c, commands.UseMinimumFare):
            quote = self._minimum_quote(p)
        by_hand = c if isinstance(c, commands.SettleByHand) else None
        return {
            "plate": p.plate or (p.media.card.issue.plate if p.media else ""),
            "colour": p.plate_colour,
            "state": p.state.value,
            "amount_fen": by_hand.amount_fen if by_hand else quote and quote.fee_fen,
            "station_name": quote.station_name if quote else "",
            "means": by_hand.means if by_hand else "",
            "reason": "" if isinstance(c, commands.UseMinimumFare) else c.reason,
            "findings": [{"code": f.code, "text": f.text} for f in p.all_findings],
            "photo": p.photo,
        }

    def _minimum_quote(self, p: Passage) -> Quote:
        parameters = self._parameters()
        try:
            quote = fare.minimum(p, fare.entry_of(p, parameters), parameters)
        except FareUnknown as no:
            raise UnexpectedEvent(no.detail, _instead(no)) from no
        return fare.with_findings(quote, p.fare_findings)

    async def _minimum(self, c: commands.UseMinimumFare, p: Passage, who: Who) -> Event:
        quote = self._minimum_quote(p)
        return MinimumFareApproved(quote, await self._authority(c, p, who))

    async def _by_hand(self, c: commands.SettleByHand, p: Passage, who: Who) -> Event:
        if c.means == "unpaid" and c.amount_fen:
            raise RequestInvalid("不收费放行时金额须为 0")
        if c.means != "unpaid" and not c.amount_fen:
            raise RequestInvalid("请输入实收金额")
        authority = await self._authority(c, p, who)
        now_ms = self._clock.now_ms()
        if c.means == "unpaid":
            return ReleasedUnpaid(authority, c.reason, now_ms)
        return PaidByHand(c.means, c.amount_fen, authority, c.reason, now_ms)

    async def _authority(self, c: Sensitive, p: Passage, who: Who) -> Authority:
        """A master's number and password typed here, or his approval from his own handheld."""
        if c.approval is not None:
            return self._approvals.check(self._lane, c, p)
        if c.operator is None or c.password is None:
            raise MasterRefused("需要站长授权", "请站长输入工号和密码，或请求远程授权")
        master = await self._approve(c.operator, c.password.get_secret_value())
        how: Literal["booth", "handheld"] = "booth" if who.owner == "booth" else "handheld"
        return Authority(master.number, master.name, how, self._clock.now_ms())


def _instead(no: FareUnknown) -> str:
    """What to do where the minimum fare cannot be had."""
    if no.reason in ("inconsistent", "table_unavailable"):
        return "请转特情，按特情处理，并报告费额表有误"
    return "请先输入入口站 Hex 码，或按站名查找"


def _source(
    c: commands.SubmitPlate, plate: str, p: Passage
) -> Literal["lpr", "lpr_edited", "typed"]:
    """Who recognised the plate, as the box can tell: a page may not claim the camera's word."""
    if c.source == "typed" or p.reading is None:
        return "typed"
    same = plate == p.reading.plate and c.colour == p.reading.colour
    return "lpr" if same else "lpr_edited"

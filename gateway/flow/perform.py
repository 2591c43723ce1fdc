"""Effects done: one `match` from effect to device call to answering event.

Every fault of a device becomes an event here, with the words for the screen; what is not a
`GatewayError` is a bug and ends the process, and the journal brings it back.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from gateway.devices.etc_card import EtcCard
from gateway.devices.etc_files import TollInfo, encode_toll, exit_record
from gateway.devices.obu import ObuReader
from gateway.devices.ports import Camera, Frame, Scale
from gateway.devices.psam import Psam
from gateway.errors import (
    CardAbsent,
    CardMismatch,
    CardRefused,
    CenterRefused,
    CenterUnavailable,
    DeviceGarbled,
    DeviceUnavailable,
    FareUnknown,
    GatewayError,
    NoAnswer,
    OutcomeUnknown,
    PhotoInvalid,
    PsamUnavailable,
    StoreUnavailable,
)
from gateway.evidence import Evidence
from gateway.flow import checks, fare, messages
from gateway.flow.debit import Purse
from gateway.flow.messages import (
    ChecksFailed,
    ChecksPassed,
    CommitDebit,
    DebitConfirmed,
    DebitNeverHappened,
    DebitPrepared,
    DebitRefused,
    DebitUnanswered,
    Effect,
    Event,
    FareQuoted,
    Finding,
    Media,
    MediaUnreadable,
    PhotoBound,
    PhotoMissing,
    PrepareDebit,
    Problem,
    ProofUnavailable,
    ProveDebit,
    QuoteFare,
    Reading,
    ReadMedia,
    TakePhoto,
)
from gateway.flow.passage import Passage
from gateway.flow.recording import Place, pass_id_of
from gateway.params import (
    Hits,
    Listing,
    MinimumFares,
    Parameters,
    StatusList,
    TableDamaged,
    look_up,
)
from gateway.records import FareAnswer, FareRequest
from gateway.store import Store
from gateway.units import Clock, compact, iso

log = logging.getLogger(__name__)

DOUBT_MS = 24 * 3_600_000
"""So long a debit in doubt that people closed by hand may still be of the trip in front of us."""
DOUBTS = """
SELECT lane, changed_ms AS at_ms, amount_fen, 1 AS is_open FROM passage
WHERE ended IS NULL AND card_id = ?1 AND state IN ('debiting', 'doubtful', 'disputed')
UNION ALL
SELECT lane, saved_ms, json_extract(line, '$.transFee'), 0 FROM record
WHERE card_id = ?1 AND saved_ms > ?2 AND kind = 'doubtful' AND corrects IS NULL
ORDER BY is_open DESC, at_ms DESC LIMIT 1
"""
LIST_S_MAX = 1.0
"""So long a passage waits for the status list."""

EXIT_STATUS = 0x04
"""0019's status after the exit: closed ETC exit. Uncertain (domain.md §12.8)."""
NO_FUNDS = frozenset({0x9301, 0x9401})


class Fares(Protocol):
    """The online fare services, province and ministry."""

    deadline_s: float
    """How long a collector waits for them, whatever they do."""

    async def fare(self, request: FareRequest) -> FareAnswer:
        """Raises: CenterUnavailable, CenterRefused, FareUnknown; within `deadline_s`."""


@dataclass(frozen=True, slots=True)
class Kit:
    """The devices of one lane. None where the lane has none."""

    card: EtcCard
    psam: Psam
    obu: ObuReader | None
    camera: Camera | None
    scale: Scale | None


class Hands:
    """Does what the rules ask for, and says what came of it."""

    def __init__(
        self,
        kit: Kit,
        place: Place,
        store: Store,
        evidence: Evidence,
        fares: Fares,
        parameters: Callable[[], Parameters],
        list_age_s: Callable[[], int],
        clock: Clock,
        is_one_photo: Callable[[], bool] = lambda: False,
    ) -> None:
        """`list_age_s`: seconds since the status list was known to be the newest.

        `is_one_photo`: space is short, a passage keeps its first photo and no other.
        """
        self.kit, self._place, self._store = kit, place, store
        self._purse = Purse(kit.card, kit.psam)
        self._evidence, self._fares = evidence, fares
        self._parameters, self._list_age_s, self._clock = parameters, list_age_s, clock
        self._is_one_photo = is_one_photo
        self._asking: asyncio.Future[Hits] | None = None
        """The look-up in the status list that has not come back."""
        self._first_photo = ("", "")
        """Passage and photo: what was last kept by the lane camera."""

    async def answer(self, effect: Effect, p: Passage) -> Event:
        """Perform one effect; the event that answers it."""
        match effect:
            case ReadMedia():
                return await self._read()
            case TakePhoto():
                return await self._photo(p)
            case QuoteFare():
                return await self._quote(p)
            case PrepareDebit(amount_fen=amount):
                return await self._prepare(p, amount)
            case CommitDebit(ticket=ticket):
                return await self._commit(ticket)
            case ProveDebit(ticket=ticket):
                return await self._prove(ticket)
        raise AssertionError(f"nobody performs {effect}")

    # ---- 读卡 ----

    async def _read(self) -> Event:
        looking = asyncio.ensure_future(self._look())
        try:
            media = await self._media()
        except GatewayError as fault:
            looking.cancel()
            return MediaUnreadable(_unreadable(fault))
        frame = await looking
        paid_at_ms = await self._last_paid_here(media)
        doubt = await self._doubt(media)
        age_s = self._list_age_s()
        parameters = self._parameters()
        hits = await self._hits(media, parameters.status_list)
        findings = (
            *checks.check_psam(await self._psam_trouble(), parameters.policy),
            *checks.check_media(media, parameters, paid_at_ms, age_s, hits, doubt),
        )
        kind = ChecksPassed if checks.does_pass(findings) else ChecksFailed
        return kind(media, findings, _reading(frame))

    async def _media(self) -> Media:
        card = await self.kit.card.read()
        tag, tag_fault = None, "本车道没有标签读写设备"
        if self.kit.obu:
            try:
                tag, tag_fault = await self.kit.obu.read(), ""
            except CardAbsent:
                tag_fault = "没有读到标签（OBU）"
            except (DeviceUnavailable, DeviceGarbled, CardRefused) as fault:
                tag_fault = fault.detail
        return Media(card, tag, tag_fault, self._clock.now_ms())

    async def _psam_trouble(self) -> str:
        """Why the PSAM would not debit now, in Chinese; empty if it would."""
        try:
            await self.kit.psam.check()
        except PsamUnavailable as fault:
            return fault.detail
        return ""

    async def _hits(self, media: Media, listing: Listing) -> Hits:
        """A list on a disk is asked in a thread and not waited for longer than a passage bears;
        while one question hangs no other is asked."""
        serial = media.tag.system.contract_serial if media.tag else None
        asked = (listing, media.card.issue.card_id, serial)
        if isinstance(listing, StatusList):
            return look_up(*asked)
        if self._asking is not None and not self._asking.done():
            return Hits(fault="磁盘没有回答")
        self._asking = asyncio.ensure_future(asyncio.to_thread(look_up, *asked))
        done, _ = await asyncio.wait({self._asking}, timeout=LIST_S_MAX)
        return self._asking.result() if done else Hits(fault="磁盘没有及时回答")

    async def _look(self) -> Frame | None:
        """What the camera's own recognition proposes; the photo itself is taken with the plate."""
        if self.kit.camera is None:
            return None
        try:
            return await self.kit.camera.snap()
        except (DeviceUnavailable, DeviceGarbled):
            return None

    async def _last_paid_here(self, media: Media) -> int | None:
        try:
            rows = await self._store.rows(
                "SELECT max(saved_ms) AS at_ms FROM record WHERE card_id = ? AND kind = 'paid'"
                " AND corrects IS NULL",
                media.card.issue.card_id,
            )
        except StoreUnavailable:  # the tables cannot follow the log: selling goes on without
            log.warning("whether this card was here before cannot be said")
            return None
        at_ms: int | None = rows[0]["at_ms"]
        return at_ms

    async def _doubt(self, media: Media) -> checks.Doubt | None:
        """Of all lanes of this box: the card may have gone from one to the next."""
        card_id, since_ms = media.card.issue.card_id, media.read_at_ms - DOUBT_MS
        try:
            rows = await self._store.rows(DOUBTS, card_id, since_ms)
        except StoreUnavailable:
            log.warning("whether a debit of this card is in doubt cannot be said")
            return None
        if not rows:
            return None
        lane, at_ms, amount_fen, is_open = rows[0]
        return checks.Doubt(lane, at_ms, amount_fen or 0, bool(is_open))

    # ---- 拍照 ----

    async def _photo(self, p: Passage) -> Event:
        if self.kit.camera is None:
            return PhotoMissing(_no_photo("本车道没有相机"))
        if self._is_one_photo() and self._first_photo[0] == p.id:
            return PhotoBound(self._first_photo[1], p.reading)
        try:
            frame = await self.kit.camera.snap()
            sha256 = await self._evidence.keep(frame.jpeg, "camera")
        except (DeviceUnavailable, DeviceGarbled, PhotoInvalid, StoreUnavailable) as fault:
            return PhotoMissing(_no_photo(fault.detail))
        self._first_photo = (p.id, sha256)
        return PhotoBound(sha256, _reading(frame))

    # ---- 算费 ----

    async def _quote(self, p: Passage) -> Event:
        """The sources in their order; each refusal is logged, the last one is shown."""
        parameters = self._parameters()
        left: tuple[Finding, ...] = ()
        try:
            entry = fare.entry_of(p, parameters)
            await self._warm(p, entry, parameters)
            if fare.is_free(p, parameters):
                return FareQuoted(fare.free(entry, parameters))
            try:
                return FareQuoted(fare.accumulated(p, entry, parameters))
            except FareUnknown as no:
                left = fare.why_not_accumulated(no, parameters)
                _log_source(p, 1, no)
            quote = await self._online(p, entry, parameters)
        except FareUnknown as no:
            return messages.FareUnknown(fare.problem_of(no), left)
        return FareQuoted(fare.with_findings(quote, left))

    async def _warm(self, p: Passage, entry: fare.Entry, parameters: Parameters) -> None:
        """A table on a disk is asked in a thread, once; the rules then find its row remembered."""
        table, kind = parameters.minimum_fares, p.vehicle_type
        if kind is not None and not isinstance(table, MinimumFares):
            with suppress(TableDamaged):  # the rules will meet it and say so
                await asyncio.to_thread(table.find, entry.station.hex, kind)

    async def _online(
        self, p: Passage, entry: fare.Entry, parameters: Parameters
    ) -> messages.Quote:
        """Province, then ministry, both within one deadline. Raises: FareUnknown, when neither
        knows."""
        last = FareUnknown("offline", "没有网络，在线计费不可用")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._fares.deadline_s):
                for kind in (4, 5):
                    request = self._request(p, entry, 4 if kind == 4 else 5)
                    try:
                        return fare.online(p, entry, await self._fares.fare(request), parameters)
                    except FareUnknown as no:
                        last = no
                    except (CenterUnavailable, CenterRefused) as no:
                        last = FareUnknown("offline", f"{fare.KIND_NAMES[kind]}不可用：{no.detail}")
                    _log_source(p, kind, last)
        raise last

    def _request(self, p: Passage, entry: fare.Entry, kind: int) -> FareRequest:
        assert p.vehicle_type is not None
        return FareRequest(
            passage_id=p.id,
            pass_id=pass_id_of(p),
            entry_hex=entry.station.hex,
            exit_hex=self._place.exit_hex,
            vehicle_type=p.vehicle_type,
            vehicle_class=p.vehicle_class or 0,
            axle_count=p.axle_count or 2,
            entry_time=iso(entry.at_ms) if entry.at_ms is not None else "",
            plate=p.plate,
            plate_colour=p.plate_colour,
            kind=4 if kind == 4 else 5,
        )

    # ---- 扣款 ----

    async def _prepare(self, p: Passage, amount_fen: int) -> Event:
        """INITIALIZE, UPDATE and MAC1. No money moves: every fault here is a plain refusal.

        The card's number is compared with that of an earlier, refused attempt: a second debit
        of one passage is impossible even with a card or a reader that answers falsely.
        """
        assert p.media is not None
        at_ms = self._clock.now_ms()
        try:
            ticket = await self._purse.prepare(
                p.media.card.issue.card_id, amount_fen, self._exit_toll(p, at_ms), compact(at_ms)
            )
        except (DeviceUnavailable, DeviceGarbled, CardRefused, CardMismatch) as fault:
            return DebitRefused(_not_debited(fault))
        if p.earlier and p.earlier.card_seq != ticket.card_seq:
            # The card said no to the earlier debit, and its own counter says it was performed.
            return DebitUnanswered(_unknown("卡片拒绝过上一次扣款，但交易序号变了"))
        return DebitPrepared(ticket)

    async def _commit(self, ticket: messages.DebitTicket) -> Event:
        try:
            tac, mac2 = await self._purse.commit(ticket)
        except OutcomeUnknown as unknown:
            return DebitUnanswered(_unknown(unknown.detail))
        except (DeviceUnavailable, CardRefused) as fault:
            return DebitRefused(_not_debited(fault))
        return DebitConfirmed(tac, mac2, "answered", self._clock.now_ms())

    async def _prove(self, ticket: messages.DebitTicket) -> Event:
        try:
            proved = await self._purse.prove(ticket)
        except CardMismatch as other:
            return ProofUnavailable(_unknown(other.detail))
        except OutcomeUnknown as odd:
            return ProofUnavailable(_unknown(odd.detail, odd.action))
        except (DeviceUnavailable, DeviceGarbled, CardRefused) as fault:
            return ProofUnavailable(_unknown(fault.detail))
        if not proved.happened:
            return DebitNeverHappened(
                Problem("E-302", "已查清：卡上没有扣款", "可以再次数据保存，不会重复扣")
            )
        return DebitConfirmed(proved.tac, "unchecked", "proved", self._clock.now_ms())

    def _exit_toll(self, p: Passage, at_ms: int) -> str:
        """The 43 bytes that the debit writes into 0019, as hex."""
        assert p.media is not None
        issue, toll = p.media.card.issue, p.media.card.toll
        entry = toll or TollInfo(
            station_hex=self._place.exit_hex,
            lane_no=self._place.lane_no,
            at_s=at_ms // 1000,
            vehicle_type=issue.vehicle_type,
            status=EXIT_STATUS,
            gantry_hex="000000",
            gantry_at_s=0,
            plate=issue.plate,
            plate_colour=issue.plate_colour,
            axle_count=p.axle_count or 0,
            weight_kg=p.weight_kg or 0,
            vehicle_status=0xFF,
            accumulated_fen=0,
        )
        place = self._place
        left = exit_record(entry, place.exit_hex, place.lane_no, at_ms // 1000, EXIT_STATUS)
        return encode_toll(left).hex().upper()


def _reading(frame: Frame | None) -> Reading | None:
    if frame is None or frame.reading is None:
        return None
    read = frame.reading
    return Reading(read.plate, read.colour, read.confidence)


def _log_source(p: Passage, kind: int, no: FareUnknown) -> None:
    log.info("fare source skipped", extra={"passage_id": p.id, "kind": kind, "reason": no.reason})


# ---- faults in words (ui.md §2.7) ------------------------------------------------------------


def _unreadable(fault: GatewayError) -> Problem:
    match fault:
        case CardAbsent():
            return Problem("E-101", "没有读到卡", "请把卡平放在读卡区中间，不要移动，再读一次")
        case NoAnswer():
            return Problem("E-102", "卡拿早了，本次没有扣款", "请放回同一张卡，再读一次")
        case DeviceUnavailable():
            return Problem("E-112", f"读卡器没有应答：{fault.detail}", fault.action)
        case _:
            return Problem(
                "E-104", f"不是可用的 ETC 卡：{fault.detail}", "请换卡再读，或按无卡处理"
            )


def _no_photo(detail: str) -> Problem:
    return Problem("E-203", f"没有拍到照片：{detail}", "再拍一次，用手持机拍，或记原因后无照片继续")


def _not_debited(fault: GatewayError) -> Problem:
    match fault:
        case PsamUnavailable():
            return Problem("E-113", f"{fault.detail}，没有扣款", fault.action)
        case CardRefused() if fault.sw in NO_FUNDS:
            return Problem("E-215", "余额不够，没有扣款", "改其他方式收费，或按特情登记")
        case CardAbsent():
            return Problem("E-102", "卡不在读卡区，没有扣款", "请放回同一张卡，再保存一次")
        case CardMismatch():
            return Problem("E-102", f"{fault.detail}，没有扣款", fault.action)
        case NoAnswer():
            return Problem("E-102", "卡拿早了，没有扣款", "请放回同一张卡，再保存一次")
        case DeviceUnavailable():
            return Problem("E-112", f"{fault.detail}，没有扣款", fault.action)
        case _:
            return Problem("E-302", f"{fault.detail}，没有扣款", "再试一次，或按特情登记")


def _unknown(detail: str, action: str = OutcomeUnknown.default_action) -> Problem:
    return Problem("E-301", f"扣款结果还不知道：{detail}", action)

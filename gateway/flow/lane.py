"""The edge: journal first, then act; every answer comes back as an event.

One inbox, one vehicle in front of the booth, one event at a time: no locks. What a person asks
is answered when the lane has settled, or refused with nothing changed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, NamedTuple

from gateway.access import Who
from gateway.devices.ports import Frame
from gateway.errors import (
    AccessRefused,
    DeviceUnavailable,
    EntryMismatch,
    GatewayError,
    JournalMismatch,
    NotFound,
    NotOwner,
    StaleRevision,
    StationUnknown,
    StoreUnavailable,
    UnexpectedEvent,
)
from gateway.flow.approvals import Approval, Approvals, Sensitive
from gateway.flow.books import Books, Key, Saved, amount_of, key_of
from gateway.flow.commands import CloseLane, Command, OpenLane, PauseLane, Resume
from gateway.flow.desk import NAMES, Desk, allowed
from gateway.flow.journal import Moment
from gateway.flow.messages import (
    AfterRestart,
    DebitConfirmed,
    DebitPrepared,
    DebitRefused,
    DebitUnanswered,
    Event,
    Problem,
    ReadRequested,
    Resumed,
    Suspended,
)
from gateway.flow.passage import Owed, Passage, State, Step
from gateway.flow.perform import Hands
from gateway.flow.recording import Place
from gateway.flow.rules import advance
from gateway.flow.shift import COLLECTED, Shifts
from gateway.flow.standing import Standing
from gateway.flow.view import E_DISK, E_RESTART, SCREEN_BUSY, STATE_NAMES, aside, problem_view, view
from gateway.params import Parameters
from gateway.runtime import Topic
from gateway.units import Clock, PassageId, compact

log = logging.getLogger(__name__)

INBOX_MAX = 64
FORGET_EVERY_MS = 3_600_000  # old keys
LAMP_MS = 3_000  # so old a lamp may be
E_READER = "E-112"
RETRY_S = 1.0  # between attempts to write what a full or broken disk did not take
BOOTH = "booth"
NO_RECORD = "请转特情，按特情处理，并报告站长"
STOPPING = ("网关正在停止，这一步没有办完", "请等屏幕恢复，以那时的显示为准，不要放行")


class Asked(NamedTuple):
    """One command in the inbox."""

    command: Command
    who: Who
    key: Key
    rev: int
    answered: "asyncio.Future[dict[str, Any]]"


@dataclass(frozen=True, slots=True)
class Sign:
    """How this lane is called, where it is, and whether it may sell."""

    place: Place
    title: str
    is_enabled: bool


class Lane:
    """One lane: hears people and devices, owns the passage in front of it."""

    def __init__(
        self,
        sign: Sign,
        books: Books,
        hands: Hands,
        desk: Desk,
        approvals: Approvals,
        shifts: Shifts,
        parameters: Callable[[], Parameters],
        surroundings: Callable[[], dict[str, Any]],
        on_saved: Callable[[str, int], None],
        changes: Topic,
        clock: Clock,
        no_new: Callable[[], Problem | None] = lambda: None,
    ) -> None:
        """`surroundings`: what a snapshot says besides the passage. `on_saved(lane, at_ms)`: a
        record is on disk. `changes`: told of each change. `no_new`: why no new passage may begin;
        one that has begun is finished all the same."""
        self.lane, self.title = sign.place.lane, sign.title
        self.name = f"lane {self.lane}"
        self.is_enabled = sign.is_enabled
        self.rev = 0
        """Journal number of the newest step."""
        self.passage = Passage()
        self.suspended: dict[str, Passage] = {}
        self.changes = changes
        self.turns = 0
        """Moves at least once a second while the lane lives; feeds the watchdog."""
        self.standing = Standing()
        """Whether it takes vehicles, by whose word."""
        self.is_working = False
        """A command and all that follows from it is under way: a bad moment to be cut off."""
        self._place, self._books, self._hands, self._desk = sign.place, books, hands, desk
        self._approvals, self._shifts, self._parameters = approvals, shifts, parameters
        self._surroundings, self._on_saved, self._clock = surroundings, on_saved, clock
        self._no_new = no_new
        self._inbox: asyncio.Queue[Asked] = asyncio.Queue(INBOX_MAX)
        self._unanswered: Step | None = None
        self._unwritten: Event | None = None
        self._closed: Problem | None = None
        self._forget_at_ms = 0
        self._is_adrift = False
        self._told: Problem | None = None
        self._faulted_ms = 0
        self._busy: str | None = None
        self._record: Saved | None = None
        self._last: dict[str, Any] | None = None

    # ---- for people ----

    async def command(self, command: Command, who: Who, key: str, rev: int) -> dict[str, Any]:
        """Ask the lane; the snapshot once it has settled.

        The same key again gives the same answer and does nothing twice, also after a restart.
        Raises: StaleRevision, UnexpectedEvent, NotOwner (409), RequestInvalid (422),
        AccessRefused (403, 423), StoreUnavailable (503).
        """
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        digest = key_of(key, command.model_dump(mode="json"), who.operator)
        try:
            self._inbox.put_nowait(Asked(command, who, digest, rev, answered))
        except asyncio.QueueFull:
            raise StoreUnavailable("车道正忙，没有受理", "请稍等再按") from None
        return await answered  # who hangs up cancels this future, never the command

    def snapshot(self) -> dict[str, Any]:
        """Everything a screen needs, whole (interfaces.md §2)."""
        parameters = self._parameters()
        picture = None
        if self.passage.state is not State.IDLE:
            picture = view(self.passage, parameters)
            if self._record:
                picture["record"] = {**self._record._asdict(), "tac": self.passage.tac}
        around = self._surroundings()
        return {
            "rev": self.rev,
            "lane": self.lane,
            "lane_name": self.title,
            "station": {"name": self._place.exit_name},
            "state": self.passage.state.value,
            "at_ms": self._clock.now_ms(),
            "allowed": self._allowed(),
            "busy": self._busy,
            "passage": picture,
            "suspended": [aside(p) for p in self.suspended.values()],
            "last": self._last,
            "shift": self._shifts.shown(self.lane),
            "approvals": [_asked(a) for a in self._approvals.of(self.lane, self.passage)],
            "is_training": self._place.is_training,
            "policy": {"hex_from_card": parameters.policy.hex_from_card},
            "problem": problem_view(self._problem()),
            "standing": {**self.standing._asdict(), "allowed": [*self.standing.allowed]},
            **around,
            "devices": {**around.get("devices", {}), **self.standing.lamps()},
        }

    def ask_master(self, command: Sensitive, who: Who) -> Approval:
        """Ask a master who is elsewhere. Raises: UnexpectedEvent, if it cannot be done now."""
        if command.command not in self._allowed():
            name = command.command
            raise UnexpectedEvent(f"现在不能{NAMES[name]}：{self._why_not(name)}")
        return self._approvals.ask(self.lane, command, self.passage, who, self.subject(command))

    def subject(self, command: Sensitive) -> dict[str, Any]:
        """What a master decides about, here or afar (flow/desk.py). Raises: UnexpectedEvent."""
        return self._desk.subject(command, self.passage)

    @property
    def closed_because(self) -> str:
        """Why this lane cannot sell now, in Chinese; empty if it can."""
        trouble = self._trouble or self._no_new()
        return trouble.detail if trouble else ""

    async def frame(self) -> Frame:
        """What the lane camera sees now. Raises: DeviceUnavailable."""
        if self._hands.kit.camera is None:
            raise DeviceUnavailable("本车道没有相机")
        return await self._hands.kit.camera.snap()

    # ---- life ----

    async def recover(self) -> None:
        """Read back where this lane was. Devices are not touched; `run` does what is left.

        A journal that contradicts the rules closes the lane and says so; the box lives on.
        """
        try:
            await self._read_back()
        except JournalMismatch as broken:
            log.error("lane closed", extra={"lane": self.lane, "code": broken.code})
            self.rev = (await self._books.newest_step())[0]  # no screen takes this for old news
            self._closed = Problem(broken.code, broken.detail, broken.action)

    async def run(self) -> None:
        """Finish what a restart left unanswered, then serve the inbox for ever."""
        self.is_working = True
        await self._finish()
        while True:
            self.turns += 1
            self.is_working = False
            try:
                async with asyncio.timeout(RETRY_S):
                    asked = await self._inbox.get()
            except TimeoutError:
                asked = None
            self.is_working = True
            await self._catch_up()
            self._tell_problem()
            if asked:
                await self._serve(asked)
            if self._clock.monotonic_ms() > self._forget_at_ms:
                await _quietly(self._forget_old_keys())  # at a start too, but nobody waits for it

    async def _forget_old_keys(self) -> None:
        self._forget_at_ms = self._clock.monotonic_ms() + FORGET_EVERY_MS
        await self._books.forget_old_keys(self._clock.now_ms())

    async def _read_back(self) -> None:
        """All of it or nothing: screens look on, and the disk may fail half-way."""
        await self._shifts.load(self.lane)
        standing, last = await self._books.standing(), await self._books.last_saved()
        rev, here, state = await self._books.newest_step()
        passage, record, unanswered = Passage(), None, None
        if state not in (State.IDLE, State.SUSPENDED):
            unanswered = await self._books.replay(here)
            passage, record = unanswered.passage, await self._books.record_of(here)
        others = [name for name in await self._books.open_passages() if name != passage.id]
        suspended = {name: (await self._books.replay(name)).passage for name in others}
        self.standing, self._last, self.rev = standing, last, rev
        self.passage, self._record, self._unanswered = passage, record, unanswered
        self.suspended = suspended

    # ---- one command ----

    async def _serve(self, asked: Asked) -> None:
        answered = asked.answered
        try:
            answer = await self._ask(asked)
        except GatewayError as no:
            facts = {"lane": self.lane, "command": asked.command.command, "code": no.code}
            log.info("command refused", extra=facts)
            _fail(answered, no)
        except asyncio.CancelledError:
            _fail(answered, StoreUnavailable(*STOPPING))
            raise
        except BaseException as bug:
            _fail(answered, RuntimeError(f"lane died: {type(bug).__name__}"))
            raise
        else:
            if not answered.done():
                answered.set_result(answer)

    async def _ask(self, asked: Asked) -> dict[str, Any]:
        was_done, before = await self._books.answer_of(asked.key)
        if was_done:
            return before or self.snapshot()
        self._check(asked)
        if isinstance(asked.command, PauseLane | CloseLane | OpenLane):
            return await self._stand(asked, asked.command)
        if isinstance(asked.command, Resume):
            passage = self._find_aside(asked.command)
            event: Event = Resumed(asked.who.owner)
        else:
            event = await self._translate(asked)
            passage = self.passage
        await self._hear(event, advance(passage, event), passage, asked)
        answer = self.snapshot()
        self._books.keep_answer(asked.key, answer)
        return answer

    async def _stand(self, asked: Asked, said: PauseLane | CloseLane | OpenLane) -> dict[str, Any]:
        """Whatever vehicle is in work stays so."""
        try:
            moment = self._moment(asked.who.operator)
            self.standing = await self._books.stand(said, moment, asked.key)
        except StoreUnavailable:
            self._is_adrift = True
            raise
        self.changes.publish()
        answer = self.snapshot()
        self._books.keep_answer(asked.key, answer)
        return answer

    def _check(self, asked: Asked) -> None:
        if trouble := self._trouble:
            raise StoreUnavailable(trouble.detail, trouble.action)
        if asked.rev != self.rev:
            raise StaleRevision(f"屏幕是第 {asked.rev} 版，现在是第 {self.rev} 版，没有执行")
        name = asked.command.command
        if name == "read" and (no := self._no_new()):
            raise StoreUnavailable(no.detail, no.action)
        if name == "read" and (no := self.standing.problem):
            raise UnexpectedEvent(no.detail, no.action)
        if name in self.standing.allowed:
            return
        if name not in self._allowed():
            raise UnexpectedEvent(f"现在不能{NAMES[name]}：{self._why_not(name)}")
        if name == "suspend" and asked.who.owner == BOOTH:
            return  # the booth may take a passage from a handheld that is lost: 挂起, then 续办
        owner = self.passage.owner
        if self.passage.state not in (State.IDLE, State.SAVED) and owner != asked.who.owner:
            raise NotOwner(f"这一笔正在{'岗亭' if owner == BOOTH else '手持机'}上处理")

    def _why_not(self, name: str) -> str:
        if not self.is_enabled:
            return "本车道没有启用"
        if name.endswith("_lane"):
            return "车道已经是这样"
        if name == "override":
            return "检查结果里有站长也不能放行的项"
        if name == "quote" and self.passage.state is State.CLASSIFIED:
            return "须先有计重信息"
        if name == "minimum_fare" and self.passage.state is State.UNPRICED:
            return "须先有入口站"
        if name == "resume":
            return "请先办完这一笔，或没有挂起的车"
        return f"这一步是“{STATE_NAMES[self.passage.state]}”"

    async def _translate(self, asked: Asked) -> Event:
        """The command's event; a refusal that matters to an auditor is written down."""
        if asked.command.command == "read":
            return await self._begin(asked.who)
        try:
            return await self._desk.event_for(asked.command, self.passage, asked.who)
        except (EntryMismatch, StationUnknown, AccessRefused) as no:
            body = {"code": no.code, "detail": no.detail, "action": no.action}
            name, moment = f"refused_{asked.command.command}", self._moment(asked.who.operator)
            await self._books.note(self.passage.id, name, body, moment, asked.key, no.http_status)
            raise

    async def _begin(self, who: Who) -> ReadRequested:
        """A new passage: its id is made here and is on disk before anything is touched."""
        now_ms = self._clock.now_ms()
        shift_id = await self._shifts.ensure_open(self.lane, who.operator)
        return ReadRequested(
            passage_id=PassageId(f"{self.lane}-{compact(now_ms)}-{token_hex(4).upper()}"),
            operator=who.operator,
            shift_id=shift_id,
            owner=who.owner,
            at_ms=now_ms,
            parameters=dict(self._parameters().versions),
        )

    def _find_aside(self, command: Resume) -> Passage:
        if command.passage not in self.suspended:
            raise NotFound(f"没有挂起的这一笔：{command.passage}", "请从挂起列表里选")
        return self.suspended[command.passage]

    def _allowed(self) -> list[str]:
        if self._closed or self._unwritten or self._busy or not self.is_enabled:
            return []
        names = allowed(self.passage, self._parameters(), bool(self.suspended))
        no_new = self._no_new() or self.standing.problem
        return [name for name in names if name != "read" or not no_new]

    # ---- what the screen must say ----

    @property
    def _trouble(self) -> Problem | None:
        """Why nothing at all can be done now."""
        return self._closed or (E_DISK if self._unwritten or self._is_adrift else None)

    def _problem(self) -> Problem | None:
        """The worst that is so now: what has passed is not said any more."""
        own, no_new = self.passage.problem, self._no_new()
        if self._is_adrift and not self._closed and not self._unwritten:
            return no_new or E_DISK  # the disk's own words are the better ones
        if self.passage.state is not State.IDLE:
            return self._trouble or own or no_new
        return self._trouble or no_new or (None if self._is_over(own) else own)

    def _is_over(self, own: Problem | None) -> bool:
        """A reader that did not answer does so again. Its lamp is a second or two behind."""
        past_ms = self._clock.monotonic_ms() - self._faulted_ms
        if own is None or own.code != E_READER or past_ms <= LAMP_MS:
            return False
        lamps = self._surroundings().get("devices", {})
        return bool(lamps.get("reader", {}).get("state") == "ok")

    def _tell_problem(self) -> None:
        """Causes come and go by themselves: the disk, the reader."""
        now = self._problem()
        if now != self._told:
            self._told = now
            self.changes.publish()

    # ---- one event ----

    async def _hear(
        self, event: Event, step: Step, before: Passage, asked: Asked | None = None
    ) -> None:
        """Write it down; only then is it so; only then do what follows from it."""
        moment = self._moment(asked.who.operator if asked else before.operator)
        try:
            done = await self._books.commit(event, step, before, moment, asked and asked.key)
        except StoreUnavailable:
            self._is_adrift = True
            raise
        self.rev = done.seq
        self._take_on(event, step, before)
        if done.record and step.owed:
            self._settled(done.record, step.owed)
        self.changes.publish()
        await self._act(step)

    async def _act(self, step: Step) -> None:
        """Perform the effects of a step that is on disk, and hear their answers."""
        for effect in step.effects:
            self._busy = SCREEN_BUSY.get(step.passage.state, "work")
            self.changes.publish()
            try:
                answer = await self._hands.answer(effect, self.passage)
            finally:
                self._busy = None
            self.turns += 1
            await self._hear_answer(answer)

    async def _hear_answer(self, answer: Event) -> None:
        """An answer that the disk does not take is kept and written as soon as it can be."""
        before, answer = self.passage, self._if_it_can_be_told(answer)
        try:
            await self._hear(answer, advance(before, answer), before)
        except StoreUnavailable:
            if self._unwritten is None and self.passage is before:
                self._unwritten = answer
                self.changes.publish()
            raise

    def _if_it_can_be_told(self, answer: Event) -> Event:
        """Money is not taken where its record could not be made: it would be owed for ever, and
        each restart would prove the debit and end there again."""
        if not isinstance(answer, DebitPrepared):
            return answer
        p, done = self.passage, DebitConfirmed(None, "unchecked", "proved", self._clock.now_ms())
        paid = advance(advance(p, answer).passage, done)
        why = self._books.why_no_record(paid, p, self._moment(p.operator))
        if not why:
            return answer
        log.error("no record could be made", extra={"passage_id": p.id, "reason": why})
        return DebitRefused(Problem("E-302", f"这一笔的流水做不出来：{why}，没有扣款", NO_RECORD))

    def _take_on(self, event: Event, step: Step, before: Passage) -> None:
        """The step is on disk: now it is so."""
        match event:
            case Suspended():
                self.suspended[before.id] = step.passage
                self.passage = Passage()
            case Resumed():
                del self.suspended[before.id]
                self.passage, self._record = step.passage, None
            case ReadRequested():
                self.passage, self._record = step.passage, None
            case _:
                self.passage = step.passage
        self._faulted_ms = self._clock.monotonic_ms()

    def _settled(self, record: Saved, owed: Owed) -> None:
        self._on_saved(self.lane, owed.at_ms)
        if owed.outcome == "cancelled":
            return  # a stub: the centre must get it, nobody at the booth need see it
        p = self.passage
        fee_fen = amount_of(p) or 0
        self._record = record
        self._last = {
            "plate": p.plate,
            "colour": p.plate_colour,
            "amount_fen": fee_fen,
            "saved_at_ms": owed.at_ms,
            "record_id": record.id,
            "seq": record.seq,
        }
        self._shifts.count(self.lane, fee_fen if owed.outcome in COLLECTED else 0)
        took_ms = self._clock.now_ms() - p.opened_at_ms
        facts = {"passage_id": p.id, "seq": record.seq, "means": p.means, "fee_fen": fee_fen}
        log.info("passage saved", extra={**facts, "took_ms": took_ms})

    # ---- when the plug or the disk had its say ----

    async def _finish(self) -> None:
        """Each effect that a restart found without an answer, as its class says."""
        step, self._unanswered = self._unanswered, None
        if step is None or self._closed:
            return
        for effect in step.effects:
            how = effect.after_restart
            facts = {"lane": self.lane, "effect": type(effect).__name__, "how": how.value}
            log.warning("unanswered effect", extra=facts)
            try:
                if how is AfterRestart.REDO:
                    await self._act(Step(self.passage, (effect,)))
                elif how is AfterRestart.PROVE:
                    await self._hear_answer(DebitUnanswered(E_RESTART))
            except StoreUnavailable:
                log.error("the disk refuses at start", extra={"lane": self.lane})

    async def _catch_up(self) -> None:
        """Look first: an answer that the disk refused may be there, and is never written twice."""
        if self._is_adrift:
            await self._find_footing()
        if self._unwritten and not self._is_adrift:
            await self._write_again()

    async def _find_footing(self) -> None:
        """After a failed commit: a disk that said no may still have kept the row. Look.

        If it did, that row is what happened, and what we hold in memory is older.
        """
        try:
            if (await self._books.newest_step())[0] != self.rev:
                self._unwritten = None
                await self._read_back()
            self.standing = await self._books.standing()
        except StoreUnavailable:
            return
        except JournalMismatch as broken:
            self._closed = Problem(broken.code, broken.detail, broken.action)
        self._is_adrift = False
        self.changes.publish()  # a refusal on a screen is over
        await self._finish()

    async def _write_again(self) -> None:
        answer, before = self._unwritten, self.passage
        assert answer is not None
        if isinstance(answer, DebitPrepared):
            # Nothing was sent yet: do not debit long after the collector was told it failed.
            answer = DebitRefused(replace(E_DISK, action="没有扣款，可以再次数据保存"))
        self._unwritten = None
        try:
            await self._hear_answer(answer)
        except StoreUnavailable:
            if self.passage is before:
                self._unwritten = answer
        self.changes.publish()

    def _moment(self, operator: str) -> Moment:
        clock = self._clock
        return Moment(clock.now_ms(), clock.monotonic_ms(), clock.boot_id, operator)


def _asked(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "command": approval.command.command,
        "state": approval.stage,
        "expires_at_ms": approval.expires_at_ms,
    }


def _fail(answered: "asyncio.Future[dict[str, Any]]", fault: BaseException) -> None:
    if not answered.done():
        answered.set_exception(fault)
        answered.exception()  # retrieved: the asker may have gone


async def _quietly(work: Awaitable[Any]) -> None:
    try:
        await work
    except StoreUnavailable:
        log.warning("the disk did not take what can wait")

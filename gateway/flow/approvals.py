"""A station master's word from where he is: asked at the booth, given on his own handheld.

An approval is for one command, word for word, on one passage as it stood: whatever changes in
between makes it void. It lives in memory only; after a restart it is asked again. What comes of
it is journaled with the command that uses it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Literal

from gateway.access import Who
from gateway.errors import MasterRefused, NotFound, UnexpectedEvent
from gateway.flow.commands import Override, SettleByHand, UseMinimumFare
from gateway.flow.messages import Authority
from gateway.flow.passage import Passage
from gateway.params import Operator
from gateway.units import Clock

LIFE_MS = 120_000
OPEN_MAX = 16

Sensitive = UseMinimumFare | Override | SettleByHand
Approve = Callable[[str, str], Awaitable[Operator]]
"""Station master's number and password → the master. Raises: MasterRefused, OperatorLocked."""
Stage = Literal["pending", "approved", "refused", "expired", "used"]


@dataclass(slots=True)
class Approval:
    """One question to a master, and what became of it."""

    id: str
    lane: str
    command: Sensitive
    passage: Passage
    asked_by: Who
    asked_at_ms: int
    expires_at_ms: int
    deadline_ms: int
    """Monotonic."""
    shown: dict[str, Any]
    """What the master decides about: plate, amount, findings, reason."""
    stage: Stage = "pending"
    authority: Authority | None = None


class Approvals:
    """Questions under way. One box, all lanes."""

    def __init__(self, approve: Approve, on_change: Callable[[], None], clock: Clock) -> None:
        self._approve, self._on_change, self._clock = approve, on_change, clock
        self._asked: dict[str, Approval] = {}

    def ask(
        self, lane: str, command: Sensitive, p: Passage, who: Who, shown: dict[str, Any]
    ) -> Approval:
        """Put the question; an earlier one about this passage is withdrawn."""
        self._sweep()
        for old in self.of(lane, p):
            if old.stage in ("pending", "approved"):
                old.stage = "expired"
        if len(self._asked) >= OPEN_MAX:
            del self._asked[next(iter(self._asked))]
        now_ms = self._clock.now_ms()
        approval = Approval(
            id=f"A{token_hex(8).upper()}",
            lane=lane,
            command=_bare(command),
            passage=p,
            asked_by=who,
            asked_at_ms=now_ms,
            expires_at_ms=now_ms + LIFE_MS,
            deadline_ms=self._clock.monotonic_ms() + LIFE_MS,
            shown=shown,
        )
        self._asked[approval.id] = approval
        self._on_change()
        return approval

    def find(self, id_: str) -> Approval:
        """Raises: NotFound."""
        self._sweep()
        if id_ not in self._asked:
            raise NotFound("没有这个授权请求，可能已经过期", "请重新请求站长授权")
        return self._asked[id_]

    def all(self) -> list[Approval]:
        """Newest last."""
        self._sweep()
        return list(self._asked.values())

    def of(self, lane: str, p: Passage) -> list[Approval]:
        """Those about this passage, whatever became of them."""
        self._sweep()
        return [a for a in self._asked.values() if a.lane == lane and a.passage.id == p.id]

    async def decide(self, id_: str, who: Who, password: str, is_given: bool) -> Approval:
        """A master's word, with his password once more. Raises: NotFound, MasterRefused,
        OperatorLocked, UnexpectedEvent if the question is no longer open."""
        self._open(id_)
        master = await self._approve(who.operator, password)
        approval = self._open(id_)  # it may have ended while the password was checked
        how: Literal["booth", "handheld"] = "booth" if who.owner == "booth" else "handheld"
        if is_given:
            at_ms = self._clock.now_ms()
            approval.authority = Authority(master.number, master.name, how, at_ms)
        approval.stage = "approved" if is_given else "refused"
        self._on_change()
        return approval

    def check(self, lane: str, command: Sensitive, p: Passage) -> Authority:
        """The authority that `command.approval` stands for. Raises: MasterRefused, saying why."""
        self._sweep()
        approval = self._asked.get(command.approval or "")
        if approval is None or approval.lane != lane or approval.stage != "approved":
            raise MasterRefused("站长没有同意，或授权已经用过、过期", "请重新请求站长授权")
        if approval.passage != p or approval.command != _bare(command):
            raise MasterRefused("授权之后这一笔又有改动，授权作废", "请重新请求站长授权")
        assert approval.authority is not None
        approval.stage = "used"
        return approval.authority

    def _open(self, id_: str) -> Approval:
        approval = self.find(id_)
        if approval.stage != "pending":
            raise UnexpectedEvent("这个授权请求已经结束", "请回到列表查看")
        return approval

    def _sweep(self) -> None:
        """Questions expire by the clock that does not jump; old ones are forgotten later."""
        now_ms = self._clock.monotonic_ms()
        for id_, approval in list(self._asked.items()):
            if now_ms >= approval.deadline_ms + LIFE_MS:
                del self._asked[id_]
            elif now_ms >= approval.deadline_ms and approval.stage in ("pending", "approved"):
                approval.stage = "expired"


def _bare(command: Sensitive) -> Sensitive:
    """The command without whoever authorises it."""
    return command.model_copy(update={"operator": None, "password": None, "approval": None})

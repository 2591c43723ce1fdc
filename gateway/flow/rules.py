"""The exit lane, in one table. Pure: no clock, no I/O, no logging.

Read RULES first; it is the whole story. A row says: in this state, on hearing this, go there,
and the named function says what else follows. Functions never choose the next state.

One thing does not fit a table and is admitted here: a suspended passage goes back to where it
was, so the row (SUSPENDED, Resumed) names no state and `advance` takes the remembered one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.errors import UnexpectedEvent
from gateway.flow.messages import (
    Cancelled,
    CardGone,
    ChecksFailed,
    ChecksPassed,
    CommitDebit,
    DebitConfirmed,
    DebitNeverHappened,
    DebitPrepared,
    DebitRefused,
    DebitUnanswered,
    EntryConfirmed,
    EntryCorrected,
    Event,
    FareQuoted,
    FareUnknown,
    Finding,
    HandedOver,
    Level,
    MediaUnreadable,
    MinimumFareApproved,
    OverrideApproved,
    PaidByHand,
    PhotoBound,
    PhotoMissing,
    PlateSubmitted,
    PrepareDebit,
    Problem,
    ProofRequested,
    ProofUnavailable,
    ProveDebit,
    QuoteFare,
    QuoteRequested,
    ReadMedia,
    ReadRequested,
    ReleasedUnpaid,
    Resumed,
    SaveRequested,
    Suspended,
    TakePhoto,
    VehicleClassified,
    VehicleWeighed,
)
from gateway.flow.passage import Change, Owed, Passage, State, Step

S = State

NO_QUOTE: dict[str, Any] = {
    "quote": None,
    "fare_findings": (),
    "is_entry_confirmed": False,
    "problem": None,
}
"""What a correction of anything the fare depends on takes back."""

MAC2_REFUSED = Finding(97, Level.WARNS, "已扣款，PSAM 不认卡的 MAC2")
PAID_BUT = Problem(
    "E-114",
    "已经扣款，流水已保存，但 PSAM 不认这张卡的 MAC2",
    "请放行，不要再扣；请报告站长，连续几次会锁住 PSAM",
)


# ---- what else follows -----------------------------------------------------------------------


def begin(_: Passage, e: ReadRequested) -> Change:
    return Change(
        facts={
            "id": e.passage_id,
            "operator": e.operator,
            "shift_id": e.shift_id,
            "owner": e.owner,
            "opened_at_ms": e.at_ms,
            "parameters": e.parameters,
        },
        effects=(ReadMedia(),),
        anew=True,
    )


def keep_what_was_read(_: Passage, e: ChecksPassed | ChecksFailed) -> Change:
    return Change(facts={"media": e.media, "findings": e.findings, "reading": e.reading})


def say_why_and_forget(_: Passage, e: MediaUnreadable) -> Change:
    return Change(facts={"problem": e.problem}, anew=True)


def let_pass(_: Passage, e: OverrideApproved) -> Change:
    return Change(facts={"override": e.authority, "override_reason": e.reason})


def keep_plate(_: Passage, e: PlateSubmitted) -> Change:
    needs_photo = e.photo is None and not e.no_photo_reason
    return Change(
        facts={
            **NO_QUOTE,
            "plate": e.plate,
            "plate_colour": e.colour,
            "plate_source": e.source,
            "photo": e.photo,
            "no_photo_reason": e.no_photo_reason,
            "plate_findings": e.findings,
        },
        effects=(TakePhoto(),) if needs_photo else (),
    )


def bind_photo(_: Passage, e: PhotoBound) -> Change:
    return Change(facts={"photo": e.sha256})


def keep_class(_: Passage, e: VehicleClassified) -> Change:
    """Another type makes an earlier weighing somebody else's."""
    return Change(
        facts={
            **NO_QUOTE,
            "vehicle_type": e.vehicle_type,
            "vehicle_class": e.vehicle_class,
            "class_findings": e.findings,
            "axle_count": None,
            "weight_kg": None,
            "limit_kg": None,
            "weight_source": "",
            "weight_reason": "",
            "weight_findings": (),
        }
    )


def keep_weight(_: Passage, e: VehicleWeighed) -> Change:
    return Change(
        facts={
            **NO_QUOTE,
            "axle_count": e.axle_count,
            "weight_kg": e.weight_kg,
            "limit_kg": e.limit_kg,
            "weight_source": e.source,
            "weight_reason": e.reason,
            "weight_findings": e.findings,
        }
    )


def ask_fare(_: Passage, __: QuoteRequested) -> Change:
    return Change(facts=NO_QUOTE, effects=(QuoteFare(),))


def ask_fare_from_there(_: Passage, e: EntryCorrected) -> Change:
    return Change(
        facts={**NO_QUOTE, "entry_hex": e.station_hex, "entry_source": e.source},
        effects=(QuoteFare(),),
    )


def show_fare(_: Passage, e: FareQuoted) -> Change:
    return Change(facts={"quote": e.quote, "problem": None})


def say_why_no_fare(_: Passage, e: FareUnknown) -> Change:
    return Change(facts={"problem": e.problem, "fare_findings": e.findings})


def agree(_: Passage, e: EntryConfirmed) -> Change:
    return Change(facts={"is_entry_confirmed": True, "entry_source": e.source, "problem": None})


def agree_on_minimum(_: Passage, e: MinimumFareApproved) -> Change:
    return Change(facts={"quote": e.quote, "authority": e.authority, "problem": None})


def ask_both_chips(p: Passage, e: SaveRequested) -> Change:
    """A fare of 0 is debited too: the debit writes the exit into the card's 0019."""
    assert p.quote is not None
    return Change(
        facts={"save_at_ms": e.at_ms, "ticket": None, "problem": None},
        effects=(PrepareDebit(p.quote.fee_fen),),
    )


def take_the_money(_: Passage, e: DebitPrepared) -> Change:
    """Both counters are journaled before this effect runs, so a lost answer can be proved."""
    return Change(facts={"ticket": e.ticket}, effects=(CommitDebit(e.ticket),))


def settle(_: Passage, e: DebitConfirmed) -> Change:
    """A receipt that the PSAM disowns undoes nothing: the money is gone, and people are told."""
    is_disowned = e.mac2 == "refused"
    return Change(
        facts={
            "tac": e.tac,
            "mac2": e.mac2,
            "how_paid": e.how,
            "means": "etc_card",
            "debit_findings": (MAC2_REFUSED,) if is_disowned else (),
            "problem": PAID_BUT if is_disowned else None,
        },
        owed=Owed("paid", e.at_ms),
    )


def say_why(_: Passage, e: PhotoMissing | DebitRefused | DebitNeverHappened) -> Change:
    return Change(facts={"problem": e.problem})


def nothing_was_taken(p: Passage, e: DebitRefused | DebitNeverHappened) -> Change:
    return Change(facts={"problem": e.problem, "ticket": None, "earlier": p.ticket or p.earlier})


def ask_for_proof(p: Passage, e: DebitUnanswered) -> Change:
    """结果未知: the money may be gone. Ask the card; never send the debit again."""
    ticket = p.ticket or p.earlier
    assert ticket is not None
    return Change(facts={"problem": e.problem, "ticket": ticket}, effects=(ProveDebit(ticket),))


def ask_again(p: Passage, _: ProofRequested) -> Change:
    assert p.ticket is not None
    return Change(effects=(ProveDebit(p.ticket),))


def still_unknown(_: Passage, e: ProofUnavailable) -> Change:
    return Change(facts={"problem": e.problem})


def give_to_people(_: Passage, e: HandedOver | CardGone) -> Change:
    return Change(facts={"reason": e.reason, "problem": None})


def settle_by_hand(p: Passage, e: PaidByHand) -> Change:
    return Change(
        facts={
            "means": e.means,
            "amount_by_hand_fen": e.amount_fen,
            "authority": e.authority,
            "reason": e.reason,
            "problem": None,
        },
        owed=Owed("doubtful" if p.ticket else "by_hand", e.at_ms),
    )


def let_go_unpaid(p: Passage, e: ReleasedUnpaid) -> Change:
    return Change(
        facts={"means": "none", "authority": e.authority, "reason": e.reason, "problem": None},
        owed=Owed("doubtful" if p.ticket else "unpaid", e.at_ms),
    )


def put_aside(p: Passage, _: Suspended) -> Change:
    return Change(facts={"suspended_in": p.state})


def take_up(_: Passage, e: Resumed) -> Change:
    return Change(facts={"owner": e.owner, "suspended_in": None})


def forget(_: Passage, e: Cancelled) -> Change:
    """What was begun leaves a stub: a reader of the records sees that nothing is missing."""
    return Change(owed=Owed("cancelled", e.at_ms, e.reason), anew=True)


# ---- the table -------------------------------------------------------------------------------


class Rule(NamedTuple):
    next_state: State | None
    """None only for Resumed: back to where it was."""
    decide: Callable[[Passage, Any], Change]


RULES: dict[tuple[State, type[Event]], Rule] = {
    (S.IDLE,       ReadRequested):       Rule(S.READING,    begin),
    (S.SAVED,      ReadRequested):       Rule(S.READING,    begin),
    (S.READING,    ChecksPassed):        Rule(S.CHECKED,    keep_what_was_read),
    (S.READING,    ChecksFailed):        Rule(S.REFUSED,    keep_what_was_read),
    (S.READING,    MediaUnreadable):     Rule(S.IDLE,       say_why_and_forget),
    (S.REFUSED,    OverrideApproved):    Rule(S.CHECKED,    let_pass),
    (S.CHECKED,    PlateSubmitted):      Rule(S.EVIDENCED,  keep_plate),
    (S.EVIDENCED,  PhotoBound):          Rule(S.EVIDENCED,  bind_photo),
    (S.EVIDENCED,  PhotoMissing):        Rule(S.CHECKED,    say_why),
    (S.EVIDENCED,  VehicleClassified):   Rule(S.CLASSIFIED, keep_class),
    (S.CLASSIFIED, VehicleWeighed):      Rule(S.CLASSIFIED, keep_weight),
    (S.CLASSIFIED, QuoteRequested):      Rule(S.CLASSIFIED, ask_fare),
    (S.CLASSIFIED, FareQuoted):          Rule(S.PRICED,     show_fare),
    (S.CLASSIFIED, FareUnknown):         Rule(S.UNPRICED,   say_why_no_fare),
    (S.PRICED,     EntryConfirmed):      Rule(S.AGREED,     agree),
    (S.PRICED,     MinimumFareApproved): Rule(S.AGREED,     agree_on_minimum),
    (S.UNPRICED,   MinimumFareApproved): Rule(S.AGREED,     agree_on_minimum),
    (S.UNPRICED,   EntryCorrected):      Rule(S.CLASSIFIED, ask_fare_from_there),
    (S.AGREED,     SaveRequested):       Rule(S.PREPARING,  ask_both_chips),
    (S.PREPARING,  DebitPrepared):       Rule(S.DEBITING,   take_the_money),
    (S.PREPARING,  DebitRefused):        Rule(S.AGREED,     nothing_was_taken),
    (S.PREPARING,  DebitUnanswered):     Rule(S.DOUBTFUL,   ask_for_proof),
    (S.DEBITING,   DebitConfirmed):      Rule(S.SAVED,      settle),
    (S.DEBITING,   DebitRefused):        Rule(S.AGREED,     nothing_was_taken),
    (S.DEBITING,   DebitUnanswered):     Rule(S.DOUBTFUL,   ask_for_proof),
    (S.DOUBTFUL,   DebitConfirmed):      Rule(S.SAVED,      settle),
    (S.DOUBTFUL,   DebitNeverHappened):  Rule(S.AGREED,     nothing_was_taken),
    (S.DOUBTFUL,   ProofUnavailable):    Rule(S.DOUBTFUL,   still_unknown),
    (S.DOUBTFUL,   ProofRequested):      Rule(S.DOUBTFUL,   ask_again),
    (S.DOUBTFUL,   CardGone):            Rule(S.DISPUTED,   give_to_people),
    (S.DISPUTED,   ProofRequested):      Rule(S.DOUBTFUL,   ask_again),
    (S.DISPUTED,   PaidByHand):          Rule(S.SAVED,      settle_by_hand),
    (S.DISPUTED,   ReleasedUnpaid):      Rule(S.SAVED,      let_go_unpaid),
    (S.HELD,       PaidByHand):          Rule(S.SAVED,      settle_by_hand),
    (S.HELD,       ReleasedUnpaid):      Rule(S.SAVED,      let_go_unpaid),
    (S.SUSPENDED,  Resumed):             Rule(None,         take_up),
}  # fmt: skip

BEFORE_THE_MONEY = (S.CHECKED, S.EVIDENCED, S.CLASSIFIED, S.PRICED, S.UNPRICED, S.AGREED)

# Correcting an earlier step goes back to it.
for _state in (S.EVIDENCED, S.CLASSIFIED, S.PRICED, S.UNPRICED, S.AGREED):
    RULES[_state, PlateSubmitted] = Rule(S.EVIDENCED, keep_plate)
for _state in (S.CLASSIFIED, S.PRICED, S.UNPRICED, S.AGREED):
    RULES[_state, VehicleClassified] = Rule(S.CLASSIFIED, keep_class)
for _state in (S.PRICED, S.UNPRICED, S.AGREED):
    RULES[_state, VehicleWeighed] = Rule(S.CLASSIFIED, keep_weight)
    RULES[_state, QuoteRequested] = Rule(S.CLASSIFIED, ask_fare)
# Until a chip was asked for money, people may end it, put it aside or hand it over.
for _state in (S.REFUSED, *BEFORE_THE_MONEY):
    RULES[_state, HandedOver] = Rule(S.HELD, give_to_people)
for _state in (S.REFUSED, S.HELD, *BEFORE_THE_MONEY):
    RULES[_state, Cancelled] = Rule(S.IDLE, forget)
    RULES[_state, Suspended] = Rule(S.SUSPENDED, put_aside)


def advance(passage: Passage, event: Event) -> Step:
    """Apply one event. Raises UnexpectedEvent, changing nothing, if the table has no row."""
    rule = RULES.get((passage.state, type(event)))
    if rule is None:
        raise UnexpectedEvent(f"现在不能这样做（{passage.state}，{type(event).__name__}）")
    change = rule.decide(passage, event)
    next_state = rule.next_state or passage.suspended_in or S.IDLE
    before = Passage() if change.anew else passage
    return Step(replace(before, state=next_state, **change.facts), change.effects, change.owed)


def diagram() -> str:
    """The table as a Mermaid state diagram; a test holds the README's block to it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), rule in RULES.items():
        target = rule.next_state.value if rule.next_state else "back"
        if target in ("idle", "suspended") and event in (Cancelled, Suspended):
            continue  # drawn once, below
        arrows.setdefault((state.value, target), []).append(event.__name__)
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    lines += [f"    {a} --> {b}: {'<br/>'.join(names)}" for (a, b), names in arrows.items()]
    calm = ", ".join(s.value for s in (S.REFUSED, S.HELD, *BEFORE_THE_MONEY))
    lines.append("    note right of idle")
    lines.append(f"        Cancelled → idle, Suspended → suspended from: {calm}")
    lines.append("    end note")
    return "\n".join(lines)

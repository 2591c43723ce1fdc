"""The table itself: states reachable, states with a way out, money states not cancellable."""

import ast
from pathlib import Path

import pytest

from gateway.errors import UnexpectedEvent
from gateway.flow import messages, rules
from gateway.flow.messages import Cancelled, CommitDebit, Event, Resumed, Suspended
from gateway.flow.passage import Passage, State
from gateway.flow.rules import RULES, advance, diagram

S = State
MONEY = {S.PREPARING, S.DEBITING, S.DOUBTFUL, S.DISPUTED}


def neighbours(state: State) -> set[State]:
    found = {rule.next_state for (s, _), rule in RULES.items() if s is state and rule.next_state}
    if state is S.SUSPENDED:
        found |= {s for (s, event) in RULES if event is Suspended}
    return found


def reachable(start: State) -> set[State]:
    seen, todo = set(), [start]
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo += neighbours(state)
    return seen


def test_every_state_is_reachable_from_an_empty_lane() -> None:
    assert reachable(S.IDLE) == set(S)


@pytest.mark.parametrize("state", S)
def test_every_state_can_be_left_for_an_end_without_pulling_the_plug(state: State) -> None:
    assert {S.IDLE, S.SAVED} & reachable(state)


def test_only_where_money_may_have_moved_a_passage_cannot_be_cancelled() -> None:
    open_states = set(S) - {S.IDLE, S.SAVED, S.SUSPENDED, S.READING}
    assert {s for s in open_states if (s, Cancelled) not in RULES} == MONEY


def test_the_debit_is_asked_for_in_exactly_one_row() -> None:
    """CommitDebit follows DebitPrepared in PREPARING, and nothing else in the house makes one."""
    calls = [
        node
        for path in Path(rules.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == CommitDebit.__name__
    ]
    assert len(calls) == 1  # rules.take_the_money; a `case` pattern is not a call


def every_event() -> list[type[Event]]:
    return [
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    ]


@pytest.mark.parametrize("state", S)
def test_an_event_without_a_row_raises_and_changes_nothing(state: State) -> None:
    passage = Passage(state=state)
    for kind in every_event():
        if (state, kind) in RULES:
            continue
        event = object.__new__(kind)
        with pytest.raises(UnexpectedEvent):
            advance(passage, event)
    assert passage == Passage(state=state)


def test_every_event_has_a_row() -> None:
    assert {event for _, event in RULES} == set(every_event())


def test_a_suspended_passage_goes_back_to_where_it_was() -> None:
    for state, event in RULES:
        if event is not Suspended:
            continue
        aside = advance(Passage(state=state), Suspended()).passage
        assert aside.state is S.SUSPENDED
        assert advance(aside, Resumed("booth")).passage.state is state


def test_the_readme_shows_the_table_as_it_is() -> None:
    readme = (Path(rules.__file__).parents[2] / "README.md").read_text()
    block = readme.split("<!-- states:begin -->")[1].split("<!-- states:end -->")[0]
    assert block.strip() == f"```mermaid\n{diagram()}\n```"

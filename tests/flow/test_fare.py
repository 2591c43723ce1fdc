"""Where the money comes from: each source, in its order, and why one is not believed."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import FareUnknown
from gateway.flow import fare
from gateway.flow.checks import check_media
from gateway.flow.desk import allowed
from gateway.flow.messages import Finding, Level, Media
from gateway.flow.passage import Passage, State
from gateway.params import Hits, MinimumFare, TableDamaged
from gateway.records import FareAnswer, ProvinceSplit
from tests.flow.rig import demo_parameters, entry
from tests.flow.test_checks import CARD, TAG, media

PARAMETERS = demo_parameters()


def passage(m: Media | None = None, **changes: Any) -> Passage:
    m = m or media()
    found = check_media(m, PARAMETERS, None, 0, Hits())
    facts = {"media": m, "findings": found, "vehicle_type": 1, "vehicle_class": 0} | changes
    return Passage(state=State.CLASSIFIED, **facts)


class Damaged:
    """A compiled table whose rows are not those which were written."""

    exit_hex = "62010B31"

    def find(self, entry_hex: str, vehicle_type: int) -> MinimumFare | None:
        raise TableDamaged("费额表 2 损坏")


def test_a_row_that_cannot_be_read_is_no_fare_and_says_why() -> None:
    parameters = PARAMETERS.model_copy(update={"minimum_fares": Damaged()})
    p = passage()
    with pytest.raises(FareUnknown, match="损坏") as no:
        fare.minimum(p, fare.entry_of(p, parameters), parameters)
    assert fare.problem_of(no.value).code == "E-211"


def entry_of(p: Passage) -> fare.Entry:
    return fare.entry_of(p, PARAMETERS)


def why_not(p: Passage) -> str:
    with pytest.raises(FareUnknown) as no:
        fare.accumulated(p, entry_of(p), PARAMETERS)
    return no.value.reason


def with_totals(**changes: Any) -> Media:
    assert TAG.totals
    return media(tag=replace(TAG, totals=replace(TAG.totals, **changes)))


def test_what_the_gantries_added_up_is_taken_at_the_price_after_discount() -> None:
    quote = fare.accumulated(passage(), entry_of(passage()), PARAMETERS)
    assert (quote.kind, quote.pay_fee_fen, quote.fee_fen, quote.discount_fen) == (
        1,
        4256,
        4043,
        213,
    )


@pytest.mark.parametrize(
    ("m", "reason"),
    [
        (media(tag=None), "no_totals"),
        (media(tag=replace(TAG, totals=None)), "no_totals"),
        (with_totals(paid_fen=3609, due_fen=3800), "below"),
        (with_totals(paid_fen=5416, due_fen=5701), "above"),
        (with_totals(no_card_count=1), "gantry_gaps"),
        (with_totals(success_count=0), "gantry_gaps"),
        (with_totals(entry=entry("62010C07")), "not_this_trip"),
        (media(replace(CARD, toll=entry(accumulated_fen=999))), "sums_differ"),
    ],
)
def test_sums_that_are_not_to_be_believed_are_left_with_their_reason(m: Media, reason: str) -> None:
    assert why_not(passage(m)) == reason


def test_a_tag_that_paid_more_than_was_due_is_not_believed() -> None:
    p = passage(with_totals(due_fen=4000, paid_fen=4001))
    with pytest.raises(FareUnknown, match="门架累计前后矛盾：应收 40") as no:
        fare.accumulated(p, entry_of(p), PARAMETERS)
    assert no.value.reason == "inconsistent"
    assert fare.problem_of(no.value).action.startswith("请站长授权按最小费额计费")


def test_sums_exactly_at_the_minimum_and_at_the_ceiling_are_believed() -> None:
    for paid, due in ((3610, 3800), (5415, 5700)):
        p = passage(with_totals(paid_fen=paid, due_fen=due))
        assert fare.accumulated(p, entry_of(p), PARAMETERS).fee_fen == paid


def test_the_reason_leaves_its_special_code_in_the_record() -> None:
    for reason, code in (("above", 14), ("below", 15)):
        (found,) = fare.why_not_accumulated(FareUnknown(reason, "…"), PARAMETERS)
        assert found.code == code
    assert fare.why_not_accumulated(FareUnknown("no_totals", "…"), PARAMETERS) == ()


def test_another_type_than_the_cards_is_not_priced_by_the_tags_sums() -> None:
    found = (Finding(51, Level.WARNS, ""),)
    assert why_not(passage(class_findings=found)) == "not_this_trip"


ANSWER = FareAnswer(
    amount_fen=4500,
    fee95_fen=4270,
    kind=4,
    mileage_m=95_000,
    version="V1",
    split=(ProvinceSplit(prov="62", p_fee=4270, p_pay_fee=4500, p_m=95_000),),
)


def test_an_online_fare_is_discounted_only_by_the_centres_own_column() -> None:
    p = passage()
    assert fare.online(p, entry_of(p), ANSWER, PARAMETERS).fee_fen == 4270
    bare = ANSWER.model_copy(update={"fee95_fen": None})
    assert fare.online(p, entry_of(p), bare, PARAMETERS).fee_fen == 4500


@pytest.mark.parametrize(
    ("m", "gets"),
    [
        (media(), True),
        (media(tag=None), False),  # 单卡客户
        (media(tag=replace(TAG, system=replace(TAG.system, is_installed=False))), False),
        (media(tag=replace(TAG, vehicle=replace(TAG.vehicle, plate="甘A54321"))), False),
    ],
)
def test_the_discount_needs_a_tag_of_this_car_and_a_valid_entry(m: Media, gets: bool) -> None:
    p = passage(m)
    assert fare.gets_discount(p, entry_of(p), PARAMETERS) is gets
    assert fare.online(p, entry_of(p), ANSWER, PARAMETERS).fee_fen == (4270 if gets else 4500)


@pytest.mark.parametrize(
    ("due_fen", "paid_fen"), [(4500, 4501), (2**32, 4270), (2**32, 2**32), (4500, -1)]
)
def test_a_fare_of_which_no_record_could_be_made_is_none(due_fen: int, paid_fen: int) -> None:
    p = passage()
    answer = ANSWER.model_copy(update={"amount_fen": due_fen, "fee95_fen": paid_fen})
    with pytest.raises(FareUnknown, match="前后矛盾") as no:
        fare.online(p, entry_of(p), answer, PARAMETERS)
    assert no.value.reason == "inconsistent"


def test_the_dearest_fare_that_a_card_can_be_asked_for_is_one() -> None:
    p, most = passage(), 2**32 - 1
    answer = ANSWER.model_copy(update={"amount_fen": most, "fee95_fen": most})
    assert fare.online(p, entry_of(p), answer, PARAMETERS).fee_fen == most


class Swapped:
    """A table on a disk, of before its rows were checked for this."""

    exit_hex = "62010B31"

    def find(self, entry_hex: str, vehicle_type: int) -> MinimumFare:
        row = PARAMETERS.minimum_fares.find(entry_hex, vehicle_type)
        assert row
        return row.model_copy(update={"fee": row.fee95, "fee95": row.fee})


def test_a_minimum_fare_whose_columns_are_swapped_is_none() -> None:
    parameters = PARAMETERS.model_copy(update={"minimum_fares": Swapped()})
    p = passage()
    with pytest.raises(FareUnknown, match="最小费额前后矛盾：应收 36"):
        fare.minimum(p, fare.entry_of(p, parameters), parameters)


def test_an_entry_the_collector_names_instead_of_the_cards_gets_no_discount() -> None:
    p = passage(entry_hex="62010C07", entry_source="typed")
    assert entry_of(p).source == "typed"
    assert not fare.gets_discount(p, entry_of(p), PARAMETERS)
    same = passage(entry_hex="62010A12", entry_source="typed")
    assert entry_of(same).source == "card"


def test_the_minimum_fare_comes_from_the_table_with_its_own_discounted_column() -> None:
    p = passage()
    quote = fare.minimum(p, entry_of(p), PARAMETERS)
    assert (quote.kind, quote.pay_fee_fen, quote.fee_fen) == (6, 3800, 3610)
    assert quote.short_fee_fen == quote.fee_fen
    card_only = passage(media(tag=None))
    assert fare.minimum(card_only, entry_of(card_only), PARAMETERS).fee_fen == 3800


def test_no_row_no_minimum() -> None:
    p = passage(vehicle_type=99)
    with pytest.raises(FareUnknown, match="最小费额表"):
        fare.minimum(p, entry_of(p), PARAMETERS)


def test_without_any_entry_there_is_no_fare_and_the_screen_says_what_to_do() -> None:
    p = passage(media(replace(CARD, toll=None)))
    with pytest.raises(FareUnknown) as no:
        entry_of(p)
    assert fare.problem_of(no.value).code == "E-110"
    offered = allowed(replace(p, state=State.UNPRICED), PARAMETERS, has_suspended=False)
    assert "confirm_entry" in offered
    assert "minimum_fare" not in offered, "a master would key his password for nothing"
    named = replace(p, state=State.UNPRICED, entry_hex="62010A12", entry_source="typed")
    assert "minimum_fare" in allowed(named, PARAMETERS, has_suspended=False)


def test_a_station_the_table_does_not_know_is_named() -> None:
    with pytest.raises(FareUnknown, match="62019999") as no:
        entry_of(passage(media(replace(CARD, toll=entry("62019999")))))
    assert fare.problem_of(no.value).code == "E-213"


def test_a_free_class_is_free_only_if_the_card_was_issued_for_it() -> None:
    issued = replace(CARD, issue=replace(CARD.issue, user_type=12))
    assert fare.is_free(passage(media(issued), vehicle_class=12), PARAMETERS)
    with pytest.raises(FareUnknown, match="站长"):
        fare.is_free(passage(vehicle_class=12), PARAMETERS)

"""Returns by tap: they name the purchase, never exceed it, and are torn and repeated as safely as a purchase."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from drivers.errors import CardRemoved
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.card.layout import CardState
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError, ErrorCode, ExitCode
from terminal_agent.till.reversal import ReversalRequest, recorded_reversal
from tests.till.support import OPERATIONS, WRITE, events_of, tear
from tests.workbench import UID_7, Workbench, copy_of

FAULTS = [
    pytest.param(Fault(call, outcome), id=f"{call}-{outcome}")
    for call in range(1, OPERATIONS + 1)
    for outcome in (Torn if call in (WRITE, OPERATIONS) else [Torn.OLD])
]


@pytest.fixture
def sold(bench: Workbench, card: MemoryImage) -> MemoryImage:
    """The card with 300 points after R-1: 100 000, which earned 10 and redeemed 40."""
    bench.purchase(card, "R-1", 100_000, redeem=40)
    assert bench.state(card) == CardState(3, 270, redeemed_offline=40)
    return card


def refused(bench: Workbench, card: MemoryImage, receipt_no: str, amount: int | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        bench.reverse(card, receipt_no, amount)
    return caught.value


def test_a_void_puts_the_card_back_and_names_the_purchase(bench: Workbench, sold: MemoryImage) -> None:
    answer = bench.reverse(sold, "R-1")
    assert (answer["state"], answer["amount"], answer["returnable_amount"]) == ("done", 100_000, 0)
    assert (answer["points_earned"], answer["points_redeemed"], answer["points_after"]) == (-10, -40, 300)
    purchase = bench.events(EventType.PURCHASE_RECORDED)[-1]
    event = bench.events(EventType.PURCHASE_REVERSED)[-1]
    assert answer["reversed_event_id"] == purchase["id"] == event["data"]["reversal"]["reversed_event_id"]
    assert event["data"]["points"] == {"earned": -10, "redeemed": -40, "offers": []}
    assert event["data"]["reversal"]["amount"] == 100_000
    bench.check_books(sold)


def test_buying_and_returning_earns_nothing_however_it_is_cut(bench: Workbench, sold: MemoryImage) -> None:
    for number, amount in enumerate((19_999, 30_001, 5)):
        bench.reverse(sold, "R-1", amount, reference=f"slip {number}")
    bench.reverse(sold, "R-1")
    assert bench.state(sold).balance == 300
    bench.check_books(sold)


def test_the_same_return_again_is_the_same_return(bench: Workbench, sold: MemoryImage) -> None:
    first = bench.reverse(sold, "R-1", 30_000)
    assert bench.reverse(sold, "R-1", 30_000) == {**first, "replayed": True}
    assert recorded_reversal(bench.terminal, ReversalRequest("R-1", 30_000)) == {**first, "replayed": True}
    again = bench.reverse(sold, "R-1", 30_000, reference="second slip")
    assert (again["replayed"], again["returnable_amount"]) == (False, 40_000)
    rest = bench.reverse(sold, "R-1")
    assert rest["amount"] == 40_000
    assert bench.reverse(sold, "R-1") == {**rest, "replayed": True}
    bench.check_books(sold)


@pytest.mark.parametrize("outcome", Torn)
def test_a_return_in_doubt_is_not_refused_for_what_it_takes_back_itself(
    bench: Workbench, sold: MemoryImage, outcome: Torn
) -> None:
    with pytest.raises(AgentError) as caught:
        bench.reverse(sold, "R-1", fault=Fault(WRITE, outcome))
    assert caught.value.details["state"] == "in_doubt"
    assert recorded_reversal(bench.terminal, ReversalRequest("R-1")) is None
    assert bench.reverse(sold, "R-1")["state"] == "done"
    assert bench.state(sold).balance == 300
    bench.check_books(sold)


def test_the_sum_of_returns_never_exceeds_the_purchase(bench: Workbench, sold: MemoryImage) -> None:
    bench.reverse(sold, "R-1", 60_000)
    error = refused(bench, sold, "R-1", 40_001)
    assert (error.code, error.details["returnable_amount"]) == (ErrorCode.REVERSAL_REFUSED, 40_000)
    assert error.exit_code is ExitCode.FAILURE
    bench.reverse(sold, "R-1", 40_000)
    error = refused(bench, sold, "R-1")
    assert "in full" in error.message
    bench.check_books(sold)


def test_a_reference_belongs_to_one_amount(bench: Workbench, sold: MemoryImage) -> None:
    bench.reverse(sold, "R-1", 30_000, reference="slip 1")
    with pytest.raises(AgentError) as caught:
        bench.reverse(sold, "R-1", 20_000, reference="slip ۱")
    assert caught.value.code is ErrorCode.RECEIPT_CONFLICT


def test_a_receipt_that_was_never_sold_here_is_not_found(bench: Workbench, sold: MemoryImage) -> None:
    assert refused(bench, sold, "R-9").code is ErrorCode.NOT_FOUND


def test_points_go_back_to_the_card_they_came_from(bench: Workbench, sold: MemoryImage) -> None:
    other = bench.issue(UID_7)
    error = refused(bench, other, "R-1")
    assert error.code is ErrorCode.OTHER_CARD
    assert bench.journal.checkouts.amount_of("reversal", "R-1") == 0


def test_after_the_window_nothing_is_returned(bench: Workbench, sold: MemoryImage) -> None:
    bench.clock.advance(days=29)
    bench.reverse(sold, "R-1", 10_000)
    bench.clock.advance(days=2)
    error = refused(bench, sold, "R-1")
    assert error.code is ErrorCode.REVERSAL_REFUSED
    assert "30 days" in error.message


def test_the_policy_of_the_sale_decides_not_a_later_one(bench: Workbench, card: MemoryImage) -> None:
    bench.purchase(card, "R-1", 100_000)
    generous = {"version": "2", "valid_from": "2026-11-22T09:30:01Z", "earn": {"points": 50, "per_amount": 10_000}}
    bench.clock.advance(seconds=5)
    with bench.journal.transaction():
        bench.journal.knowledge.remember_policy("2", generous)
    assert bench.reverse(card, "R-1", 50_000)["points_earned"] == -5


def test_points_already_spent_leave_the_card_below_zero_and_stop_no_return(bench: Workbench) -> None:
    card = bench.issue()
    bench.purchase(card, "R-1", 1_000_000)
    bench.purchase(card, "R-2", 50_000, redeem=100)
    answer = bench.reverse(card, "R-1")
    assert answer["points_after"] == -95
    bench.check_books(card)
    assert bench.purchase(card, "R-3", 2_000_000)["points_after"] == 105


def test_a_return_brings_adjustments_along(bench: Workbench, sold: MemoryImage) -> None:
    bench.adjust(bench.purchase(sold, "R-2", 1)["card_no"], 7)
    answer = bench.reverse(sold, "R-1")
    assert (answer["points_adjusted"], answer["points_after"]) == (7, 307)
    bench.check_books(sold, adjusted=7)


def test_a_blocked_or_rolled_back_card_returns_nothing(bench: Workbench, card: MemoryImage) -> None:
    old = copy_of(card)
    card_no = bench.purchase(card, "R-1", 50_000)["card_no"]
    assert refused(bench, old, "R-1").code is ErrorCode.CARD_ROLLED_BACK
    bench.block_card(card_no, "lost")
    assert refused(bench, card, "R-1").code is ErrorCode.CARD_BLOCKED


@pytest.mark.parametrize("restarted", [False, True], ids=["same-process", "restarted"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_return_torn_anywhere_is_finished_by_tapping_again(
    bench: Workbench, sold: MemoryImage, fault: Fault, restarted: bool
) -> None:
    before = bench.state(sold)
    with suppress(AgentError, CardRemoved):
        bench.reverse(sold, "R-1", 60_000, fault=fault)
    after = CardState(4, 270 - 6 + 24, redeemed_offline=40)
    assert bench.state(sold) in (before, after), "never a mix"
    if restarted:
        bench.restart()
    answer = bench.reverse(sold, "R-1", 60_000)
    assert (answer["state"], answer["points_after"]) == ("done", 288)
    assert bench.state(sold) == after
    bench.check_books(sold)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_return_torn_anywhere_is_settled_by_the_next_purchase(
    bench: Workbench, sold: MemoryImage, fault: Fault
) -> None:
    with suppress(AgentError, CardRemoved):
        bench.reverse(sold, "R-1", fault=fault)
    answer = bench.purchase(sold, "R-2", 70_000)
    assert answer["points_after"] == (307 if fault.call >= WRITE else 277)
    bench.check_books(sold)


@pytest.mark.parametrize("amount", [None, 100_000, 60_000])
def test_a_return_in_doubt_is_no_refusal_when_it_is_asked_for_again(
    bench: Workbench, sold: MemoryImage, amount: int | None
) -> None:
    with pytest.raises(AgentError):
        bench.reverse(sold, "R-1", amount, fault=Fault(WRITE, Torn.OLD))
    assert recorded_reversal(bench.terminal, ReversalRequest("R-1", amount)) is None
    assert bench.reverse(sold, "R-1", amount)["state"] == "done"


def test_a_return_in_doubt_counts_as_returned(bench: Workbench, sold: MemoryImage) -> None:
    with pytest.raises(AgentError) as caught:
        bench.reverse(sold, "R-1", 60_000, fault=Fault(WRITE))
    assert caught.value.details["state"] == "in_doubt"
    other = bench.issue(UID_7)
    assert refused(bench, other, "R-1", 60_000).details["state"] == "in_doubt"
    with pytest.raises(AgentError) as caught:
        recorded_reversal(bench.terminal, ReversalRequest("R-1", 40_001))
    assert caught.value.details["returnable_amount"] == 40_000


def test_a_return_closed_without_its_card_gives_the_points_back_at_the_crm(bench: Workbench, sold: MemoryImage) -> None:
    with suppress(AgentError):
        bench.reverse(sold, "R-1", fault=Fault(WRITE))
    closed = bench.close_in_doubt()
    assert (closed["state"], closed["points_earned"], closed["points_redeemed"]) == ("closed", -10, -40)
    assert closed["points_after"] == 300
    (event,) = events_of(bench, EventType.PURCHASE_REVERSED)
    assert event["card"] is None
    assert event["points"] == {"earned": -10, "redeemed": -40, "offers": []}
    assert event["intent"]["balance_after"] - event["intent"]["balance_before"] == 30


def test_a_sale_in_doubt_is_settled_by_its_card_before_it_is_returned(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD)
    other = bench.issue(UID_7)
    assert refused(bench, other, "R-1").code is ErrorCode.OTHER_CARD
    assert bench.reverse(card, "R-1")["points_after"] == 300
    bench.journal.checkouts.in_doubt()
    assert bench.state(card) == CardState(4, 300)


def test_a_closed_sale_is_returned_without_the_points_it_did_not_redeem(bench: Workbench, card: MemoryImage) -> None:
    tear(bench, card, Torn.OLD, redeem=20)
    bench.close_in_doubt()
    answer = bench.reverse(card, "R-1")
    assert (answer["points_earned"], answer["points_redeemed"]) == (-5, 0)


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"amount": -5}, {"receipt_no": ""}, {"reference": "\u202e"}])
def test_bad_input_is_refused_before_the_card_is_touched(wrong: dict[str, Any]) -> None:
    request: dict[str, Any] = {"receipt_no": "R-1", "amount": 1, **wrong}
    with pytest.raises(AgentError) as caught:
        ReversalRequest(**request)
    assert caught.value.code is ErrorCode.INVALID_INPUT

"""Reversals: always booked, never silently more than the purchase was."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from terminal_agent.crm.reversals import Taken, exceeding
from tests.crm.test_cli import run
from tests.crm.world import CARD, Crm, Terminal

BOUGHT = Taken(1000, "IRR", 50, 20)


def bought(terminal: Terminal, counter: int = 1, **changes: Any) -> dict[str, Any]:
    """A purchase of 1000 that earned 50 points and redeemed 20."""
    event = terminal.purchase(counter, earned=50, redeemed=20, before=100, **changes)
    event["data"]["purchase"]["currency"] = "IRR"
    return event


def taken_back(
    terminal: Terminal,
    counter: int,
    purchase: dict[str, Any],
    amount: Any = 400,
    earned: Any = -20,
    redeemed: Any = -8,
    **reversal: Any,
) -> dict[str, Any]:
    before = 100 + counter
    card = {
        "card_no": CARD,
        "sequence": counter,
        "balance_before": before,
        "balance_after": before - 12,
        "adjustments_through": 0,
    }
    facts = {"reversed_event_id": purchase["id"], "receipt_no": "R-1", "amount": amount, "currency": "IRR"} | reversal
    points = {"earned": earned, "redeemed": redeemed}
    return terminal.event("purchase.reversed", {"card": card, "reversal": facts, "points": points})


def codes(crm: Crm) -> dict[int, str | None]:
    """By card counter: what is odd about the card's events."""
    return {event["card_sequence"]: event["code"] for event in crm.card()["events"]}


@pytest.mark.parametrize(
    ("reversals", "places"),
    [
        ([], set()),
        ([BOUGHT], set()),
        ([Taken(600, "IRR", 30, 12), Taken(400, "IRR", 20, 8)], set()),
        ([Taken(600, "IRR", 0, 0), Taken(401, "IRR", 0, 0), Taken(1, "IRR", 0, 0)], {1, 2}),
        ([Taken(1, "IRR", 51, 0)], {0}),
        ([Taken(1, "IRR", 0, 21)], {0}),
        ([Taken(1, "USD", 0, 0), Taken(1, "IRR", 0, 0)], {0}),
        ([Taken(1, None, 0, 0)], set()),
    ],
)
def test_more_than_was_bought_is_found_by_amount_and_by_points(reversals: list[Taken], places: set[int]) -> None:
    assert exceeding(BOUGHT, reversals) == places


def test_a_purchase_is_taken_back_in_parts_and_no_further(crm: Crm, terminal: Terminal) -> None:
    purchase = bought(terminal)
    parts = [taken_back(terminal, 2, purchase), taken_back(terminal, 3, purchase, amount=600, earned=-30, redeemed=-12)]
    for event in (purchase, *parts):
        [result] = terminal.post(event)["results"]
        assert (result["status"], result.get("code")) == ("accepted", None)
    assert crm.ledger() == {f"card:{CARD}": 0, "programme:issued": 0, "programme:redeemed": 0}
    [result] = terminal.post(taken_back(terminal, 4, purchase, amount=1, earned=0, redeemed=0))["results"]
    assert (result["status"], result["code"]) == ("accepted", "reversal_exceeds_purchase")
    assert codes(crm) == {1: None, 2: None, 3: None, 4: "reversal_exceeds_purchase"}
    assert crm.card()["status"] == "active"


def test_a_reversal_too_many_is_booked_all_the_same(crm: Crm, terminal: Terminal) -> None:
    purchase = bought(terminal)
    [_, result] = terminal.post(purchase, taken_back(terminal, 2, purchase, earned=-60))["results"]
    assert (result["status"], result["code"]) == ("accepted", "reversal_exceeds_purchase")
    assert result["balance"] == 30 - 60 + 8


def test_a_reversal_shows_what_it_takes_back(crm: Crm, terminal: Terminal) -> None:
    purchase = bought(terminal)
    terminal.post(purchase, taken_back(terminal, 2, purchase), taken_back(terminal, 3, purchase, amount=601))
    shown = crm.card()["events"]
    assert [(e["amount"], e["currency"], e["reverses"]) for e in shown] == [
        (1000, "IRR", None),
        (400, "IRR", purchase["id"]),
        (601, "IRR", purchase["id"]),
    ]
    first, second, third = run(crm.place, "card", CARD).stdout.splitlines()[1:]
    assert "+50 -20" in first
    assert "-20 +8" in second
    assert second.endswith(f"takes back {purchase['id']}")
    assert third.endswith("! reversal_exceeds_purchase")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_whatever_comes_first_one_reversal_too_many_is_noted_once_the_purchase_is_known(
    order: tuple[int, ...], crm: Crm, terminal: Terminal
) -> None:
    purchase = bought(terminal)
    events = [purchase, taken_back(terminal, 2, purchase, amount=700), taken_back(terminal, 3, purchase, amount=700)]
    for place in order:
        assert terminal.verdicts(events[place]) == ["accepted"]
    last = max((place for place in order if place), key=order.index)
    assert codes(crm) == {1: None, 2: None, 3: None} | {last + 1: "reversal_exceeds_purchase"}
    assert terminal.verdicts(*events) == ["duplicate"] * 3


def test_a_reversal_of_a_purchase_nobody_has_seen_is_accepted(crm: Crm, terminal: Terminal) -> None:
    [result] = terminal.post(taken_back(terminal, 2, {"id": "unknown"}, amount=10**9))["results"]
    assert (result["status"], result.get("code")) == ("accepted", None)
    assert crm.ledger()[f"card:{CARD}"] == -12


def test_the_purchase_of_another_card_was_not_this_cards(crm: Crm, terminal: Terminal) -> None:
    purchase = bought(terminal, card_no="another")
    [_, result] = terminal.post(purchase, taken_back(terminal, 2, purchase, amount=5000))["results"]
    assert (result["status"], result.get("code")) == ("accepted", None)


def test_a_reversal_in_doubt_counts_as_well(crm: Crm, terminal: Terminal) -> None:
    purchase = bought(terminal)
    event = taken_back(terminal, 2, purchase)
    tried = {"intent_id": "i-1", "card_no": CARD, "sequence_before": 1, "sequence_after": 2}
    event["data"] |= {"card": None, "intent": tried | {"balance_before": 130, "balance_after": 118}}
    assert terminal.verdicts(purchase, event) == ["accepted", "accepted"]
    [result] = terminal.post(taken_back(terminal, 3, purchase, amount=700))["results"]
    assert result["code"] == "reversal_exceeds_purchase"


def test_a_rejected_event_takes_nothing_back(terminal: Terminal) -> None:
    purchase = bought(terminal)
    bad = taken_back(terminal, 2, purchase, earned=1)
    [_, refused, result] = terminal.post(purchase, bad, taken_back(terminal, 3, purchase, amount=1000))["results"]
    assert (refused["status"], result.get("code")) == ("rejected", None)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("data.reversal.amount", {"amount": 0}),
        ("data.reversal.amount", {"amount": -400}),
        ("data.reversal.amount", {"amount": 4.5}),
        ("data.reversal.amount", {"amount": 2**63}),
        ("data.points.earned", {"earned": 20}),
        ("data.points.redeemed", {"redeemed": 8}),
        ("data.points.redeemed", {"redeemed": -(10**13)}),
        ("data.reversal.reversed_event_id", {"reversed_event_id": None}),
        ("data.reversal.currency", {"currency": None}),
        ("data.reversal.currency", {"currency": ""}),
    ],
)
def test_a_reversal_that_makes_no_sense_is_rejected(
    field: str, changes: dict[str, Any], crm: Crm, terminal: Terminal
) -> None:
    [result] = terminal.post(taken_back(terminal, 2, {"id": "e-1"}, **changes))["results"]
    assert (result["status"], result["code"], result["detail"].split(":")[0]) == ("rejected", "event_malformed", field)
    assert crm.ledger() == {}


def test_a_reversal_is_an_object(terminal: Terminal) -> None:
    event = taken_back(terminal, 2, {"id": "e-1"})
    event["data"]["reversal"] = "all of it"
    [result] = terminal.post(event)["results"]
    assert (result["status"], result["detail"].split(":")[0]) == ("rejected", "data.reversal")


@pytest.mark.parametrize("reversal", [{}, {"reversal": None}])
def test_a_reversal_that_names_no_purchase_is_accepted_as_before(
    reversal: dict[str, Any], crm: Crm, terminal: Terminal
) -> None:
    data = {"card": {"card_no": CARD, "sequence": 2}, "points": {"earned": -10, "redeemed": 0}, **reversal}
    assert terminal.verdicts(terminal.event("purchase.reversed", data)) == ["accepted"]
    assert crm.ledger()[f"card:{CARD}"] == -10


def test_a_code_that_was_given_stays(crm: Crm, terminal: Terminal) -> None:
    purchase = bought(terminal)
    first = taken_back(terminal, 2, purchase, amount=5000)
    terminal.sequence -= 1
    second = taken_back(terminal, 3, purchase, amount=5000)
    [*_, result] = terminal.post(purchase, first, second)["results"]
    assert (result["status"], result["code"]) == ("fork", "sequence_reused")
    assert codes(crm) == {1: None, 2: "reversal_exceeds_purchase", 3: "sequence_reused"}

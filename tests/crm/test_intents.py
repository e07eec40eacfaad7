"""Sales closed without their card: the ledger books at once, the card gets the difference exactly once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from terminal_agent.crm import admin
from terminal_agent.crm.intents import Evidence, has_landed, owed
from tests.crm.world import CARD, Crm, Terminal

SEEN_AS_WRITTEN = frozenset({50})
SEEN_OTHERWISE = frozenset({30})


@pytest.mark.parametrize(
    ("evidence", "landed"),
    [
        (Evidence(), None),
        (Evidence(told=True), True),
        (Evidence(told=False), False),
        (Evidence(rival=True), False),
        (Evidence(balances_seen=SEEN_AS_WRITTEN), True),
        (Evidence(balances_seen=SEEN_OTHERWISE), False),
        (Evidence(rival=True, balances_seen=SEEN_AS_WRITTEN), False),
        (Evidence(told=True, rival=True), True),
        (Evidence(told=True, balances_seen=SEEN_OTHERWISE), True),
        (Evidence(told=False, balances_seen=SEEN_AS_WRITTEN), False),
    ],
)
def test_the_terminals_word_goes_before_a_rival_and_a_rival_before_a_balance(
    evidence: Evidence, landed: bool | None
) -> None:
    assert has_landed(50, evidence) is landed


@pytest.mark.parametrize(
    ("booked", "card_delta", "landed", "points"),
    [(10, 10, True, 0), (10, 10, False, 10), (10, -40, True, 50), (10, -40, False, 10), (0, 0, True, 0)],
)
def test_the_card_is_owed_what_the_ledger_has_and_it_has_not(
    booked: int, card_delta: int, landed: bool, points: int
) -> None:
    assert owed(booked, card_delta, landed) == points


def adjustments(terminal: Terminal) -> list[tuple[int, int]]:
    """(number, points) as the terminals are told."""
    items = terminal.get("/v1/feed", limit=500)["items"]
    return [(item["number"], item["points"]) for item in items if item["kind"] == "adjustment"]


def resolved(terminal: Terminal, landed: bool, intent_id: str = "i-1") -> dict[str, Any]:
    data = {"intent_id": intent_id, "card_no": CARD, "landed": landed, "card": None}
    return terminal.event("intent.resolved", data)


def test_points_of_a_sale_in_doubt_are_in_the_ledger_at_once(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase_in_doubt("i-1", counter=1, earned=10))
    assert crm.ledger()[f"card:{CARD}"] == 10
    assert adjustments(terminal) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_write_that_did_not_land_brings_the_points_as_one_adjustment(
    order: tuple[int, ...], crm: Crm, terminal: Terminal
) -> None:
    events = [terminal.purchase_in_doubt("i-1", counter=1, earned=10), resolved(terminal, landed=False)]
    terminal.post(*(events[place] for place in order))
    terminal.post(*events, resolved(terminal, landed=False))
    assert adjustments(terminal) == [(1, 10)]
    assert crm.ledger()[f"card:{CARD}"] == 10


def test_a_write_that_landed_owes_nothing_and_moves_the_counter(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase_in_doubt("i-1", counter=4, earned=10), resolved(terminal, landed=True))
    assert adjustments(terminal) == []
    assert crm.card()["sequence"] == 4


def test_a_redemption_that_landed_but_was_not_granted_is_given_back(terminal: Terminal) -> None:
    event = terminal.purchase_in_doubt("i-1", counter=4, earned=10, before=100)
    event["data"]["intent"]["balance_after"] = 100 + 10 - 40
    terminal.post(event, resolved(terminal, landed=True))
    assert adjustments(terminal) == [(1, 40)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_chain_tells_that_another_shop_wrote_the_counter(
    order: tuple[int, ...], crm: Crm, terminal: Terminal
) -> None:
    # The third shop finds the balance that the write in doubt would have left, so it looks landed until the second
    # shop is heard of.
    events = [
        terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20),
        terminal.purchase(5, earned=10, before=20),
        terminal.purchase(6, earned=1, before=30),
    ]
    for place in order:
        assert terminal.verdicts(events[place]) == ["accepted"]
    assert sum(points for _, points in adjustments(terminal)) == 10
    assert crm.card()["status"] == "active"
    assert crm.ledger()[f"card:{CARD}"] == 21


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
@pytest.mark.parametrize(("found", "expected"), [(30, []), (20, [(1, 10)])])
def test_the_next_writer_tells_what_it_found(
    order: tuple[int, ...], found: int, expected: list[tuple[int, int]], terminal: Terminal
) -> None:
    events = [
        terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20),
        terminal.purchase(6, earned=1, before=found),
    ]
    terminal.post(*(events[place] for place in order))
    assert adjustments(terminal) == expected


def test_a_gap_after_the_counter_in_doubt_is_waited_for(terminal: Terminal) -> None:
    terminal.post(terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20))
    terminal.post(terminal.purchase(7, earned=1, before=30))
    assert adjustments(terminal) == []
    terminal.post(terminal.purchase(6, earned=1, before=20))
    assert adjustments(terminal) == [(1, 10)]


def test_of_two_tries_at_one_counter_only_one_can_have_landed(terminal: Terminal) -> None:
    terminal.post(
        terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20),
        terminal.purchase_in_doubt("i-2", counter=5, earned=10, before=20),
        terminal.purchase(6, earned=1, before=30),
    )
    assert adjustments(terminal) == [(1, 10)]


def test_a_later_try_tells_about_an_earlier_one(terminal: Terminal) -> None:
    terminal.post(
        terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20),
        terminal.purchase_in_doubt("i-2", counter=6, earned=7, before=20),
    )
    assert adjustments(terminal) == [(1, 10)]


@pytest.mark.parametrize(("landed", "expected"), [(True, [(1, 100)]), (False, [(1, 100), (2, 10)])])
def test_adjustments_that_the_write_would_have_applied_are_not_taken_for_its_points(
    landed: bool, expected: list[tuple[int, int]], crm: Crm, terminal: Terminal
) -> None:
    terminal.post(terminal.purchase(4, earned=20))
    admin.adjust_card(crm.place, CARD, 100, "birthday")
    event = terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20)
    event["data"]["intent"] |= {"balance_after": 130, "adjustments_through": 1}
    terminal.post(event, resolved(terminal, landed=landed))
    assert adjustments(terminal) == expected
    assert crm.ledger()[f"card:{CARD}"] == 130


def test_a_counter_that_a_write_in_doubt_has_taken_cannot_be_taken_again(crm: Crm, terminal: Terminal) -> None:
    terminal.post(terminal.purchase_in_doubt("i-1", counter=5, earned=10), resolved(terminal, landed=True))
    assert terminal.verdicts(terminal.purchase(5, earned=3)) == ["fork"]
    assert crm.card()["status"] == "blocked"


def test_a_write_in_doubt_and_its_resolution_may_tell_the_same_counter(crm: Crm, terminal: Terminal) -> None:
    state = {"card_no": CARD, "sequence": 5, "balance_before": 0, "balance_after": 10}
    again = resolved(terminal, landed=True)
    told = resolved(terminal, landed=True) | {"data": again["data"] | {"card": state}}
    doubt = terminal.purchase_in_doubt("i-1", counter=5, earned=10)
    assert terminal.verdicts(doubt, told, again) == ["accepted"] * 3
    assert crm.card()["status"] == "active"

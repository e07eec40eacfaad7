"""The same sale at two shops, the first one torn: both write the same counter and leave the very same state.

The first shop then takes the other's write for its own. Found by the seeded world: an honest card was blocked.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.crm.test_intents import adjustments, resolved
from tests.crm.world import CARD, Crm, Terminal


def seen_later(terminal: Terminal, intent_id: str, earned: int = 10, before: int = 20) -> dict[str, Any]:
    """A purchase whose terminal lost the card during the write of counter 5, and found it written when it came back."""
    event = terminal.purchase(5, earned=earned, before=before)
    tried = terminal.purchase_in_doubt(intent_id, counter=5, earned=earned, before=before)
    terminal.sequence -= 1
    intent = {**tried["data"]["intent"], "adjustments_before": 0, "adjustments_through": 0}
    return event | {"data": event["data"] | {"intent": intent}}


def closed_then_seen(terminal: Terminal) -> list[dict[str, Any]]:
    """The same, closed without its card before that came back."""
    event = terminal.purchase_in_doubt("i-1", counter=5, earned=10, before=20)
    event["data"]["intent"] |= {"adjustments_before": 0, "adjustments_through": 0}
    return [event, resolved(terminal, landed=True)]


def check_both_count(crm: Crm, terminal: Terminal, booked: int) -> None:
    """Both sales are in the ledger, the card gets the one it does not hold, and it stays in use."""
    assert sum(points for _, points in adjustments(terminal)) == 10
    assert crm.card()["status"] == "active"
    assert crm.ledger()[f"card:{CARD}"] == booked


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_write_seen_later_is_no_copy_of_one_that_left_the_same(
    order: tuple[int, ...], crm: Crm, terminal: Terminal
) -> None:
    events = [terminal.purchase(5, earned=10, before=20), seen_later(terminal, "i-1")]
    for place in order:
        assert terminal.verdicts(events[place]) == ["accepted"]
    check_both_count(crm, terminal, 20)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_closed_sale_seen_later_is_no_copy_of_one_that_left_the_same(
    order: tuple[int, ...], crm: Crm, terminal: Terminal
) -> None:
    events = [*closed_then_seen(terminal), terminal.purchase(5, earned=10, before=20)]
    for place in order:
        assert terminal.verdicts(events[place]) == ["accepted"]
    check_both_count(crm, terminal, 20)


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_of_two_writes_seen_later_one_is_on_the_card(order: tuple[int, ...], crm: Crm, terminal: Terminal) -> None:
    events = [seen_later(terminal, "i-1"), seen_later(terminal, "i-2")]
    for place in order:
        assert terminal.verdicts(events[place]) == ["accepted"]
    check_both_count(crm, terminal, 20)


def test_a_write_seen_later_owes_nothing_when_it_is_alone(crm: Crm, terminal: Terminal) -> None:
    assert terminal.verdicts(seen_later(terminal, "i-1"), terminal.purchase(6, 1, before=30)) == ["accepted"] * 2
    assert adjustments(terminal) == []
    assert (crm.card()["sequence"], crm.card()["balance"]) == (6, 11)


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_write_seen_later_that_left_something_else_is_a_copy(
    order: tuple[int, ...], crm: Crm, terminal: Terminal
) -> None:
    events = [terminal.purchase(5, earned=3, before=20), seen_later(terminal, "i-1")]
    verdicts = [terminal.verdicts(events[place]) for place in order]
    assert verdicts == [["accepted"], ["fork"]]
    assert crm.card()["status"] == "blocked"


def test_two_writes_that_were_read_back_are_a_copy_even_if_they_left_the_same(crm: Crm, terminal: Terminal) -> None:
    events = [terminal.purchase(5, earned=10, before=20), terminal.purchase(5, earned=10, before=20)]
    assert terminal.verdicts(*events) == ["accepted", "fork"]
    assert crm.card()["status"] == "blocked"

"""A member whose card was blocked gets a new one: what the old one held comes to it, once, wherever it is issued."""

from __future__ import annotations

from terminal_agent.crm import admin, admin_club
from tests.crm.test_cardless import PHONE, SECOND, enrolled, feed_of, issued, sale
from tests.crm.world import CARD, Crm, Terminal

THIRD = "3000000000000007"


def lost_with_points(crm: Crm, terminal: Terminal, points: int = 30) -> None:
    """A member with a card that holds points, reported lost."""
    terminal.post(enrolled(terminal), issued(terminal), terminal.purchase(2, points))
    admin.block_card(crm.place, CARD, "lost")


def test_what_a_blocked_card_holds_comes_to_the_members_new_card_once(crm: Crm, terminal: Terminal) -> None:
    lost_with_points(crm, terminal)
    new = issued(terminal, SECOND)
    assert terminal.verdicts(new) == ["accepted"]
    assert terminal.verdicts(new) == ["duplicate"]
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (0, 30)
    assert [(item["card_no"], item["points"]) for item in feed_of(terminal, "adjustment")] == [(SECOND, 30)]
    assert (crm.card()["status"], crm.card(SECOND)["status"]) == ("replaced", "active")
    assert admin.unblock_card(crm.place, CARD, "found again")["changed"] is False
    assert crm.card(SECOND)["history"][-1]["detail"] == CARD
    terminal.post(terminal.purchase(3, 5, before=30))  # told late
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (0, 35)
    swapped = {"card_no": SECOND, "old_card_no": CARD, "member_id": "m-1"}
    terminal.post(terminal.event("card.replaced", swapped, SECOND))  # somebody says so as well
    assert crm.card(SECOND)["balance"] == 35
    admin.adjust_card(crm.place, CARD, 7, "goodwill")  # by the number of the old card
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (0, 42)
    assert crm.ledger()["programme:moved"] == 0


def test_a_terminal_that_did_not_know_the_member_brings_their_points_along(crm: Crm, terminal: Terminal) -> None:
    lost_with_points(crm, terminal)
    other = crm.enrol("shop-2")
    other.post(enrolled(other, "m-2"), issued(other, SECOND, "m-2"))
    assert crm.card(SECOND)["balance"] == 30


def test_a_card_told_before_its_owner_brings_their_points_along(crm: Crm, terminal: Terminal) -> None:
    lost_with_points(crm, terminal)
    other = crm.enrol("shop-2")
    other.post(issued(other, SECOND, "m-2"))
    assert crm.card(SECOND)["balance"] == 0
    other.post(enrolled(other, "m-2", PHONE))
    assert crm.card(SECOND)["balance"] == 30


def test_a_card_in_use_keeps_what_it_holds_beside_a_second_one(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal), issued(terminal), terminal.purchase(2, 30), issued(terminal, SECOND))
    assert (crm.card()["balance"], crm.card()["status"], crm.card(SECOND)["balance"]) == (30, "active", 0)


def test_points_and_debts_of_all_blocked_cards_and_of_sales_by_phone_come_along(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal), issued(terminal), terminal.purchase(2, 30))
    terminal.post(issued(terminal, SECOND), terminal.purchase(2, 0, 40, before=40, card_no=SECOND))
    for card_no in (CARD, SECOND):
        admin.block_card(crm.place, card_no, "copied")
    terminal.post(sale(terminal, 7))
    assert [crm.card(each)["balance"] for each in (CARD, SECOND)] == [30, -40]
    terminal.post(issued(terminal, THIRD))
    assert [crm.card(each)["balance"] for each in (CARD, SECOND, THIRD)] == [0, 0, -3]


def test_of_a_member_who_was_rejected_or_erased_nothing_moves(crm: Crm, terminal: Terminal) -> None:
    lost_with_points(crm, terminal)
    admin_club.reject_member(crm.place, "m-1", "no")
    terminal.post(issued(terminal, SECOND))
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (30, 0)
    admin_club.erase_member(crm.place, "m-1")
    terminal.post(issued(terminal, THIRD))
    assert (crm.card()["balance"], crm.card(THIRD)["balance"]) == (30, 0)

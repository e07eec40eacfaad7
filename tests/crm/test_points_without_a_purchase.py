"""Referrals and activities: paid by the CRM, once, as the policy says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terminal_agent.crm import admin, admin_club, admin_office
from terminal_agent.crm.membership import Club
from terminal_agent.errors import AgentError, ErrorCode
from tests.crm.world import Crm, Terminal

CARDS = {"m-1": "1000000000000009", "m-2": "2000000000000008"}
RULES = {"referral": {"referrer_points": 50, "referred_points": 20}, "activities": {"survey": 30}}


@pytest.fixture(autouse=True)
def _policy(crm: Crm) -> None:
    document = {"version": "1", "currency": "IRR", "valid_from": "2026-01-01T00:00:00Z", **RULES}
    admin.load_policy(crm.place, json.dumps(document))


def enrolled(
    terminal: Terminal, member_id: str, referrer: str | None = None, phone: str | None = None
) -> dict[str, Any]:
    member = {"member_id": member_id, "phone": phone} | ({"referrer_member_id": referrer} if referrer else {})
    return terminal.event("member.enrolled", {"member": member}, subject=f"members/{member_id}")


def issued(terminal: Terminal, member_id: str) -> dict[str, Any]:
    card_no = CARDS[member_id]
    card = {"card_no": card_no, "sequence": 1, "balance_before": 0, "balance_after": 0, "adjustments_through": 0}
    return terminal.event("card.issued", {"card": card, "member_id": member_id}, card_no)


def balances(crm: Crm) -> tuple[int, int]:
    ledger = crm.ledger()
    return ledger.get(f"card:{CARDS['m-1']}", 0), ledger.get(f"card:{CARDS['m-2']}", 0)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_a_friend_is_paid_for_once_in_whatever_order_it_is_told(
    crm: Crm, terminal: Terminal, order: tuple[int, ...]
) -> None:
    told = [
        enrolled(terminal, "m-1"),
        issued(terminal, "m-1"),
        enrolled(terminal, "m-2", "m-1"),
        issued(terminal, "m-2"),
    ]
    for place in order:
        terminal.post(told[place])
    assert balances(crm) == (50, 20)
    terminal.post(*told)
    terminal.post(enrolled(terminal, "m-2", "m-1"))
    assert balances(crm) == (50, 20)
    paid = [
        (item["card_no"], item["points"], item["reason"])
        for item in terminal.get("/v1/feed")["items"]
        if item["kind"] == "adjustment"
    ]
    assert sorted(paid) == [(CARDS["m-1"], 50, "referral"), (CARDS["m-2"], 20, "referral")]


def test_nobody_brings_themselves(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal, "m-1", "m-1"), issued(terminal, "m-1"))
    assert balances(crm) == (0, 0)


def test_who_is_a_member_already_is_brought_by_nobody(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal, "m-1", phone="09125554433"), issued(terminal, "m-1"))
    terminal.post(enrolled(terminal, "m-2", "m-1", phone="09125554433"), issued(terminal, "m-2"))
    assert balances(crm) == (0, 0)


def test_in_a_closed_club_a_friend_is_paid_for_when_approved(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal, "m-1"), issued(terminal, "m-1"))
    admin_club.settings(crm.place, Club.CLOSED)
    terminal.post(enrolled(terminal, "m-2", "m-1"), issued(terminal, "m-2"))
    assert balances(crm) == (0, 0)
    admin_club.approve_member(crm.place, "m-2")
    admin_club.approve_member(crm.place, "m-2")
    assert balances(crm) == (50, 20)


def test_a_survey_counts_once_however_it_is_told(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal, "m-1"), issued(terminal, "m-1"))
    card_no = CARDS["m-1"]
    answered = {"activity": {"kind": "survey", "reference": "2026-11"}}
    terminal.post(
        terminal.event("activity.recorded", answered, card_no), terminal.event("activity.recorded", answered, card_no)
    )
    again = admin_office.count_activity(crm.place, card_no, "survey", "2026-11")
    assert (again["points"], again["counted"]) == (0, False)
    assert balances(crm) == (30, 0)
    assert admin_office.count_activity(crm.place, card_no, "survey", "2026-12")["points"] == 30
    assert balances(crm) == (60, 0)


def test_points_that_a_terminal_gives_itself_are_not_given_twice(crm: Crm, terminal: Terminal) -> None:
    data = {"activity": {"kind": "survey"}, "points": {"earned": 5}}
    terminal.post(terminal.event("activity.recorded", data, CARDS["m-1"]))
    assert balances(crm) == (5, 0)


def test_what_the_policy_does_not_know_gives_nothing_and_is_said(crm: Crm, terminal: Terminal) -> None:
    terminal.post(issued(terminal, "m-1"))
    terminal.post(terminal.event("activity.recorded", {"activity": {"kind": "dance"}}, CARDS["m-1"]))
    assert balances(crm) == (0, 0)
    for card_no, name, code in ((CARDS["m-1"], "dance", ErrorCode.INVALID_INPUT), ("9", "survey", ErrorCode.NOT_FOUND)):
        with pytest.raises(AgentError) as refused:
            admin_office.count_activity(crm.place, card_no, name, "r-1")
        assert refused.value.code is code

"""Sales by phone: the member's card gets the points, or who has none has them kept; nobody's are lost or doubled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terminal_agent.crm import admin, admin_club, admin_office, members
from terminal_agent.crm.membership import Club
from terminal_agent.crm.store import Store
from tests.crm.world import CARD, Crm, Terminal

PHONE = "09125554433"
SECOND = "2000000000000008"


def enrolled(till: Terminal, member_id: str = "m-1", phone: str | None = PHONE, **more: Any) -> dict[str, Any]:
    who = {"member_id": member_id, "phone": phone, "name": "Sara", "tier": None}
    return till.event("member.enrolled", {"member": who, **more}, subject=f"members/{member_id}")


def provisional(till: Terminal, member_id: str, phone: str = PHONE) -> dict[str, Any]:
    who = {"member_id": member_id, "phone": phone, "name": None, "tier": None}
    return till.event("member.enrolled", {"member": who, "provisional": True}, subject=f"members/{member_id}")


def issued(till: Terminal, card_no: str = CARD, member_id: str = "m-1") -> dict[str, Any]:
    state = {"card_no": card_no, "sequence": 1, "balance_before": 0, "balance_after": 0, "adjustments_through": 0}
    return till.event("card.issued", {"card": state, "uid": "1A2B3C4D", "member_id": member_id}, card_no)


def sale(till: Terminal, earned: int = 10, member_id: str = "m-1", amount: int = 1000) -> dict[str, Any]:
    data = {
        "card": None,
        "member": {"member_id": member_id},
        "purchase": {"amount": amount, "currency": "IRR", "receipt_no": f"R-{till.sequence}"},
        "points": {"earned": earned, "redeemed": 0},
    }
    return till.event("purchase.recorded", data, subject=f"members/{member_id}")


def returned(till: Terminal, of: dict[str, Any], points: int = -10) -> dict[str, Any]:
    bill = {"reversed_event_id": of["id"], "receipt_no": "R", "amount": 1000, "currency": "IRR"}
    data = {**of["data"], "reversal": bill, "points": {"earned": points, "redeemed": 0}}
    del data["purchase"]
    return till.event("purchase.reversed", data, subject=of["subject"])


def feed_of(till: Terminal, kind: str) -> list[dict[str, Any]]:
    return [item for item in till.get("/v1/feed")["items"] if item["kind"] == kind]


def test_the_points_go_to_the_members_card_by_an_adjustment_once(crm: Crm, terminal: Terminal) -> None:
    bought = sale(terminal)
    terminal.post(enrolled(terminal), issued(terminal))
    answer = terminal.post(bought)["results"][0]
    assert (answer["status"], answer["balance"]) == ("accepted", 10)
    assert terminal.verdicts(bought) == ["duplicate"]
    [item] = feed_of(terminal, "adjustment")
    assert (item["card_no"], item["number"], item["points"]) == (CARD, 1, 10)
    assert crm.ledger() == {f"card:{CARD}": 10, "programme:issued": -10}
    told = [event["type"] for event in crm.card()["events"]]
    assert told.count("purchase.recorded") == 1
    back = returned(terminal, bought)
    assert terminal.post(back)["results"][0]["balance"] == 0
    assert [item["points"] for item in feed_of(terminal, "adjustment")] == [10, -10]
    [twice] = terminal.post(returned(terminal, bought))["results"]
    assert (twice["status"], twice["code"]) == ("accepted", "reversal_exceeds_purchase")


def test_who_has_no_card_has_the_points_kept_for_the_first_one(crm: Crm, terminal: Terminal) -> None:
    first, second = sale(terminal, 10), sale(terminal, 5)
    terminal.post(enrolled(terminal), first, second, returned(terminal, first, -4))
    assert crm.ledger() == {"member:m-1": 11, "programme:issued": -11}
    found = terminal.get("/v1/members", phone=PHONE)
    assert (found["cards"], found["waiting_points"]) == ([], 11)
    assert {"status": "waiting", "cards": 0, "points": 11} in admin_office.report(crm.place, "outstanding", None, None)[
        "rows"
    ]
    assert feed_of(terminal, "adjustment") == []
    terminal.post(issued(terminal))
    assert crm.ledger() == {f"card:{CARD}": 11, "member:m-1": 0, "programme:issued": -11, "programme:moved": 0}
    assert [(item["number"], item["points"]) for item in feed_of(terminal, "adjustment")] == [(1, 11)]
    assert terminal.get("/v1/members", phone=PHONE)["waiting_points"] == 0
    # From now on they are the card's sales: what is left of the first is taken back there, and no more than that.
    assert terminal.post(returned(terminal, first, -6))["results"][0]["balance"] == 5
    terminal.post(issued(terminal, SECOND), returned(terminal, second, -5))
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (0, 0)


def test_a_sale_told_before_its_enrolment_finds_its_member(crm: Crm, terminal: Terminal) -> None:
    bought = sale(terminal)
    terminal.post(bought)
    assert crm.ledger()["member:m-1"] == 10
    terminal.post(issued(terminal), enrolled(terminal))
    assert crm.card()["balance"] == 10


def test_a_phone_nobody_could_name_finds_its_owner_here(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal), issued(terminal))
    terminal.post(provisional(terminal, "x-1", "+98 912 555 4433"), sale(terminal, 7, "x-1"))
    assert crm.card()["balance"] == 7
    assert [item["member_id"] for item in feed_of(terminal, "member")] == ["m-1", "m-1"]
    assert terminal.get("/v1/members", phone=PHONE)["member_id"] == "m-1"


def test_a_phone_of_nobody_is_no_member_and_gets_its_points_with_the_enrolment(
    crm: Crm, terminal: Terminal, store: Store
) -> None:
    terminal.post(provisional(terminal, "x-1"), sale(terminal, 7, "x-1"))
    with store.writing() as connection:  # as a tier that is decided anew would
        members.set_tier(connection, ["x-1"], "gold", "2026-11-22T09:30:00.000Z")
    assert feed_of(terminal, "member") == []  # no terminal is told of somebody who never enrolled
    assert terminal.get("/v1/members", phone=PHONE)["status"] == "named"
    [row] = admin_club.list_members(crm.place, "named", 10)
    assert (row["member_id"], row["phone"]) == ("x-1", PHONE)
    other = crm.enrol("shop-2")
    other.post(enrolled(other, "m-2"), issued(other, CARD, "m-2"))
    assert crm.card()["balance"] == 7
    found = terminal.get("/v1/members", phone=PHONE)
    assert (found["name"], found["status"]) == ("Sara", "active")
    assert admin_club.list_members(crm.place, "named", 10) == []


def test_the_same_terminal_may_enrol_under_the_id_it_named(crm: Crm, terminal: Terminal) -> None:
    terminal.post(provisional(terminal, "x-1"), sale(terminal, 7, "x-1"))
    terminal.post(enrolled(terminal, "x-1"), issued(terminal, CARD, "x-1"))
    assert (crm.card()["balance"], terminal.get("/v1/members", phone=PHONE)["status"]) == (7, "active")
    terminal.post(provisional(terminal, "x-1"))
    assert terminal.get("/v1/members", phone=PHONE)["status"] == "active"


def test_a_lost_card_gets_nothing_and_its_replacement_all(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal), issued(terminal), sale(terminal, 3))
    admin.block_card(crm.place, CARD, "lost")
    terminal.post(sale(terminal, 10))
    assert (crm.card()["balance"], crm.ledger()["member:m-1"]) == (3, 10)
    swapped = {"card_no": SECOND, "old_card_no": CARD, "member_id": "m-1"}
    fresh = issued(terminal, SECOND)
    del fresh["data"]["member_id"]  # whose it is, the replacement says
    terminal.post(fresh, terminal.event("card.replaced", swapped, SECOND))
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (0, 13)
    assert crm.ledger()["member:m-1"] == 0


def test_a_card_that_is_freed_gets_what_waited(crm: Crm, terminal: Terminal) -> None:
    terminal.post(enrolled(terminal), issued(terminal))
    admin.block_card(crm.place, CARD, "lost")
    terminal.post(sale(terminal, 10))
    admin.unblock_card(crm.place, CARD, "found")
    assert crm.card()["balance"] == 10


def test_who_is_rejected_waits_until_approved_and_who_is_pending_collects(crm: Crm, terminal: Terminal) -> None:
    admin_club.settings(crm.place, Club.CLOSED)
    terminal.post(enrolled(terminal), issued(terminal), sale(terminal, 1))
    assert (crm.card()["status"], crm.card()["balance"]) == ("pending", 1)
    admin_club.reject_member(crm.place, "m-1", "no resident")
    terminal.post(sale(terminal, 10), issued(terminal, SECOND))
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (1, 0)
    admin_club.approve_member(crm.place, "m-1")
    assert (crm.card()["balance"], crm.card(SECOND)["balance"]) == (1, 10)


def test_what_waits_stays_in_the_books_of_who_is_erased(crm: Crm, terminal: Terminal) -> None:
    terminal.post(provisional(terminal, "x-1"), sale(terminal, 7, "x-1"), enrolled(terminal, "m-2"))
    admin_club.erase_member(crm.place, "x-1")
    assert terminal.call("GET", "/v1/members", params={"phone": PHONE}).status_code == 404
    export = terminal.get("/v1/members/x-1/export")
    assert (export["profile"]["phone"], export["waiting_points"]) == (None, 7)
    assert PHONE[1:] not in str(export)
    terminal.post(sale(terminal, 5, "x-1"), issued(terminal, CARD, "x-1"))
    assert crm.ledger() == {"member:x-1": 12, "programme:issued": -12}


def test_offers_and_tiers_count_once_there_is_a_card(crm: Crm, terminal: Terminal) -> None:
    tiers = [
        {"tier": "basic", "level": 1},
        {"tier": "gold", "level": 2, "threshold_amount": 5000},
    ]
    rules = {"version": "t", "currency": "IRR", "valid_from": "2026-01-01T00:00:00Z", "tiers": tiers}
    offers = [{"id": "tea", "reward": {"points": 3}, "limits": {"per_card": 5}}]
    admin.load_policy(crm.place, json.dumps({**rules, "offers": offers}))
    bought = sale(terminal, 13, amount=6000)
    bought["data"] |= {"policy_version": "t"}
    bought["data"]["points"]["offers"] = [{"offer_id": "tea", "points": 3}]
    terminal.post(enrolled(terminal), bought)
    assert terminal.get("/v1/members", phone=PHONE)["tier"] == "basic"
    terminal.post(issued(terminal))
    assert terminal.get("/v1/members", phone=PHONE)["tier"] == "gold"
    [used] = terminal.get("/v1/members/m-1/export")["cards"][0]["offers"]
    assert (used["offer_id"], used["uses"], used["points"]) == ("tea", 1, 3)


@pytest.mark.parametrize("member", [{}, {"member_id": 7}, "m-1"])
def test_a_sale_that_names_nobody_is_rejected(crm: Crm, terminal: Terminal, member: Any) -> None:
    bought = sale(terminal)
    bought["data"]["member"] = member
    assert terminal.verdicts(bought) == ["rejected"]
    del bought["data"]["member"]
    assert terminal.verdicts({**bought, "sequence": "99"}) == ["rejected"]

"""What the CRM makes of offers in events: counted once, told to shops that must know, paid where a till missed it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terminal_agent.club.offers import coupon_id, normal_code
from terminal_agent.club.policy import default_policy
from terminal_agent.crm import admin, admin_club
from terminal_agent.errors import AgentError, ErrorCode
from tests.crm.test_api import enrolled, issued
from tests.crm.test_cli import run, run_json
from tests.crm.world import CARD, Crm, Terminal

OTHER = "1000000000000017"
RULES = {
    **default_policy(),
    "version": "2",
    "offers": [
        {"id": "birthday", "audience": "birthday", "reward": {"points": 5}},
        {"id": "leaflet", "audience": "coupon", "reward": {"points": 5}},
        {"id": "poster", "audience": "coupon", "code": "ALL", "reward": {"points": 5}},
        {"id": "once", "limits": {"per_card": 1}, "reward": {"points": 5}},
        {"id": "always", "reward": {"points": 5}},
    ],
    "stamps": [{"id": "cups", "per": "item", "skus": ["cup"], "count": 5, "reward_points": 40}],
    "tiers": [
        {"tier": "silver", "level": 1, "threshold_points": 100, "period_days": 30},
        {"tier": "gold", "level": 2, "threshold_amount": 1_000_000, "period_days": 365},
    ],
}


@pytest.fixture
def club(crm: Crm) -> Crm:
    """A CRM with these rules in force."""
    publish(crm, RULES)
    return crm


def publish(crm: Crm, rules: dict[str, Any]) -> None:
    admin.load_policy(crm.place, json.dumps(rules))


def bought(
    terminal: Terminal, counter: int, cups: int = 0, *, earned: int = 1, amount: int = 1000, **more: Any
) -> dict[str, Any]:
    """A purchase with so many cups on its bill; ``offers`` as its till told them."""
    event = terminal.purchase(counter, earned, card_no=more.get("card_no", CARD))
    event["data"]["points"]["offers"] = more.get("offers", [])
    event["data"]["policy_version"] = more.get("version", "2")
    event["data"]["clock"] = "synced"
    lines = [{"sku": "cup", "quantity": cups, "amount": 100}] if cups else []
    event["data"]["purchase"] = {"amount": amount, "currency": "IRR", "lines": lines}
    return event


def told(terminal: Terminal, kind: str = "offer") -> list[dict[str, Any]]:
    return [item for item in terminal.get("/v1/feed", limit=500)["items"] if item["kind"] == kind]


def counts(terminal: Terminal, offer_id: str = "cups") -> dict[str, Any]:
    """What the terminals know last of the card's stamps."""
    found: dict[str, Any] = [item for item in told(terminal) if item["offer_id"] == offer_id][-1]["counts"]
    return found


def test_a_full_card_that_a_till_missed_is_paid_once(club: Crm, terminal: Terminal) -> None:
    first = [bought(terminal, 2, cups=3), bought(terminal, 3, cups=1)]
    last = bought(terminal, 4, cups=1)
    terminal.post(*first)
    assert told(terminal, "adjustment") == []
    terminal.post(last, *first)
    assert terminal.verdicts(last) == ["duplicate"]
    assert told(terminal, "adjustment") == [
        {"kind": "adjustment", "card_no": CARD, "number": 1, "points": 40, "reason": "stamps:cups"}
    ]
    assert club.ledger() == {f"card:{CARD}": 43, "programme:issued": -43}
    assert counts(terminal) == {
        "shop-1": {"uses": 0, "stamps": 5, "rewards": 0},
        "crm:": {"uses": 0, "stamps": 0, "rewards": 1},
    }


def test_a_full_card_that_the_till_rewarded_is_not_paid_again(club: Crm, terminal: Terminal) -> None:
    given = {"offer_id": "cups", "points": 40, "uses": 0, "stamps": 5, "rewards": 1}
    terminal.post(bought(terminal, 2, cups=5, earned=41, offers=[given]))
    assert told(terminal, "adjustment") == []
    terminal.post(bought(terminal, 3, cups=5))
    assert [item["points"] for item in told(terminal, "adjustment")] == [40]


def test_a_reward_too_many_is_made_up_for_by_the_next_full_card(club: Crm, terminal: Terminal) -> None:
    given = {"offer_id": "cups", "points": 40, "uses": 0, "stamps": 1, "rewards": 1}
    terminal.post(bought(terminal, 2, cups=1, offers=[given]), bought(terminal, 3, cups=8))
    assert told(terminal, "adjustment") == []
    terminal.post(bought(terminal, 4, cups=1))
    assert [item["points"] for item in told(terminal, "adjustment")] == [40]


def test_nothing_is_paid_while_an_event_of_the_card_is_missing(club: Crm, terminal: Terminal) -> None:
    """The event that is on its way may tell of the very reward."""
    given = {"offer_id": "cups", "points": 40, "uses": 0, "stamps": 4, "rewards": 0}
    late = bought(terminal, 3, cups=1, offers=[{**given, "stamps": 1, "rewards": 1}])
    terminal.post(bought(terminal, 2, cups=4, offers=[given]), bought(terminal, 4, cups=1))
    assert told(terminal, "adjustment") == []
    terminal.post(late)
    assert told(terminal, "adjustment") == []
    terminal.post(bought(terminal, 5, cups=4))
    assert len(told(terminal, "adjustment")) == 1


def test_a_return_takes_its_stamps_back(club: Crm, terminal: Terminal) -> None:
    sale = bought(terminal, 2, cups=4)
    terminal.post(sale)
    reversal = {"reversed_event_id": sale["id"], "amount": 1000, "currency": "IRR"}
    back = {"earned": -1, "redeemed": 0, "offers": [{"offer_id": "cups", "points": 0, "uses": 0, "stamps": -4}]}
    state = {**sale["data"]["card"], "sequence": 3, "balance_before": 1, "balance_after": 0}
    terminal.post(terminal.event("purchase.reversed", {"card": state, "reversal": reversal, "points": back}))
    terminal.post(bought(terminal, 4, cups=4))
    assert told(terminal, "adjustment") == []
    terminal.post(bought(terminal, 5, cups=1))
    assert len(told(terminal, "adjustment")) == 1


def test_shops_are_told_of_stamps_when_the_customer_changes_shops(club: Crm, terminal: Terminal) -> None:
    terminal.post(bought(terminal, 2, cups=1), bought(terminal, 3, cups=1))
    assert told(terminal) == [], "this shop knows what it did"
    second = club.enrol("shop-2")
    second.post(bought(second, 4, cups=1))
    expected = {"shop-1": {"uses": 0, "stamps": 2, "rewards": 0}, "shop-2": {"uses": 0, "stamps": 1, "rewards": 0}}
    assert counts(terminal) == expected
    second.post(bought(second, 5, cups=1))
    assert counts(terminal) == expected, "and the other one too"
    terminal.post(bought(terminal, 6, cups=0, offers=[{"offer_id": "once", "points": 5}]))
    second.post(bought(second, 7, cups=0, offers=[{"offer_id": "once", "points": 5}]))
    assert counts(terminal, "once")["shop-1"]["uses"] == 1
    second.session.close()


def test_an_offer_without_a_limit_is_counted_and_nobody_is_told(club: Crm, terminal: Terminal) -> None:
    second = club.enrol("shop-2")
    for counter, shop in ((2, terminal), (3, second)):
        shop.post(bought(shop, counter, offers=[{"offer_id": "always", "points": 5}]))
    assert told(terminal) == []
    second.session.close()


@pytest.mark.parametrize(
    "offers", [None, "none", [1], [{}], [{"offer_id": 5}], [{"offer_id": "cups", "stamps": "9"}], {"offer_id": "x"}]
)
def test_offers_that_cannot_be_read_stop_no_event(offers: Any, club: Crm, terminal: Terminal) -> None:
    event = bought(terminal, 2, cups=5, offers=offers)
    event["data"]["purchase"]["lines"] += [None, {"sku": 1}]
    assert terminal.verdicts(event) == ["accepted"]
    assert len(told(terminal, "adjustment")) == 1, "the CRM counts by itself"


def test_a_sale_under_rules_the_crm_never_had_counts_as_its_till_tells(club: Crm, terminal: Terminal) -> None:
    stamped = {"offer_id": "cups", "points": 0, "uses": 0, "stamps": 4}
    terminal.post(bought(terminal, 2, cups=1, version="elsewhere", offers=[stamped]))
    terminal.post(bought(terminal, 3, cups=1))
    assert len(told(terminal, "adjustment")) == 1


def test_what_a_lost_card_had_goes_to_the_card_that_takes_its_place(club: Crm, terminal: Terminal) -> None:
    terminal.post(issued(terminal, "m-1"), bought(terminal, 2, cups=4), issued(terminal, "m-1", OTHER))
    admin.give_grant(club.place, "birthday", CARD)
    terminal.post(terminal.event("card.replaced", {"card_no": OTHER, "old_card_no": CARD}, OTHER))
    assert told(terminal)[-1]["card_no"] == OTHER
    assert counts(terminal)["shop-1"]["stamps"] == 4
    terminal.post(bought(terminal, 2, cups=1, card_no=OTHER))
    assert [item["card_no"] for item in told(terminal, "adjustment") if item["points"] == 40] == [OTHER]


# Grants and codes.


def test_a_grant_reaches_the_shops_and_its_use_too(club: Crm, terminal: Terminal) -> None:
    terminal.post(bought(terminal, 2))
    until = "2099-01-01T00:00:00+03:30"
    answer = run_json(club.place, "grant", "give", "birthday", CARD, "--valid-to", until, "--reason", "a birthday")
    given = {
        "kind": "offer",
        "grant_id": answer["grant_id"],
        "offer_id": "birthday",
        "card_no": CARD,
        "valid_from": None,
        "valid_to": until,
        "uses": 1,
        "used": {},
    }
    assert told(terminal) == [given]
    use = {"offer_id": "birthday", "points": 5, "grant_id": answer["grant_id"]}
    terminal.post(bought(terminal, 3, offers=[use]))
    assert told(terminal)[-1] == {**given, "used": {"shop-1": 1}}
    terminal.post(bought(terminal, 4, offers=[use]))
    (row,) = run_json(club.place, "grant", "list", "--card", CARD)
    assert (row["used"], row["uses"], row["reason"]) == (2, 1, "a birthday")
    assert f"! {answer['grant_id']}" in run(club.place, "grant", "list").stdout
    run_json(club.place, "grant", "revoke", answer["grant_id"])
    assert told(terminal)[-1]["uses"] == 0


def test_codes_are_shown_once_and_known_by_their_hash(club: Crm, terminal: Terminal) -> None:
    codes = run_json(club.place, "grant", "codes", "leaflet", "--count", "3")["codes"]
    assert len({normal_code(code) for code in codes}) == 3
    items = told(terminal)
    assert {item["grant_id"] for item in items} == {coupon_id(normal_code(code)) for code in codes}
    assert {item["card_no"] for item in items} == {None}
    assert not any(normal_code(code) in str(items) for code in codes)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["give", "birthday", "1000000000000025"], ErrorCode.NOT_FOUND),
        (["give", "nothing", CARD], ErrorCode.INVALID_INPUT),
        (["give", "always", CARD], ErrorCode.INVALID_INPUT),
        (["give", "birthday", CARD, "--valid-to", "soon"], ErrorCode.INVALID_INPUT),
        (["give", "birthday", CARD, "--valid-from", "2027-01-01T00:00:00"], ErrorCode.INVALID_INPUT),
        (["codes", "poster"], ErrorCode.INVALID_INPUT),
        (["codes", "birthday"], ErrorCode.INVALID_INPUT),
        (["codes", "leaflet", "--count", "0"], ErrorCode.INVALID_INPUT),
        (["revoke", "nothing"], ErrorCode.NOT_FOUND),
    ],
)
def test_a_grant_that_cannot_be_is_refused(
    arguments: list[str], code: ErrorCode, club: Crm, terminal: Terminal
) -> None:
    terminal.post(bought(terminal, 2))
    error = run(club.place, "grant", *arguments).exception
    assert isinstance(error, AgentError)
    assert error.code is code
    assert told(terminal) == []


# Tiers.


def tier_told(terminal: Terminal, member_id: str = "m-1") -> list[str]:
    return [item["tier"] for item in told(terminal, "member") if item["member_id"] == member_id]


@pytest.fixture
def member(club: Crm, terminal: Terminal) -> Terminal:
    """A member with one card."""
    terminal.post(enrolled(terminal, "m-1", "09125554433"), issued(terminal, "m-1"))
    return terminal


def test_a_threshold_that_is_reached_is_told_to_every_shop(member: Terminal) -> None:
    member.post(bought(member, 2, earned=99))
    assert tier_told(member) == ["basic", "basic"]
    member.post(bought(member, 3, earned=1), bought(member, 4))
    assert tier_told(member)[2:] == ["silver"]
    member.post(bought(member, 5, amount=10**6))
    assert tier_told(member)[3:] == ["gold"]
    assert member.get("/v1/members", phone="09125554433")["tier"] == "gold"


def test_a_return_takes_a_threshold_back(member: Terminal) -> None:
    sale = bought(member, 2, earned=100)
    member.post(sale)
    state = {**sale["data"]["card"], "sequence": 3, "balance_before": 100, "balance_after": 0}
    reversal = {"reversed_event_id": sale["id"], "amount": 1000, "currency": "IRR"}
    points = {"earned": -100, "redeemed": 0}
    member.post(member.event("purchase.reversed", {"card": state, "reversal": reversal, "points": points}))
    assert tier_told(member)[2:] == ["silver", "basic"]


def test_all_cards_of_a_member_count_together(member: Terminal) -> None:
    member.post(enrolled(member, "m-2", "+989125554433"), issued(member, "m-2", OTHER))
    member.post(bought(member, 2, earned=60), bought(member, 2, earned=60, card_no=OTHER))
    assert tier_told(member)[-1] == tier_told(member, "m-2")[-1] == "silver"


def test_a_tier_given_by_hand_is_not_taken_away(club: Crm, terminal: Terminal) -> None:
    terminal.post(issued(terminal, "m-1"))
    event = enrolled(terminal, "m-1", "09125554433")
    event["data"]["member"]["tier"] = "gold"
    terminal.post(event, bought(terminal, 2, earned=100))
    assert tier_told(terminal)[-1] == "gold"


def test_everybody_is_decided_anew_for_new_thresholds(club: Crm, member: Terminal) -> None:
    member.post(bought(member, 2, earned=50))
    tiers = [{"tier": "silver", "level": 1, "threshold_points": 50}]
    publish(club, {**RULES, "version": "3", "valid_from": "2026-02-01T00:00:00Z", "tiers": tiers})
    assert run_json(club.place, "tiers") == {"version": "3", "members": 1, "changed": 1}
    assert run_json(club.place, "tiers")["changed"] == 0
    assert tier_told(member)[-1] == "silver"


def test_who_was_given_what_is_written_down(club: Crm, terminal: Terminal) -> None:
    terminal.post(bought(terminal, 2))
    given = admin.give_grant(club.place, "birthday", CARD)
    admin.make_coupons(club.place, "leaflet", 3, None)
    admin.revoke_grant(club.place, given["grant_id"])
    entries = admin_club.show_audit(club.place, None, 3)["entries"]
    written = [(entry["action"], entry["subject"], entry["detail"]) for entry in reversed(entries)]
    assert written == [
        ("grant.given", CARD, {"grant_id": given["grant_id"], "offer_id": "birthday"}),
        ("coupons.made", None, {"offer_id": "leaflet", "count": 3}),
        ("grant.revoked", None, {"grant_id": given["grant_id"]}),
    ]

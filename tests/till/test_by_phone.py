"""A sale without the card: done at once, told once, returned by its receipt, and known again whatever happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import Fault
from terminal_agent.club.offers import Line
from terminal_agent.club.policy import default_policy
from terminal_agent.contract import EventType, canonical_json, fingerprint, minted_fingerprint
from terminal_agent.desk import enrolment
from terminal_agent.desk.enrolment import Person, Told
from terminal_agent.errors import AgentError
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.till import by_phone, reversal
from terminal_agent.till.by_phone import Buyer
from terminal_agent.till.checkout import PurchaseRequest
from terminal_agent.till.reversal import ReversalRequest
from tests.till.support import WRITE
from tests.workbench import Workbench

PHONE = "09125554433"
NOBODY = Buyer(PHONE)
KNOWN = Buyer(PHONE, "m-1")


def sell(bench: Workbench, receipt_no: str, amount: int = 250_000, buyer: Buyer = KNOWN, **more: Any) -> dict[str, Any]:
    return by_phone.sell(bench.terminal, PurchaseRequest(receipt_no, amount, **more), buyer)


def take_back(bench: Workbench, receipt_no: str, amount: int | None = None) -> dict[str, Any] | None:
    return reversal.reverse_without_card(bench.terminal, ReversalRequest(receipt_no, amount))


def refusal(bench: Workbench, receipt_no: str, amount: int = 250_000, **more: Any) -> AgentError:
    with pytest.raises(AgentError) as refused:
        sell(bench, receipt_no, amount, **more)
    return refused.value


def told(bench: Workbench) -> list[dict[str, Any]]:
    return [json.loads(entry.body) for entry in bench.journal.events.entries(None, 100)]


def policy(bench: Workbench, **changed: Any) -> None:
    document = {**default_policy("IRR"), "version": "t", "valid_from": "2026-01-01T00:00:00Z", **changed}
    with bench.journal.transaction():
        bench.journal.knowledge.remember_policy("t", document)


def test_it_names_the_member_and_touches_no_card(bench: Workbench) -> None:
    sold = sell(bench, "R-1", lines=(Line("tea", 1, 250_000),))
    assert (sold["state"], sold["points_earned"], sold["points_after"], sold["card_no"]) == ("done", 25, None, None)
    [event] = told(bench)
    data = event["data"]
    assert (event["type"], event["subject"]) == (EventType.PURCHASE_RECORDED, "members/m-1")
    assert (data["card"], data["member"], "intent" in data) == (None, {"member_id": "m-1"}, False)
    assert data["purchase"]["lines"] == [{"sku": "tea", "quantity": 1, "amount": 250_000}]
    assert (data["points"]["earned"], data["points"]["redeemed"], data["online"]) == (25, 0, False)


def test_one_receipt_is_one_sale_whoever_is_named_the_second_time(bench: Workbench) -> None:
    first = sell(bench, "R-1")
    bench.restart()
    assert sell(bench, "R-1", buyer=Buyer("09120000000", "m-2")) == {**first, "replayed": True}
    assert refusal(bench, "R-1", 7).code == "receipt_conflict"
    card = bench.issue()
    assert bench.purchase(card, "R-1", 250_000)["replayed"] is True
    bench.purchase(card, "R-2", 100_000)
    assert sell(bench, "R-2", 100_000)["replayed"] is True
    assert [event["type"] for event in told(bench)].count(EventType.PURCHASE_RECORDED) == 2


def test_a_sale_whose_card_is_in_doubt_is_not_made_again_by_phone(bench: Workbench) -> None:
    card = bench.issue()
    with pytest.raises(AgentError):
        bench.purchase(card, "R-1", 250_000, fault=Fault(WRITE))
    refused = refusal(bench, "R-1")
    assert (refused.code, refused.details["state"]) == ("card_removed_early", "in_doubt")
    assert bench.purchase(card, "R-1", 250_000)["state"] == "done"


def test_points_are_redeemed_with_the_card_alone(bench: Workbench) -> None:
    assert refusal(bench, "R-1", redeem=1).code == "invalid_input"
    assert told(bench) == []


def test_it_is_taken_back_by_its_receipt_in_parts_and_no_more_than_it_was(bench: Workbench) -> None:
    sold = sell(bench, "R-1", 100_000)
    part = take_back(bench, "R-1", 40_000)
    assert part is not None
    assert (part["state"], part["points_earned"], part["returnable_amount"]) == ("done", -4, 60_000)
    assert (part["reversed_event_id"], part["card_no"]) == (sold["event_id"], None)
    assert take_back(bench, "R-1", 40_000) == {**part, "replayed": True}
    bench.restart()
    rest = take_back(bench, "R-1")
    assert rest is not None
    assert rest["points_earned"] == -6
    with pytest.raises(AgentError) as refused:
        take_back(bench, "R-1", 1)
    assert refused.value.code == "reversal_refused"
    back = [event for event in told(bench) if event["type"] == EventType.PURCHASE_REVERSED]
    assert [event["data"]["points"]["earned"] for event in back] == [-4, -6]
    assert all(event["data"]["card"] is None and event["data"]["member"] == {"member_id": "m-1"} for event in back)
    assert {event["subject"] for event in back} == {"members/m-1"}


def test_a_sale_by_card_still_needs_its_card_to_be_taken_back(bench: Workbench) -> None:
    card = bench.issue()
    bench.purchase(card, "R-1", 250_000)
    assert take_back(bench, "R-1") is None
    assert bench.reverse(card, "R-1")["points_earned"] == -25


def test_where_nobody_can_say_the_sale_names_one_new_id_and_no_phone(bench: Workbench) -> None:
    first, second = sell(bench, "R-1", buyer=NOBODY), sell(bench, "R-2", buyer=NOBODY)
    assert first["member_id"] == second["member_id"]
    named, *sales = told(bench)
    assert (named["type"], named["data"]["provisional"]) == (EventType.MEMBER_ENROLLED, True)
    assert named["data"]["member"]["phone"] == PHONE
    assert [event["type"] for event in sales] == [EventType.PURCHASE_RECORDED] * 2
    assert PHONE[1:] not in json.dumps(sales)
    member, known = enrolment.enrol(bench.terminal, Person(PHONE, "Sara"), Told())
    assert (member.member_id, known) == (first["member_id"], False)
    assert told(bench)[-1]["data"]["member"]["name"] == "Sara"
    assert "provisional" not in told(bench)[-1]["data"]
    assert enrolment.enrol(bench.terminal, Person(PHONE), Told())[1] is True


def test_an_erasure_takes_the_phone_out_of_what_waits(bench: Workbench) -> None:
    sold = sell(bench, "R-1", buyer=NOBODY)
    before = [minted_fingerprint(json.dumps(event).encode()) for event in told(bench)][1:]
    bench.journal.erase_member(sold["member_id"], set())
    bench.journal.purge()
    assert PHONE[1:] not in json.dumps(told(bench))
    assert bench.journal.events.broken_link() is None
    assert len(told(bench)) == 2
    assert before == [minted_fingerprint(json.dumps(event).encode()) for event in told(bench)][1:]


@pytest.mark.parametrize("provisional", [True, False])
def test_who_guesses_the_right_phone_cannot_tell_it_from_what_an_erasure_leaves(
    bench: Workbench, provisional: bool
) -> None:
    """There are 10^9 mobile phones, and an enrolment's fingerprint stays in the hash chain."""
    if provisional:
        sell(bench, "R-1", buyer=NOBODY)
    else:
        enrolment.enrol(bench.terminal, Person(PHONE), Told())
    asked = told(bench)[0]
    minted = fingerprint(canonical_json(asked))
    bench.journal.erase_member(asked["data"]["member"]["member_id"], set())
    left = told(bench)[0]
    guess = {**left["data"].pop("redacted"), **left}
    assert guess.pop("fingerprint") == minted
    guess.pop("check")
    guess["data"]["member"] |= {"phone": PHONE, "name": None}
    assert guess["data"]["member"].keys() < asked["data"]["member"].keys()
    assert fingerprint(canonical_json(guess)) != minted
    guess["data"]["member"]["salt"] = asked["data"]["member"]["salt"]
    assert fingerprint(canonical_json(guess)) == minted


def test_a_member_has_the_tiers_multiplier_and_an_offer_as_often_as_its_limit_says(bench: Workbench) -> None:
    offers = [
        {"id": "day", "reward": {"points": 7}, "limits": {"per_card_day": 1}},
        {"id": "welcome", "reward": {"points": 100}, "audience": "first_purchase"},
    ]
    tiers = [{"tier": "gold", "level": 1, "multiplier_percent": 200}]
    policy(bench, offers=offers, tiers=tiers)
    gold = Buyer(PHONE, "m-1", tier="gold")
    assert sell(bench, "R-1", 100_000, gold)["points_earned"] == 20 + 7
    assert sell(bench, "R-2", 100_000, gold)["points_earned"] == 20
    take_back(bench, "R-1")
    assert sell(bench, "R-3", 100_000, gold)["points_earned"] == 20 + 7
    assert sell(bench, "R-4", 100_000, NOBODY)["points_earned"] == 10


def test_what_a_card_had_counts_when_it_stays_at_home(bench: Workbench) -> None:
    policy(bench, offers=[{"id": "day", "reward": {"points": 7}, "limits": {"per_card_day": 1}}])
    card = bench.issue()
    tapped = bench.purchase(card, "R-1", 100_000)
    assert tapped["points_earned"] == 17
    owner = Buyer(PHONE, "m-1", tapped["card_no"])
    assert sell(bench, "R-2", 100_000, owner)["points_earned"] == 10
    assert bench.journal.events.waiting_of(tapped["card_no"])


def test_a_receipt_whose_row_is_lost_is_known_by_its_event(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    sold = sell(bench, "R-1")
    bench.close()
    file = tmp_path / JOURNAL_FILE
    file.write_bytes(bytes(100) + file.read_bytes()[100:])
    drawn = bench.ids.drawn
    bench = Workbench(tmp_path)
    bench.ids.drawn += drawn
    again = sell(bench, "R-1")
    same = ("state", "member_id", "event_id", "points_earned", "points_after", "card_no", "amount")
    assert again["replayed"] is True
    assert {name: again[name] for name in same} == {name: sold[name] for name in same}
    back = take_back(bench, "R-1")
    assert back is not None
    assert back["points_earned"] == -25
    bench.close()

"""Offers, tiers, stamps and coupons at the till: what the customer gets, what the event tells, what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drivers.base import ClassicConnection
from drivers.simulator import Fault, MemoryImage, Torn
from terminal_agent.club.offers import Line, coupon_id
from terminal_agent.club.policy import default_policy
from terminal_agent.contract import EventType
from terminal_agent.desk.inspect import show
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.journal.knowledge import Member
from terminal_agent.taps import CardAtCrm
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.till.support import WRITE
from tests.workbench import UID_7, Workbench, lay, offline

TIERS = [
    {"tier": "silver", "level": 1, "multiplier_percent": 150},
    {"tier": "gold", "level": 2, "multiplier_percent": 200},
]
STAMPS = [{"id": "cups", "per": "item", "skus": ["cup"], "count": 5, "reward_points": 40}]
CUP = (Line("cup", 1, 10_000),)


def offer(points: int = 7, **changed: Any) -> dict[str, Any]:
    return {"id": "x", "reward": {"points": points}, **changed}


@pytest.fixture
def card(bench: Workbench) -> MemoryImage:
    return bench.issue()


@pytest.fixture
def card_no(bench: Workbench, card: MemoryImage) -> str:
    identity = bench.read(card).identity
    assert identity is not None
    return str(identity["card_no"])


Publish = Callable[..., None]


@pytest.fixture
def publish(bench: Workbench) -> Publish:
    """The CRM's newest policy."""
    version = iter(range(1, 100))

    def remember(**rules: Any) -> None:
        number = next(version)
        document = {**default_policy(), "version": f"v{number}", "valid_from": f"2026-0{number}-02T00:00:00Z", **rules}
        with bench.journal.transaction():
            bench.journal.knowledge.remember_policy(document["version"], document)

    return remember


def tell(bench: Workbench, **item: Any) -> None:
    """An ``offer`` of the CRM's feed."""
    with bench.journal.transaction():
        bench.journal.offers.take({"offer_id": "x", **item})


def buy(
    bench: Workbench, card: MemoryImage, receipt_no: str, amount: int = 50_000, fault: Fault | None = None, **bill: Any
) -> dict[str, Any]:
    redeem, reserve = bill.pop("redeem", 0), bill.pop("reserve", offline)
    with lay(card, fault) as connection:
        return purchase(bench.terminal, connection, PurchaseRequest(receipt_no, amount, redeem, **bill), reserve)


def refusal(bench: Workbench, card: MemoryImage, **bill: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        buy(bench, card, "R-refused", **bill)
    return caught.value


def ids(answer: dict[str, Any]) -> list[str]:
    return [use["offer_id"] for use in answer["offers"]]


def test_an_offer_is_told_to_the_customer_and_to_the_crm(bench: Workbench, card: MemoryImage, publish: Publish) -> None:
    publish(offers=[offer(name={"fa": "هدیه", "en": "A gift"})])
    answer = buy(bench, card, "R-1")
    assert answer["offers"] == [{"offer_id": "x", "points": 7, "name": {"fa": "هدیه", "en": "A gift"}}]
    assert (answer["points_earned"], answer["points_after"]) == (12, 12)
    assert [reason["points"] for reason in answer["explanation"]] == [5, 7]
    (event,) = bench.events(EventType.PURCHASE_RECORDED)
    assert event["data"]["points"] == {"earned": 12, "redeemed": 0, "offers": [{"offer_id": "x", "points": 7}]}
    bench.check_books(card)


def test_a_first_purchase_is_the_first_tap_of_the_card(bench: Workbench, card: MemoryImage, publish: Publish) -> None:
    publish(offers=[offer(audience="first_purchase")])
    assert [ids(buy(bench, card, receipt)) for receipt in ("R-1", "R-2")] == [["x"], []]
    assert ids(buy(bench, bench.issue(UID_7), "R-3")) == ["x"]


def test_a_limit_of_a_day_ends_with_the_shops_day(bench: Workbench, card: MemoryImage, publish: Publish) -> None:
    publish(offers=[offer(limits={"per_card_day": 1})])
    assert [ids(buy(bench, card, receipt)) for receipt in ("R-1", "R-2")] == [["x"], []]
    bench.clock.advance(hours=11)  # 13:00 to midnight in Tehran
    assert ids(buy(bench, card, "R-3")) == ["x"]


def test_a_limit_for_ever_survives_a_restart_and_counts_other_shops(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(offers=[offer(limits={"per_card": 3})])
    buy(bench, card, "R-1")
    bench.restart()
    tell(bench, card_no=card_no, counts={"shop-2": {"uses": 1}, "shop-1": {"uses": 1}})
    assert [ids(buy(bench, card, receipt)) for receipt in ("R-2", "R-3")] == [["x"], []]


def test_a_grant_is_used_once_and_only_by_its_card(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(offers=[offer(audience="birthday")])
    tell(bench, grant_id="g-1", card_no=card_no, valid_from="2026-11-20T00:00:00Z", valid_to="2026-11-30T00:00:00Z")
    assert ids(buy(bench, bench.issue(UID_7), "R-0")) == []
    assert buy(bench, card, "R-1")["offers"][0]["grant_id"] == "g-1"
    assert ids(buy(bench, card, "R-2")) == []


def test_a_grant_that_was_used_elsewhere_is_used(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(offers=[offer(audience="granted")])
    tell(bench, grant_id="g-1", card_no=card_no, uses=3, used={"shop-2": 1})
    assert ids(buy(bench, card, "R-1")) == ["x"]
    tell(bench, grant_id="g-1", card_no=card_no, uses=3, used={"shop-2": 1, "shop-1": 1})
    assert [ids(buy(bench, card, receipt)) for receipt in ("R-2", "R-3")] == [["x"], []]


def test_a_journal_that_was_lost_learns_its_own_uses_from_the_crm(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(offers=[offer(limits={"per_card": 2}), offer(id="g", audience="granted")])
    tell(bench, grant_id="g-1", offer_id="g", card_no=card_no, used={"shop-1": 1})
    tell(bench, card_no=card_no, counts={"shop-1": {"uses": 1}})
    assert [ids(buy(bench, card, receipt)) for receipt in ("R-1", "R-2")] == [["x"], []]


def test_a_coupon_brings_its_offer_or_a_plain_refusal(bench: Workbench, card: MemoryImage, publish: Publish) -> None:
    publish(offers=[offer(audience="coupon"), offer(id="all", audience="coupon", code="NOW")])
    tell(bench, grant_id=coupon_id("AB12"))
    error = refusal(bench, card, coupon="AB 13")
    assert (error.code, error.exit_code) == (ErrorCode.COUPON_REFUSED, 4)
    assert bench.state(card).sequence == 1, "the card was not touched"
    assert ids(buy(bench, card, "R-1", coupon="ab-12")) == ["x"]
    assert refusal(bench, card, coupon="AB12").code is ErrorCode.COUPON_REFUSED
    assert [ids(buy(bench, card, receipt, coupon="now")) for receipt in ("R-2", "R-3")] == [["all"], ["all"]]
    assert refusal(bench, card, coupon=" ").code is ErrorCode.INVALID_INPUT
    publish()
    assert refusal(bench, card, coupon="NOW").code is ErrorCode.COUPON_REFUSED


def test_the_fifth_cup_fills_the_card_wherever_the_others_were_bought(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(stamps=STAMPS)
    buy(bench, card, "R-1", lines=CUP)
    tell(bench, offer_id="cups", card_no=card_no, counts={"shop-2": {"stamps": 2}})
    assert [use["points"] for use in buy(bench, card, "R-2", lines=CUP)["offers"]] == [0]
    full = buy(bench, card, "R-3", lines=CUP)
    assert (full["offers"][0]["points"], full["points_earned"]) == (40, 45)
    assert "0 of 5, 1 full" in full["explanation"][1]["detail"]
    assert [buy(bench, card, f"R-{n}", lines=CUP)["points_earned"] for n in range(4, 9)] == [5, 5, 5, 5, 45]
    bench.check_books(card)


def test_a_reward_that_the_crm_paid_is_not_given_again(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(stamps=STAMPS)
    tell(bench, offer_id="cups", card_no=card_no, counts={"shop-2": {"stamps": 5}, "crm": {"rewards": 1}})
    assert buy(bench, card, "R-1", lines=CUP)["points_earned"] == 5


def test_what_is_returned_takes_its_offers_and_stamps_with_it(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(offers=[offer(10, audience="granted")], stamps=[{**STAMPS[0], "count": 2}])
    tell(bench, grant_id="g-1", card_no=card_no)
    bought = buy(bench, card, "R-1", lines=(Line("cup", 2, 10_000),))
    assert (ids(bought), bought["points_after"]) == (["x", "cups"], 55)
    half = bench.reverse(card, "R-1", 25_000)
    assert half["points_after"] == 2 + 25
    assert [(use["offer_id"], use["points"], use.get("stamps")) for use in half["offers"]] == [
        ("x", -5, None),
        ("cups", -20, -1),
    ]
    rest = bench.reverse(card, "R-1")
    assert rest["points_after"] == 0
    event = bench.events(EventType.PURCHASE_REVERSED)[-1]
    assert event["data"]["points"]["offers"] == [
        {"offer_id": "x", "points": -5, "grant_id": "g-1", "uses": -1},
        {"offer_id": "cups", "points": -20, "uses": 0, "stamps": -1, "rewards": -1},
    ]
    again = buy(bench, card, "R-2", lines=(Line("cup", 2, 10_000),))
    assert (ids(again), again["points_after"]) == (["x", "cups"], 55), "grant and full card are free again"
    bench.check_books(card)


def test_a_torn_sale_uses_its_grant_once(bench: Workbench, card: MemoryImage, card_no: str, publish: Publish) -> None:
    publish(offers=[offer(audience="granted")])
    for receipt, torn in (("R-1", Torn.NEW), ("R-2", Torn.OLD)):
        tell(bench, grant_id=receipt, card_no=card_no)
        with pytest.raises(AgentError):
            buy(bench, card, receipt, fault=Fault(WRITE, torn))
        assert bench.journal.offers.grants_of(card_no)[-1].uses_left == 1
        assert ids(buy(bench, card, receipt)) == ["x"]
        assert bench.journal.offers.grants_of(card_no)[-1].uses_left == 0
    bench.check_books(card)


def test_a_sale_closed_without_its_card_has_used_its_offers(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(offers=[offer(audience="granted")])
    tell(bench, grant_id="g-1", card_no=card_no)
    with pytest.raises(AgentError):
        buy(bench, card, "R-1", fault=Fault(WRITE, Torn.OLD))
    closed = bench.close_in_doubt()
    assert (ids(closed), closed["points_earned"]) == (["x"], 12)
    assert bench.journal.offers.grants_of(card_no)[0].uses_left == 0


def test_a_clock_the_crm_contradicts_starts_no_offer_of_an_hour(
    bench: Workbench, card: MemoryImage, publish: Publish
) -> None:
    publish(offers=[offer(weekdays=["sun"]), offer(id="always")])
    assert ids(buy(bench, card, "R-1")) == ["x", "always"]
    with bench.journal.transaction():
        bench.journal.set_meta(CLOCK_SKEW, "7200")
    assert ids(buy(bench, card, "R-2")) == ["always"]


def test_a_coupon_that_brings_nothing_is_refused_before_the_crm_is_asked(
    bench: Workbench, card: MemoryImage, publish: Publish
) -> None:
    publish(offers=[offer(audience="coupon", code="NOW", minimum_amount=10**9)])
    asked: list[int] = []

    def reserve(card_no: str, state: Any, points: int, reference: str) -> CardAtCrm | None:
        asked.append(points)
        return None

    buy(bench, card, "R-1", 1_000_000)
    assert refusal(bench, card, redeem=5, coupon="NOW", reserve=reserve).code is ErrorCode.COUPON_REFUSED
    assert asked == []


# Tiers.


def say_who(bench: Workbench, card_no: str, tier: str | None) -> None:
    with bench.journal.transaction():
        bench.journal.knowledge.remember_member(Member("m-1", None, None, tier))
        bench.journal.knowledge.remember_holder(card_no, "m-1")


def test_the_tier_the_crm_decided_earns_at_once_and_is_written_to_the_card(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(tiers=TIERS)
    assert (buy(bench, card, "R-1")["tier"], bench.state(card).tier) == (None, 0)
    say_who(bench, card_no, "gold")
    answer = buy(bench, card, "R-2")
    assert (answer["tier"], answer["points_earned"], bench.state(card).tier) == ("gold", 10, 2)
    say_who(bench, card_no, "basic")
    bench.reverse(card, "R-2")
    assert (bench.state(card).tier, bench.state(card).balance) == (0, 5)
    bench.check_books(card)


def test_a_shop_that_knows_the_card_alone_believes_its_tier(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish, tmp_path_factory: pytest.TempPathFactory
) -> None:
    publish(tiers=TIERS)
    say_who(bench, card_no, "silver")
    buy(bench, card, "R-1")
    elsewhere = Workbench(tmp_path_factory.mktemp("elsewhere"), terminal_id="shop-2")
    document = {**default_policy(), "version": "other", "valid_from": "2026-02-01T00:00:00Z", "tiers": TIERS}
    with elsewhere.journal.transaction():
        elsewhere.journal.knowledge.remember_policy("other", document)
    answer = buy(elsewhere, card, "S-1")
    assert (answer["tier"], answer["points_earned"]) == ("silver", 7)
    assert elsewhere.state(card).tier == 1
    with lay(card) as connection:
        assert shown(elsewhere, connection) == "silver"
    elsewhere.close()


def shown(bench: Workbench, connection: ClassicConnection) -> Any:
    return show(bench.terminal, connection)["tier"]


def test_a_policy_without_tiers_leaves_the_card_as_it_is(
    bench: Workbench, card: MemoryImage, card_no: str, publish: Publish
) -> None:
    publish(tiers=TIERS)
    say_who(bench, card_no, "gold")
    buy(bench, card, "R-1")
    publish()
    buy(bench, card, "R-2")
    assert bench.state(card).tier == 2

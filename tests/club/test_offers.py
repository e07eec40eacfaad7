"""Offers, tiers and stamps: each condition by an example on either side of it, and what holds for all policies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from terminal_agent.club.offers import Basket, CouponRefused, Grant, Holder, Line, OfferUse, Used, normal_code
from terminal_agent.club.policy import Policy, default_policy, parse_policy
from terminal_agent.club.purchase import Account, Outcome, RedemptionRefused, evaluate
from terminal_agent.club.reversal import Sale, reverse

THURSDAY = datetime(2026, 11, 26, 13, 30, tzinfo=UTC)  # 17:00 in Tehran
BILL = 100_000


def policy(**changed: Any) -> Policy:
    return parse_policy({**default_policy(), **changed})


def offer(identifier: str = "x", points: int = 7, **changed: Any) -> dict[str, Any]:
    return {"id": identifier, "reward": {"points": points}, **changed}


def got(
    rules: Policy, basket: Basket | None = None, holder: Holder | None = None, amount: int = BILL
) -> dict[str, int]:
    """Points by offer."""
    at_the_till = basket if basket is not None else Basket(at=THURSDAY)
    outcome = evaluate(rules, Account(0), amount, 0, at_the_till, holder or Holder())
    return {use.offer_id: use.points for use in outcome.offers}


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({}, True),
        ({"valid_from": "2026-11-26T13:30:00Z"}, True),
        ({"valid_from": "2026-11-26T13:30:01Z"}, False),
        ({"valid_to": "2026-11-26T13:30:01Z"}, True),
        ({"valid_to": "2026-11-26T13:30:00Z"}, False),
        ({"weekdays": ["thu"]}, True),
        ({"weekdays": ["fri", "wed"]}, False),
        ({"hours": {"from": "17:00", "to": "18:00"}}, True),
        ({"hours": {"from": "16:00", "to": "17:00"}}, False),
        ({"hours": {"from": "22:00", "to": "17:01"}}, True),
        ({"hours": {"from": "17:01", "to": "03:00"}}, False),
        ({"minimum_amount": BILL}, True),
        ({"minimum_amount": BILL + 1}, False),
        ({"tiers": ["gold"]}, True),
        ({"tiers": ["silver"]}, False),
        ({"audience": "first_purchase"}, False),
        ({"audience": "granted"}, False),
        ({"audience": "birthday"}, False),
        ({"audience": "coupon"}, False),
        ({"audience": "coupon", "code": "A"}, False),
        ({"limits": {"per_card": 3}}, True),
        ({"limits": {"per_card": 2}}, False),
        ({"limits": {"per_card_day": 2}}, True),
        ({"limits": {"per_card_day": 1}}, False),
    ],
)
def test_an_offer_applies_where_each_of_its_conditions_is_met(condition: dict[str, Any], fits: bool) -> None:
    rules = policy(offers=[offer(**condition)], tiers=[{"tier": "gold", "level": 2}, {"tier": "silver", "level": 1}])
    holder = Holder("gold", used={"x": Used(today=1, ever=2)})
    assert got(rules, holder=holder) == ({"x": 7} if fits else {})


@pytest.mark.parametrize(
    "condition",
    [{"weekdays": ["thu"]}, {"hours": {"from": "00:00", "to": "23:59"}}, {"valid_from": "2020-01-01T00:00:00Z"}],
)
def test_a_clock_nobody_trusts_starts_no_offer_of_an_hour(condition: dict[str, Any]) -> None:
    rules = policy(offers=[offer(**condition), offer("always")])
    assert got(rules, Basket()) == {"always": 7}


def test_the_day_is_the_shops_day() -> None:
    midnight = datetime(2026, 11, 25, 20, 30, tzinfo=UTC)
    rules = {"offers": [offer(weekdays=["thu"])]}
    assert got(policy(**rules), Basket(at=midnight)) == {"x": 7}
    assert got(policy(**rules, time_zone="UTC"), Basket(at=midnight)) == {}


LINES = (Line("tea-green", 2, 30_000), Line("cup", 1, 50_000), Line("tea", 1, 5_000), Line("rebate", 1, -2_000))


@pytest.mark.parametrize(
    ("goods", "reward", "points"),
    [
        ({"skus": ["cup"]}, {"points_per_item": 3}, 3),
        ({"skus": ["tea-*"]}, {"points_per_item": 3}, 6),
        ({"categories": ["tea"]}, {"points_per_item": 3}, 9),
        ({"skus": ["cup"], "categories": ["tea"]}, {"points_per_item": 3}, 12),
        ({"skus": ["cup", "c*"]}, {"points_per_item": 3}, 3),
        ({"skus": ["nothing"]}, {"points": 3}, 0),
        ({"skus": ["rebate"]}, {"multiplier_percent": 900}, 0),
        ({"skus": ["cup"]}, {"multiplier_percent": 300}, 10),
        ({"categories": ["tea"]}, {"multiplier_percent": 200}, 3),
        ({}, {"multiplier_percent": 150}, 5),
        ({"skus": ["cup"], "minimum_amount": 50_000}, {"points": 3}, 3),
        ({"skus": ["cup"], "minimum_amount": 50_001}, {"points": 3}, 0),
    ],
)
def test_an_offer_may_be_for_some_goods(goods: dict[str, Any], reward: dict[str, int], points: int) -> None:
    rules = policy(offers=[{"id": "x", "reward": reward, **goods}], categories={"tea": ["tea", "tea-*"]})
    assert got(rules, Basket(LINES)) == ({"x": points} if points else {})


def test_goods_that_points_paid_for_earn_no_more_than_the_rest_of_the_bill() -> None:
    rules = policy(earn={"basis": "net"}, offers=[{"id": "x", "skus": ["cup"], "reward": {"multiplier_percent": 200}}])
    basket = Basket((Line("cup", 1, 90_000),))
    outcome = evaluate(rules, Account(10_000, online=True), 100_000, 800, basket)
    assert [reason.points for reason in outcome.reasons] == [2, 2, -800]


def test_offers_add_up_or_the_best_one_counts() -> None:
    offers = [offer("small", 3), offer("large", 9), offer("same", 9)]
    assert got(policy(offers=offers)) == {"small": 3, "large": 9, "same": 9}
    assert got(policy(offers=offers, stacking="best")) == {"large": 9}


def test_a_tier_adds_to_what_the_amount_earns_and_not_to_offers() -> None:
    rules = policy(tiers=[{"tier": "gold", "level": 1, "multiplier_percent": 150}], offers=[offer(points=100)])
    outcome = evaluate(rules, Account(0), 50_000, 0, Basket(), Holder("gold"))
    assert [(reason.rule, reason.points) for reason in outcome.reasons] == [("earn", 5), ("tier", 2), ("offer", 100)]
    assert evaluate(rules, Account(0), 50_000, 0, Basket(), Holder("unknown")).earned == 105


def test_a_first_purchase_is_welcomed_once() -> None:
    rules = policy(offers=[offer(audience="first_purchase")])
    assert got(rules, holder=Holder(first_purchase=True)) == {"x": 7}


GRANT = Grant("g-1", "x")


@pytest.mark.parametrize(
    ("grant", "good"),
    [
        (GRANT, True),
        (replace(GRANT, uses_left=0), False),
        (replace(GRANT, offer_id="y"), False),
        (replace(GRANT, coupon="SHOWN"), False),
        (replace(GRANT, valid_from=THURSDAY), True),
        (replace(GRANT, valid_to=THURSDAY), False),
    ],
)
@pytest.mark.parametrize("audience", ["granted", "birthday"])
def test_what_is_given_to_a_card_needs_its_grant(audience: str, grant: Grant, good: bool) -> None:
    rules = policy(offers=[offer(audience=audience)])
    outcome = evaluate(rules, Account(0), BILL, 0, Basket(at=THURSDAY), Holder(grants=(grant,)))
    assert outcome.offers == ((OfferUse("x", 7, "g-1"),) if good else ())


@pytest.mark.parametrize(
    ("shown", "grant", "good"),
    [
        ("AB12", replace(GRANT, coupon="AB12"), True),
        ("AB12", replace(GRANT, coupon="CD34"), False),
        ("AB12", replace(GRANT, coupon="AB12", uses_left=0), False),
        ("AB12", GRANT, False),
        (None, GRANT, None),
        (None, replace(GRANT, coupon="AB12"), None),
    ],
)
def test_a_coupon_is_good_only_when_its_code_is_shown(shown: str | None, grant: Grant, good: bool | None) -> None:
    rules = policy(offers=[offer(audience="coupon")])
    basket = Basket(coupon=shown)
    if good is False:
        with pytest.raises(CouponRefused):
            evaluate(rules, Account(0), BILL, 0, basket, Holder(grants=(grant,)))
    else:
        offers = evaluate(rules, Account(0), BILL, 0, basket, Holder(grants=(grant,))).offers
        assert [use.grant_id for use in offers] == (["g-1"] if good else [])


def test_a_code_for_everybody_is_read_as_people_write_it() -> None:
    rules = policy(offers=[offer(audience="coupon", code="Now-Ruz 1406")])
    assert got(rules, Basket(coupon=normal_code("nowruz1406"))) == {"x": 7}
    with pytest.raises(CouponRefused):
        got(rules, Basket(coupon="OTHER"))


def test_a_good_coupon_that_a_better_offer_beats_is_no_mistake() -> None:
    rules = policy(stacking="best", offers=[offer(audience="coupon", code="A"), offer("better", 8)])
    assert got(rules, Basket(coupon="A")) == {"better": 8}


def stamped(stamps: int, rewards: int, quantity: int = 1, per: str = "item") -> OfferUse:
    rules = policy(stamps=[{"id": "x", "count": 5, "reward_points": 40, "per": per, "skus": ["cup"]}])
    holder = Holder(used={"x": Used(stamps=stamps, rewards=rewards)})
    (use,) = evaluate(rules, Account(0), BILL, 0, Basket((Line("cup", quantity, 10),)), holder).offers
    return use


@pytest.mark.parametrize(
    ("stamps", "rewards", "quantity", "given"),
    [(0, 0, 4, 0), (0, 0, 5, 1), (4, 0, 1, 1), (4, 0, 6, 2), (5, 0, 1, 1), (5, 1, 1, 0), (9, 2, 1, 0), (14, 2, 1, 1)],
)
def test_each_full_card_is_rewarded_once(stamps: int, rewards: int, quantity: int, given: int) -> None:
    assert stamped(stamps, rewards, quantity) == OfferUse("x", given * 40, None, 0, quantity, given)


def test_a_purchase_may_be_one_stamp_however_much_is_bought() -> None:
    assert stamped(0, 0, 9, "purchase").stamps == 1
    rules = policy(stamps=[{"id": "x", "count": 5, "reward_points": 40, "minimum_amount": BILL + 1}])
    assert evaluate(rules, Account(0), BILL, 0, Basket()).offers == ()


def test_what_an_event_carries_of_an_offer_is_short_and_comes_back() -> None:
    assert OfferUse("x", 5).to_json() == {"offer_id": "x", "points": 5}
    for use in (OfferUse("x", 5, "g"), OfferUse("x", 0, None, 0, 3, 1), OfferUse("x", -5, "g", -1)):
        assert OfferUse.from_json(use.to_json()) == use


# What holds for all of them.

names = st.sampled_from(["a", "b", "c"])
conditions = st.fixed_dictionaries(
    {},
    optional={
        "minimum_amount": st.integers(0, 500_000),
        "skus": st.lists(names, max_size=2),
        "weekdays": st.lists(st.sampled_from(["thu", "fri"]), max_size=2),
    },
)
rewards = st.one_of(
    st.fixed_dictionaries({"points": st.integers(1, 500)}),
    st.fixed_dictionaries({"points_per_item": st.integers(1, 50)}),
    st.fixed_dictionaries({"multiplier_percent": st.integers(100, 1_000)}),
)


@st.composite
def rich_policies(draw: st.DrawFn) -> Policy:
    offers = [{**draw(conditions), "id": f"o{i}", "reward": draw(rewards)} for i in range(draw(st.integers(0, 3)))]
    stamps = [
        {**draw(conditions), "id": f"s{i}", "count": draw(st.integers(2, 6)), "reward_points": draw(st.integers(1, 99))}
        for i in range(draw(st.integers(0, 2)))
    ]
    return policy(
        earn={
            "points": draw(st.integers(0, 20)),
            "per_amount": draw(st.integers(1, 50_000)),
            "basis": draw(st.sampled_from(["gross", "net"])),
        },
        tiers=[{"tier": "gold", "level": 1, "multiplier_percent": draw(st.integers(100, 400))}],
        stacking=draw(st.sampled_from(["add", "best"])),
        offers=offers,
        stamps=stamps,
    )


baskets = st.builds(
    lambda lines, at: Basket(tuple(lines), at),
    st.lists(st.builds(Line, names, st.integers(1, 9), st.integers(-1_000, 300_000)), max_size=4),
    st.sampled_from([None, THURSDAY]),
)
holders = st.builds(
    lambda tier, stamps, given: Holder(tier, used={"s0": Used(stamps=stamps, rewards=given)}),
    st.sampled_from([None, "gold"]),
    st.integers(0, 30),
    st.integers(0, 8),
)
amounts = st.integers(1, 1_000_000)


def granted(
    rules: Policy, amount: int, redeem: int, basket: Basket, holder: Holder, balance: int = 10**6
) -> Outcome | None:
    try:
        return evaluate(rules, Account(balance, online=True), amount, redeem, basket, holder)
    except RedemptionRefused:
        return None


@given(rich_policies(), st.integers(-100, 2_000), amounts, st.integers(0, 500), baskets, holders)
def test_the_explanation_adds_up_and_no_redemption_makes_a_debt(
    rules: Policy, balance: int, amount: int, redeem: int, basket: Basket, holder: Holder
) -> None:
    outcome = granted(rules, amount, redeem, basket, holder, balance)
    assume(outcome is not None)
    assert outcome is not None
    assert sum(reason.points for reason in outcome.reasons) == outcome.delta
    by_rule = [reason.points for reason in outcome.reasons if reason.rule in ("offer", "stamps")]
    assert sum(use.points for use in outcome.offers) == sum(by_rule)
    assert all(use.points >= 0 for use in outcome.offers)
    assert outcome.earned >= 0
    assert not redeem or balance - redeem >= 0


@given(rich_policies(), amounts, amounts, st.integers(0, 500), baskets, holders)
def test_a_larger_bill_never_earns_less(
    rules: Policy, one: int, other: int, redeem: int, basket: Basket, holder: Holder
) -> None:
    small, large = (granted(rules, amount, redeem, basket, holder) for amount in sorted((one, other)))
    assume(small is not None)
    assert small is not None
    assert large is not None
    assert large.earned >= small.earned


@given(rich_policies(), amounts, st.integers(0, 500), baskets, holders, st.lists(st.floats(0.01, 1), max_size=4))
def test_buying_and_returning_never_earns_whatever_the_offers(
    rules: Policy, amount: int, redeem: int, basket: Basket, holder: Holder, shares: list[float]
) -> None:
    bought = granted(rules, amount, redeem, basket, holder)
    assume(bought is not None)
    assert bought is not None
    sale = Sale(amount, bought.earned, bought.redeemed, bought.offers)
    returned, moved, back = 0, bought.delta, list[OfferUse]()
    for share in [*shares, 1.0]:
        part = int((amount - returned) * share)
        if part:
            outcome = reverse(rules, sale, returned, part)
            assert outcome.earned <= 0
            assert all(use.points <= 0 and use.stamps <= 0 for use in outcome.offers)
            returned, moved, back = returned + part, moved + outcome.delta, [*back, *outcome.offers]
    assert moved == 0
    for use in bought.offers:
        gone = [each for each in back if each.offer_id == use.offer_id]
        for name in ("points", "stamps", "uses", "rewards"):
            assert sum(getattr(each, name) for each in gone) == -getattr(use, name), name


@given(rich_policies(), amounts, st.integers(0, 500), baskets, holders, amounts)
def test_of_tier_and_offers_no_more_is_kept_than_the_share_of_what_is_kept(
    rules: Policy, amount: int, redeem: int, basket: Basket, holder: Holder, part: int
) -> None:
    bought = granted(rules, amount, redeem, basket, holder)
    assume(bought is not None and part < amount)
    assert bought is not None
    kept = bought.earned + reverse(rules, Sale(amount, bought.earned, redeem, bought.offers), 0, part).earned
    plain = granted(policy(**{**rules.model_dump(mode="json"), **PLAIN}), amount - part, 0, basket, holder)
    assert plain is not None
    more = bought.earned - bought.reasons[0].points
    assert kept <= plain.earned + more * (amount - part) // amount


PLAIN: dict[str, Any] = {"offers": [], "stamps": [], "tiers": []}

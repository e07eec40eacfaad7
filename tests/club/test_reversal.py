"""Returns as a pure rule: whole or in parts, they end in the same place, and never earn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terminal_agent.club.policy import Policy, default_policy, parse_policy
from terminal_agent.club.purchase import Account, evaluate
from terminal_agent.club.reversal import Sale, reverse

DEFAULT = parse_policy(default_policy())


def policy_with(basis: str = "gross", **returns: object) -> Policy:
    document = default_policy()
    document["earn"]["basis"] = basis
    return parse_policy({**document, "returns": returns})


@st.composite
def sales(draw: st.DrawFn) -> tuple[Policy, Sale]:
    policy = policy_with(draw(st.sampled_from(["gross", "net"])), give_back_redeemed=draw(st.booleans()))
    amount = draw(st.integers(1, 2_000_000))
    redeem = draw(st.integers(0, amount // policy.redeem.amount_per_point))
    outcome = evaluate(policy, Account(balance=10**6, online=True), amount, redeem)
    return policy, Sale(amount, outcome.earned, outcome.redeemed)


def test_a_void_takes_back_what_was_earned_and_gives_back_what_was_redeemed() -> None:
    outcome = reverse(DEFAULT, Sale(250_000, 25, 40), 0, 250_000)
    assert (outcome.earned, outcome.redeemed, outcome.delta) == (-25, -40, 15)
    assert sum(reason.points for reason in outcome.reasons) == outcome.delta


def test_a_partial_return_leaves_what_the_rest_would_have_earned() -> None:
    assert reverse(DEFAULT, Sale(25_000, 2, 0), 0, 5_000).earned == 0
    assert reverse(DEFAULT, Sale(25_000, 2, 0), 5_000, 10_000).earned == -1
    assert reverse(DEFAULT, Sale(25_000, 2, 0), 0, 15_001).earned == -2


def test_points_that_paid_come_back_in_proportion_and_never_too_many() -> None:
    sale = Sale(100_000, 10, 100)
    assert reverse(DEFAULT, sale, 0, 50_000).redeemed == -50
    assert reverse(DEFAULT, sale, 0, 999).redeemed == 0
    assert reverse(DEFAULT, sale, 999, 1).redeemed == -1


def test_a_policy_may_keep_the_points_that_paid() -> None:
    outcome = reverse(policy_with(give_back_redeemed=False), Sale(100_000, 10, 100), 0, 100_000)
    assert (outcome.earned, outcome.redeemed) == (-10, 0)


def test_a_return_never_earns_where_points_had_paid() -> None:
    document = default_policy()
    document["earn"] = {"points": 1, "per_amount": 9_900, "basis": "net"}
    sale = Sale(20_000, 1, 100)
    for before, amount in ((0, 199), (199, 1), (200, 1)):
        assert reverse(parse_policy(document), sale, before, amount).earned <= 0


def test_what_was_recorded_counts_where_the_rule_would_say_otherwise_today() -> None:
    """Points of an offer go with the sale; a rule that became more generous gives nothing afterwards."""
    assert reverse(DEFAULT, Sale(100_000, 30, 0), 0, 100_000).earned == -30
    assert reverse(DEFAULT, Sale(100_000, 1, 0), 0, 10_000).earned == 0


@pytest.mark.parametrize(("before", "amount"), [(0, 0), (0, -1), (0, 100_001), (60_000, 40_001), (100_000, 1)])
def test_more_than_was_sold_is_never_returned(before: int, amount: int) -> None:
    with pytest.raises(ValueError, match="cannot be returned"):
        reverse(DEFAULT, Sale(100_000, 10, 0), before, amount)


@given(sales(), st.lists(st.floats(0.01, 1), max_size=6))
def test_returns_in_parts_end_where_a_void_ends_and_each_takes_points_one_way(
    drawn: tuple[Policy, Sale], shares: list[float]
) -> None:
    policy, sale = drawn
    returned, earned, redeemed = 0, 0, 0
    for share in [*shares, 1.0]:
        amount = int((sale.amount - returned) * share)
        if amount == 0:
            continue
        outcome = reverse(policy, sale, returned, amount)
        assert outcome.earned <= 0
        assert outcome.redeemed <= 0
        assert sum(reason.points for reason in outcome.reasons) == outcome.delta
        returned, earned, redeemed = returned + amount, earned + outcome.earned, redeemed + outcome.redeemed
        assert sale.earned + earned >= 0
        assert sale.redeemed + redeemed >= 0
    void = reverse(policy, sale, 0, sale.amount)
    assert (earned, redeemed) == (void.earned, void.redeemed)
    assert earned == -sale.earned, "buying and returning earns nothing"


@given(sales(), st.integers(1, 2_000_000))
def test_what_is_kept_is_never_more_than_a_smaller_purchase_earns(drawn: tuple[Policy, Sale], amount: int) -> None:
    policy, sale = drawn
    amount = min(amount, sale.amount)
    outcome = reverse(policy, sale, 0, amount)
    remaining = sale.amount - amount
    if remaining and sale.redeemed == 0:
        alone = evaluate(policy, Account(0), remaining).earned
        assert sale.earned + outcome.earned == alone

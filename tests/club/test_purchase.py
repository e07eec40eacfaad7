"""What a purchase does to the points, by examples and by what holds for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from terminal_agent.club.policy import Policy, default_policy, parse_policy
from terminal_agent.club.purchase import Account, Outcome, RedemptionRefused, Refusal, evaluate

DEFAULT = parse_policy(default_policy())


def policy(**changed: Any) -> Policy:
    return parse_policy({**default_policy(), **changed})


@pytest.mark.parametrize(
    ("amount", "earned"), [(0, 0), (9_999, 0), (10_000, 1), (19_999, 1), (250_000, 25), (10**15, 10**11)]
)
def test_points_are_earned_for_whole_steps_of_the_amount(amount: int, earned: int) -> None:
    assert evaluate(DEFAULT, Account(0), amount).earned == earned


def test_several_points_may_be_given_for_a_step() -> None:
    assert evaluate(policy(earn={"points": 3, "per_amount": 100}), Account(0), 250).earned == 6


def test_on_the_gross_amount_redeemed_points_cost_no_earnings_and_on_the_net_they_do() -> None:
    bill = {"amount": 100_000, "redeem": 150}
    assert evaluate(DEFAULT, Account(200), **bill).earned == 10
    net = policy(earn={"points": 1, "per_amount": 10_000, "basis": "net"})
    assert evaluate(net, Account(200), **bill).earned == 8


def test_a_result_explains_itself() -> None:
    outcome = evaluate(DEFAULT, Account(200), 100_000, 150)
    assert [(reason.rule, reason.points) for reason in outcome.reasons] == [("earn", 10), ("redeem", -150)]
    assert outcome.reasons[0].detail == "1 per 10000 of 100000 (gross)"
    assert outcome.reasons[1].detail == "150 points pay 15000 IRR"
    assert outcome.delta == -140


@pytest.mark.parametrize(
    ("account", "amount", "redeem", "refusal", "limit"),
    [
        (Account(99), 10**6, 100, Refusal.INSUFFICIENT_POINTS, 99),
        (Account(-5), 10**6, 1, Refusal.INSUFFICIENT_POINTS, 0),
        (Account(500), 9_999, 100, Refusal.ABOVE_SHARE, 99),
        (Account(500), 0, 1, Refusal.ABOVE_SHARE, 0),
        (Account(500), 10**6, 201, Refusal.OFFLINE_CARD_LIMIT, 200),
        (Account(500, redeemed_offline=150), 10**6, 51, Refusal.OFFLINE_CARD_LIMIT, 50),
        (Account(500, redeemed_offline=999), 10**6, 1, Refusal.OFFLINE_CARD_LIMIT, 0),
        (Account(500, terminal_redeemed_offline_today=1_950), 10**6, 51, Refusal.OFFLINE_TERMINAL_LIMIT, 50),
        (Account(500), 10**6, -1, Refusal.BELOW_MINIMUM, 1),
    ],
)
def test_a_redemption_is_refused_with_the_most_that_would_be_granted(
    account: Account, amount: int, redeem: int, refusal: Refusal, limit: int
) -> None:
    with pytest.raises(RedemptionRefused) as refused:
        evaluate(DEFAULT, account, amount, redeem)
    assert (refused.value.refusal, refused.value.limit) == (refusal, limit)
    if refusal is not Refusal.BELOW_MINIMUM and limit > 0:
        assert evaluate(DEFAULT, account, amount, limit).redeemed == limit


def test_fewer_points_than_the_minimum_are_refused() -> None:
    rule = policy(redeem={"amount_per_point": 100, "minimum_points": 50})
    with pytest.raises(RedemptionRefused) as refused:
        evaluate(rule, Account(500), 10**6, 49)
    assert refused.value.refusal is Refusal.BELOW_MINIMUM
    assert evaluate(rule, Account(500), 10**6, 50).redeemed == 50


def test_points_may_pay_no_more_than_their_share_of_the_bill() -> None:
    half = policy(redeem={"amount_per_point": 100, "maximum_share_percent": 50})
    assert evaluate(half, Account(500), 20_000, 100).redeemed == 100
    with pytest.raises(RedemptionRefused):
        evaluate(half, Account(500), 20_000, 101)


def test_an_account_that_is_online_knows_no_offline_limits() -> None:
    account = Account(5_000, redeemed_offline=200, terminal_redeemed_offline_today=2_000, online=True)
    assert evaluate(DEFAULT, account, 10**6, 5_000).redeemed == 5_000


policies = st.builds(
    lambda points, per_amount, basis, worth, minimum, share, card, day: policy(
        earn={"points": points, "per_amount": per_amount, "basis": basis},
        redeem={"amount_per_point": worth, "minimum_points": minimum, "maximum_share_percent": share},
        offline={"points_per_card": card, "points_per_terminal_day": day},
    ),
    st.integers(0, 100),
    st.integers(1, 100_000),
    st.sampled_from(["gross", "net"]),
    st.integers(1, 10_000),
    st.integers(1, 20),
    st.integers(0, 100),
    st.integers(0, 500),
    st.integers(0, 5_000),
)
accounts = st.builds(Account, st.integers(-1_000, 10_000), st.integers(0, 600), st.integers(0, 6_000), st.booleans())
amounts = st.integers(0, 10**9)
redemptions = st.integers(0, 1_000)


def granted(rule: Policy, account: Account, amount: int, redeem: int) -> Outcome | None:
    try:
        return evaluate(rule, account, amount, redeem)
    except RedemptionRefused:
        return None


@given(policies, accounts, amounts, redemptions)
def test_what_is_granted_is_within_the_policy(rule: Policy, account: Account, amount: int, redeem: int) -> None:
    outcome = granted(rule, account, amount, redeem)
    assume(outcome is not None)
    assert outcome is not None
    assert outcome.earned >= 0
    assert outcome.redeemed == redeem
    assert sum(reason.points for reason in outcome.reasons) == outcome.delta
    assert redeem * rule.redeem.amount_per_point * 100 <= amount * rule.redeem.maximum_share_percent
    if redeem:
        assert account.balance + outcome.delta >= 0, "a redemption never makes an account negative"
        assert redeem >= rule.redeem.minimum_points
    if redeem and not account.online:
        assert account.redeemed_offline + redeem <= rule.offline.points_per_card
        assert account.terminal_redeemed_offline_today + redeem <= rule.offline.points_per_terminal_day


@given(policies, accounts, amounts, amounts, redemptions)
def test_a_larger_purchase_never_earns_or_may_redeem_less(
    rule: Policy, account: Account, one: int, other: int, redeem: int
) -> None:
    small, large = sorted((one, other))
    for_small, for_large = (granted(rule, account, amount, redeem) for amount in (small, large))
    assume(for_small is not None)
    assert for_small is not None
    assert for_large is not None
    assert for_large.earned >= for_small.earned


@given(accounts, amounts, redemptions)
def test_the_net_amount_never_earns_more_than_the_gross_amount(account: Account, amount: int, redeem: int) -> None:
    gross = granted(DEFAULT, account, amount, redeem)
    net = granted(policy(earn={"basis": "net"}), account, amount, redeem)
    assert (gross is None) == (net is None)
    if gross is not None and net is not None:
        assert net.earned <= gross.earned
        assert redeem > 0 or net.earned == gross.earned

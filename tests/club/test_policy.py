"""A policy that cannot be used is refused with the place that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from terminal_agent.club.policy import PolicyInvalid, default_policy, parse_policy


def problems_of(**changed: Any) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        parse_policy({**default_policy(), **changed})
    return refused.value.problems


def test_the_default_policy_is_the_one_that_is_documented() -> None:
    policy = parse_policy(default_policy("EUR"))
    assert (policy.currency, policy.earn.points, policy.earn.per_amount, policy.earn.basis) == (
        "EUR",
        1,
        10_000,
        "gross",
    )
    assert (policy.redeem.amount_per_point, policy.redeem.minimum_points, policy.redeem.maximum_share_percent) == (
        (100, 1, 100)
    )
    assert (policy.offline.points_per_card, policy.offline.points_per_terminal_day) == (200, 2_000)
    assert policy.returns.window_days == 30


def test_every_table_is_optional_and_means_the_default() -> None:
    policy = parse_policy({"version": "1", "valid_from": "2026-11-22T00:00:00Z"})
    given = parse_policy(default_policy())
    assert (policy.earn, policy.redeem, policy.offline, policy.returns) == (
        (given.earn, given.redeem, given.offline, given.returns)
    )


def test_keys_of_a_later_version_are_kept() -> None:
    document = {**default_policy(), "coupons": [1], "earn": {"points": 2, "per_amount": 10, "per_visit": 5}}
    policy = parse_policy(document)
    assert policy.model_dump()["coupons"] == [1]
    assert policy.model_dump()["earn"] == {"points": 2, "per_amount": 10, "basis": "gross", "per_visit": 5}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"earn": {"per_amount": 0}}, "earn.per_amount: "),
        ({"earn": {"points": -1}}, "earn.points: "),
        ({"earn": {"points": 1.5}}, "earn.points: "),
        ({"earn": {"basis": "profit"}}, "earn.basis: "),
        ({"redeem": {"maximum_share_percent": 101}}, "redeem.maximum_share_percent: "),
        ({"redeem": {"amount_per_point": 0}}, "redeem.amount_per_point: "),
        ({"offline": {"points_per_card": -1}}, "offline.points_per_card: "),
        ({"offline": "none"}, "offline: "),
        ({"currency": "Rial"}, "currency: "),
        ({"version": ""}, "version: "),
        ({"valid_from": "soon"}, "valid_from: "),
        ({"valid_from": "2026-11-22T00:00:00"}, "valid_from: "),
        ({"tiers": [{"name": "gold"}, "silver"]}, "tiers.1: "),
    ],
)
def test_a_problem_names_its_place(changed: dict[str, Any], place: str) -> None:
    problems = problems_of(**changed)
    assert len(problems) == 1
    assert problems[0].startswith(place)


def test_all_problems_are_told_at_once() -> None:
    assert len(problems_of(earn={"per_amount": 0}, redeem={"minimum_points": 0}, currency="x")) == 3


def test_what_is_missing_is_told() -> None:
    with pytest.raises(PolicyInvalid) as refused:
        parse_policy({})
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["version", "valid_from"]


def test_a_moment_in_another_time_zone_is_the_same_moment() -> None:
    policy = parse_policy({**default_policy(), "valid_from": "2026-11-22T03:30:00+03:30"})
    assert policy.valid_from == datetime(2026, 11, 22, tzinfo=UTC)

"""A policy that cannot be used is refused with the place that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from terminal_agent.club.policy import PolicyInvalid, default_policy, parse_policy, unknown_keys, usable_policy


def problems_of(**changed: Any) -> list[str]:
    with pytest.raises(PolicyInvalid) as refused:
        parse_policy({**default_policy(), **changed})
    return [str(problem) for problem in refused.value.problems]


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
        ({"earn": {"per_amount": 0}}, "/earn/per_amount: "),
        ({"earn": {"points": -1}}, "/earn/points: "),
        ({"earn": {"points": 1.5}}, "/earn/points: "),
        ({"earn": {"basis": "profit"}}, "/earn/basis: "),
        ({"redeem": {"maximum_share_percent": 101}}, "/redeem/maximum_share_percent: "),
        ({"redeem": {"amount_per_point": 0}}, "/redeem/amount_per_point: "),
        ({"offline": {"points_per_card": -1}}, "/offline/points_per_card: "),
        ({"offline": "none"}, "/offline: "),
        ({"currency": "Rial"}, "/currency: "),
        ({"version": ""}, "/version: "),
        ({"valid_from": "soon"}, "/valid_from: "),
        ({"valid_from": "2026-11-22T00:00:00"}, "/valid_from: "),
        ({"tiers": [{"tier": "gold", "level": 1}, "silver"]}, "/tiers/1: "),
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
    assert [problem.pointer for problem in refused.value.problems] == ["/version", "/valid_from"]


def test_a_moment_in_another_time_zone_is_the_same_moment() -> None:
    policy = parse_policy({**default_policy(), "valid_from": "2026-11-22T03:30:00+03:30"})
    assert policy.valid_from == datetime(2026, 11, 22, tzinfo=UTC)


OFFER: dict[str, Any] = {"id": "x", "reward": {"points": 1}}
STAMPS: dict[str, Any] = {"id": "s", "count": 5, "reward_points": 1}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"offers": [OFFER, {**OFFER, "id": "x y"}]}, "/offers/1/id: "),
        ({"offers": [OFFER, OFFER]}, "/offers/1/id: x is used already"),
        ({"offers": [{**OFFER, "reward": {}}]}, "/offers/0/reward: a reward is one of"),
        (
            {"offers": [{**OFFER, "reward": {"points": 1, "points_per_item": 1}}]},
            "/offers/0/reward: a reward is one of",
        ),
        ({"offers": [{**OFFER, "reward": {"points": 0}}]}, "/offers/0/reward/points: "),
        ({"offers": [{**OFFER, "reward": {"multiplier_percent": 99}}]}, "/offers/0/reward/multiplier_percent: "),
        ({"offers": [{**OFFER, "hours": {"from": "24:00", "to": "01:00"}}]}, "/offers/0/hours/from: "),
        ({"offers": [{**OFFER, "weekdays": ["monday"]}]}, "/offers/0/weekdays/0: "),
        ({"offers": [{**OFFER, "audience": "all"}]}, "/offers/0/audience: "),
        ({"offers": [{**OFFER, "code": "A"}]}, "/offers/0: only an offer with audience coupon"),
        ({"offers": [{**OFFER, "tiers": ["gold"]}]}, "/offers/0/tiers/0: gold should be a tier of this policy"),
        ({"stamps": [{**STAMPS, "categories": ["c/d"]}]}, "/stamps/0/categories/0: "),
        ({"stamps": [{**STAMPS, "categories": ["tea"]}]}, "/stamps/0/categories/0: tea should be a category"),
        ({"stamps": [{**STAMPS, "count": 1}]}, "/stamps/0/count: "),
        ({"stamps": [{**STAMPS, "id": "x"}], "offers": [OFFER]}, "/stamps/0/id: x is used already"),
        ({"tiers": [{"tier": "a", "level": 16}]}, "/tiers/0/level: "),
        ({"tiers": [{"tier": "a", "level": 1}, {"tier": "b", "level": 1}]}, "/tiers/1/level: 1 is used already"),
        ({"tiers": [{"tier": "a", "level": 1, "threshold_points": 1, "threshold_amount": 1}]}, "/tiers/0: a tier has"),
        (
            {"offers": [{**OFFER, "valid_from": "2026-01-02T00:00:00Z", "valid_to": "2026-01-02T00:00:00Z"}]},
            "/offers/0: valid_to must be later",
        ),
        ({"categories": {"a/b": ["x"]}}, "/categories/a~1b"),
        ({"time_zone": "Asia/Nowhere"}, "/time_zone: a time zone of the IANA database"),
        ({"stacking": "all"}, "/stacking: "),
        ({"expiry": {"after_days": 0}}, "/expiry/after_days: "),
        ({"referral": {"referrer_points": -1}}, "/referral/referrer_points: "),
        ({"valid_from": "0001-01-01T00:00:00+14:00"}, "/valid_from: a time between"),
    ],
)
def test_a_problem_in_tiers_offers_or_stamps_names_its_place(changed: dict[str, Any], place: str) -> None:
    (problem,) = problems_of(**changed)
    assert problem.startswith(place), problem


def test_keys_that_mean_nothing_are_told_with_their_place() -> None:
    hours = {"from": "10:00", "to": "12:00", "on": "sunny days"}
    document = {
        **default_policy(),
        "bonus": 1,
        "earn": {"per_visit": 5},
        "offers": [{"id": "x", "reward": {"points": 1, "gift/hat": 2}, "hours": hours}],
    }
    assert unknown_keys(parse_policy(document)) == [
        "/bonus",
        "/earn/per_visit",
        "/offers/0/hours/on",
        "/offers/0/reward/gift~1hat",
    ]
    assert unknown_keys(parse_policy(default_policy())) == []


def test_a_terminal_does_without_an_offer_of_a_later_version() -> None:
    later = [OFFER, {**OFFER, "id": "y", "audience": "wallet"}, {**OFFER, "id": "z", "tiers": ["platinum"]}]
    document = {**default_policy(), "earn": {"points": 3}, "offers": later, "tiers": [{"tier": "platinum"}]}
    policy, problems = usable_policy(document)
    assert (policy.earn.points, [offer.id for offer in policy.offers], policy.tiers) == (3, ["x"], ())
    assert [problem.pointer for problem in problems] == ["/tiers/0/level", "/offers/1/audience", "/offers/1/tiers/0"]
    with pytest.raises(PolicyInvalid):
        usable_policy({**document, "earn": {"points": -1}})
    with pytest.raises(PolicyInvalid):
        usable_policy({**document, "offers": "none"})

"""Tiers by thresholds, and by hand."""

from __future__ import annotations

from typing import Any

import pytest

from terminal_agent.club.policy import default_policy, parse_policy
from terminal_agent.club.tiers import Total, periods, tier_for

TIERS: list[dict[str, Any]] = [
    {"tier": "gold", "level": 3, "threshold_points": 1_000, "period_days": 365},
    {"tier": "silver", "level": 2, "threshold_amount": 5_000_000, "period_days": 90},
    {"tier": "friend", "level": 4},
    {"tier": "member", "level": 1, "threshold_points": 0},
]
POLICY = parse_policy({**default_policy(), "tiers": TIERS})


@pytest.mark.parametrize(
    ("totals", "floor", "tier"),
    [
        ({}, None, "member"),
        ({90: Total(4_999_999, 0)}, None, "member"),
        ({90: Total(5_000_000, 0)}, None, "silver"),
        ({90: Total(5_000_000, 0), 365: Total(0, 1_000)}, None, "gold"),
        ({90: Total(0, 1_000), 365: Total(5_000_000, 999)}, None, "member"),
        ({365: Total(0, 5_000)}, "friend", "friend"),
        ({365: Total(0, 5_000)}, "silver", "gold"),
        ({90: Total(-10, -10), 365: Total(-10, -10)}, None, None),
        ({}, "of another policy", "member"),
    ],
)
def test_a_member_is_in_the_highest_tier_that_was_reached_or_given(
    totals: dict[int, Total], floor: str | None, tier: str | None
) -> None:
    decided = tier_for(POLICY, totals, floor)
    assert (decided.tier if decided else None) == tier


def test_totals_are_needed_of_the_periods_that_count() -> None:
    assert periods(POLICY) == {90, 365}
    assert periods(parse_policy(default_policy())) == set()
    assert tier_for(parse_policy(default_policy()), {}) is None

"""Which tier a member is in: a pure function of the policy and of what the member bought in each tier's period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from terminal_agent.club.policy import Policy
from terminal_agent.club.rules import Tier


@dataclass(frozen=True)
class Total:
    """What a member bought and earned in a period, returns taken off: smallest unit of the currency, points."""

    amount: int = 0
    points: int = 0


def periods(policy: Policy) -> set[int]:
    """The periods, in days, of which the totals are needed."""
    return {tier.period_days for tier in policy.tiers if _has_threshold(tier)}


def tier_for(policy: Policy, totals: Mapping[int, Total], floor: str | None = None) -> Tier | None:
    """The highest tier whose threshold is reached, ``totals`` by period in days; never below ``floor``, the tier that
    was given by hand."""
    reached = [tier for tier in policy.tiers if _is_reached(tier, totals.get(tier.period_days, Total()))]
    given = policy.tier(floor)
    return max([*reached, *([given] if given else [])], key=lambda tier: tier.level, default=None)


def _has_threshold(tier: Tier) -> bool:
    return tier.threshold_points is not None or tier.threshold_amount is not None


def _is_reached(tier: Tier, total: Total) -> bool:
    if tier.threshold_points is not None:
        return total.points >= tier.threshold_points
    return tier.threshold_amount is not None and total.amount >= tier.threshold_amount

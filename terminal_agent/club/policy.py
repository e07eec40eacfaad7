"""The policy: one versioned document the CRM publishes and the terminal keeps.

Amounts are integers in the smallest unit of ``currency``, points are integers, times RFC 3339.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class EarnRule(_Rule):
    """``points`` for each whole ``per_amount``; ``net`` counts what is left after redeemed points."""

    points: int = Field(1, ge=0)
    per_amount: int = Field(10_000, gt=0)
    basis: Literal["gross", "net"] = "gross"


class RedeemRule(_Rule):
    """What a point is worth, and how much of a bill points may pay."""

    amount_per_point: int = Field(100, gt=0)
    minimum_points: int = Field(1, ge=1)
    maximum_share_percent: int = Field(100, ge=0, le=100)


class OfflineRule(_Rule):
    """The most points that may be redeemed without the CRM: per card since it was last online, per terminal and day."""

    points_per_card: int = Field(200, ge=0)
    points_per_terminal_day: int = Field(2_000, ge=0)


class ReturnsRule(_Rule):
    """How long a purchase may be returned, and whether the points that paid for it come back."""

    window_days: int = Field(30, ge=0)
    give_back_redeemed: bool = True


class InDoubtRule(_Rule):
    """How long a sale waits for its card before it is closed without it."""

    close_after_s: int = Field(900, gt=0)


class Policy(_Rule):
    """The whole document; keys it does not know are kept."""

    version: str = Field(min_length=1, max_length=64)
    currency: str = Field("IRR", pattern=r"^[A-Z]{3}$")
    valid_from: AwareDatetime
    earn: EarnRule = EarnRule()
    redeem: RedeemRule = RedeemRule()
    offline: OfflineRule = OfflineRule()
    returns: ReturnsRule = ReturnsRule()
    in_doubt: InDoubtRule = InDoubtRule()
    tiers: list[dict[str, Any]] = []
    offers: list[dict[str, Any]] = []


class PolicyInvalid(Exception):
    """A policy document that cannot be used; ``problems`` says where and why, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def parse_policy(document: dict[str, Any]) -> Policy:
    """The policy in ``document``. Raises :class:`PolicyInvalid`."""
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise PolicyInvalid(
            [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        ) from error


def default_policy(currency: str = "IRR") -> dict[str, Any]:
    """What holds until a CRM publishes a policy."""
    return {
        "version": "default",
        "currency": currency,
        "valid_from": "2026-01-01T00:00:00Z",
        "earn": {"points": 1, "per_amount": 10_000, "basis": "gross"},
        "redeem": {"amount_per_point": 100, "minimum_points": 1, "maximum_share_percent": 100},
        "offline": {"points_per_card": 200, "points_per_terminal_day": 2_000},
        "tiers": [],
        "offers": [],
        "returns": {"window_days": 30},
    }

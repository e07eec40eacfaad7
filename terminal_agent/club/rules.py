"""The parts of a policy document, one model per table; docs/policy.md says what each means to a shop.

Amounts are integers in the smallest unit of the policy's currency, points are integers, percent 100 is as it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

MAX_POINTS = 10**9
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Points = Annotated[int, Field(gt=0, le=MAX_POINTS)]
Multiplier = Annotated[int, Field(ge=100, le=10_000)]
Sku = Annotated[str, Field(min_length=1, max_length=64)]
ClockTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Rule(BaseModel):
    """Keys that are not known here are kept: a later version may know them."""

    model_config = ConfigDict(frozen=True, extra="allow")


class EarnRule(Rule):
    """``points`` for each whole ``per_amount``; ``net`` counts what is left after redeemed points."""

    points: int = Field(1, ge=0)
    per_amount: int = Field(10_000, gt=0)
    basis: Literal["gross", "net"] = "gross"


class RedeemRule(Rule):
    """What a point is worth, and how much of a bill points may pay."""

    amount_per_point: int = Field(100, gt=0)
    minimum_points: int = Field(1, ge=1)
    maximum_share_percent: int = Field(100, ge=0, le=100)


class OfflineRule(Rule):
    """The most points that may be redeemed without the CRM: per card since it was last online, per terminal and day."""

    points_per_card: int = Field(200, ge=0)
    points_per_terminal_day: int = Field(2_000, ge=0)


class ReturnsRule(Rule):
    """How long a purchase may be returned, and whether the points that paid for it come back."""

    window_days: int = Field(30, ge=0)
    give_back_redeemed: bool = True


class InDoubtRule(Rule):
    """How long a sale waits for its card before it is closed without it."""

    close_after_s: int = Field(900, gt=0)


class Name(Rule):
    """What people read, in either language."""

    fa: str = Field("", max_length=100)
    en: str = Field("", max_length=100)


class Tier(Rule):
    """A grade of membership. Without a threshold it is given by hand only.

    ``level`` is what the card holds: 1 is the lowest, and a number once used keeps its meaning.
    """

    tier: Identifier
    level: int = Field(ge=1, le=15)
    name: Name = Name()
    threshold_points: int | None = Field(None, ge=0)
    threshold_amount: int | None = Field(None, ge=0)
    period_days: int = Field(365, ge=1, le=3_660)
    multiplier_percent: Multiplier = 100

    @model_validator(mode="after")
    def _one_threshold(self) -> Tier:
        if self.threshold_points is not None and self.threshold_amount is not None:
            raise ValueError("a tier has threshold_points or threshold_amount, not both")
        return self


class Hours(Rule):
    """From one time of day up to another, by the policy's ``time_zone``; past midnight where ``to`` is earlier."""

    from_: ClockTime = Field(alias="from")
    to: ClockTime


class Condition(Rule):
    """When an offer or a stamp card counts, and what it is called; what is not said does not matter.

    ``minimum_amount`` is asked of the goods that are named, or of the whole bill where none are.
    """

    id: Identifier
    name: Name = Name()
    valid_from: AwareDatetime | None = None
    valid_to: AwareDatetime | None = None
    weekdays: tuple[Weekday, ...] = ()
    hours: Hours | None = None
    minimum_amount: int = Field(0, ge=0)
    skus: tuple[Sku, ...] = ()
    categories: tuple[Identifier, ...] = ()

    @model_validator(mode="after")
    def _some_time(self) -> Condition:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be later than valid_from")
        return self


class Reward(Rule):
    """Exactly one of: ``points`` once, ``points_per_item`` for each piece, ``multiplier_percent`` of what is earned."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        json_schema_extra={
            "oneOf": [{"required": [key]} for key in ("points", "points_per_item", "multiplier_percent")]
        },
    )

    points: Points | None = None
    points_per_item: Points | None = None
    multiplier_percent: Multiplier | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Reward:
        if sum(value is not None for value in (self.points, self.points_per_item, self.multiplier_percent)) != 1:
            raise ValueError("a reward is one of points, points_per_item, multiplier_percent")
        return self


class Limits(Rule):
    """How often one card may have an offer: ever, and in one day of the policy's ``time_zone``."""

    per_card: int | None = Field(None, ge=1)
    per_card_day: int | None = Field(None, ge=1)


class Offer(Condition):
    """More points under conditions. ``granted`` and ``birthday`` need a grant for this very card, ``coupon`` a code
    that is shown: the offer's own ``code``, or one of the single-use codes the CRM gave out."""

    audience: Literal["everyone", "granted", "birthday", "first_purchase", "coupon"] = "everyone"
    code: str | None = Field(None, min_length=1, max_length=64)
    tiers: tuple[Identifier, ...] = ()
    reward: Reward
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _code_of_a_coupon(self) -> Offer:
        if self.code is not None and self.audience != "coupon":
            raise ValueError("only an offer with audience coupon has a code")
        return self


class StampCard(Condition):
    """One stamp for each purchase that fits, or for each of its items; each full card of ``count`` gives points."""

    per: Literal["purchase", "item"] = "purchase"
    count: int = Field(ge=2, le=1_000)
    reward_points: Points


class ExpiryRule(Rule):
    """Points live so many days after they were earned, each lot by itself, the oldest spent first; None: for ever."""

    after_days: int | None = Field(None, ge=1)


ActivityPoints = Annotated[int, Field(ge=0, le=MAX_POINTS)]
"""What a member gets for something that is no purchase, by its name."""


class ReferralRule(Rule):
    """What a member gets for bringing another one, and the other one for coming."""

    referrer_points: int = Field(0, ge=0, le=MAX_POINTS)
    referred_points: int = Field(0, ge=0, le=MAX_POINTS)

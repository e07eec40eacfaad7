"""Which offers a purchase gets, and which stamps: pure functions of policy, bill and what is known of the card.

All arithmetic is in integers; each offer's points are rounded down once, and no rule works on another's rounded result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from terminal_agent.club.policy import Policy
from terminal_agent.club.rules import Condition, Offer, StampCard

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NEEDS_GRANT = ("granted", "birthday")


class CouponRefused(Exception):
    """The code that was shown brings nothing on this bill: unknown, over, used up, or its conditions are not met."""


@dataclass(frozen=True)
class Line:
    """One line of the bill; ``amount`` in the smallest unit of the currency."""

    sku: str
    quantity: int
    amount: int


@dataclass(frozen=True)
class Basket:
    """What is bought besides its sum. ``at`` None: the till's clock cannot be trusted, so nothing that depends on the
    time counts. ``coupon`` is a code that was shown, in one normal form."""

    lines: tuple[Line, ...] = ()
    at: datetime | None = None
    coupon: str | None = None


@dataclass(frozen=True)
class Grant:
    """An offer given to one card, or with ``coupon`` to whoever shows that code."""

    grant_id: str
    offer_id: str
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    uses_left: int = 1
    coupon: str | None = None


@dataclass(frozen=True)
class Used:
    """What a card had of one offer or stamp card: uses in this day and ever, stamps, rewards for full cards."""

    today: int = 0
    ever: int = 0
    stamps: int = 0
    rewards: int = 0


@dataclass(frozen=True)
class Holder:
    """What is known at this moment of who holds the card; ``used`` by the id of an offer or a stamp card."""

    tier: str | None = None
    first_purchase: bool = False
    grants: tuple[Grant, ...] = ()
    used: Mapping[str, Used] = field(default_factory=dict)


@dataclass(frozen=True)
class OfferUse:
    """Points an offer or a stamp card gave. A return has negative numbers."""

    offer_id: str
    points: int
    grant_id: str | None = None
    uses: int = 1
    stamps: int = 0
    rewards: int = 0

    def to_json(self) -> dict[str, Any]:
        """As an event carries it: ``{offer_id, points}``, and what is not as usual."""
        usual = {"grant_id": None, "uses": 1, "stamps": 0, "rewards": 0}
        unusual = {key: getattr(self, key) for key, value in usual.items() if getattr(self, key) != value}
        return {"offer_id": self.offer_id, "points": self.points, **unusual}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> OfferUse:
        """The inverse of :meth:`to_json`."""
        names = ("offer_id", "points", "grant_id", "uses", "stamps", "rewards")
        return cls(**{name: document[name] for name in names if name in document})


@dataclass(frozen=True)
class _Goods:
    """The part of a bill that a condition is about: pieces, and money before and after what points paid."""

    items: int
    amount: int
    counted: int


def offers_for(policy: Policy, amount: int, counted: int, basket: Basket, holder: Holder) -> list[OfferUse]:
    """The offers a bill of ``amount`` gets, ``counted`` of it earning. With ``stacking`` best the one that gives most,
    of two alike the first in the document. Raises :class:`CouponRefused`."""
    uses: list[OfferUse] = []
    by_coupon = False
    for offer in policy.offers:
        goods = _goods(policy, offer, amount, counted, basket)
        allowed, grant = _entitled(policy, offer, basket, holder)
        if not allowed or goods is None:
            continue
        points = _points(policy, offer, goods)
        if points:
            by_coupon = by_coupon or offer.audience == "coupon"
            uses.append(OfferUse(offer.id, points, grant.grant_id if grant else None))
    if basket.coupon is not None and not by_coupon:
        raise CouponRefused
    if policy.stacking == "best" and uses:
        return [max(uses, key=lambda use: use.points)]
    return uses


def stamps_for(policy: Policy, amount: int, basket: Basket, holder: Holder) -> list[OfferUse]:
    """The stamps a bill gets, and points for the cards that are full with them."""
    uses = []
    for card in policy.stamps:
        new = stamps_collected(policy, card, amount, basket)
        if new:
            used = holder.used.get(card.id, Used())
            rewards = rewards_due(card, used.stamps + new, used.rewards)
            uses.append(OfferUse(card.id, rewards * card.reward_points, uses=0, stamps=new, rewards=rewards))
    return uses


def stamps_collected(policy: Policy, card: StampCard, amount: int, basket: Basket) -> int:
    """Stamps of one bill; the CRM counts with the same function."""
    goods = _goods(policy, card, amount, amount, basket)
    if goods is None:
        return 0
    return goods.items if card.per == "item" else 1


def rewards_due(card: StampCard, stamps: int, given: int) -> int:
    """Rewards still owed: one for each full card, less those given. Never negative: one too many is made up for by
    the next full card."""
    return max(0, stamps // card.count - given)


def returned(uses: list[OfferUse], amount: int, before: int, after: int) -> list[OfferUse]:
    """What of a sale's offers is taken back where ``before`` of its ``amount`` was left and now ``after`` is.

    Points and stamps go in proportion; the use itself is given back with the last of the goods.
    """
    whole = after == 0 and before > 0
    back = []
    for use in uses:
        moved = [value * after // amount - value * before // amount for value in (use.points, use.stamps)]
        gone = (-use.uses, -use.rewards) if whole else (0, 0)
        if any((*moved, *gone)):
            back.append(OfferUse(use.offer_id, moved[0], use.grant_id, gone[0], moved[1], gone[1]))
    return back


def normal_code(text: str) -> str:
    """A coupon's code in the form it is compared in."""
    return "".join(text.split()).replace("-", "").upper()


def coupon_id(code: str) -> str:
    """The id of the grant behind a single-use code in its normal form; it does not tell the code."""
    return "coupon-" + hashlib.sha256(code.encode()).hexdigest()[:32]


def local_day(policy: Policy, moment: datetime) -> str:
    """The shop's date, such as 2026-11-22."""
    return moment.astimezone(ZoneInfo(policy.time_zone)).date().isoformat()


def _entitled(policy: Policy, offer: Offer, basket: Basket, holder: Holder) -> tuple[bool, Grant | None]:
    """Whether this card may have the offer, and the grant it takes."""
    used = holder.used.get(offer.id, Used())
    limits = offer.limits
    if limits.per_card is not None and used.ever >= limits.per_card:
        return False, None
    if limits.per_card_day is not None and used.today >= limits.per_card_day:
        return False, None
    if offer.tiers and holder.tier not in offer.tiers:
        return False, None
    if offer.audience == "first_purchase":
        return holder.first_purchase and not used.ever, None  # a card that was replaced had it already
    if offer.audience == "coupon" and offer.code is not None:
        return basket.coupon is not None and normal_code(offer.code) == basket.coupon, None
    if offer.audience == "coupon" or offer.audience in NEEDS_GRANT:
        code = basket.coupon if offer.audience == "coupon" else None
        grant = next((g for g in holder.grants if _is_good(g, offer, code, basket.at)), None)
        return grant is not None, grant
    return True, None


def _is_good(grant: Grant, offer: Offer, code: str | None, at: datetime | None) -> bool:
    if grant.offer_id != offer.id or grant.uses_left < 1 or grant.coupon != code:
        return False
    if offer.audience == "coupon" and code is None:
        return False
    return _within(grant.valid_from, grant.valid_to, at)


def _within(start: datetime | None, end: datetime | None, at: datetime | None) -> bool:
    if start is None and end is None:
        return True
    return at is not None and (start is None or start <= at) and (end is None or at < end)


def _goods(policy: Policy, condition: Condition, amount: int, counted: int, basket: Basket) -> _Goods | None:
    """The goods a condition is about, or None where it is not met."""
    if not _in_time(policy, condition, basket.at):
        return None
    lines = basket.lines
    named = bool(condition.skus or condition.categories)
    if named:
        wanted = [*condition.skus, *(sku for name in condition.categories for sku in policy.categories[name])]
        lines = tuple(line for line in lines if any(_matches(line.sku, sku) for sku in wanted))
    money = max(0, sum(line.amount for line in lines)) if named else amount
    goods = _Goods(sum(line.quantity for line in lines), min(money, amount), min(money, counted))
    enough = goods.amount >= condition.minimum_amount and (goods.items > 0 or not named)
    return goods if enough else None


def _matches(sku: str, wanted: str) -> bool:
    """``tea-*`` means all that begin with ``tea-``."""
    return sku.startswith(wanted[:-1]) if wanted.endswith("*") else sku == wanted


def _in_time(policy: Policy, condition: Condition, at: datetime | None) -> bool:
    if not _within(condition.valid_from, condition.valid_to, at):
        return False
    if not condition.weekdays and condition.hours is None:
        return True
    if at is None:
        return False
    local = at.astimezone(ZoneInfo(policy.time_zone))
    if condition.weekdays and WEEKDAYS[local.weekday()] not in condition.weekdays:
        return False
    return condition.hours is None or _in_hours(f"{local:%H:%M}", condition.hours.from_, condition.hours.to)


def _in_hours(now: str, start: str, end: str) -> bool:
    return start <= now < end if start < end else now >= start or now < end


def _points(policy: Policy, offer: Offer, goods: _Goods) -> int:
    reward = offer.reward
    if reward.points is not None:
        return reward.points
    if reward.points_per_item is not None:
        return reward.points_per_item * goods.items
    steps = goods.counted // policy.earn.per_amount
    return steps * policy.earn.points * ((reward.multiplier_percent or 100) - 100) // 100

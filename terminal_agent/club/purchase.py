"""What one purchase earns and may redeem: a pure function of policy, account and purchase."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from terminal_agent.club.offers import Basket, Holder, OfferUse, offers_for, stamps_for
from terminal_agent.club.policy import Policy
from terminal_agent.club.rules import Name

NO_BASKET, NOBODY = Basket(), Holder()


class Refusal(StrEnum):
    """Why a redemption is not granted."""

    INSUFFICIENT_POINTS = "insufficient_points"
    BELOW_MINIMUM = "below_minimum"
    ABOVE_SHARE = "above_share"
    OFFLINE_CARD_LIMIT = "offline_card_limit"
    OFFLINE_TERMINAL_LIMIT = "offline_terminal_limit"


class RedemptionRefused(Exception):
    """The redemption is not granted. ``limit`` is the most points that would be."""

    def __init__(self, refusal: Refusal, limit: int) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.limit = limit


@dataclass(frozen=True)
class Account:
    """What is known of the card's account at the tap. Points; ``redeemed_offline`` since the card was last online."""

    balance: int
    redeemed_offline: int = 0
    terminal_redeemed_offline_today: int = 0
    online: bool = False


@dataclass(frozen=True)
class Reason:
    """One rule that moved points, for the screen and the receipt."""

    rule: str
    points: int
    detail: str


@dataclass(frozen=True)
class Outcome:
    """Points earned and redeemed (both >= 0; of a return both <= 0), and why; the reasons' points add up to
    earned - redeemed. ``offers`` are those among the earned points, and the stamps."""

    earned: int
    redeemed: int
    reasons: tuple[Reason, ...]
    offers: tuple[OfferUse, ...] = ()

    @property
    def delta(self) -> int:
        return self.earned - self.redeemed


def evaluate(
    policy: Policy,
    account: Account,
    amount: int,
    redeem: int = 0,
    basket: Basket = NO_BASKET,
    holder: Holder = NOBODY,
) -> Outcome:
    """What a purchase of ``amount`` (smallest unit of the currency) does to the points.

    In this order: what may be redeemed, what the amount earns, what the tier adds to that, offers, stamps. Each adds to
    the others; none is computed from another's rounded points.
    Raises :class:`RedemptionRefused`, :class:`~terminal_agent.club.offers.CouponRefused`.
    """
    if redeem:
        _check_redemption(policy, account, amount, redeem)
    worth = redeem * policy.redeem.amount_per_point
    base, reason = earned_by(policy, amount, worth)
    counted = _counted(policy, amount, worth)
    offers = offers_for(policy, amount, counted, basket, holder)
    stamps = stamps_for(policy, amount, basket, holder)
    names = {rule.id: rule.name for rule in (*policy.offers, *policy.stamps)}
    reasons = [reason, *_tier_reasons(policy, holder, base)]
    reasons += [Reason("offer", use.points, _called(use.offer_id, names)) for use in offers]
    reasons += [_stamp_reason(policy, use, holder, names) for use in stamps]
    earned = sum(each.points for each in reasons)
    if redeem:
        reasons.append(Reason("redeem", -redeem, f"{redeem} points pay {worth} {policy.currency}"))
    return Outcome(earned, redeem, tuple(reasons), (*offers, *stamps))


def _tier_reasons(policy: Policy, holder: Holder, base: int) -> list[Reason]:
    tier = policy.tier(holder.tier)
    if tier is None or tier.multiplier_percent == 100:
        return []
    more = base * (tier.multiplier_percent - 100) // 100
    return [Reason("tier", more, f"{tier.tier} earns {tier.multiplier_percent}%")]


def _stamp_reason(policy: Policy, use: OfferUse, holder: Holder, names: dict[str, Name]) -> Reason:
    count = next(card.count for card in policy.stamps if card.id == use.offer_id)
    used = holder.used.get(use.offer_id)
    stamps = (used.stamps if used else 0) + use.stamps
    full = f", {use.rewards} full" if use.rewards else ""
    return Reason("stamps", use.points, f"{_called(use.offer_id, names)}: {stamps % count} of {count}{full}")


def _called(identifier: str, names: dict[str, Name]) -> str:
    name = names[identifier].en
    return f"{name} ({identifier})" if name else identifier


def _counted(policy: Policy, amount: int, paid_with_points: int) -> int:
    """The part of a bill that earns."""
    return amount if policy.earn.basis == "gross" else max(0, amount - paid_with_points)


def earned_by(policy: Policy, amount: int, paid_with_points: int) -> tuple[int, Reason]:
    """Points earned by a bill of ``amount``, of which points paid ``paid_with_points`` (both in the currency)."""
    rule = policy.earn
    counted = _counted(policy, amount, paid_with_points)
    earned = counted // rule.per_amount * rule.points
    return earned, Reason("earn", earned, f"{rule.points} per {rule.per_amount} of {counted} ({rule.basis})")


def _check_redemption(policy: Policy, account: Account, amount: int, redeem: int) -> None:
    rule = policy.redeem
    if redeem > account.balance:
        raise RedemptionRefused(Refusal.INSUFFICIENT_POINTS, max(0, account.balance))
    if redeem < rule.minimum_points:
        raise RedemptionRefused(Refusal.BELOW_MINIMUM, rule.minimum_points)
    payable = amount * rule.maximum_share_percent // 100 // rule.amount_per_point
    if redeem > payable:
        raise RedemptionRefused(Refusal.ABOVE_SHARE, payable)
    if account.online:
        return
    card_left = max(0, policy.offline.points_per_card - account.redeemed_offline)
    if redeem > card_left:
        raise RedemptionRefused(Refusal.OFFLINE_CARD_LIMIT, card_left)
    terminal_left = max(0, policy.offline.points_per_terminal_day - account.terminal_redeemed_offline_today)
    if redeem > terminal_left:
        raise RedemptionRefused(Refusal.OFFLINE_TERMINAL_LIMIT, terminal_left)

"""A purchase tried on paper: what would this policy do? For head office before it publishes, and for the examples."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from terminal_agent.club.offers import Basket, CouponRefused, Grant, Holder, Line, Used, normal_code
from terminal_agent.club.policy import Policy
from terminal_agent.club.purchase import Account, RedemptionRefused, evaluate

ENOUGH = 10**9


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TriedLine(_Part):
    sku: str
    quantity: int = Field(1, ge=1)
    amount: int


class TriedPurchase(_Part):
    """A bill; ``at`` None is a till whose clock cannot be trusted."""

    amount: int = Field(gt=0)
    redeem: int = Field(0, ge=0)
    lines: tuple[TriedLine, ...] = ()
    at: AwareDatetime | None = None
    coupon: str | None = None


class TriedHolder(_Part):
    """Who buys: ``grants`` are ids of offers given to the card, ``stamps``, ``had`` and ``had_today`` count by id."""

    balance: int = 0
    online: bool = True
    tier: str | None = None
    first_purchase: bool = False
    grants: tuple[str, ...] = ()
    stamps: dict[str, int] = {}
    had: dict[str, int] = {}
    had_today: dict[str, int] = {}


class Trial(_Part):
    """One case."""

    purchase: TriedPurchase
    holder: TriedHolder = TriedHolder()


def try_purchase(policy: Policy, trial: Trial) -> dict[str, Any]:
    """``{earned, redeemed, points_after, offers, explanation}``, or ``{refused, limit}``."""
    bill = trial.purchase
    try:
        outcome = evaluate(
            policy,
            Account(trial.holder.balance, online=trial.holder.online),
            bill.amount,
            bill.redeem,
            Basket(
                tuple(Line(line.sku, line.quantity, line.amount) for line in bill.lines),
                bill.at,
                None if bill.coupon is None else normal_code(bill.coupon),
            ),
            _holder(policy, trial),
        )
    except RedemptionRefused as refused:
        return {"refused": refused.refusal.value, "limit": refused.limit}
    except CouponRefused:
        return {"refused": "coupon", "limit": 0}
    return {
        "earned": outcome.earned,
        "redeemed": outcome.redeemed,
        "points_after": trial.holder.balance + outcome.delta,
        "offers": [use.to_json() for use in outcome.offers],
        "explanation": [dict(vars(reason)) for reason in outcome.reasons],
    }


def _holder(policy: Policy, trial: Trial) -> Holder:
    """A code that is shown is taken for a good one of each offer that takes such codes and is granted here."""
    who, code = trial.holder, trial.purchase.coupon
    coupons = {offer.id for offer in policy.offers if offer.audience == "coupon"}
    grants = tuple(
        Grant(f"tried-{offer_id}", offer_id, coupon=normal_code(code) if code and offer_id in coupons else None)
        for offer_id in who.grants
    )
    full = {card.id: card.count for card in policy.stamps}
    used = {
        key: Used(
            who.had_today.get(key, 0),
            who.had.get(key, 0),
            who.stamps.get(key, 0),
            who.stamps.get(key, 0) // full.get(key, ENOUGH),
        )
        for key in {*who.stamps, *who.had, *who.had_today}
    }
    return Holder(who.tier, who.first_purchase, grants, used)

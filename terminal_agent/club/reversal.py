"""What a void or a partial return does to the points: a pure function of policy, sale and what was returned before."""

from __future__ import annotations

from dataclasses import dataclass

from terminal_agent.club.offers import OfferUse, returned
from terminal_agent.club.policy import Policy
from terminal_agent.club.purchase import Outcome, Reason, earned_by


@dataclass(frozen=True)
class Sale:
    """A purchase as it was recorded: its bill, the points it earned, offers included, and redeemed (all >= 0)."""

    amount: int
    earned: int
    redeemed: int
    offers: tuple[OfferUse, ...] = ()


@dataclass(frozen=True)
class _Kept:
    """The points that belong to the part of a sale that is not returned."""

    earned: int
    redeemed: int


def reverse(policy: Policy, sale: Sale, returned_before: int, amount: int) -> Outcome:
    """Points moved by returning ``amount`` of ``sale`` after ``returned_before`` of it (smallest unit of the currency).

    The customer keeps what the remaining purchase would have earned under the same policy, and of the points of tier
    and offers the share of what remains, rounded down, so that buying and returning earns nothing; points that paid
    come back in proportion, rounded so that never more comes back than paid.
    Returns in parts end where one return of the whole ends. ``earned`` and ``redeemed`` of the outcome are <= 0.
    Raises ValueError where more is returned than was sold.
    """
    if not 0 < amount <= sale.amount - returned_before:
        raise ValueError(f"{amount} of {sale.amount} cannot be returned after {returned_before}")
    left, then = sale.amount - returned_before, sale.amount - returned_before - amount
    before, after = _kept(policy, sale, left), _kept(policy, sale, then)
    earned, redeemed = after.earned - before.earned, after.redeemed - before.redeemed
    reasons = [Reason("return", earned, f"earned by the {amount} {policy.currency} that are returned")]
    if redeemed:
        reasons.append(Reason("give_back", -redeemed, f"{-redeemed} points had paid for what is returned"))
    return Outcome(earned, redeemed, tuple(reasons), tuple(returned(list(sale.offers), sale.amount, left, then)))


def _kept(policy: Policy, sale: Sale, remaining: int) -> _Kept:
    if remaining == sale.amount:
        return _Kept(sale.earned, sale.redeemed)
    worth = paid = sale.redeemed * policy.redeem.amount_per_point
    redeemed = sale.redeemed
    if policy.returns.give_back_redeemed:
        redeemed = -(-sale.redeemed * remaining // sale.amount)
        paid = paid * remaining // sale.amount  # not of the rounded points: a return must never earn
    base, _reason = earned_by(policy, remaining, paid)
    of_the_whole, _reason = earned_by(policy, sale.amount, worth)
    more = max(0, sale.earned - of_the_whole) * remaining // sale.amount
    return _Kept(min(base + more, sale.earned), redeemed)

"""What the club's rules say of a purchase at this till: the facts gathered, refusals in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from terminal_agent.club.offers import Basket, CouponRefused, Holder, Line, OfferUse, coupon_id, local_day
from terminal_agent.club.policy import Policy
from terminal_agent.club.purchase import Account, Outcome, RedemptionRefused, Refusal, evaluate
from terminal_agent.club.rules import Name, Tier
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.taps import PresentedCard, Terminal
from terminal_agent.till import decided

UNUSED_SEQUENCE = 1
"""The counter of a card that was issued and never tapped since."""


@dataclass(frozen=True)
class Rules:
    """The policy and the facts it asks for, gathered once for a tap."""

    policy: Policy
    tier: Tier | None
    basket: Basket
    holder: Holder

    def outcome(self, account: Account, amount: int, redeem: int) -> Outcome:
        """Raises AgentError ``insufficient_points``, ``offline_limit``, ``coupon_refused``."""
        try:
            return evaluate(self.policy, account, amount, redeem, self.basket, self.holder)
        except RedemptionRefused as refused:
            raise _refusal(refused) from refused
        except CouponRefused as refused:
            raise AgentError(
                ErrorCode.COUPON_REFUSED,
                "this coupon brings nothing on this bill: unknown here, over, used up, or its conditions are not met",
                hint="Check the code, or run the command again without --coupon",
            ) from refused


def gather(terminal: Terminal, card: PresentedCard, lines: tuple[Line, ...], coupon: str | None) -> Rules:
    """The rules in force and what is known here; where no offer can ask, nothing is looked up. ``coupon`` in its normal
    form."""
    policy = terminal.journal.knowledge.policy()
    tier = tier_of(terminal, policy, card)
    if not policy.offers and not policy.stamps:
        return Rules(policy, tier, Basket(lines, None, coupon), Holder(tier.tier if tier else None))
    at = terminal.clock.now() if decided.clock_state(terminal) == "synced" else None
    return Rules(policy, tier, Basket(lines, at, coupon), _holder(terminal, policy, card, tier, coupon))


def gather_without_card(
    terminal: Terminal, holder: str, tier_name: str | None, lines: tuple[Line, ...], coupon: str | None
) -> Rules:
    """The same for a member who gave a phone. ``holder``: their card's number or, without one, their id, under which
    is counted what they had of each offer. A welcome is kept for the first tap: nobody gets it twice."""
    policy = terminal.journal.knowledge.policy()
    tier = policy.tier(tier_name)
    if not policy.offers and not policy.stamps:
        return Rules(policy, tier, Basket(lines, None, coupon), Holder(tier.tier if tier else None))
    at = terminal.clock.now() if decided.clock_state(terminal) == "synced" else None
    known = _known(terminal, policy, holder, coupon)
    return Rules(policy, tier, Basket(lines, at, coupon), replace(known, tier=tier.tier if tier else None))


def gather_for_nobody(terminal: Terminal, lines: tuple[Line, ...], coupon: str | None) -> Rules:
    """The same for a phone of which nobody can say whose it is: it earns as the amount does. Offers are a member's,
    and their limits could not be held."""
    policy = terminal.journal.knowledge.policy().model_copy(update={"offers": (), "stamps": ()})
    return Rules(policy, None, Basket(lines, None, coupon), Holder())


def tier_of(terminal: Terminal, policy: Policy, card: PresentedCard) -> Tier | None:
    """The holder's tier: as the CRM said last, or where this shop has not heard of the member, as the card holds it."""
    if not policy.tiers:
        return None
    member = terminal.journal.knowledge.member_of(card.card_no)
    if member is not None and member.tier is not None:
        return policy.tier(member.tier)
    return policy.tier_at(card.state.tier)


def level_of(policy: Policy, tier: Tier | None, card: PresentedCard) -> int:
    """What the card is to hold as its tier after this tap; a policy without tiers changes nothing."""
    if not policy.tiers:
        return card.state.tier
    return tier.level if tier else 0


def _holder(terminal: Terminal, policy: Policy, card: PresentedCard, tier: Tier | None, coupon: str | None) -> Holder:
    """What is known here of who holds the card."""
    first = card.state.sequence <= UNUSED_SEQUENCE
    known = _known(terminal, policy, card.card_no, coupon)
    return replace(known, tier=tier.tier if tier else None, first_purchase=first)


def _known(terminal: Terminal, policy: Policy, holder: str, coupon: str | None) -> Holder:
    """What a card, or a member without one, was given here and had before."""
    offers = terminal.journal.offers
    shown = offers.coupon(coupon_id(coupon), coupon) if coupon else None
    return Holder(
        grants=(*offers.grants_of(holder), *([shown] if shown else [])),
        used=offers.used_by(holder, local_day(policy, terminal.clock.now())),
    )


def offers_shown(policy: Policy, uses: tuple[OfferUse, ...]) -> list[dict[str, Any]]:
    """``offers`` of an answer: as the event carries them, with the names people read."""
    names: Mapping[str, Name] = {rule.id: rule.name for rule in (*policy.offers, *policy.stamps)}
    unknown = Name()
    return [
        {**use.to_json(), "name": {"fa": name.fa or use.offer_id, "en": name.en or use.offer_id}}
        for use in uses
        for name in (names.get(use.offer_id, unknown),)
    ]


_REFUSALS = {
    Refusal.INSUFFICIENT_POINTS: (ErrorCode.INSUFFICIENT_POINTS, "the card has only {limit} points to redeem"),
    Refusal.BELOW_MINIMUM: (ErrorCode.INSUFFICIENT_POINTS, "at least {limit} points can be redeemed at once"),
    Refusal.ABOVE_SHARE: (ErrorCode.INSUFFICIENT_POINTS, "at most {limit} points can pay for this bill"),
    Refusal.OFFLINE_CARD_LIMIT: (
        ErrorCode.OFFLINE_LIMIT,
        "the CRM cannot be asked now; without it this card may redeem {limit} points more",
    ),
    Refusal.OFFLINE_TERMINAL_LIMIT: (
        ErrorCode.OFFLINE_LIMIT,
        "the CRM cannot be asked now; without it this till may redeem {limit} points more today",
    ),
}


def _refusal(refused: RedemptionRefused) -> AgentError:
    code, message = _REFUSALS[refused.refusal]
    return AgentError(
        code,
        message.format(limit=refused.limit),
        hint="Redeem fewer points, or none: the purchase itself always earns",
        details={"redeemable_points": refused.limit},
    )

"""A sale without the card: the customer gave a phone. It is done at once, line or no line; no card is touched and no
points are redeemed. The CRM books the points to the member's card, or keeps them until there is one.

Where nobody can say now whose phone it is, the sale names a new id, and an enrolment marked ``provisional`` tells the
CRM the phone behind it: so no sale's bytes ever hold a phone, and an erasure has one place to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from terminal_agent import taps
from terminal_agent.club.purchase import Account, Outcome
from terminal_agent.contract import EventType, salted, subject_of_member
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.intents import Checkout, CheckoutState
from terminal_agent.journal.knowledge import NAMED, Member
from terminal_agent.ports import rfc3339
from terminal_agent.taps import Terminal
from terminal_agent.till import checkout, decided, evaluation
from terminal_agent.till.checkout import PurchaseRequest
from terminal_agent.till.evaluation import Rules


@dataclass(frozen=True)
class Buyer:
    """Whose phone was given: a member with the card of theirs that is in use, or ``member_id`` None where nobody can
    say now. ``phone`` in its normal form."""

    phone: str
    member_id: str | None = None
    card_no: str | None = None
    tier: str | None = None


def nobody() -> AgentError:
    """Nobody has this phone, for certain."""
    return AgentError(
        ErrorCode.MEMBER_NOT_FOUND,
        "no member has this phone",
        hint="Check the number, or enrol the customer: terminal-agent member enroll --phone P",
    )


def sell(terminal: Terminal, request: PurchaseRequest, buyer: Buyer) -> dict[str, Any]:
    """Record the sale; the same receipt again gives the same answer. Raises AgentError: ``receipt_conflict``, and with
    ``state`` in_doubt in its details where a card was already written for this receipt, or may have been."""
    if request.redeem:
        raise decided.invalid("points are redeemed with the card alone", checkout.COMMAND)
    journal = terminal.journal

    def sold() -> dict[str, Any]:
        recorded = checkout.recorded(terminal, request)
        if recorded is not None:
            return recorded
        begun = checkout.checkout_of(terminal, request)
        if begun is not None:
            raise decided.still_waits(begun)
        member_id = buyer.member_id or _named(terminal, buyer.phone)
        rules = _rules(terminal, request, buyer)
        outcome = rules.outcome(Account(0), request.amount, 0)
        event = _event(terminal, request, (member_id, buyer.card_no), outcome, rules.policy.version)
        result = _result(terminal, request, rules, outcome, event)
        _keep(terminal, request.receipt_no, result, event)
        return result

    return journal.write(sold)


def _named(terminal: Terminal, phone: str) -> str:
    """The id that stands for a phone of which nobody can say whose it is, inside the caller's transaction."""
    journal = terminal.journal
    known = journal.knowledge.member_by_phone(phone)
    if known is not None:
        return known.member_id
    member = Member(terminal.ids.uuid(), phone, None, None, NAMED)
    told = {"member_id": member.member_id, "phone": phone, "name": None, "tier": None}
    data = {"member": salted(told, terminal.ids.uuid()), "provisional": True}
    subject = subject_of_member(member.member_id)
    journal.events.append(taps.new_event(terminal, EventType.MEMBER_ENROLLED, None, data, subject))
    journal.knowledge.remember_member(member)
    return member.member_id


def _rules(terminal: Terminal, request: PurchaseRequest, buyer: Buyer) -> Rules:
    if buyer.member_id is None:
        return evaluation.gather_for_nobody(terminal, request.lines, request.coupon)
    holder = buyer.card_no or buyer.member_id
    return evaluation.gather_without_card(terminal, holder, buyer.tier, request.lines, request.coupon)


def without_card(event: NewEvent) -> bool:
    """Whether an event tells of a sale by phone, and not of one whose card write is in doubt."""
    return event.data.get("card") is None and event.data.get("intent") is None


def _keep(terminal: Terminal, receipt_no: str, result: dict[str, Any], event: NewEvent, reference: str = "") -> None:
    """The recorded answer and its event, inside the caller's transaction."""
    journal = terminal.journal
    kind = taps.PURCHASE if event.type is EventType.PURCHASE_RECORDED else taps.REVERSAL
    kept = Checkout(
        checkout_id=result["checkout_id"],
        kind=kind,
        receipt_no=receipt_no,
        reference=reference,
        amount=result["amount"],
        currency=result["currency"],
        state=CheckoutState.DONE,
        card_no=event.card_no or "",
        redeemed_offline=0,
        result=result,
        created_at=rfc3339(terminal.clock.now()),
    )
    journal.checkouts.begin(kept)
    journal.checkouts.finish(kept.checkout_id, CheckoutState.DONE, result)
    journal.record(event, event.card_no or result["member_id"])


def keep_reversal(
    terminal: Terminal, receipt_no: str, reference: str, result: dict[str, Any], event: NewEvent
) -> dict[str, Any]:
    """The return of a sale without a card, which is done at once; inside the caller's transaction."""
    _keep(terminal, receipt_no, result, event, reference)
    return result


def points_told(outcome: Outcome) -> dict[str, Any]:
    """The part of an answer that says what happened to points of which no card knows yet."""
    return {
        "card_no": None,
        "points_before": None,
        "points_adjusted": 0,
        "points_earned": outcome.earned,
        "points_redeemed": outcome.redeemed,
        "points_after": None,
        "sequence": None,
        "explanation": [dict(vars(reason)) for reason in outcome.reasons],
    }


def _result(
    terminal: Terminal, request: PurchaseRequest, rules: Rules, outcome: Outcome, event: NewEvent
) -> dict[str, Any]:
    return {
        "checkout_id": request.checkout_id or terminal.ids.uuid(),
        "event_id": event.event_id,
        "member_id": event.data["member"]["member_id"],
        "state": CheckoutState.DONE.value,
        "receipt_no": request.receipt_no,
        "amount": request.amount,
        "currency": terminal.currency,
        **points_told(outcome),
        "tier": rules.tier.tier if rules.tier else None,
        "offers": evaluation.offers_shown(rules.policy, outcome.offers),
        "online": False,
        "replayed": False,
    }


def _event(
    terminal: Terminal, request: PurchaseRequest, who: tuple[str, str | None], outcome: Outcome, policy_version: str
) -> NewEvent:
    """``who``: the member, and the card whose events this one keeps its place among."""
    member_id, card_no = who
    data = {
        "card": None,
        "member": {"member_id": member_id},
        "purchase": checkout.bill_of(terminal, request),
        "points": decided.points_of(outcome),
        "policy_version": policy_version,
        "online": False,
        "clock": decided.clock_state(terminal),
    }
    return taps.new_event(terminal, EventType.PURCHASE_RECORDED, card_no, data, subject_of_member(member_id))

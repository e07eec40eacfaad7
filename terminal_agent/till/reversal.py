"""Taking a purchase back, whole or in part: the sale is named by its receipt, points go and come as policy says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.card.layout import HistoryKind
from terminal_agent.club.offers import OfferUse
from terminal_agent.club.policy import Policy
from terminal_agent.club.purchase import Outcome
from terminal_agent.club.reversal import Sale, reverse
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.intents import Checkout, CheckoutState, Intent
from terminal_agent.ports import rfc3339
from terminal_agent.taps import PresentedCard, Terminal
from terminal_agent.till import by_phone, decided, evaluation

COMMAND = "reverse"


@dataclass(frozen=True)
class ReversalRequest:
    """``receipt_no`` is the purchase's; ``amount`` None takes back all that is left of it.

    Receipt, amount and ``reference`` together are the natural key: the same again is the same return. A second return
    of the same amount needs a reference of its own, such as the number of the return slip. ``checkout_id`` is one that
    was given out already.
    """

    receipt_no: str
    amount: int | None = None
    reference: str | None = None
    checkout_id: str | None = None

    def __post_init__(self) -> None:
        """Whatever could fail later fails here, before the card is touched. Raises AgentError ``invalid_input``."""
        if self.amount is not None and not 0 < self.amount <= decided.MAX_AMOUNT:
            raise decided.invalid(f"an amount is a whole number from 1 to {decided.MAX_AMOUNT}", COMMAND)
        receipt_no = decided.checked_reference(self.receipt_no, "the receipt number", COMMAND)
        object.__setattr__(self, "receipt_no", receipt_no)
        if self.reference is not None:
            reference = decided.checked_reference(self.reference, "the reference", COMMAND)
            object.__setattr__(self, "reference", reference)

    @property
    def key(self) -> str:
        """What tells this return from others of the same receipt."""
        if self.reference is not None:
            return f"reference {self.reference}"
        return "rest" if self.amount is None else f"amount {self.amount}"


@dataclass(frozen=True)
class _Purchase:
    """What is to be taken back: its checkout and its event."""

    checkout: Checkout
    event: NewEvent

    @property
    def sale(self) -> Sale:
        result = self.checkout.result
        offers = tuple(OfferUse.from_json(use) for use in self.event.data["points"].get("offers", ()))
        return Sale(self.checkout.amount, result["points_earned"], result["points_redeemed"], offers)


@dataclass(frozen=True)
class _Taken:
    """What a return takes back under the policy of its sale; ``left`` is what may be returned after it."""

    policy: Policy
    amount: int
    left: int
    outcome: Outcome


def recorded_reversal(terminal: Terminal, request: ReversalRequest) -> dict[str, Any] | None:
    """The answer of a return that is finished, or None. Raises AgentError where it can never be carried out."""
    begun = _begun(terminal, request)
    if begun is None:  # one in doubt was allowed already, and counts among what was returned
        _purchase_of(terminal, request)
    return _answer_of(begun, request)


def reverse_by_tap(terminal: Terminal, connection: ClassicConnection, request: ReversalRequest) -> dict[str, Any]:
    """Carry one return through with the purchase's card in the field; safe to call again after any interruption.

    Raises AgentError; with ``state`` in_doubt in its details when the card's write was begun and not confirmed.
    """
    card = decided.settled_card(terminal, connection, lambda: _begun(terminal, request))
    begun = _begun(terminal, request)
    answered = _answer_of(begun, request)
    if answered is not None:
        return answered
    taps.refuse_unusable(terminal, card)
    if begun is not None:
        raise decided.other_card_than(begun)
    return _carry_out(terminal, card, request)


def amount_of(terminal: Terminal, request: ReversalRequest) -> int:
    """How much this return gives back: what it names, or all that is left of the sale. Raises AgentError."""
    begun = _begun(terminal, request)
    if begun is not None:
        return begun.amount
    sold = _purchase_of(terminal, request).checkout
    return request.amount or sold.amount - terminal.journal.checkouts.amount_of(taps.REVERSAL, request.receipt_no)


def reverse_without_card(terminal: Terminal, request: ReversalRequest) -> dict[str, Any] | None:
    """Take a sale back that was made without a card, at once; None for one that needs its card. Raises AgentError."""

    def returned() -> dict[str, Any] | None:
        begun = _begun(terminal, request)
        if begun is not None:
            return _answer_of(begun, request)
        purchase = _purchase_of(terminal, request)
        if not by_phone.without_card(purchase.event):
            return None
        taken = _taken(terminal, request, purchase)
        event = _event(terminal, purchase, taken, {"card": None, "member": purchase.event.data["member"]})
        result = {
            **_result(terminal, request, purchase, taken),
            **by_phone.points_told(taken.outcome),
            "state": CheckoutState.DONE.value,
            "event_id": event.event_id,
            "member_id": purchase.event.data["member"]["member_id"],
        }
        return by_phone.keep_reversal(terminal, request.receipt_no, request.key, result, event)

    return terminal.journal.write(returned)


def checkout_of(terminal: Terminal, request: ReversalRequest) -> Checkout | None:
    """The checkout of this very return, in whatever state, or None."""
    checkout = _begun(terminal, request)
    return checkout if checkout and request.amount in (None, checkout.amount) else None


def _begun(terminal: Terminal, request: ReversalRequest) -> Checkout | None:
    return terminal.journal.checkouts.by_receipt(taps.REVERSAL, request.receipt_no, request.key)


def _answer_of(checkout: Checkout | None, request: ReversalRequest) -> dict[str, Any] | None:
    if checkout is None:
        return None
    if request.amount not in (None, checkout.amount):
        raise AgentError(
            ErrorCode.RECEIPT_CONFLICT,
            f"this reference was already used to return {checkout.amount} {checkout.currency}",
            hint="Check the amount, or give this return a reference of its own",
        )
    return None if checkout.state is CheckoutState.IN_DOUBT else decided.answer_of(checkout)


def _purchase_of(terminal: Terminal, request: ReversalRequest) -> _Purchase:
    """The purchase a return names. Raises AgentError for one that was not made here, or not for so long."""
    checkouts = terminal.journal.checkouts
    checkout = checkouts.by_receipt(taps.PURCHASE, request.receipt_no)
    event = terminal.journal.event_of(checkout) if checkout else None
    if checkout is None or event is None:
        raise AgentError(
            ErrorCode.NOT_FOUND,
            f"no purchase with the receipt {request.receipt_no} was recorded on this terminal",
            hint="Check the number; a purchase is returned at the till where it was made",
        )
    days = terminal.journal.knowledge.policy().returns.window_days
    if terminal.clock.now() - datetime.fromisoformat(checkout.created_at) > timedelta(days=days):
        message = f"receipt {request.receipt_no} is older than the {days} days in which it may be returned"
        raise _refused(message, "Ask head office", 0)
    left = checkout.amount - checkouts.amount_of(taps.REVERSAL, request.receipt_no)
    if (request.amount or 1) > left:
        message = f"of receipt {request.receipt_no} only {left} {checkout.currency} can still be returned"
        if not left:
            message = f"receipt {request.receipt_no} was returned in full"
        raise _refused(message, "Check the receipt number and the amount", left)
    return _Purchase(checkout, event)


def _refused(message: str, hint: str, returnable: int) -> AgentError:
    details = {"returnable_amount": returnable}
    return AgentError(ErrorCode.REVERSAL_REFUSED, message, hint=hint, details=details)


def _carry_out(terminal: Terminal, card: PresentedCard, request: ReversalRequest) -> dict[str, Any]:
    purchase = _purchase_of(terminal, request)
    _check_card(purchase.checkout, card)
    taken = _taken(terminal, request, purchase)
    adjustments = decided.adjustments_due(terminal, card)
    adjusted = sum(adjustment.points for adjustment in adjustments)
    now = terminal.journal.knowledge.policy()
    level = evaluation.level_of(now, evaluation.tier_of(terminal, now, card), card)
    after = decided.next_state(card.state, adjustments, taken.outcome.delta, card.state.redeemed_offline, level)
    moved = decided.points_moved(card, taken.outcome, adjusted, after)
    result = {**_result(terminal, request, purchase, taken), **moved}
    written = {"card": taps.card_data(card.card_no, card.state, after)}
    intent = Intent(
        intent_id=terminal.ids.uuid(),
        kind=taps.REVERSAL,
        card_no=card.card_no,
        uid=card.session.uid.hex(),
        before=card.state.to_json(),
        after=after.to_json(),
        events=(_event(terminal, purchase, taken, written),),
        checkout_id=result["checkout_id"],
        history={"kind": HistoryKind.REVERSAL.value, "amount": taken.amount, "points": taken.outcome.delta},
    )
    return decided.carry_out(terminal, card, intent, _checkout(terminal, request, result))


def _taken(terminal: Terminal, request: ReversalRequest, purchase: _Purchase) -> _Taken:
    policy = terminal.journal.knowledge.policy(purchase.event.data["policy_version"])
    before = terminal.journal.checkouts.amount_of(taps.REVERSAL, request.receipt_no)
    amount = request.amount or purchase.checkout.amount - before
    left = purchase.checkout.amount - before - amount
    return _Taken(policy, amount, left, reverse(policy, purchase.sale, before, amount))


def _result(terminal: Terminal, request: ReversalRequest, purchase: _Purchase, taken: _Taken) -> dict[str, Any]:
    """The answer but for what happens to points."""
    return {
        "checkout_id": request.checkout_id or terminal.ids.uuid(),
        "state": CheckoutState.IN_DOUBT.value,
        "receipt_no": request.receipt_no,
        "reversed_event_id": purchase.event.event_id,
        "amount": taken.amount,
        "returnable_amount": taken.left,
        "currency": purchase.checkout.currency,
        "offers": evaluation.offers_shown(taken.policy, taken.outcome.offers),
        "online": False,
        "replayed": False,
    }


def _check_card(purchase: Checkout, card: PresentedCard) -> None:
    """Points go back to the card they came from; having met it, its sale is in doubt no more. Raises AgentError."""
    if purchase.card_no != card.card_no:
        raise AgentError(
            ErrorCode.OTHER_CARD,
            f"receipt {purchase.receipt_no} was paid with another card, which ends in {purchase.card_no[-4:]}",
            hint="Put the card of that purchase on the reader",
        )


def _checkout(terminal: Terminal, request: ReversalRequest, result: dict[str, Any]) -> Checkout:
    return Checkout(
        checkout_id=result["checkout_id"],
        kind=taps.REVERSAL,
        receipt_no=request.receipt_no,
        reference=request.key,
        amount=result["amount"],
        currency=result["currency"],
        state=CheckoutState.IN_DOUBT,
        card_no=result["card_no"],
        redeemed_offline=0,
        result=result,
        created_at=rfc3339(terminal.clock.now()),
    )


def _event(terminal: Terminal, purchase: _Purchase, taken: _Taken, written: dict[str, Any]) -> NewEvent:
    """``written``: what was done to a card, or ``card`` None and the member."""
    data = {
        **written,
        "reversal": {
            "reversed_event_id": purchase.event.event_id,
            "receipt_no": purchase.checkout.receipt_no,
            "amount": taken.amount,
            "currency": purchase.checkout.currency,
        },
        "points": decided.points_of(taken.outcome),
        "policy_version": taken.policy.version,
        "online": False,
        "clock": decided.clock_state(terminal),
    }
    event = purchase.event
    return taps.new_event(terminal, EventType.PURCHASE_REVERSED, event.card_no, data, event.subject)

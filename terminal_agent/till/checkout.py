"""One purchase by tap: a receipt and an amount in, points on the card and a sale on disk out."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from drivers.base import ClassicConnection
from terminal_agent import taps
from terminal_agent.card.layout import MAX_BALANCE, CardState, HistoryKind
from terminal_agent.card.problems import card_pending
from terminal_agent.club import offers
from terminal_agent.club.purchase import Account, Outcome
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.intents import Checkout, CheckoutState, Intent
from terminal_agent.ports import rfc3339
from terminal_agent.taps import CardAtCrm, PresentedCard, Reserve, Terminal
from terminal_agent.till import decided, evaluation
from terminal_agent.till.decided import MAX_AMOUNT
from terminal_agent.till.evaluation import Rules

COMMAND = "purchase"
MAX_LINES = 500
MAX_QUANTITY = 10**9
Line = offers.Line
"""One line of the bill, as it is asked for."""


@dataclass(frozen=True)
class PurchaseRequest:
    """What the cashier or the POS asks for. ``receipt_no`` is the natural key on this terminal, in one normal form.

    ``checkout_id`` is one that was given out already; without it a new one is made at the tap. ``coupon`` is a code
    that the customer shows.
    """

    receipt_no: str
    amount: int
    redeem: int = 0
    lines: tuple[Line, ...] = ()
    checkout_id: str | None = None
    coupon: str | None = None

    def __post_init__(self) -> None:
        """Whatever could fail later fails here, before the card is touched. Raises AgentError ``invalid_input``."""
        problems = (
            (not 0 < self.amount <= MAX_AMOUNT, f"an amount is a whole number from 1 to {MAX_AMOUNT}"),
            (not 0 <= self.redeem <= MAX_BALANCE, "points to redeem are a whole number, 0 or more"),
            (len(self.lines) > MAX_LINES, f"a bill has at most {MAX_LINES} lines"),
            (any(not 0 < line.quantity <= MAX_QUANTITY for line in self.lines), "a quantity is a whole number from 1"),
            (any(line.amount > self.amount for line in self.lines), "a line amounts to more than the whole bill"),
        )
        for wrong, message in problems:
            if wrong:
                raise decided.invalid(message, COMMAND)
        object.__setattr__(self, "receipt_no", _reference(self.receipt_no, "the receipt number"))
        lines = tuple(Line(_reference(x.sku, "the SKU of a line"), x.quantity, x.amount) for x in self.lines)
        object.__setattr__(self, "lines", lines)
        if self.coupon is not None:
            object.__setattr__(self, "coupon", offers.normal_code(_reference(self.coupon, "the coupon's code")))


def _reference(text: str, what: str) -> str:
    return decided.checked_reference(text, what, COMMAND)


def recorded(terminal: Terminal, request: PurchaseRequest) -> dict[str, Any] | None:
    """The answer of a receipt that is finished, or None. Raises AgentError for the same receipt with another amount."""
    return _answer_of(_begun(terminal, request), request)


def checkout_of(terminal: Terminal, request: PurchaseRequest) -> Checkout | None:
    """The checkout of this very receipt and amount, in whatever state, or None."""
    checkout = _begun(terminal, request)
    return checkout if checkout and checkout.amount == request.amount else None


def _begun(terminal: Terminal, request: PurchaseRequest) -> Checkout | None:
    return terminal.journal.checkouts.by_receipt(taps.PURCHASE, request.receipt_no)


def _answer_of(checkout: Checkout | None, request: PurchaseRequest) -> dict[str, Any] | None:
    if checkout is None:
        return None
    if checkout.amount != request.amount:
        raise AgentError(
            ErrorCode.RECEIPT_CONFLICT,
            f"receipt {request.receipt_no} was already used for {checkout.amount} {checkout.currency}",
            hint="Check the amount, or use this sale's own receipt number",
        )
    return None if checkout.state is CheckoutState.IN_DOUBT else decided.answer_of(checkout)


def purchase(
    terminal: Terminal, connection: ClassicConnection, request: PurchaseRequest, reserve: Reserve
) -> dict[str, Any]:
    """Carry one purchase through with the card in the field; safe to call again after any interruption.

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
    return _carry_out(terminal, card, request, reserve)


def _carry_out(terminal: Terminal, card: PresentedCard, request: PurchaseRequest, reserve: Reserve) -> dict[str, Any]:
    rules = evaluation.gather(terminal, card, request.lines, request.coupon)
    if request.redeem:
        _refuse_before_approval(terminal, card)
    if request.redeem and terminal.journal.short_of_space:
        raise _no_room_to_redeem()
    adjustments = decided.adjustments_due(terminal, card)
    adjusted = sum(adjustment.points for adjustment in adjustments)
    at_crm = _ask_crm(terminal, rules, card, request, adjusted, reserve) if request.redeem else None
    online = at_crm is not None
    if request.redeem and not online and terminal.programme_id and terminal.journal.knowledge_lost:
        raise _must_hear_from_crm()
    outcome = rules.outcome(_account(terminal, card, request, adjusted, at_crm), request.amount, request.redeem)
    redeemed_offline = 0 if online else card.state.redeemed_offline + outcome.redeemed
    level = evaluation.level_of(rules.policy, rules.tier, card)
    after = decided.next_state(card.state, adjustments, outcome.delta, redeemed_offline, level)
    result = _result(terminal, card, request, rules, outcome, adjusted, after, at_crm)
    intent = Intent(
        intent_id=terminal.ids.uuid(),
        kind=taps.PURCHASE,
        card_no=card.card_no,
        uid=card.session.uid.hex(),
        before=card.state.to_json(),
        after=after.to_json(),
        events=(_event(terminal, card, request, outcome, after, rules.policy.version, at_crm),),
        checkout_id=result["checkout_id"],
        history={"kind": HistoryKind.PURCHASE.value, "amount": request.amount, "points": outcome.delta},
    )
    return decided.carry_out(terminal, card, intent, _checkout(terminal, card, request, result))


def _refuse_before_approval(terminal: Terminal, card: PresentedCard) -> None:
    """Raises AgentError ``card_pending`` for a redemption with the card of somebody the club has not taken in yet."""
    member = terminal.journal.knowledge.member(card.known.member_id) if card.known else None
    if member is not None and member.status == taps.PENDING:
        raise card_pending()


def _no_room_to_redeem() -> AgentError:
    """What is left of the disk is kept for sales: they must go on, a redemption can wait."""
    return AgentError(
        ErrorCode.DISK_FULL,
        "the disk is almost full: points can be earned, but not redeemed",
        hint="Run the command again without --redeem, and free some space on the disk",
    )


def _must_hear_from_crm() -> AgentError:
    """A card that was blocked may have been forgotten together with the old journal."""
    return AgentError(
        ErrorCode.OFFLINE_LIMIT,
        "this till has a new or restored journal and must hear from the CRM before points are redeemed without it",
        hint="Redeem no points, or connect the till and run: terminal-agent sync",
        details={"redeemable_points": 0},
    )


def _checkout(terminal: Terminal, card: PresentedCard, request: PurchaseRequest, result: dict[str, Any]) -> Checkout:
    return Checkout(
        checkout_id=result["checkout_id"],
        kind=taps.PURCHASE,
        receipt_no=request.receipt_no,
        amount=request.amount,
        currency=terminal.currency,
        state=CheckoutState.IN_DOUBT,
        card_no=card.card_no,
        redeemed_offline=0 if result["online"] else result["points_redeemed"],
        online=result["online"],
        result=result,
        created_at=rfc3339(terminal.clock.now()),
    )


def _ask_crm(
    terminal: Terminal, rules: Rules, card: PresentedCard, request: PurchaseRequest, adjusted: int, reserve: Reserve
) -> CardAtCrm | None:
    """The card at the CRM with the points set aside there, or None: then the offline limits hold.

    What no CRM could grant is refused before it is asked. The same sale asking again names the same hold.
    """
    rules.outcome(Account(card.state.balance + adjusted, online=True), request.amount, request.redeem)
    name = f"{request.receipt_no}\n{card.card_no}\n{request.redeem}".encode()
    return taps.confirmed(terminal, card, request.redeem, sha256(name).hexdigest(), reserve)


def _account(
    terminal: Terminal, card: PresentedCard, request: PurchaseRequest, adjusted: int, at_crm: CardAtCrm | None
) -> Account:
    """The card's own balance counts; online never more than the CRM's."""
    balance = card.state.balance + adjusted
    if at_crm is not None:
        return Account(min(balance, at_crm.balance), online=True)
    if not request.redeem:
        return Account(balance)
    return Account(balance, _redeemed_offline(terminal, card), terminal.journal.checkouts.redeemed_offline_today())


def _redeemed_offline(terminal: Terminal, card: PresentedCard) -> int:
    """What the card says it redeemed since it was last online, or what it, or a copy of it, redeemed here since."""
    return max(card.state.redeemed_offline, terminal.journal.checkouts.redeemed_offline_by(card.card_no))


def _result(
    terminal: Terminal,
    card: PresentedCard,
    request: PurchaseRequest,
    rules: Rules,
    outcome: Outcome,
    adjusted: int,
    after: CardState,
    at_crm: CardAtCrm | None,
) -> dict[str, Any]:
    return {
        "checkout_id": request.checkout_id or terminal.ids.uuid(),
        "state": CheckoutState.IN_DOUBT.value,
        "receipt_no": request.receipt_no,
        "amount": request.amount,
        "currency": terminal.currency,
        **decided.points_moved(card, outcome, adjusted, after),
        "tier": rules.tier.tier if rules.tier else None,
        "offers": evaluation.offers_shown(rules.policy, outcome.offers),
        "online": at_crm is not None,
        "replayed": False,
        **_hold(at_crm),
    }


def _hold(at_crm: CardAtCrm | None) -> dict[str, str]:
    """The hold that this sale spends, where there is one."""
    return {"hold_id": at_crm.hold_id} if at_crm and at_crm.hold_id else {}


def _event(
    terminal: Terminal,
    card: PresentedCard,
    request: PurchaseRequest,
    outcome: Outcome,
    after: CardState,
    policy_version: str,
    at_crm: CardAtCrm | None,
) -> NewEvent:
    data = {
        "card": taps.card_data(card.card_no, card.state, after),
        "purchase": bill_of(terminal, request),
        "points": decided.points_of(outcome),
        "policy_version": policy_version,
        "online": at_crm is not None,
        "clock": decided.clock_state(terminal),
        **_hold(at_crm),
    }
    return taps.new_event(terminal, EventType.PURCHASE_RECORDED, card.card_no, data)


def bill_of(terminal: Terminal, request: PurchaseRequest) -> dict[str, Any]:
    """``purchase`` of an event."""
    return {
        "amount": request.amount,
        "currency": terminal.currency,
        "receipt_no": request.receipt_no,
        "lines": [dict(vars(line)) for line in request.lines],
    }

"""One checkout by tap: a receipt and an amount in, points on the card and a sale on disk out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from drivers.base import ClassicConnection
from drivers.errors import DriverError
from terminal_agent import taps
from terminal_agent.card import tap
from terminal_agent.card.layout import MAX_BALANCE, CardState, HistoryKind
from terminal_agent.card.problems import data_corrupt, from_driver
from terminal_agent.club.policy import Policy
from terminal_agent.club.purchase import Account, Outcome, RedemptionRefused, Refusal, evaluate
from terminal_agent.club.text import TextInvalid, reference
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.events import NewEvent
from terminal_agent.journal.intents import Checkout, CheckoutState, Intent
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.journal.knowledge import Adjustment
from terminal_agent.ports import rfc3339
from terminal_agent.taps import ConfirmChain, PresentedCard, Terminal

MAX_AMOUNT = 10**15
ADJUSTED_BALANCE_LIMIT = MAX_BALANCE // 2
"""Head office fills a card at most half, so that there is always room for the sale itself."""
MAX_LINES = 500
MAX_QUANTITY = 10**9
LONGEST_REFERENCE = 64
SKEW_TOLERATED_S = 120
EARLIEST_SANE_YEAR = 2026


@dataclass(frozen=True)
class Line:
    """One line of the bill; ``amount`` in the smallest unit of the currency."""

    sku: str
    quantity: int
    amount: int


@dataclass(frozen=True)
class PurchaseRequest:
    """What the cashier or the POS asks for. ``receipt_no`` is the natural key on this terminal, in one normal form."""

    receipt_no: str
    amount: int
    redeem: int = 0
    lines: tuple[Line, ...] = ()

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
                raise _invalid(message)
        object.__setattr__(self, "receipt_no", _reference(self.receipt_no, "the receipt number"))
        lines = tuple(Line(_reference(x.sku, "the SKU of a line"), x.quantity, x.amount) for x in self.lines)
        object.__setattr__(self, "lines", lines)


def _reference(text: str, what: str) -> str:
    try:
        return reference(text, LONGEST_REFERENCE)
    except TextInvalid as error:
        raise _invalid(f"{what} {error}") from error


def _invalid(message: str) -> AgentError:
    return AgentError(ErrorCode.INVALID_INPUT, message, hint="terminal-agent purchase --help")


def recorded(terminal: Terminal, request: PurchaseRequest) -> dict[str, Any] | None:
    """The answer of a receipt that is finished, or None. Raises AgentError for the same receipt with another amount."""
    return _answer_of(_checkout_of(terminal, request), request)


def _checkout_of(terminal: Terminal, request: PurchaseRequest) -> Checkout | None:
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
    if checkout.state is CheckoutState.IN_DOUBT:
        return None
    return {**checkout.result, "state": checkout.state.value, "replayed": True}


def purchase(
    terminal: Terminal, connection: ClassicConnection, request: PurchaseRequest, confirm: ConfirmChain
) -> dict[str, Any]:
    """Carry one purchase through with the card in the field; safe to call again after any interruption.

    Raises AgentError; with ``state`` in_doubt in its details when the card's write was begun and not confirmed.
    """
    try:
        card = taps.settle(terminal, taps.present(terminal, connection))
    except tap.InDoubt as doubt:
        raise _still_in_doubt(terminal, request, doubt) from doubt
    pending = _checkout_of(terminal, request)
    answered = _answer_of(pending, request)
    if answered is not None:
        return answered
    taps.refuse_unusable(terminal, card)
    if pending is not None:
        raise _wrong_card_for(pending)
    return _carry_out(terminal, card, request, confirm)


def _carry_out(
    terminal: Terminal, card: PresentedCard, request: PurchaseRequest, confirm: ConfirmChain
) -> dict[str, Any]:
    policy = terminal.journal.knowledge.policy()
    crm_balance = confirm(card.card_no, card.state) if request.redeem else None
    online = crm_balance is not None
    adjustments = terminal.journal.knowledge.adjustments_after(card.card_no, card.state.adjustments_through)
    adjustments = _that_fit(card.state.balance, adjustments)
    adjusted = sum(adjustment.points for adjustment in adjustments)
    outcome = _evaluate(terminal, policy, card, request, adjusted, crm_balance)
    after = _next_state(card.state, outcome, adjusted, len(adjustments), online)
    result = _result(terminal, card, request, outcome, adjusted, after, online)
    intent = Intent(
        intent_id=terminal.ids.uuid(),
        kind=taps.PURCHASE,
        card_no=card.card_no,
        uid=card.session.uid.hex(),
        before=card.state.to_json(),
        after=after.to_json(),
        events=(_event(terminal, card, request, outcome, after, policy, online),),
        checkout_id=result["checkout_id"],
        history={"kind": HistoryKind.PURCHASE.value, "amount": request.amount, "points": outcome.delta},
    )
    redeemed_offline = 0 if online else outcome.redeemed
    _commit(terminal, card, request, intent, result, redeemed_offline)
    return {**result, "state": CheckoutState.DONE.value}


def _that_fit(balance: int, adjustments: list[Adjustment]) -> list[Adjustment]:
    """The first adjustments, in order, that the card has room for; the rest wait and stop no sale."""
    fitting: list[Adjustment] = []
    for adjustment in adjustments:
        balance += adjustment.points
        if not -ADJUSTED_BALANCE_LIMIT <= balance <= ADJUSTED_BALANCE_LIMIT:
            break
        fitting.append(adjustment)
    return fitting


def _commit(
    terminal: Terminal,
    card: PresentedCard,
    request: PurchaseRequest,
    intent: Intent,
    result: dict[str, Any],
    redeemed_offline: int,
) -> None:
    journal = terminal.journal
    checkout = Checkout(
        checkout_id=result["checkout_id"],
        kind=taps.PURCHASE,
        receipt_no=request.receipt_no,
        amount=request.amount,
        currency=terminal.currency,
        state=CheckoutState.IN_DOUBT,
        card_no=card.card_no,
        redeemed_offline=redeemed_offline,
        result=result,
        created_at=rfc3339(terminal.clock.now()),
    )

    def begin() -> None:
        with journal.transaction():
            journal.checkouts.begin(checkout)
            journal.intents.begin(intent)

    after = CardState.from_json(intent.after)
    try:
        tap.commit(card.session, after, begin, lambda: taps.finish(terminal, card, intent, checkout))
    except tap.InDoubt as doubt:
        raise taps.in_doubt_error(_problem(doubt), result) from doubt
    tap.write_history(card.session, taps.history_entry(terminal, intent))


def _evaluate(
    terminal: Terminal,
    policy: Policy,
    card: PresentedCard,
    request: PurchaseRequest,
    adjusted: int,
    crm_balance: int | None,
) -> Outcome:
    """The card's own balance counts; online never more than the CRM's."""
    balance = card.state.balance + adjusted
    account = Account(
        balance=balance if crm_balance is None else min(balance, crm_balance),
        redeemed_offline=card.state.redeemed_offline,
        terminal_redeemed_offline_today=_redeemed_offline_today(terminal) if request.redeem else 0,
        online=crm_balance is not None,
    )
    try:
        return evaluate(policy, account, request.amount, request.redeem)
    except RedemptionRefused as refused:
        raise _refusal(refused) from refused


def _redeemed_offline_today(terminal: Terminal) -> int:
    day_ago = rfc3339(terminal.clock.now() - timedelta(days=1))
    return terminal.journal.checkouts.redeemed_offline_since(day_ago)


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


def _next_state(before: CardState, outcome: Outcome, adjusted: int, adjustments: int, online: bool) -> CardState:
    try:
        return CardState(
            sequence=before.sequence + 1,
            balance=before.balance + adjusted + outcome.delta,
            adjustments_through=before.adjustments_through + adjustments,
            redeemed_offline=0 if online else before.redeemed_offline + outcome.redeemed,
            tier=before.tier,
            flags=before.flags,
        )
    except ValueError as error:
        message = "this sale would give the card more points than it can hold"
        raise AgentError(ErrorCode.INVALID_INPUT, message, hint="Check the amount; ask head office") from error


def _result(
    terminal: Terminal,
    card: PresentedCard,
    request: PurchaseRequest,
    outcome: Outcome,
    adjusted: int,
    after: CardState,
    online: bool,
) -> dict[str, Any]:
    return {
        "checkout_id": terminal.ids.uuid(),
        "state": CheckoutState.IN_DOUBT.value,
        "receipt_no": request.receipt_no,
        "amount": request.amount,
        "currency": terminal.currency,
        "card_no": card.card_no,
        "points_before": card.state.balance,
        "points_adjusted": adjusted,
        "points_earned": outcome.earned,
        "points_redeemed": outcome.redeemed,
        "points_after": after.balance,
        "sequence": after.sequence,
        "offers": [],
        "explanation": [dict(vars(reason)) for reason in outcome.reasons],
        "online": online,
        "replayed": False,
    }


def _event(
    terminal: Terminal,
    card: PresentedCard,
    request: PurchaseRequest,
    outcome: Outcome,
    after: CardState,
    policy: Policy,
    online: bool,
) -> NewEvent:
    data = {
        "card": taps.card_data(card.card_no, card.state, after),
        "purchase": {
            "amount": request.amount,
            "currency": terminal.currency,
            "receipt_no": request.receipt_no,
            "lines": [dict(vars(line)) for line in request.lines],
        },
        "points": {"earned": outcome.earned, "redeemed": outcome.redeemed, "offers": []},
        "policy_version": policy.version,
        "online": online,
        "clock": clock_state(terminal),
    }
    return taps.new_event(terminal, EventType.PURCHASE_RECORDED, card.card_no, data)


def clock_state(terminal: Terminal) -> str:
    """``unsynced`` when this machine's date is impossible or the CRM's clock said otherwise; sales go on either way."""
    skew = float(terminal.journal.meta(CLOCK_SKEW) or 0)
    sane = terminal.clock.now().year >= EARLIEST_SANE_YEAR and abs(skew) <= SKEW_TOLERATED_S
    return "synced" if sane else "unsynced"


def _problem(doubt: tap.InDoubt) -> AgentError:
    if isinstance(doubt.cause, DriverError):
        return from_driver(doubt.cause)
    return data_corrupt(str(doubt.cause))


def _still_in_doubt(terminal: Terminal, request: PurchaseRequest, doubt: tap.InDoubt) -> AgentError:
    """Settling failed again: the answer is in doubt if it was this receipt's own write, else the card's problem."""
    checkout = _checkout_of(terminal, request)
    problem = _problem(doubt)
    return problem if checkout is None else taps.in_doubt_error(problem, checkout.result)


def _wrong_card_for(checkout: Checkout) -> AgentError:
    problem = AgentError(
        ErrorCode.CARD_REMOVED_EARLY,
        f"receipt {checkout.receipt_no} waits for the card that was taken away too soon",
        hint="Put the SAME card back",
    )
    return taps.in_doubt_error(problem, checkout.result)

"""What a purchase and a reversal share once the points are decided: the card's next state, and carrying it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from drivers.base import ClassicConnection
from drivers.errors import CardRemoved
from terminal_agent import taps
from terminal_agent.card import tap
from terminal_agent.card.layout import MAX_BALANCE, CardState
from terminal_agent.card.problems import from_driver
from terminal_agent.club.purchase import Outcome
from terminal_agent.club.text import TextInvalid, reference
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import Checkout, CheckoutState, Intent
from terminal_agent.journal.journal import CLOCK_SKEW
from terminal_agent.journal.knowledge import Adjustment
from terminal_agent.taps import PresentedCard, Terminal

ADJUSTED_BALANCE_LIMIT = MAX_BALANCE // 2
"""Head office fills a card at most half, so that there is always room for the sale itself."""
MAX_AMOUNT = 10**15
LONGEST_REFERENCE = 64
SKEW_TOLERATED_S = 120
EARLIEST_SANE_YEAR = 2026


def checked_reference(text: str, what: str, command: str) -> str:
    """A number that people type, in its one normal form. Raises AgentError ``invalid_input``."""
    try:
        return reference(text, LONGEST_REFERENCE)
    except TextInvalid as error:
        raise invalid(f"{what} {error}", command) from error


def invalid(message: str, command: str) -> AgentError:
    """An argument of ``command`` that cannot be used."""
    return AgentError(ErrorCode.INVALID_INPUT, message, hint=f"terminal-agent {command} --help")


def settled_card(
    terminal: Terminal, connection: ClassicConnection, begun: Callable[[], Checkout | None]
) -> PresentedCard:
    """The card in the field with nothing left in doubt. ``begun`` looks up the checkout that is asked for.

    Raises AgentError: the card's problem, with ``state`` in_doubt in its details while the checkout is in doubt.
    """
    try:
        return taps.settle(terminal, taps.present(terminal, connection))
    except (AgentError, CardRemoved) as error:
        checkout = begun()
        if checkout is not None and checkout.state is CheckoutState.IN_DOUBT:
            problem = from_driver(error) if isinstance(error, CardRemoved) else error
            raise taps.in_doubt_error(problem, checkout.result) from error
        raise


@contextmanager
def doubt_told(begun: Callable[[], Checkout | None]) -> Iterator[None]:
    """Inside, every problem is told with ``state`` in_doubt beside it while the checkout that ``begun`` looks up is in
    doubt: no card in time, a reader that is gone and a disk that fails as well as what the card itself says."""
    try:
        yield
    except AgentError as error:
        checkout = None
        with suppress(AgentError):  # the problem may be the journal
            checkout = begun()
        if "state" in error.details or checkout is None or checkout.state is not CheckoutState.IN_DOUBT:
            raise
        raise taps.in_doubt_error(error, checkout.result) from error


def adjustments_due(terminal: Terminal, card: PresentedCard) -> list[Adjustment]:
    """The adjustments the card gets at this tap: in order, as far as it has room; the rest wait and stop no sale."""
    balance = card.state.balance
    due: list[Adjustment] = []
    for adjustment in terminal.journal.knowledge.adjustments_after(card.card_no, card.state.adjustments_through):
        balance += adjustment.points
        if not -ADJUSTED_BALANCE_LIMIT <= balance <= ADJUSTED_BALANCE_LIMIT:
            break
        due.append(adjustment)
    return due


def next_state(
    before: CardState, adjustments: list[Adjustment], delta: int, redeemed_offline: int, tier: int
) -> CardState:
    """The card one tap on: ``delta`` points moved by the tap itself. Raises AgentError where they do not fit."""
    try:
        return CardState(
            sequence=before.sequence + 1,
            balance=before.balance + sum(adjustment.points for adjustment in adjustments) + delta,
            adjustments_through=before.adjustments_through + len(adjustments),
            redeemed_offline=redeemed_offline,
            tier=tier,
            flags=before.flags,
        )
    except ValueError as error:
        message = "this would give the card more points than it can hold"
        raise AgentError(ErrorCode.INVALID_INPUT, message, hint="Check the amount; ask head office") from error


def carry_out(terminal: Terminal, card: PresentedCard, intent: Intent, checkout: Checkout) -> dict[str, Any]:
    """Intent and checkout on disk, the card written, the outcome on disk, then the card's history; gives the answer.

    Raises AgentError with ``state`` in_doubt in its details when the write was begun and not confirmed.
    """
    journal, ended_before = terminal.journal, False

    def begin() -> None:
        journal.checkouts.begin(checkout)
        journal.intents.begin(intent)

    def done() -> None:
        nonlocal ended_before
        ended_before = taps.finish(terminal, card, intent, checkout)

    terminal.told(checkout)
    try:
        tap.commit(card.session, CardState.from_json(intent.after), lambda: journal.write(begin), done)
    except tap.InDoubt as doubt:
        raise taps.in_doubt_error(doubt.problem, checkout.result) from doubt
    tap.write_history(card.session, taps.history_entry(terminal, intent))
    terminal.served(card)
    recorded = journal.checkouts.by_id(checkout.checkout_id) if ended_before else None
    if recorded is not None:  # closed by hand, or by the daemon, while the card was written
        return {**recorded.result, "state": recorded.state.value}
    return {**checkout.result, "state": CheckoutState.DONE.value}


def points_moved(card: PresentedCard, outcome: Outcome, adjusted: int, after: CardState) -> dict[str, Any]:
    """The part of an answer that says what happened to the card's points."""
    return {
        "card_no": card.card_no,
        "points_before": card.state.balance,
        "points_adjusted": adjusted,
        "points_earned": outcome.earned,
        "points_redeemed": outcome.redeemed,
        "points_after": after.balance,
        "sequence": after.sequence,
        "explanation": [dict(vars(reason)) for reason in outcome.reasons],
    }


def points_of(outcome: Outcome) -> dict[str, Any]:
    """``points`` of an event."""
    offers = [use.to_json() for use in outcome.offers]
    return {"earned": outcome.earned, "redeemed": outcome.redeemed, "offers": offers}


def other_card_than(checkout: Checkout) -> AgentError:
    """A checkout in doubt met another card than its own."""
    problem = AgentError(
        ErrorCode.OTHER_CARD,
        f"receipt {checkout.receipt_no} waits for another card, which ends in {checkout.card_no[-4:]}",
        hint="Put the card of that sale on the reader",
    )
    return taps.in_doubt_error(problem, checkout.result)


def still_waits(checkout: Checkout) -> AgentError:
    """A checkout in doubt is asked to go on without its card."""
    problem = AgentError(
        ErrorCode.CARD_REMOVED_EARLY,
        f"receipt {checkout.receipt_no} waits for the card that was taken away too soon",
        hint="Put the SAME card back",
    )
    return taps.in_doubt_error(problem, checkout.result)


def clock_state(terminal: Terminal) -> str:
    """``unsynced`` when this machine's date is impossible or the CRM's clock said otherwise; sales go on either way."""
    skew = float(terminal.journal.meta(CLOCK_SKEW) or 0)
    sane = terminal.clock.now().year >= EARLIEST_SANE_YEAR and abs(skew) <= SKEW_TOLERATED_S
    return "synced" if sane else "unsynced"


def answer_of(checkout: Checkout) -> dict[str, Any]:
    """The recorded answer of a checkout that is finished."""
    return {**checkout.result, "state": checkout.state.value, "replayed": True}

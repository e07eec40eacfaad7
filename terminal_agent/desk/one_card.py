"""One card for one person: a card that was begun and never finished must not come to life beside the next one.

An issue that was cut short is finished by the same card. Where that card does not come back, because it was thrown
away or a feeder has moved on, another one is issued instead. The first is harmless as long as its home was not keyed;
once it may have been, the card may live and nobody was told: its number is refused from then on.
"""

from __future__ import annotations

from terminal_agent import taps
from terminal_agent.contract import EventType
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.intents import Intent, IntentState
from terminal_agent.taps import Terminal

ABOUT_TO_LIVE = "about_to_live"
"""In the history of an issue's intent: the home's keys were to be written next."""
NEVER_HANDED_OUT = "never handed out: its issue was cut short, and another card was made instead"


def set_aside(terminal: Terminal, phone: str) -> None:
    """Give up every card that was begun for ``phone``, inside the caller's transaction."""
    journal = terminal.journal
    for intent in _begun_for(terminal, phone):
        journal.intents.settle(intent.intent_id, IntentState.NOT_LANDED)
        if intent.history.get(ABOUT_TO_LIVE):
            block(terminal, intent.card_no, NEVER_HANDED_OUT)


def block(terminal: Terminal, card_no: str, reason: str) -> None:
    """Refuse a card here from now on, and everywhere once the CRM has heard of it; inside the caller's transaction."""
    data = {"card_no": card_no, "kind": "blocked", "detail": {"reason": reason}}
    terminal.journal.knowledge.set_hotlist(card_no, True, reason)
    terminal.journal.events.append(taps.new_event(terminal, EventType.CARD_ANOMALY, card_no, data))
    terminal.journal.audit("card.blocked", card_no=card_no)


def refuse_used_number(terminal: Terminal, card_no: str) -> None:
    """Raises AgentError ``already_issued`` for a number that a card carries or carried, as far as it is known here."""
    knowledge = terminal.journal.knowledge
    if knowledge.card(card_no) or knowledge.block_reason(card_no) is not None or knowledge.is_erased(card_no):
        raise _taken(card_no, "it was issued before", "Give this row another number, or none")


def refuse_taken_number(terminal: Terminal, card_no: str, phone: str | None) -> None:
    """The same, also for one that a card may carry whose issue was cut short."""
    refuse_used_number(terminal, card_no)
    for intent in terminal.journal.intents.open_of(taps.ISSUE):
        if intent.card_no == card_no and (intent.history.get(ABOUT_TO_LIVE) or not _is_for(intent, phone)):
            hint = "Put that card on the reader and run the command again, or give this row another number"
            raise _taken(card_no, f"the card with UID {intent.uid} was begun with it, and may carry it", hint)


def _begun_for(terminal: Terminal, phone: str) -> list[Intent]:
    return [intent for intent in terminal.journal.intents.open_of(taps.ISSUE) if _is_for(intent, phone)]


def _is_for(intent: Intent, phone: str | None) -> bool:
    return phone is not None and intent.history["member"]["phone"] == phone and not intent.history.get("replaces")


def _taken(card_no: str, why: str, hint: str) -> AgentError:
    message = f"the card number {card_no} is taken: {why}"
    return AgentError(ErrorCode.ALREADY_ISSUED, message, hint=hint, details={"number_taken": card_no})

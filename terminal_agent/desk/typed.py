"""What people type at the desk, in its one form. Each raises AgentError ``invalid_input``."""

from __future__ import annotations

from terminal_agent.card.card_number import is_card_number
from terminal_agent.club.phone import PhoneInvalid, normalise_phone
from terminal_agent.club.text import TextInvalid, fold_digits, plain_text
from terminal_agent.errors import AgentError, ErrorCode

LONGEST_NAME = 100


def phone_of(text: str) -> str:
    """A telephone number in any spelling."""
    try:
        return normalise_phone(text)
    except PhoneInvalid as error:
        hint = "As in 09125554433 or +989125554433"
        raise AgentError(ErrorCode.INVALID_INPUT, str(error), hint=hint) from error


def name_of(text: str, what: str) -> str:
    """A name, of a person or a tier."""
    try:
        return plain_text(text, LONGEST_NAME)
    except TextInvalid as error:
        hint = "Type it again; a terminal that is not set to UTF-8 spoils letters"
        raise AgentError(ErrorCode.INVALID_INPUT, f"the {what} {error}", hint=hint) from error


def card_number_of(text: str) -> str:
    """A card number in digits of any script, in groups or not."""
    card_no = fold_digits(text).replace(" ", "").replace("-", "")
    if not is_card_number(card_no):
        hint = "It has 16 digits, and the last one checks the others; see terminal-agent card show"
        raise AgentError(ErrorCode.INVALID_INPUT, f"{text!r} is no card number", hint=hint)
    return card_no

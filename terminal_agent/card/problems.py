"""Problems with the card in hand or its reader, each in one sentence a cashier understands and one next action."""

from __future__ import annotations

import logging

from drivers import errors as driver
from terminal_agent.errors import AgentError, ErrorCode

log = logging.getLogger(__name__)

# Looked up in this order: the first class an error is an instance of gives its code.
_CODES: tuple[tuple[type[driver.DriverError], ErrorCode], ...] = (
    (driver.NoReader, ErrorCode.READER_MISSING),
    (driver.ReaderLost, ErrorCode.READER_LOST),
    (driver.ReaderBusy, ErrorCode.BUSY),
    (driver.ReaderError, ErrorCode.SERVICE_UNAVAILABLE),
    (driver.CardRemoved, ErrorCode.CARD_REMOVED_EARLY),
    (driver.MultipleCards, ErrorCode.MULTIPLE_CARDS),
    (driver.UnsupportedCard, ErrorCode.UNSUPPORTED_CARD),
    (driver.AuthenticationFailed, ErrorCode.KEY_REJECTED),
    (driver.CardError, ErrorCode.DATA_CORRUPT),
)


# Where the driver's own words are an engineer's, a person is told this; the driver's go to the log.
_PLAIN = {
    ErrorCode.READER_LOST: "the reader is gone",
    ErrorCode.BUSY: "another program is using the reader",
    ErrorCode.CARD_REMOVED_EARLY: "the card was taken away too soon",
}


def from_driver(error: driver.DriverError) -> AgentError:
    """A driver's error as a person is told it."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), ErrorCode.INTERNAL)
    log.debug("%s: %s", code.value, error)
    return AgentError(
        code, _PLAIN.get(code, str(error)), hint=error.hint or "Try again; if it stays so: terminal-agent status"
    )


def blank_card() -> AgentError:
    """The card is in the maker's transport state."""
    return AgentError(
        ErrorCode.BLANK_CARD, "this card is blank: it has not been issued", hint="Issue it: terminal-agent card issue"
    )


def not_our_card() -> AgentError:
    """None of our keys opens the card, or it says it belongs to another club."""
    return AgentError(
        ErrorCode.NOT_OUR_CARD,
        "this card belongs to another shop or club",
        hint="Ask for this club's own card; if it is one, check the keys: terminal-agent keys list",
    )


def key_rejected() -> AgentError:
    """A card of ours, by its UID or by one of its sectors, that refuses our keys where the points are."""
    return AgentError(
        ErrorCode.KEY_REJECTED,
        "this card is one of ours, but it refuses its keys now",
        hint="Hold it flat and try once more; if it stays so, see that this till has the newest key set "
        "(terminal-agent keys list), else replace the card",
    )


def between_key_sets() -> AgentError:
    """A card that was torn away while it was given new keys, on a till that lacks the old ones."""
    return AgentError(
        ErrorCode.KEY_REJECTED,
        "this card was taken away while it was given new keys, and this till does not hold the old ones",
        hint="Nothing is lost: finish it where both key sets are: terminal-agent card rekey",
    )


REPLACE_CARD = "Do not use it; replace the card, the points are safe at the CRM"


def data_corrupt(detail: str, hint: str = REPLACE_CARD) -> AgentError:
    """Our card by its keys, with content we did not write."""
    return AgentError(ErrorCode.DATA_CORRUPT, f"what is on this card is damaged or was edited: {detail}", hint=hint)


def copied_from(card_no: str) -> AgentError:
    """Blocks of another card of ours, carried to this one."""
    return AgentError(
        ErrorCode.DATA_CORRUPT,
        f"this card carries the content of another card (its number ends in {card_no[-4:]}): it was copied",
        hint="Do not use it, and keep it if you can; tell head office both cards",
    )


def card_blocked(reason: str) -> AgentError:
    """The card is on the hotlist."""
    return AgentError(
        ErrorCode.CARD_BLOCKED, f"this card is blocked: {reason}", hint="Sell without the card; ask head office"
    )


def keys_retired(version: int, card_no: str) -> AgentError:
    """The card is under a key set whose key is no longer a secret: whoever has it could have made this card."""
    return AgentError(
        ErrorCode.CARD_BLOCKED,
        f"this card is blocked: cards of key set {version} are taken no more",
        hint="Sell without the card. Make sure whose it is, then give them a new one: "
        f"terminal-agent card replace --old {card_no}",
    )


def card_erased() -> AgentError:
    """The card's owner left the club and had everything about them erased."""
    return AgentError(
        ErrorCode.CARD_ERASED,
        "the owner of this card left the club and had everything erased: the card is made blank",
        hint="Sell without the card. Once it is blank it can be issued to anybody: terminal-agent card issue",
    )


def card_pending() -> AgentError:
    """The card's owner is not a member yet: a closed club."""
    return AgentError(
        ErrorCode.CARD_PENDING,
        "the club has not approved the owner of this card yet: points are earned, none are redeemed",
        hint="Redeem no points, or ask head office to approve the member: terminal-agent crm member approve",
    )


def card_rolled_back(seen: int, now: int) -> AgentError:
    """The card holds an older state than this shop has seen, or another one under the same number of taps."""
    older = f"this card holds an older state (tap {now}) than this shop has seen (tap {seen})"
    return AgentError(
        ErrorCode.CARD_ROLLED_BACK,
        older if now < seen else "this is a copy: the true card was used in this shop, and holds something else",
        hint="Do not use it; it was copied or tampered with. Ask head office",
    )


def no_card(wait_s: float) -> AgentError:
    """Nobody put a card on the reader in time."""
    return AgentError(
        ErrorCode.NO_CARD_TIMEOUT,
        f"no card was put on the reader within {wait_s:g} seconds",
        hint="Put the card on the reader, then run the command again",
    )

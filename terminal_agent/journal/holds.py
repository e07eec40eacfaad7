"""Which points this terminal had the CRM set aside, until it is known what became of each: a sale, or nothing.

A hold is noted before it is confirmed. When its tap is over, a sale carries it, and its event will tell the CRM; or no
sale does, and the points are to be let go, however long the line is down.
"""

from __future__ import annotations

from terminal_agent.journal.journal import Journal

PLACED, UNUSED = "hold_placed:", "hold_unused:"
"""Before the id of a hold; the fact is its card number."""


def note(journal: Journal, hold_id: str, card_no: str) -> None:
    """A tap is about to use this hold."""
    with journal.transaction():
        journal.set_meta(PLACED + hold_id, card_no)


def tap_ended(journal: Journal) -> None:
    """No tap goes on now: what was placed is carried by a sale, or is to be let go."""
    for key in journal.meta_keys(PLACED):
        hold_id, card_no = key.removeprefix(PLACED), journal.meta(key) or ""
        with journal.transaction():
            journal.forget_meta(key)
            if not journal.checkouts.carries(card_no, hold_id):
                journal.set_meta(UNUSED + hold_id, card_no)


def unused(journal: Journal, card_no: str | None = None) -> list[str]:
    """The holds that are to be let go, of one card or of all."""
    keys = journal.meta_keys(UNUSED)
    return [key.removeprefix(UNUSED) for key in keys if card_no is None or journal.meta(key) == card_no]


def gone(journal: Journal, hold_id: str) -> None:
    """The CRM sets these points aside no more."""
    with journal.transaction():
        journal.forget_meta(UNUSED + hold_id)

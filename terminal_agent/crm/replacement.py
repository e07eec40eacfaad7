"""A card that takes the place of another one: the points follow, also those that are told late.

Somebody says which one, or it is a member's new card: that takes the place of all their blocked ones.
"""

from __future__ import annotations

from sqlalchemy import Connection

from terminal_agent.crm import card_history, cards, ledger, members

REASON = "replaced"
REPLACES = "replaces"


def replace(connection: Connection, old: str, new: str, now: str) -> None:
    """Blocks ``old`` for good and gives what it holds to ``new``. Who replaces a card first has its points."""
    cards.ensure(connection, old, now)
    cards.ensure(connection, new, now)
    if old == new or cards.get(connection, new)["status"] == cards.REPLACED:
        return
    cards.set_owner(connection, new, None, cards.get(connection, old)["member_id"])
    card_history.note(connection, new, REPLACES, now, old)
    if cards.get(connection, old)["status"] == cards.REPLACED:
        return
    cards.block(connection, old, REASON, now)
    cards.set_status(connection, old, cards.REPLACED)
    card_history.note(connection, old, REASON, now, new)
    follow(connection, old, now)


def take_over(connection: Connection, member_id: str, now: str) -> None:
    """A member has a new card: it takes the place of their blocked ones. Of a member who was rejected, whose cards are
    blocked for that, nothing moves."""
    row = members.find(connection, member_id)
    new = members.card_in_use(connection, row) if row else None
    if row is None or new is None:
        return
    for old in members.card_numbers_of(connection, members.ids_of(connection, row["member_id"])):
        if cards.get(connection, old)["status"] == cards.BLOCKED:
            replace(connection, old, new, now)


def successors_of(connection: Connection, card_nos: list[str]) -> list[str]:
    """The cards that took the place of any of these, and of those."""
    found: list[str] = []
    while card_nos:
        card_nos = [each for each in card_history.details_of(connection, card_nos, REASON) if each not in found]
        found += card_nos
    return found


def follow(connection: Connection, card_no: str, now: str) -> None:
    """What a replaced card holds goes to the card that took its place, or to the one that took that one's."""
    row = cards.get(connection, card_no)
    if row["status"] != cards.REPLACED or row["balance"] == 0:
        return
    successor = card_history.detail_of(connection, card_no, REASON)
    if successor is None:
        return
    steps = ((ledger.card_account(card_no), ledger.MOVED), (ledger.MOVED, ledger.card_account(successor)))
    for source, target in steps:
        ledger.transfer(
            connection,
            source=source,
            target=target,
            points=row["balance"],
            kind="replacement",
            reference=f"{card_no}/{successor}",
            now=now,
        )
    cards.adjust(connection, successor, row["balance"], f"{REPLACES} {card_no}", now)
    follow(connection, successor, now)

"""Whether a card follows the ledger. After a restore, and only then, it may not: it holds points of adjustments the CRM
forgot, or one number was given out twice with other points. The difference then reaches it as one adjustment.

In a CRM that never forgot anything every card is owed 0: what is booked and not on the card is on its way to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from terminal_agent.contract import EventType
from terminal_agent.crm import cards
from terminal_agent.crm.schema import adjustments, card_chain, events, intents

REASON = "reconciled"


@dataclass(frozen=True)
class State:
    """What one write left on a card; ``writer`` tells writes apart that claim the same counter."""

    sequence: int
    writer: str
    balance: int | None
    adjustments_through: int | None


def newest_of(chain: Collection[State], issued_at: int | None) -> State | None:
    """The newest state of a chain that is known whole: every counter since the issue, each written once. Else None."""
    if issued_at is None or not chain:
        return None
    counters = {state.sequence for state in chain}
    whole = counters == set(range(issued_at, max(counters) + 1))
    contested = len({(state.sequence, state.writer) for state in chain}) > len(counters)
    return max(chain, key=lambda state: state.sequence) if whole and not contested else None


def owed(balance: int, newest: State, given: Mapping[int, int]) -> int | None:
    """Points the card must still get to hold what the ledger has, those on their way to it counted as given.

    ``balance``: the ledger's; ``given``: points by number of the adjustments this CRM gave out. None: the newest event
    does not say what the card holds.
    """
    if newest.balance is None or newest.adjustments_through is None:
        return None
    on_their_way = sum(points for number, points in given.items() if number > newest.adjustments_through)
    return balance - newest.balance - on_their_way


def owed_to(connection: Connection, card_no: str) -> int | None:
    """What a card is owed; None while it cannot be said: blocked, a write in doubt, an event not here yet."""
    card = cards.find(connection, card_no)
    if card is None or card["status"] != cards.ACTIVE or _in_doubt(connection, card_no):
        return None
    newest = newest_of(_chain(connection, card_no), _issued_at(connection, card_no))
    return owed(card["balance"], newest, _given(connection, card_no)) if newest else None


def reconcile(connection: Connection, card_no: str, now: str) -> None:
    """Gives the card what it is owed; the ledger has it already."""
    points = owed_to(connection, card_no)
    if points:
        cards.adjust(connection, card_no, points, REASON, now)


def _in_doubt(connection: Connection, card_no: str) -> bool:
    open_ones = select(intents.c.intent_id).where(intents.c.card_no == card_no, intents.c.landed.is_(None))
    return connection.execute(open_ones.limit(1)).first() is not None


def _chain(connection: Connection, card_no: str) -> list[State]:
    """What events say they wrote to the card, and what writes in doubt turned out to have written."""
    written = select(
        card_chain.c.sequence,
        func.coalesce(card_chain.c.intent_id, card_chain.c.fingerprint).label("writer"),
        card_chain.c.balance_after.label("balance"),
        card_chain.c.adjustments_through,
    ).where(card_chain.c.card_no == card_no)
    landed = select(
        intents.c.sequence_after.label("sequence"),
        intents.c.intent_id.label("writer"),
        intents.c.balance_after.label("balance"),
        intents.c.adjustments_through,
    ).where(intents.c.card_no == card_no, intents.c.landed.is_(True))
    return [State(**row) for query in (written, landed) for row in connection.execute(query).mappings()]


def _issued_at(connection: Connection, card_no: str) -> int | None:
    issue = select(func.min(events.c.card_sequence)).where(
        events.c.card_no == card_no, events.c.type == EventType.CARD_ISSUED.value
    )
    return connection.execute(issue).scalar()


def _given(connection: Connection, card_no: str) -> dict[int, int]:
    query = select(adjustments.c.number, adjustments.c.points).where(adjustments.c.card_no == card_no)
    return {row.number: row.points for row in connection.execute(query)}

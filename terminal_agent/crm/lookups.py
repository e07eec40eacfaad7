"""What the CRM tells about a card and an account, for terminals and for the people who run it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from terminal_agent.crm import cards, members
from terminal_agent.crm.schema import events
from terminal_agent.crm.wire import CardAnswer, MemberSummary


def card_answer(connection: Connection, card_no: str) -> CardAnswer | None:
    """A card with its member; None when the CRM never heard of it."""
    row = cards.find(connection, card_no)
    if row is None:
        return None
    return CardAnswer(
        card_no=card_no,
        balance=row["balance"],
        sequence=row["sequence"],
        status=row["status"],
        adjustments_through=row["adjustments_through"],
        member=_member(connection, row["member_id"]),
    )


def _member(connection: Connection, member_id: str | None) -> MemberSummary | None:
    if member_id is None:
        return None
    row = members.find(connection, member_id)
    return MemberSummary(**members.describe(row)) if row else MemberSummary(member_id=member_id)


def card_events(connection: Connection, card_no: str) -> list[dict[str, Any]]:
    """Every event of a card as it was booked. ``reverses``: the purchase taken back; ``code``: what is odd about it."""
    identity = ("id", "type", "time", "terminal_id", "sequence", "card_sequence")
    columns = (*identity, "earned", "redeemed", "amount", "currency", "reverses", "verdict", "code")
    query = select(*(events.c[name] for name in columns)).where(events.c.card_no == card_no)
    rows = connection.execute(query.order_by(events.c.booked_at, events.c.terminal_id, events.c.sequence))
    return [dict(row) for row in rows.mappings()]

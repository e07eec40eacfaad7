"""A card's history besides its taps: issued, blocked, freed, replaces, replaced, approved, erased."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from terminal_agent.crm.schema import card_history


def note(connection: Connection, card_no: str, what: str, now: str, detail: str | None = None) -> None:
    """Adds a line; the same one of the same moment is kept once."""
    this = (card_history.c.card_no == card_no) & (card_history.c.time == now) & (card_history.c.what == what)
    if connection.execute(select(card_history.c.what).where(this)).first() is None:
        connection.execute(insert(card_history).values(card_no=card_no, time=now, what=what, detail=detail))


def detail_of(connection: Connection, card_no: str, what: str) -> str | None:
    """What was noted when that first happened to the card."""
    query = select(card_history.c.detail).where(card_history.c.card_no == card_no, card_history.c.what == what)
    return connection.execute(query.order_by(card_history.c.time).limit(1)).scalar()


def details_of(connection: Connection, card_nos: list[str], what: str) -> list[str]:
    """What was noted when that happened to any of these cards."""
    query = select(card_history.c.detail).where(card_history.c.card_no.in_(card_nos), card_history.c.what == what)
    return [detail for detail in connection.execute(query).scalars() if detail is not None]


def of(connection: Connection, card_no: str) -> list[dict[str, Any]]:
    """Oldest first: ``[{time, what, detail}]``."""
    query = select(card_history.c.time, card_history.c.what, card_history.c.detail)
    rows = connection.execute(query.where(card_history.c.card_no == card_no).order_by(card_history.c.time))
    return [dict(row) for row in rows.mappings()]

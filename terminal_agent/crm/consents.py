"""What a member agreed to, for each purpose, with the version of the text they were shown."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from terminal_agent.crm.events import ConsentChanged, Event
from terminal_agent.crm.schema import consents


def book(connection: Connection, event: Event, data: ConsentChanged) -> None:
    """Keeps what a member said. An event that does not say who, for what, or which way is kept as an event alone."""
    if data.member_id is None or data.purpose is None or data.given is None:
        return
    key = {"member_id": data.member_id, "purpose": data.purpose, "event_id": event.id}
    known = select(consents.c.given).where(*(consents.c[name] == value for name, value in key.items()))
    if connection.execute(known).first() is None:
        said = {"given": data.given, "text_version": data.text_version}
        connection.execute(
            insert(consents).values(
                **key, **said, time=event.time, sequence=event.position.sequence, terminal_id=event.terminal_id
            )
        )


def history(connection: Connection, member_ids: list[str]) -> list[dict[str, Any]]:
    """Every word of a member, oldest first: ``[{purpose, given, text_version, time, terminal_id}]``."""
    query = select(consents).where(consents.c.member_id.in_(member_ids))
    rows = connection.execute(query.order_by(consents.c.time, consents.c.sequence, consents.c.event_id)).mappings()
    return [{name: row[name] for name in ("purpose", "given", "text_version", "time", "terminal_id")} for row in rows]


def standing(connection: Connection, member_ids: list[str]) -> dict[str, bool]:
    """What counts now, by purpose: the newest word by its own time, however late it was reported."""
    return {row["purpose"]: row["given"] for row in history(connection, member_ids)}

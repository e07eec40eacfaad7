"""Events that could not be booked, and what head office decides on each: the terminal tries again, or lets it be."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select, update

from terminal_agent.contract import FeedKind, Verdict
from terminal_agent.crm import audit, feed
from terminal_agent.crm.schema import events

DROPPED = "dropped"


class Resolution(StrEnum):
    """What the terminal does with an event in its quarantine. What it lets be stays in its journal and here."""

    RETRY = "retry"
    DROP = "drop"


def rejected(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """What nothing was decided on: ``[{id, terminal_id, install_epoch, sequence, type, time, code}]``, oldest first."""
    columns = ("id", "terminal_id", "install_epoch", "sequence", "type", "time", "code")
    open_ones = (events.c.verdict == Verdict.REJECTED.value) & (events.c.code != DROPPED)
    query = select(*(events.c[name] for name in columns)).where(open_ones)
    rows = connection.execute(query.order_by(events.c.booked_at, events.c.terminal_id, events.c.sequence).limit(limit))
    return [dict(row) for row in rows.mappings()]


def resolve(connection: Connection, terminal_id: str, event_id: str, action: Resolution, reason: str, now: str) -> bool:
    """Tells the terminal what to do with an event; False: nothing of this terminal is rejected under that id.

    An event the CRM never understood enough to keep its id, or never got, can still be named: the terminal knows it.
    """
    this = (events.c.terminal_id == terminal_id) & (events.c.id == event_id)
    open_ones = this & (events.c.verdict == Verdict.REJECTED.value)
    known = connection.execute(select(events.c.id).where(open_ones)).first() is not None
    if action is Resolution.DROP:
        connection.execute(update(events).where(open_ones).values(code=DROPPED))
    item = {"terminal_id": terminal_id, "event_id": event_id, "action": action.value, "reason": reason}
    feed.publish(connection, FeedKind.RESOLUTION, item, now)
    audit.note(connection, audit.ADMIN, f"event.{action.value}", terminal_id, now, event_id=event_id, reason=reason)
    return known

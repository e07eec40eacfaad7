"""Points for what is no purchase: a survey answered, a profile completed. The policy says how many for what."""

from __future__ import annotations

from sqlalchemy import Connection, select

from terminal_agent.crm import cards, ledger, policies
from terminal_agent.crm.schema import transfers

KIND = "activity"


def pay(connection: Connection, card_no: str, activity: str, reference: str, now: str) -> int | None:
    """Gives a card the points of an activity, which reach it at its next tap; how many.

    None: this activity of this ``reference`` (a survey's number, the event's id) was counted before.
    """
    name = f"{KIND}/{activity}/{reference}"
    counted = select(transfers.c.reference).where(transfers.c.card_no == card_no, transfers.c.reference == name)
    if connection.execute(counted.limit(1)).first() is not None:
        return None
    points = policies.in_force(connection, now).activities.get(activity, 0)
    if points:
        given = {"source": ledger.ISSUED, "kind": KIND, "reason": activity, "reference": name}
        cards.give_points(connection, card_no, points, **given, now=now)
    return points

"""The expiry run: points that have lived as long as the policy says leave their card, the oldest first.

A lot lives from the day its points were booked here; points that moved to a new card live from then on. Each card is a
transaction of its own, and what is booked is part of the next count: a run that is cut short is simply run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, select

from terminal_agent.club.lots import Lot, Movement, expiring
from terminal_agent.contract import EventType
from terminal_agent.crm import cards, holds, ledger, turns
from terminal_agent.crm.schema import cards as card_rows
from terminal_agent.crm.schema import entries, events, transfers
from terminal_agent.ports import rfc3339

KIND = "expiry"
REASON = "expired"
_REDEEMED = "/redeemed"


@dataclass(frozen=True)
class Term:
    """Lots that have lived ``after_days`` by ``through`` expire, in a run at ``now``."""

    after_days: int
    through: datetime
    now: datetime


def candidates(connection: Connection) -> list[str]:
    """The cards that hold points and are somebody's."""
    query = select(card_rows.c.card_no).where(card_rows.c.balance > 0, card_rows.c.status != cards.RETIRED)
    return list(connection.execute(query.order_by(card_rows.c.card_no)).scalars())


def due(connection: Connection, card_no: str, term: Term) -> list[Lot]:
    """What expires on a card. Nothing while points of it are set aside: the next run finds them."""
    if holds.active(connection, card_no, rfc3339(term.now)):
        return []
    lots = expiring(_movements(connection, card_no), term.after_days, term.now)
    return [lot for lot in lots if lot.earned_at + timedelta(days=term.after_days) <= term.through]


def expire(connection: Connection, card_no: str, term: Term) -> list[Lot]:
    """Books what is due on a card, once, and takes it off the card by one adjustment."""
    now = rfc3339(term.now)
    turns.take_cards(connection, [card_no], fresh=cards.fresh(now))
    lots = due(connection, card_no, term)
    for lot in lots:
        ledger.transfer(
            connection,
            source=ledger.card_account(card_no),
            target=ledger.EXPIRED,
            points=lot.points,
            kind=KIND,
            reference=lot.reference,
            now=now,
        )
    if lots:
        cards.adjust(connection, card_no, -sum(lot.points for lot in lots), REASON, now)
    return lots


def _movements(connection: Connection, card_no: str) -> list[Movement]:
    """The card's account, each line with the lot it belongs to."""
    together = (transfers.c.card_no == entries.c.card_no) & (transfers.c.transfer_id == entries.c.transfer_id)
    lines = (
        select(entries.c.points, transfers.c.kind, transfers.c.reference, transfers.c.booked_at)
        .join(transfers, together)
        .where(entries.c.card_no == card_no, entries.c.account == ledger.card_account(card_no))
        .order_by(entries.c.transfer_id)
    )
    taken_back = select(events.c.id, events.c.reverses).where(
        events.c.card_no == card_no, events.c.reverses.is_not(None)
    )
    reverses = {row.id: row.reverses for row in connection.execute(taken_back)}
    return [_movement(row, reverses.get(row["reference"])) for row in connection.execute(lines).mappings()]


def _movement(row: RowMapping, reverses: str | None) -> Movement:
    reference, points, of = row["reference"], row["points"], None
    if row["kind"] == KIND:
        reference, of = f"{KIND}/{reference}", reference
    elif row["kind"] == EventType.PURCHASE_REVERSED:
        of = reverses if points < 0 else f"{reverses}{_REDEEMED}"
    elif points < 0:
        reference += _REDEEMED
    return Movement(reference, datetime.fromisoformat(row["booked_at"]), points, of)

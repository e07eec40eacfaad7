"""Reversals: which purchase each one takes back, and whether all of them together take back more than it was.

A reversal is a fact and always booked; one too many is told by its ``code``, in the answer and on the card's events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select, update

from terminal_agent.contract import EventType
from terminal_agent.crm.events import Event, PurchaseRecorded, PurchaseReversed
from terminal_agent.crm.schema import events

EXCEEDS = "reversal_exceeds_purchase"


@dataclass(frozen=True)
class Bill:
    """What an event says of money: the amount of a purchase, or what a reversal gives back of which purchase."""

    amount: int | None = None
    currency: str | None = None
    reverses: str | None = None


@dataclass(frozen=True)
class Taken:
    """What was bought, or is taken back of it: money, points earned, points redeemed, none of them negative."""

    amount: int
    currency: str | None
    earned: int
    redeemed: int


def bill_of(event: Event) -> Bill:
    """The money in an event; nothing for types that move none."""
    data = event.data
    if isinstance(data, PurchaseRecorded):
        return Bill(data.purchase.amount, data.purchase.currency)
    if isinstance(data, PurchaseReversed):
        return Bill(data.reversal.amount, data.reversal.currency, data.reversal.reversed_event_id)
    return Bill()


def exceeding(purchase: Taken, reversals: Iterable[Taken]) -> set[int]:
    """The places of those reversals, in their order, with which more is taken back than was bought.

    Money of another currency is not what was paid.
    """
    amount = earned = redeemed = 0
    places = set()
    for place, taken in enumerate(reversals):
        amount, earned, redeemed = amount + taken.amount, earned + taken.earned, redeemed + taken.redeemed
        too_much = amount > purchase.amount or earned > purchase.earned or redeemed > purchase.redeemed
        foreign = None not in (purchase.currency, taken.currency) and purchase.currency != taken.currency
        if too_much or foreign:
            places.add(place)
    return places


def check(connection: Connection, event: Event) -> str | None:
    """Compares a reversal with its purchase, or a purchase that comes late with its reversals; once ``event`` is kept.

    Gives the code of ``event``, if it is a reversal too much. While the purchase is unknown nothing can be said.
    """
    is_purchase = event.type is EventType.PURCHASE_RECORDED
    purchase_id = event.id if is_purchase else bill_of(event).reverses
    if event.card_no is None or purchase_id is None:
        return None
    reversals = _kept(connection, event.card_no, events.c.reverses == purchase_id)
    is_bought = (events.c.id == purchase_id) & (events.c.type == EventType.PURCHASE_RECORDED.value)
    bought = _kept(connection, event.card_no, is_bought) if reversals else []
    if not bought:
        return None
    too_many = [reversals[place] for place in exceeding(_taken(bought[0], 1), [_taken(row, -1) for row in reversals])]
    for row in too_many:
        connection.execute(update(events).where(_is(row), events.c.code.is_(None)).values(code=EXCEEDS))
    return EXCEEDS if any(row["fingerprint"] == event.fingerprint for row in too_many) else None


def _kept(connection: Connection, card_no: str, which: ColumnElement[bool]) -> Sequence[RowMapping]:
    """The card's events of a kind, in the order in which they came; rejected ones are no card's."""
    query = select(events).where(events.c.card_no == card_no, which)
    order = (events.c.booked_at, events.c.terminal_id, events.c.install_epoch, events.c.sequence)
    return connection.execute(query.order_by(*order)).mappings().all()


def _taken(row: RowMapping, sign: int) -> Taken:
    return Taken(row["amount"] or 0, row["currency"], sign * row["earned"], sign * row["redeemed"])


def _is(row: RowMapping) -> ColumnElement[bool]:
    return and_(*(column == row[column.name] for column in events.primary_key))

"""Sales without a card: the terminal names a member. Points go to the newest card of theirs that is in use; who has
none has an account of their own, from which they go to the first card that comes.

Once a sale has its card it is that card's sale in every way: its return, its offers and its tier find it there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from terminal_agent.contract import EventType, Verdict
from terminal_agent.crm import cards, ledger, members, offers, policies, reversals, tiers, turns
from terminal_agent.crm.events import CardIssued, Event, MemberEnrolled, PurchaseRecorded, PurchaseReversed, parse_event
from terminal_agent.crm.schema import cardless_sales, events

REASON = "sales without a card"


def member_of(event: Event) -> str | None:
    """Whom a sale or a return without a card names; None for all other events."""
    data = event.data
    if not isinstance(data, PurchaseRecorded | PurchaseReversed) or data.member is None:
        return None
    return data.member.member_id if data.card is None and data.intent is None else None


def owners_of(connection: Connection, batch: Iterable[Event], names: set[str]) -> set[str]:
    """The members behind these ids and phones of a batch, and behind those its sales without a card name."""
    named = names | {member_id for event in batch if (member_id := member_of(event))}
    rows = members.behind(connection, named) if named else []
    return named | {member_id for row in rows for member_id in (row["member_id"], row["alias_of"]) if member_id}


def cards_of(connection: Connection, batch: Iterable[Event]) -> list[str]:
    """The cards that sales and returns without a card, enrolments and new cards may be booked to, or take over."""
    found: list[str] = []
    for event in batch:
        for row in _people_in(connection, event):
            found += members.card_numbers_of(connection, members.ids_of(connection, row["member_id"]))
    return found


def _people_in(connection: Connection, event: Event) -> list[RowMapping]:
    """The members whose cards an event may concern, as they are known before it."""
    data, row, owner = event.data, None, None
    if isinstance(data, MemberEnrolled):
        row = members.find(connection, data.member.member_id)
        owner = members.owner_of(connection, data.member.phone) if data.member.phone else None
    elif (member_id := data.member_id if isinstance(data, CardIssued) else member_of(event)) is not None:
        row = members.find(connection, member_id)
    return [each for each in (row, owner) if each is not None]


def placed(connection: Connection, event: Event) -> Event:
    """The event with the card it is booked to, where it names a member who has one: a return goes where its sale
    went."""
    member_id = member_of(event)
    if member_id is None or event.card_no is not None:
        return event
    if isinstance(event.data, PurchaseReversed):
        sale = _sale(connection, event.terminal_id, event.data.reversal.reversed_event_id)
        if sale is not None:
            return replace(event, card_no=sale["card_no"])
    row = members.find(connection, member_id)
    return replace(event, card_no=members.card_in_use(connection, row) if row else None)


def _sale(connection: Connection, terminal_id: str, event_id: str) -> RowMapping | None:
    named = (events.c.terminal_id == terminal_id) & (events.c.id == event_id)
    counted = (events.c.type == EventType.PURCHASE_RECORDED.value) & (events.c.verdict != Verdict.REJECTED.value)
    return connection.execute(select(events.c.card_no).where(named, counted)).mappings().first()


def keep(connection: Connection, event: Event, member_id: str, now: str) -> None:
    """Books a sale or a return of who has no card to their own account, until there is one."""
    place = {"member_id": member_id, "terminal_id": event.terminal_id, "event_id": event.id}
    connection.execute(insert(cardless_sales).values(**place, fingerprint=event.fingerprint, told_at=now))
    own = {"source": ledger.ISSUED, "target": ledger.member_account(member_id)}
    ledger.transfer(connection, **own, points=_points(event), kind=event.type, reference=event.id, now=now)


def _points(event: Event) -> int:
    return event.data.points.earned - event.data.points.redeemed


def release(connection: Connection, member_id: str, now: str) -> None:
    """Brings what waits for a member to the card they have now, by one adjustment; nothing while they have none."""
    row = members.find(connection, member_id)
    card_no = members.card_in_use(connection, row) if row else None
    if row is None or card_no is None:
        return
    ids = members.ids_of(connection, row["member_id"])
    theirs = select(cardless_sales).where(cardless_sales.c.member_id.in_(ids))
    order = (cardless_sales.c.told_at, cardless_sales.c.terminal_id, cardless_sales.c.event_id)
    waiting = connection.execute(theirs.order_by(*order)).mappings().all()
    if not waiting:
        return
    turns.take_cards(connection, [card_no], fresh=cards.fresh(now))
    moved = [_move(connection, sale, card_no, now) for sale in waiting]
    connection.execute(delete(cardless_sales).where(cardless_sales.c.member_id.in_(ids)))
    points = sum(_points(event) for event in moved)
    if points:
        cards.adjust(connection, card_no, points, REASON, now)
    published = policies.published(connection)
    offers.book(connection, moved, published, now)
    tiers.decide_for_cards(connection, policies.newest_of(published, now), [card_no], now)


def _move(connection: Connection, sale: RowMapping, card_no: str, now: str) -> Event:
    """The sale is the card's from now on, with its points."""
    this = (
        (events.c.terminal_id == sale["terminal_id"])
        & (events.c.id == sale["event_id"])
        & (events.c.fingerprint == sale["fingerprint"])
    )
    connection.execute(update(events).where(this).values(card_no=card_no))
    body = connection.execute(select(events.c.body).where(this)).scalar_one()
    event = replace(parse_event(json.loads(body), sale["terminal_id"]), card_no=card_no)
    own = ledger.member_account(sale["member_id"])
    for source, target in ((own, ledger.MOVED), (ledger.MOVED, ledger.card_account(card_no))):
        ledger.transfer(
            connection,
            source=source,
            target=target,
            points=_points(event),
            kind=event.type,
            reference=event.id,
            now=now,
        )
    reversals.check(connection, event)
    return event

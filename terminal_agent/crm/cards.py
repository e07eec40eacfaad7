"""Cards: what the CRM knows of each, the chain of their states, their numbered adjustments and the hotlist."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from terminal_agent.contract import FeedKind
from terminal_agent.crm import card_history, feed, ledger
from terminal_agent.crm.events import CardState, Event
from terminal_agent.crm.schema import adjustments, card_chain, cards, hotlist, members

ACTIVE = "active"
BLOCKED = "blocked"
PENDING = "pending"
"""Its owner is not approved yet: points are booked, none redeemed."""
REPLACED = "replaced"
RETIRED = "retired"
"""Nobody's any more: its owner had everything erased."""
IN_USE = (ACTIVE, PENDING)

_KNOWN = select(cards.c.card_no, cards.c.status, cards.c.member_id).where(
    cards.c.card_no.in_(bindparam("card_nos", expanding=True))
)


def find(connection: Connection, card_no: str, *, to_change: bool = False) -> RowMapping | None:
    """The card's row, if the CRM has heard of it; ``to_change``: others who say so wait until this transaction ends."""
    query = select(cards).where(cards.c.card_no == card_no)
    return connection.execute(query.with_for_update() if to_change else query).mappings().first()


def known(connection: Connection, card_nos: Collection[str]) -> Sequence[RowMapping]:
    """Of these cards those the CRM has heard of: card_no, status, member_id."""
    return connection.execute(_KNOWN, {"card_nos": list(card_nos)}).mappings().all()


def get(connection: Connection, card_no: str) -> RowMapping:
    """The row of a card that is known."""
    return connection.execute(select(cards).where(cards.c.card_no == card_no)).mappings().one()


def set_status(connection: Connection, card_no: str, status: str) -> bool:
    """What may be done with the card from now on. False: it was so already."""
    other = (cards.c.card_no == card_no) & (cards.c.status != status)
    return connection.execute(update(cards).where(other).values(status=status)).rowcount > 0


def block_reason(connection: Connection, card_no: str) -> str | None:
    """Why the card is on the hotlist; None when it is not."""
    return connection.execute(select(hotlist.c.reason).where(hotlist.c.card_no == card_no)).scalar()


def restate(connection: Connection, card_no: str) -> bool:
    """Makes the status what hotlist and owner say; what was replaced or retired stays so. False: it was so already."""
    row = get(connection, card_no)
    if row["status"] in (REPLACED, RETIRED):
        return False
    if block_reason(connection, card_no) is not None:
        return set_status(connection, card_no, BLOCKED)
    owner = select(members.c.status).where(members.c.member_id == row["member_id"])
    waits = connection.execute(owner).scalar() == PENDING
    return set_status(connection, card_no, PENDING if waits else ACTIVE)


def adjustments_of(connection: Connection, card_no: str) -> list[dict[str, Any]]:
    """Every adjustment the card was given: ``[{number, points, reason, created_at}]``."""
    columns = (adjustments.c[name] for name in ("number", "points", "reason", "created_at"))
    query = select(*columns).where(adjustments.c.card_no == card_no).order_by(adjustments.c.number)
    return [dict(row) for row in connection.execute(query).mappings()]


def fresh(now: str) -> dict[str, Any]:
    """What a card begins with."""
    return {"status": ACTIVE, "balance": 0, "sequence": 0, "adjustments_through": 0, "created_at": now}


def ensure(connection: Connection, card_no: str, now: str) -> None:
    """Makes room for a card; its events may arrive before it was heard to be issued."""
    if find(connection, card_no) is None:
        connection.execute(insert(cards).values(card_no=card_no, **fresh(now)))


def set_owner(connection: Connection, card_no: str, uid: str | None, member_id: str | None) -> None:
    """Fills in what was not known; what is known stays."""
    for column, value in ((cards.c.uid, uid), (cards.c.member_id, member_id)):
        if value is not None:
            unknown = (cards.c.card_no == card_no) & column.is_(None)
            connection.execute(update(cards).where(unknown).values({column: value}))


def link(event: Event, state: CardState, intent_id: str | None) -> dict[str, Any]:
    """What an event wrote to its card, as it stands in the card's chain."""
    return {"fingerprint": event.fingerprint, "event_id": event.id, "intent_id": intent_id, **dict(state)}


def add_state(connection: Connection, event: Event, state: CardState, intent_id: str | None) -> None:
    """Adds one link to the card's chain."""
    connection.execute(insert(card_chain).values(**link(event, state, intent_id)))
    raise_counter(connection, state.card_no, state.sequence)


def raise_counter(connection: Connection, card_no: str, counter: int) -> None:
    """The card is known to have reached ``counter``; events come late, so it never goes back."""
    behind = (cards.c.card_no == card_no) & (cards.c.sequence < counter)
    connection.execute(update(cards).where(behind).values(sequence=counter))


def pass_adjustments(connection: Connection, card_no: str, through: int | None) -> bool:
    """The card has applied adjustments up to ``through``. True: numbers this CRM never gave out, or has forgotten; it
    will not give them out again."""
    passed = (cards.c.card_no == card_no) & (cards.c.adjustments_through < (through or 0))
    return connection.execute(update(cards).where(passed).values(adjustments_through=through)).rowcount > 0


def adjust(connection: Connection, card_no: str, points: int, reason: str, now: str) -> int:
    """Gives the card its next numbered adjustment and tells the terminals; moves no ledger account. The number."""
    query = select(cards.c.adjustments_through).where(cards.c.card_no == card_no).with_for_update()
    number = connection.execute(query).scalar_one() + 1
    facts = {"card_no": card_no, "number": number, "points": points, "reason": reason}
    connection.execute(insert(adjustments).values(created_at=now, **facts))
    connection.execute(update(cards).where(cards.c.card_no == card_no).values(adjustments_through=number))
    feed.publish(connection, FeedKind.ADJUSTMENT, facts, now)
    return int(number)


def give_points(
    connection: Connection,
    card_no: str,
    points: int,
    *,
    source: str,
    kind: str,
    reason: str,
    now: str,
    reference: str | None = None,
) -> int:
    """Points that no tap brought (taken, when negative): booked from the account ``source``, and the card's next
    adjustment. Gives the adjustment's number; the booking refers to it where there is no other ``reference``."""
    number = adjust(connection, card_no, points, reason, now)
    ledger.transfer(
        connection,
        source=source,
        target=ledger.card_account(card_no),
        points=points,
        kind=kind,
        reference=reference or f"{card_no}/{number}",
        now=now,
    )
    return number


def block(connection: Connection, card_no: str, reason: str, now: str) -> bool:
    """Puts the card on the hotlist and tells the terminals. False: it was there already."""
    if connection.execute(select(hotlist).where(hotlist.c.card_no == card_no)).first() is not None:
        return False
    connection.execute(insert(hotlist).values(card_no=card_no, reason=reason, blocked_at=now))
    _publish_hotlist(connection, card_no, True, reason, now)
    card_history.note(connection, card_no, "blocked", now, reason)
    return True


def unblock(connection: Connection, card_no: str, reason: str, now: str) -> bool:
    """Takes the card off the hotlist and tells the terminals. False: it was not on it, or was replaced."""
    if get(connection, card_no)["status"] == REPLACED:
        return False
    if connection.execute(delete(hotlist).where(hotlist.c.card_no == card_no)).rowcount == 0:
        return False
    _publish_hotlist(connection, card_no, False, reason, now)
    card_history.note(connection, card_no, "freed", now, reason)
    return True


def _publish_hotlist(connection: Connection, card_no: str, blocked: bool, reason: str, now: str) -> None:
    restate(connection, card_no)
    item = {"card_no": card_no, "blocked": blocked, "reason": reason}
    feed.publish(connection, FeedKind.HOTLIST, item, now)

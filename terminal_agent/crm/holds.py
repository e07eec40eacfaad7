"""Holds: points set aside while a terminal redeems them online, so that two copies of a card cannot both spend them.

``held`` (until it expires) → ``confirmed`` (until its event arrives) → ``spent``; or ``released``. A hold is a promise
to grant, never a booking: the event books, whatever became of its hold. A terminal grants on a confirmed one alone, so
what it granted stays covered however late its event is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, insert, or_, select, update

from terminal_agent.crm import cards, turns
from terminal_agent.crm.schema import holds
from terminal_agent.crm.wire import HoldAnswer, HoldRequest, HoldState
from terminal_agent.ports import rfc3339

LIFE_S = 600
"""For a hold that nobody confirmed: longer than any question, short enough to wait out a till that died."""


NOT_FOUND = "not_found"


class HoldRefused(Exception):
    """``code`` for programs, one sentence for people, ``facts`` as further members of the answer."""

    def __init__(self, code: str, detail: str, **facts: int) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.facts = facts


def place(connection: Connection, terminal_id: str, asked: HoldRequest, hold_id: str, now: datetime) -> HoldAnswer:
    """Sets points aside, once for each reference of the terminal.

    HoldRefused: not_found, card_pending, card_blocked, reference_reused, hold_ended, chain_behind, chain_ahead,
    card_held, insufficient_points.
    """
    turns.take_terminal(connection, terminal_id)
    card = cards.find(connection, asked.card_no, to_change=True)
    if card is None:
        raise HoldRefused(NOT_FOUND, "No card has this number.")
    if card["status"] == cards.PENDING:
        raise HoldRefused("card_pending", "The owner of this card is not approved yet.")
    if card["status"] != cards.ACTIVE:
        raise HoldRefused("card_blocked", "This card is blocked.")
    moment = rfc3339(now)
    earlier = _by_reference(connection, terminal_id, asked.reference)
    if earlier is not None:
        return _again(connection, earlier, asked, moment)
    aside = active(connection, asked.card_no, moment)
    if asked.card_sequence is not None:
        _check_chain(card["sequence"], asked.card_sequence, aside)
    available = card["balance"] - _points_of(aside)
    if asked.points > available:
        detail = "The card has not as many points to redeem."
        raise HoldRefused("insufficient_points", detail, balance=card["balance"], available=available)
    facts = {"card_no": asked.card_no, "points": asked.points, "reference": asked.reference}
    facts |= {"card_sequence": card["sequence"], "state": HoldState.HELD.value}
    facts |= {"placed_at": moment, "expires_at": rfc3339(now + timedelta(seconds=LIFE_S))}
    connection.execute(insert(holds).values(terminal_id=terminal_id, hold_id=hold_id, **facts))
    return _answer(connection, _get(connection, terminal_id, hold_id), moment)


def confirm(connection: Connection, terminal_id: str, hold_id: str, now: datetime) -> HoldAnswer:
    """The redemption is about to be granted: the points stay aside until its event comes, however late.

    Doing it again changes nothing. HoldRefused: not_found, hold_released, hold_ended.
    """
    turns.take_terminal(connection, terminal_id)
    row = _get(connection, terminal_id, hold_id)
    if row["state"] == HoldState.RELEASED:
        raise HoldRefused("hold_released", "This hold was released; its points may be gone.")
    if row["state"] == HoldState.HELD:
        cards.find(connection, row["card_no"], to_change=True)  # nobody else sees it lapse in this moment
        if row["expires_at"] <= rfc3339(now):
            raise HoldRefused("hold_ended", "This hold lapsed; its points may be gone. Ask for a new one.")
        row = _change(connection, terminal_id, hold_id, HoldState.CONFIRMED)
    return _answer(connection, row, rfc3339(now))


def release(connection: Connection, terminal_id: str, hold_id: str, now: datetime) -> HoldAnswer:
    """Nothing was redeemed, and nothing will be: the points are free at once. Doing it again changes nothing.

    HoldRefused: not_found, hold_spent.
    """
    turns.take_terminal(connection, terminal_id)
    row = _get(connection, terminal_id, hold_id)
    if row["state"] == HoldState.SPENT:
        raise HoldRefused("hold_spent", "The event of this hold is booked; give points back with a reversal.")
    return _answer(connection, _release(connection, row), rfc3339(now))


def free(connection: Connection, hold_id: str) -> RowMapping | None:
    """Head office lets a hold go whose terminal will never tell what became of it; None for one that nobody knows.

    HoldRefused: hold_spent.
    """
    of_whom = connection.execute(select(holds.c.terminal_id).where(holds.c.hold_id == hold_id)).scalar()
    if of_whom is None:
        return None
    turns.take_terminal(connection, of_whom)
    row = _get(connection, of_whom, hold_id)
    if row["state"] == HoldState.SPENT:
        raise HoldRefused("hold_spent", "The event of this hold is booked: the ledger tells its points.")
    return _release(connection, row)


def spend(connection: Connection, terminal_id: str, hold_id: str) -> None:
    """The event of a hold is booked: the ledger tells its points from now on. An unknown hold is nobody's fault."""
    connection.execute(update(holds).where(_key(terminal_id, hold_id)).values(state=HoldState.SPENT.value))


def active(connection: Connection, card_no: str, moment: str) -> Sequence[RowMapping]:
    """The holds that set points of a card aside at ``moment`` (RFC 3339), oldest first."""
    query = select(holds).where(holds.c.card_no == card_no, _stands_at(moment))
    return connection.execute(query.order_by(holds.c.placed_at, holds.c.hold_id)).mappings().all()


def standing(connection: Connection, moment: str, limit: int) -> Sequence[RowMapping]:
    """Every hold that sets points aside at ``moment`` (RFC 3339), the oldest first."""
    query = select(holds).where(_stands_at(moment)).order_by(holds.c.placed_at, holds.c.hold_id).limit(limit)
    return connection.execute(query).mappings().all()


def describe(connection: Connection, card_no: str, balance: int, moment: str) -> dict[str, Any]:
    """For people: ``{available, holds:[{hold_id, terminal_id, points, state, expires_at, reference}]}``."""
    aside = active(connection, card_no, moment)
    columns = ("hold_id", "terminal_id", "points", "state", "expires_at", "reference")
    shown = [{name: row[name] for name in columns} for row in aside]
    return {"available": balance - _points_of(aside), "holds": shown}


def _check_chain(known: int, given: int, aside: Sequence[RowMapping]) -> None:
    """One redemption of a card at a time, and only on the state that the CRM knows to be the newest."""
    if given > known:
        raise HoldRefused("chain_behind", "Events of this card are not here yet; send them first.", sequence=known)
    if given < known:
        raise HoldRefused("chain_ahead", "A newer state of this card is known here.", sequence=known)
    # A confirmed hold whose event is lost for good must not keep the card from redeeming for ever: once later taps have
    # moved the chain on, it only keeps its points.
    if any(row["state"] == HoldState.HELD or row["card_sequence"] >= known for row in aside):
        raise HoldRefused("card_held", "Another redemption of this card is in flight.")


def _again(connection: Connection, row: RowMapping, asked: HoldRequest, moment: str) -> HoldAnswer:
    if (row["card_no"], row["points"]) != (asked.card_no, asked.points):
        raise HoldRefused("reference_reused", "This reference was used for another hold.")
    answer = _answer(connection, row, moment)
    if answer.state not in (HoldState.HELD, HoldState.CONFIRMED):
        raise HoldRefused("hold_ended", f"The hold of this reference is {answer.state}; ask with a new one.")
    return answer


def _answer(connection: Connection, row: RowMapping, moment: str) -> HoldAnswer:
    card = cards.find(connection, row["card_no"])
    balance = card["balance"] if card else 0
    expired = row["state"] == HoldState.HELD and row["expires_at"] <= moment
    return HoldAnswer(
        hold_id=row["hold_id"],
        expires_at=row["expires_at"],
        state=HoldState.EXPIRED if expired else row["state"],
        card_no=row["card_no"],
        points=row["points"],
        balance=balance,
        available=balance - _points_of(active(connection, row["card_no"], moment)),
    )


def _stands_at(moment: str) -> ColumnElement[bool]:
    unexpired = and_(holds.c.state == HoldState.HELD.value, holds.c.expires_at > moment)
    return or_(unexpired, holds.c.state == HoldState.CONFIRMED.value)


def _points_of(aside: Sequence[RowMapping]) -> int:
    return sum(row["points"] for row in aside)


def _by_reference(connection: Connection, terminal_id: str, reference: str | None) -> RowMapping | None:
    if reference is None:
        return None
    this = (holds.c.terminal_id == terminal_id) & (holds.c.reference == reference)
    return connection.execute(select(holds).where(this)).mappings().first()


def _get(connection: Connection, terminal_id: str, hold_id: str) -> RowMapping:
    row = connection.execute(select(holds).where(_key(terminal_id, hold_id)).with_for_update()).mappings().first()
    if row is None:
        raise HoldRefused(NOT_FOUND, "This terminal has no such hold.")
    return row


def _release(connection: Connection, row: RowMapping) -> RowMapping:
    return _change(connection, row["terminal_id"], row["hold_id"], HoldState.RELEASED)


def _change(connection: Connection, terminal_id: str, hold_id: str, state: HoldState) -> RowMapping:
    connection.execute(update(holds).where(_key(terminal_id, hold_id)).values(state=state.value))
    return _get(connection, terminal_id, hold_id)


def _key(terminal_id: str, hold_id: str) -> ColumnElement[bool]:
    return (holds.c.terminal_id == terminal_id) & (holds.c.hold_id == hold_id)

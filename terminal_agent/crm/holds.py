"""Holds: points set aside while a terminal redeems them online, so that two copies of a card cannot both spend them.

``held`` (until it expires) → ``confirmed`` (until its event arrives) → ``spent``; or ``released``. A hold is a promise
to grant, never a booking: the event books, whatever became of its hold.
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
"""Longer than any tap with its retries, short enough for a customer to wait out a till that died."""


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
    standing = active(connection, asked.card_no, moment)
    if asked.card_sequence is not None:
        _check_chain(card["sequence"], asked.card_sequence, standing)
    available = card["balance"] - _points_of(standing)
    if asked.points > available:
        detail = "The card has not as many points to redeem."
        raise HoldRefused("insufficient_points", detail, balance=card["balance"], available=available)
    facts = {"card_no": asked.card_no, "points": asked.points, "reference": asked.reference}
    facts |= {"card_sequence": card["sequence"], "state": HoldState.HELD.value}
    facts |= {"placed_at": moment, "expires_at": rfc3339(now + timedelta(seconds=LIFE_S))}
    connection.execute(insert(holds).values(terminal_id=terminal_id, hold_id=hold_id, **facts))
    return _answer(connection, _get(connection, terminal_id, hold_id), moment)


def confirm(connection: Connection, terminal_id: str, hold_id: str, now: datetime) -> HoldAnswer:
    """The redemption stands and its event will come: the points stay aside until then, even past the hold's time.

    Doing it again changes nothing. HoldRefused: not_found, hold_released.
    """
    row = _get(connection, terminal_id, hold_id)
    if row["state"] == HoldState.RELEASED:
        raise HoldRefused("hold_released", "This hold was released; its points may be gone.")
    if row["state"] == HoldState.HELD:
        row = _change(connection, terminal_id, hold_id, HoldState.CONFIRMED)
    return _answer(connection, row, rfc3339(now))


def release(connection: Connection, terminal_id: str, hold_id: str, now: datetime) -> HoldAnswer:
    """Nothing is redeemed: the points are free at once. Doing it again changes nothing.

    HoldRefused: not_found, hold_confirmed.
    """
    row = _get(connection, terminal_id, hold_id)
    if row["state"] in (HoldState.CONFIRMED, HoldState.SPENT):
        raise HoldRefused("hold_confirmed", "This hold was confirmed; give points back with a reversal.")
    if row["state"] == HoldState.HELD:
        row = _change(connection, terminal_id, hold_id, HoldState.RELEASED)
    return _answer(connection, row, rfc3339(now))


def spend(connection: Connection, terminal_id: str, hold_id: str) -> None:
    """The event of a hold is booked: the ledger tells its points from now on. An unknown hold is nobody's fault."""
    connection.execute(update(holds).where(_key(terminal_id, hold_id)).values(state=HoldState.SPENT.value))


def active(connection: Connection, card_no: str, moment: str) -> Sequence[RowMapping]:
    """The holds that set points of a card aside at ``moment`` (RFC 3339), oldest first."""
    unexpired = and_(holds.c.state == HoldState.HELD.value, holds.c.expires_at > moment)
    standing = or_(unexpired, holds.c.state == HoldState.CONFIRMED.value)
    query = select(holds).where(holds.c.card_no == card_no, standing)
    return connection.execute(query.order_by(holds.c.placed_at, holds.c.hold_id)).mappings().all()


def describe(connection: Connection, card_no: str, balance: int, moment: str) -> dict[str, Any]:
    """For people: ``{available, holds:[{hold_id, terminal_id, points, state, expires_at, reference}]}``."""
    standing = active(connection, card_no, moment)
    columns = ("hold_id", "terminal_id", "points", "state", "expires_at", "reference")
    shown = [{name: row[name] for name in columns} for row in standing]
    return {"available": balance - _points_of(standing), "holds": shown}


def _check_chain(known: int, given: int, standing: Sequence[RowMapping]) -> None:
    """One redemption of a card at a time, and only on the state that the CRM knows to be the newest."""
    if given > known:
        raise HoldRefused("chain_behind", "Events of this card are not here yet; send them first.", sequence=known)
    if given < known:
        raise HoldRefused("chain_ahead", "A newer state of this card is known here.", sequence=known)
    # A confirmed hold whose event is lost for good must not keep the card from redeeming for ever: once later taps have
    # moved the chain on, it only keeps its points.
    if any(row["state"] == HoldState.HELD or row["card_sequence"] >= known for row in standing):
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


def _points_of(standing: Sequence[RowMapping]) -> int:
    return sum(row["points"] for row in standing)


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


def _change(connection: Connection, terminal_id: str, hold_id: str, state: HoldState) -> RowMapping:
    connection.execute(update(holds).where(_key(terminal_id, hold_id)).values(state=state.value))
    return _get(connection, terminal_id, hold_id)


def _key(terminal_id: str, hold_id: str) -> ColumnElement[bool]:
    return (holds.c.terminal_id == terminal_id) & (holds.c.hold_id == hold_id)

"""Double entry: every booking takes points from one account and gives them to another, so all accounts sum to 0.

One of the two is a card's, or that of a member who has no card. Both entries stand with it, so that a programme's
account is no row all must write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from terminal_agent.crm.schema import cards, entries, transfers

ISSUED = "programme:issued"
REDEEMED = "programme:redeemed"
ADJUSTED = "programme:adjusted"
EXPIRED = "programme:expired"
MOVED = "programme:moved"
"""Between a card and the one that replaces it; always 0."""
_CARD_PREFIX = "card:"
_MEMBER_PREFIX = "member:"


@dataclass(frozen=True)
class Balance:
    """The points on one account; programme accounts that give points out are negative."""

    account: str
    balance: int


@dataclass(frozen=True)
class Move:
    """Points on their way from one account to another."""

    source: str
    target: str
    points: int


def card_account(card_no: str) -> str:
    """The account of a card."""
    return _CARD_PREFIX + card_no


def member_account(member_id: str) -> str:
    """The account of what waits until a member has a card."""
    return _MEMBER_PREFIX + member_id


def _holder_of(account: str) -> str | None:
    """Whose entries those of an account stand with: a card's number, or a member's account itself."""
    if account.startswith(_CARD_PREFIX):
        return account.removeprefix(_CARD_PREFIX)
    return account if account.startswith(_MEMBER_PREFIX) else None


def transfer(
    connection: Connection, *, source: str, target: str, points: int, kind: str, reference: str, now: str
) -> None:
    """Moves ``points`` from ``source`` to ``target`` (the other way when negative); nothing is booked for 0.

    One of them is a card's account, or a member's.
    """
    if points == 0:
        return
    move = Move(source, target, points)
    holder = next(holder for name in (source, target) if (holder := _holder_of(name)) is not None)
    # First: it also keeps others from the card.
    _cache_balance(connection, holder, points if target == card_account(holder) else -points)
    last = select(func.coalesce(func.max(transfers.c.transfer_id), 0)).where(transfers.c.card_no == holder)
    number = connection.execute(last).scalar_one() + 1
    transfer_row, sides = rows_of(move, holder, number, kind, reference, now)
    connection.execute(insert(transfers).values(**transfer_row))
    connection.execute(insert(entries), sides)


def rows_of(
    move: Move, card_no: str, number: int, kind: str, reference: str, now: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A transfer of a card and its two entries, as they are kept."""
    place = {"card_no": card_no, "transfer_id": number}
    sides = {move.source: -move.points, move.target: move.points}
    return (
        {**place, "kind": kind, "reference": reference, "booked_at": now},
        [{**place, "account": account, "points": points} for account, points in sides.items()],
    )


def _cache_balance(connection: Connection, card_no: str, moved: int) -> None:
    connection.execute(update(cards).where(cards.c.card_no == card_no).values(balance=cards.c.balance + moved))


def balances(connection: Connection) -> list[Balance]:
    """Every account that ever moved, by name, summed from the entries themselves."""
    query = select(entries.c.account, func.sum(entries.c.points).label("points")).group_by(entries.c.account)
    rows = connection.execute(query.order_by(entries.c.account)).all()
    return [Balance(row.account, int(row.points)) for row in rows]


def waiting(connection: Connection, member_ids: list[str]) -> int:
    """The points that wait until a member, known by these ids, has a card."""
    accounts = [member_account(member_id) for member_id in member_ids]
    theirs = entries.c.card_no.in_(accounts) & (entries.c.account == entries.c.card_no)
    return int(connection.execute(select(func.coalesce(func.sum(entries.c.points), 0)).where(theirs)).scalar_one())


def lines(connection: Connection, card_no: str) -> list[dict[str, Any]]:
    """Every line of a card's account: ``[{card_no, points, kind, reference, booked_at}]``, oldest first."""
    together = (transfers.c.card_no == entries.c.card_no) & (transfers.c.transfer_id == entries.c.transfer_id)
    query = (
        select(entries.c.points, transfers.c.kind, transfers.c.reference, transfers.c.booked_at)
        .join(transfers, together)
        .where(entries.c.card_no == card_no, entries.c.account == card_account(card_no))
        .order_by(entries.c.transfer_id)
    )
    return [{"card_no": card_no, **row} for row in connection.execute(query).mappings()]


def total(connection: Connection) -> int:
    """The sum over all entries: 0, or points were made or lost."""
    return int(connection.execute(select(func.coalesce(func.sum(entries.c.points), 0))).scalar_one())

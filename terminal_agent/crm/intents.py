"""Card writes in doubt: whether one landed, told by its terminal or by the card's later states, and what is then owed.

The ledger books an event in doubt at once. When it is known what the card itself got, the difference reaches the card
as a numbered adjustment.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, func, insert, or_, select, update

from terminal_agent.crm import cards
from terminal_agent.crm.events import IntentTried
from terminal_agent.crm.schema import adjustments, card_chain, intents

REASON = "in_doubt_settled"


@dataclass(frozen=True)
class Evidence:
    """What is known of a write in doubt.

    ``told``: what its terminal says after reading the card. ``rival``: somebody else wrote the same counter.
    ``balances_seen``: what the card may have held at that counter, as the next writer found it; None when nobody has
    reported that yet.
    """

    told: bool | None = None
    rival: bool = False
    balances_seen: frozenset[int] | None = None


def has_landed(balance_after: int, evidence: Evidence) -> bool | None:
    """Whether a write that would have left ``balance_after`` is on the card; None: wait for more of the chain."""
    if evidence.told is not None:
        return evidence.told
    if evidence.rival:
        return False
    if evidence.balances_seen is None:
        return None
    return balance_after in evidence.balances_seen


def owed(booked: int, card_delta: int, landed: bool) -> int:
    """Points the card must still get, in all, for its balance to follow the ledger."""
    return booked - (card_delta if landed else 0)


def tried(connection: Connection, intent: IntentTried, booked: int, now: str) -> None:
    """Notes a write in doubt for which the ledger booked ``booked`` points, and settles what can be settled."""
    numbers = {
        "sequence_before": intent.sequence_before,
        "sequence_after": intent.sequence_after,
        "balance_before": intent.balance_before,
        "balance_after": intent.balance_after,
    }
    _note(connection, intent.card_no, intent.intent_id)
    this = _key(intent.card_no, intent.intent_id)
    connection.execute(update(intents).where(this).values(booked=intents.c.booked + booked, **numbers))
    settle(connection, intent.card_no, {intent.sequence_after, intent.sequence_before}, now)


def told(connection: Connection, card_no: str, intent_id: str, landed: bool, now: str) -> None:
    """Notes what the terminal found on the card, and settles it."""
    _note(connection, card_no, intent_id)
    connection.execute(update(intents).where(_key(card_no, intent_id)).values(told=landed))
    row = connection.execute(select(intents).where(_key(card_no, intent_id))).mappings().one()
    if row["sequence_after"] is not None:
        settle(connection, card_no, {row["sequence_after"]}, now)


def settle(connection: Connection, card_no: str, sequences: set[int], now: str) -> None:
    """Settles the card's writes in doubt that would have left one of these counters. Doing it again changes nothing."""
    query = select(intents).where(intents.c.card_no == card_no, intents.c.sequence_after.in_(sequences))
    for row in connection.execute(query.order_by(intents.c.intent_id)).mappings().all():
        landed = has_landed(row["balance_after"], _evidence(connection, row))
        if landed is not None:
            _settle_one(connection, row, landed, now)


def _settle_one(connection: Connection, row: RowMapping, landed: bool, now: str) -> None:
    due = owed(row["booked"], row["balance_after"] - row["balance_before"], landed)
    missing = due - row["adjusted"]
    this = _key(row["card_no"], row["intent_id"])
    connection.execute(update(intents).where(this).values(landed=landed, adjusted=due))
    if missing:
        cards.adjust(connection, row["card_no"], missing, REASON, now)


def _note(connection: Connection, card_no: str, intent_id: str) -> None:
    if connection.execute(select(intents.c.intent_id).where(_key(card_no, intent_id))).first() is None:
        connection.execute(insert(intents).values(card_no=card_no, intent_id=intent_id, booked=0, adjusted=0))


def _key(card_no: str, intent_id: str) -> ColumnElement[bool]:
    return (intents.c.card_no == card_no) & (intents.c.intent_id == intent_id)


def _evidence(connection: Connection, row: RowMapping) -> Evidence:
    return Evidence(told=row["told"], rival=_has_rival(connection, row), balances_seen=_balances_seen(connection, row))


def _has_rival(connection: Connection, row: RowMapping) -> bool:
    """Whether the same counter was written by another event, or by another write in doubt that landed."""
    other_event = select(card_chain.c.event_id).where(
        card_chain.c.card_no == row["card_no"],
        card_chain.c.sequence == row["sequence_after"],
        or_(card_chain.c.intent_id.is_(None), card_chain.c.intent_id != row["intent_id"]),
    )
    other_intent = select(intents.c.intent_id).where(
        intents.c.card_no == row["card_no"],
        intents.c.sequence_after == row["sequence_after"],
        intents.c.intent_id != row["intent_id"],
        intents.c.landed.is_(True),
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in (other_event, other_intent))


def _balances_seen(connection: Connection, row: RowMapping) -> frozenset[int] | None:
    """What later writers, and later tries, found on the card at the counter in doubt."""
    chain = select(card_chain.c.balance_before, card_chain.c.adjustments_through).where(
        card_chain.c.card_no == row["card_no"], card_chain.c.sequence == row["sequence_after"] + 1
    )
    tries = select(intents.c.balance_before).where(
        intents.c.card_no == row["card_no"], intents.c.sequence_before == row["sequence_after"]
    )
    found = [(seen.balance_before, seen.adjustments_through) for seen in connection.execute(chain)]
    found += [(seen.balance_before, None) for seen in connection.execute(tries)]
    known = [(balance, through) for balance, through in found if balance is not None]
    if not known:
        return None
    applied = _applied_before(connection, row["card_no"], row["sequence_before"])
    return frozenset(
        balance - sum_
        for balance, through in known
        for sum_ in _possible_sums(connection, row["card_no"], applied, through)
    )


def _applied_before(connection: Connection, card_no: str, sequence: int) -> int:
    """The adjustments that surely were on the card at a counter."""
    query = select(func.coalesce(func.max(card_chain.c.adjustments_through), 0))
    upto = (card_chain.c.card_no == card_no) & (card_chain.c.sequence <= sequence)
    return int(connection.execute(query.where(upto)).scalar_one())


def _possible_sums(connection: Connection, card_no: str, applied: int, through: int | None) -> set[int]:
    """What a tap may have added before its purchase: the newest 0, 1, 2 … of the adjustments it could apply."""
    query = select(adjustments.c.points).where(adjustments.c.card_no == card_no, adjustments.c.number > applied)
    if through is not None:
        query = query.where(adjustments.c.number <= through)
    sums = [0]
    for points in connection.execute(query.order_by(adjustments.c.number.desc())).scalars():
        sums.append(sums[-1] + points)
    return set(sums)

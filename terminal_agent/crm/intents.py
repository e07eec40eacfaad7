"""Card writes in doubt: whether one landed, told by its terminal or by the card's later states, and what is then owed.

The ledger books an event in doubt at once. When it is known what the card itself got, the difference reaches the card
as a numbered adjustment.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, insert, or_, select, update

from terminal_agent.crm import cards
from terminal_agent.crm.events import IntentTried
from terminal_agent.crm.schema import adjustments, card_chain, intents

REASON = "in_doubt_settled"


@dataclass(frozen=True)
class Evidence:
    """What is known of a write in doubt.

    ``told``: what its terminal says after reading the card. ``rival``: somebody else wrote the same counter.
    ``balances_seen``: what the next writer found on the card at that counter; empty while nobody has reported it.
    """

    told: bool | None = None
    rival: bool = False
    balances_seen: frozenset[int] = frozenset()


def has_landed(balance_after: int, evidence: Evidence) -> bool | None:
    """Whether a write that would have left ``balance_after`` is on the card; None: wait for more of the chain."""
    if evidence.told is not None:
        return evidence.told
    if evidence.rival:
        return False
    if not evidence.balances_seen:
        return None
    return balance_after in evidence.balances_seen


def owed(booked: int, card_delta: int, landed: bool) -> int:
    """Points the card must still get, in all, for its balance to follow the ledger.

    ``booked`` by the ledger; ``card_delta`` is what the write would have given, adjustments not counted.
    """
    return booked - (card_delta if landed else 0)


def tried(connection: Connection, intent: IntentTried, booked: int, now: str) -> None:
    """Notes a write in doubt for which the ledger booked ``booked`` points, and settles what can be settled."""
    this = _note(connection, intent.card_no, intent.intent_id)
    numbers = intent.model_dump(exclude={"card_no", "intent_id"})
    connection.execute(update(intents).where(this).values(booked=intents.c.booked + booked, **numbers))
    settle(connection, intent.card_no, {intent.sequence_after, intent.sequence_before}, now)


def told(connection: Connection, card_no: str, intent_id: str, landed: bool, now: str) -> None:
    """Notes what the terminal found on the card, and settles it."""
    this = _note(connection, card_no, intent_id)
    connection.execute(update(intents).where(this).values(told=landed))
    counter = connection.execute(select(intents.c.sequence_after).where(this)).scalar()
    if counter is not None:
        settle(connection, card_no, {counter}, now)


def settle(connection: Connection, card_no: str, counters: set[int], now: str) -> None:
    """Settles the card's writes in doubt that would have left one of these counters.

    Doing it again changes nothing, unless a late event says otherwise: then the difference is made good.
    """
    query = select(intents).where(intents.c.card_no == card_no, intents.c.sequence_after.in_(counters))
    for row in connection.execute(query.order_by(intents.c.intent_id)).mappings().all():
        landed = has_landed(row["balance_after"], _evidence(connection, row))
        if landed is not None:
            _settle_one(connection, row, landed, now)


def is_claimed(connection: Connection, card_no: str, counter: int, intent_id: str | None) -> bool:
    """Whether another event than those of ``intent_id`` says that it wrote this counter to the card."""
    written = select(card_chain.c.event_id).where(
        card_chain.c.card_no == card_no,
        card_chain.c.sequence == counter,
        or_(card_chain.c.intent_id.is_(None), card_chain.c.intent_id != (intent_id or "")),
    )
    claims = _others(card_no, counter, intent_id).where(intents.c.told.is_(True))
    return any(connection.execute(query.limit(1)).first() is not None for query in (written, claims))


def is_write_claimed(connection: Connection, card_no: str, intent_id: str) -> bool:
    """The same for the counter of a write in doubt, if its numbers are known."""
    counter = connection.execute(select(intents.c.sequence_after).where(_key(card_no, intent_id))).scalar()
    return counter is not None and is_claimed(connection, card_no, counter, intent_id)


def _settle_one(connection: Connection, row: RowMapping, landed: bool, now: str) -> None:
    delta = row["balance_after"] - row["balance_before"] - _adjustments_in(connection, row)
    due = owed(row["booked"], delta, landed)
    this = _key(row["card_no"], row["intent_id"])
    connection.execute(update(intents).where(this).values(landed=landed, adjusted=due))
    if landed:
        cards.raise_counter(connection, row["card_no"], row["sequence_after"])
        cards.pass_adjustments(connection, row["card_no"], row["adjustments_through"])
    if due != row["adjusted"]:
        cards.adjust(connection, row["card_no"], due - row["adjusted"], REASON, now)


def _adjustments_in(connection: Connection, row: RowMapping) -> int:
    """The points of the adjustments that the write in doubt would have applied."""
    through = row["adjustments_through"]
    if through is None:
        return 0
    before = row["adjustments_before"]
    if before is None:
        before = _applied_at(connection, row["card_no"], row["sequence_before"])
    applied = (adjustments.c.card_no == row["card_no"]) & adjustments.c.number.between(before + 1, through)
    return int(connection.execute(select(func.coalesce(func.sum(adjustments.c.points), 0)).where(applied)).scalar_one())


def _applied_at(connection: Connection, card_no: str, counter: int) -> int:
    """The highest adjustment known to be on the card at a counter."""
    chain = select(func.max(card_chain.c.adjustments_through)).where(
        card_chain.c.card_no == card_no, card_chain.c.sequence <= counter
    )
    settled = select(func.max(intents.c.adjustments_through)).where(
        intents.c.card_no == card_no, intents.c.sequence_after <= counter, intents.c.landed.is_(True)
    )
    return max(int(connection.execute(query).scalar() or 0) for query in (chain, settled))


def _evidence(connection: Connection, row: RowMapping) -> Evidence:
    where = row["card_no"], row["sequence_after"], row["intent_id"]
    landed_instead = _others(*where).where(intents.c.landed.is_(True)).limit(1)
    rival = is_claimed(connection, *where) or connection.execute(landed_instead).first() is not None
    return Evidence(told=row["told"], rival=rival, balances_seen=_balances_seen(connection, row))


def _balances_seen(connection: Connection, row: RowMapping) -> frozenset[int]:
    """What later writes, and later tries, found on the card at the counter in doubt."""
    chain = select(card_chain.c.balance_before).where(
        card_chain.c.card_no == row["card_no"], card_chain.c.sequence == row["sequence_after"] + 1
    )
    tries = select(intents.c.balance_before).where(
        intents.c.card_no == row["card_no"], intents.c.sequence_before == row["sequence_after"]
    )
    seen = [balance for query in (chain, tries) for balance in connection.execute(query).scalars()]
    return frozenset(balance for balance in seen if balance is not None)


def _others(card_no: str, counter: int, intent_id: str | None) -> Select[tuple[str]]:
    """Other writes in doubt that would have left the same counter."""
    return select(intents.c.intent_id).where(
        intents.c.card_no == card_no, intents.c.sequence_after == counter, intents.c.intent_id != (intent_id or "")
    )


def _note(connection: Connection, card_no: str, intent_id: str) -> ColumnElement[bool]:
    """Makes room for a write in doubt; the condition that finds it."""
    this = _key(card_no, intent_id)
    if connection.execute(select(intents.c.intent_id).where(this)).first() is None:
        connection.execute(insert(intents).values(card_no=card_no, intent_id=intent_id, booked=0, adjusted=0))
    return this


def _key(card_no: str, intent_id: str) -> ColumnElement[bool]:
    return (intents.c.card_no == card_no) & (intents.c.intent_id == intent_id)

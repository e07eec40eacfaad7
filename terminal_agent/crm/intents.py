"""Card writes in doubt: whether one landed, told by its terminal or by the card's later states, and what is then owed.

The ledger books an event in doubt at once. When it is known what the card itself got, the difference reaches the card
as a numbered adjustment.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    and_,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from terminal_agent.crm import cards
from terminal_agent.crm.events import IntentTried
from terminal_agent.crm.schema import adjustments, card_chain, intents

REASON = "in_doubt_settled"


@dataclass(frozen=True)
class Evidence:
    """What is known of a write in doubt.

    ``told``: what its terminal says after reading the card. ``twin``: another write left the very same state, so that
    the terminal could not tell them apart, and that one landed. ``rival``: somebody else wrote the same counter.
    ``balances_seen``: what the next writer found on the card at that counter; empty while nobody has reported it.
    """

    told: bool | None = None
    twin: bool = False
    rival: bool = False
    balances_seen: frozenset[int] = frozenset()


def has_landed(balance_after: int, evidence: Evidence) -> bool | None:
    """Whether a write that would have left ``balance_after`` is on the card; None: wait for more of the chain."""
    if evidence.told is not None:
        return evidence.told and not evidence.twin
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


State = tuple[int | None, int | None, int | None]
"""Balance before, balance after, adjustments through."""


@dataclass(frozen=True)
class Claim:
    """A counter that an event says it wrote to a card, and the state. ``looked``: its terminal did not read it back at
    once, it found the state there later."""

    card_no: str
    counter: int
    intent_id: str | None
    state: State
    looked: bool


def is_contested(connection: Connection, claim: Claim) -> bool:
    """Whether another event says that it wrote this counter to the card, as only a copy explains.

    Two writes may leave the very same state: the same sale at two shops, the first of them torn. Who looks at the card
    then sees his own write where the other's stands; that is no copy, and :func:`has_landed` tells whose it was.
    """
    written, told = _written_by_others(claim), _told_by_others(claim).where(not_(_same_state(intents, claim.state)))
    if claim.looked:
        written = written.where(not_(_same_state(card_chain, claim.state)))
    return _finds(connection, written, told)


def claim_of(connection: Connection, card_no: str, intent_id: str) -> Claim | None:
    """What a write in doubt claims once its terminal says that it landed; None while its numbers are not known."""
    row = connection.execute(select(intents).where(_key(card_no, intent_id))).mappings().first()
    if row is None or row["sequence_after"] is None:
        return None
    return _claim_in(row)


def _claim_in(row: RowMapping) -> Claim:
    state = row["balance_before"], row["balance_after"], row["adjustments_through"]
    return Claim(row["card_no"], row["sequence_after"], row["intent_id"], state, looked=True)


def _written_by_others(claim: Claim) -> Select[tuple[str]]:
    return select(card_chain.c.event_id).where(
        card_chain.c.card_no == claim.card_no,
        card_chain.c.sequence == claim.counter,
        or_(card_chain.c.intent_id.is_(None), card_chain.c.intent_id != (claim.intent_id or "")),
    )


def _told_by_others(claim: Claim) -> Select[tuple[str]]:
    return _others(claim.card_no, claim.counter, claim.intent_id).where(intents.c.told.is_(True))


def _finds(connection: Connection, *queries: Select[tuple[str]]) -> bool:
    return any(connection.execute(query.limit(1)).first() is not None for query in queries)


def _same_state(table: Table, state: State) -> ColumnElement[bool]:
    columns = (table.c.balance_before, table.c.balance_after, table.c.adjustments_through)
    return and_(*(column.is_not_distinct_from(value) for column, value in zip(columns, state, strict=True)))


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
    claim = _claim_in(row)
    landed_instead = _others(claim.card_no, claim.counter, claim.intent_id).where(intents.c.landed.is_(True))
    return Evidence(
        told=row["told"],
        twin=_has_twin(connection, claim),
        rival=_finds(connection, _written_by_others(claim), _told_by_others(claim), landed_instead),
        balances_seen=_balances_seen(connection, row),
    )


def _has_twin(connection: Connection, claim: Claim) -> bool:
    """Whether another write of the counter left the same state and is the one that counts: one that was read back at
    once goes first, of two that were only looked at the one with the lower id."""
    written = _written_by_others(claim).where(_same_state(card_chain, claim.state))
    told = _told_by_others(claim).where(intents.c.intent_id < claim.intent_id, _same_state(intents, claim.state))
    return _finds(connection, written, told)


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

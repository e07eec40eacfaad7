"""The common purchase, many at a time: a few reads for a run of them, a few writes for what became of it.

A purchase is common when its card's write is known, its card is in use, and nothing about them is contested, in doubt,
taken back or told in another way before. What is written for one is what :mod:`inbox` and :mod:`booking` write one by
one, row for row; a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Insert,
    Update,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import registry

from terminal_agent.contract import Verdict
from terminal_agent.crm import booking, cards, ledger
from terminal_agent.crm.events import CardState, Event, EventRejected, Position, PurchaseRecorded
from terminal_agent.crm.schema import card_chain, entries, events, intents, transfers
from terminal_agent.crm.schema import cards as card_rows
from terminal_agent.crm.wire import EventResult

AT_ONCE = 250
"""The longest run: what is read for it is read again when an event that is not common ends it."""


@dataclass
class _Card:
    """A card as this run will leave it."""

    balance: int
    sequence: int
    adjustments_through: int
    last_transfer: int
    is_common: bool
    counters: set[int] = field(default_factory=set)


@dataclass
class _Known:
    """What is there of a run. ``told``: by place the verdicts by fingerprint; ``ids``: told of, or taken back."""

    cards: dict[str, _Card] = field(default_factory=dict)
    told: dict[Position, dict[str, str]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)


@dataclass
class _Rows:
    """What the run writes."""

    events: list[dict[str, Any]] = field(default_factory=list)
    chain: list[dict[str, Any]] = field(default_factory=list)
    transfers: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    cards: set[str] = field(default_factory=set)


def run_from(batch: Sequence[Event | EventRejected], place: int) -> list[Event]:
    """The events from ``place`` on that may be common by what they say themselves."""
    run: list[Event] = []
    for event in batch[place : place + AT_ONCE]:
        if isinstance(event, EventRejected) or _state_of(event) is None:
            break
        run.append(event)
    return run


def book(connection: Connection, run: Sequence[Event], now: str) -> list[EventResult]:
    """Books what is common at the beginning of a run from one terminal, whose cards are ours (:mod:`turns`); gives its
    verdicts, and none when already the first event is not common. IntegrityError, DataError."""
    known, rows = _look_up(connection, run), _Rows()
    results: list[EventResult] = []
    for event in run:
        verdict = _verdict(event, known)
        if verdict is None:
            break
        card = known.cards[event.card_no or ""]
        if verdict is Verdict.ACCEPTED:
            _add(event, known, card, rows, now)
        results.append(EventResult(id=event.id, status=verdict, balance=card.balance))
    _write(connection, rows, known)
    return results


def _state_of(event: Event) -> CardState | None:
    data = event.data
    is_common = isinstance(data, PurchaseRecorded) and data.intent is None and data.hold_id is None
    return data.card if is_common else None


def _verdict(event: Event, known: _Known) -> Verdict | None:
    """Of an event that is common as things stand; else None."""
    state, card = _state_of(event), known.cards.get(event.card_no or "")
    told = known.told.get(event.position, {})
    if card is not None and told.get(event.fingerprint, Verdict.REJECTED) != Verdict.REJECTED:
        return Verdict.DUPLICATE
    if state is None or card is None or not card.is_common or told or event.id in known.ids:
        return None
    is_next = state.sequence not in card.counters and (state.adjustments_through or 0) <= card.adjustments_through
    return Verdict.ACCEPTED if is_next else None


def _add(event: Event, known: _Known, card: _Card, rows: _Rows, now: str) -> None:
    state, card_no = _state_of(event), event.card_no or ""
    known.told[event.position] = {event.fingerprint: Verdict.ACCEPTED}
    known.ids.add(event.id)
    rows.events.append(booking.row_of(event, booking.facts_of(event), Verdict.ACCEPTED, None, now))
    rows.cards.add(card_no)
    if state is not None:
        rows.chain.append(cards.link(event, state, None))
        card.counters.add(state.sequence)
        card.sequence = max(card.sequence, state.sequence)
    for move in booking.moves_of(event, card_no):
        card.last_transfer += 1
        transfer, sides = ledger.rows_of(move, card_no, card.last_transfer, event.type, event.id, now)
        rows.transfers.append(transfer)
        rows.entries += sides
        card.balance += sum(side["points"] for side in sides if side["account"] == ledger.card_account(card_no))


def _write(connection: Connection, rows: _Rows, known: _Known) -> None:
    changed = [(card_no, known.cards[card_no]) for card_no in sorted(rows.cards)]
    left = [{"of_card": no, "to_balance": card.balance, "to_sequence": card.sequence} for no, card in changed]
    written = zip(_WRITES, (rows.events, rows.chain, rows.transfers, rows.entries, left), strict=True)
    for statement, values in written:
        if values:
            connection.exec_driver_sql(_text_of(statement, connection.dialect.name), values)


@cache
def _text_of(statement: Insert | Update, dialect: str) -> str:
    """A statement in its driver's words, which takes the rows as they are: SQLAlchemy would go over each of them."""
    return str(statement.compile(dialect=_DRIVERS[dialect]))


def _look_up(connection: Connection, run: Sequence[Event]) -> _Known:
    pairs = [(event.card_no, event.id, state.sequence) for event in run if (state := _state_of(event))]
    asked = {
        "terminal_id": run[0].terminal_id,
        "epochs": list({event.position.install_epoch for event in run}),
        "sequences": [event.position.sequence for event in run],
        "ids": [event.id for event in run],
        "card_nos": list({event.card_no for event in run}),
        "counters": list({counter for _, _, counter in pairs}),
        "pairs": json.dumps(pairs),
    }
    known = _Known()
    for event_id, epoch, sequence, fingerprint, verdict in connection.execute(_TOLD, asked):
        known.ids.add(event_id)
        known.told.setdefault(Position(epoch, sequence), {})[fingerprint] = verdict
    for row in connection.execute(_CARDS, asked).mappings():
        facts = {name: row[name] for name in ("balance", "sequence", "adjustments_through", "last_transfer")}
        is_common = row["status"] == cards.ACTIVE and not row["in_doubt"]
        known.cards[row["card_no"]] = _Card(**facts, is_common=is_common)
    for card_no, reverses, counter in connection.execute(_CONTESTED[connection.dialect.name], asked):
        if counter is None:
            known.ids.add(reverses)
        else:
            known.cards[card_no].counters.add(counter)
    return known


def _in(column: Column[Any], name: str) -> ColumnElement[bool]:
    return column.in_(bindparam(name, expanding=True))


# Written once: building a statement takes longer than running it.
_OURS = events.c.terminal_id == bindparam("terminal_id")
_ASKED = select(events.c.id, events.c.install_epoch, events.c.sequence, events.c.fingerprint, events.c.verdict)
_TOLD = union_all(
    _ASKED.where(_OURS, _in(events.c.id, "ids")),
    _ASKED.where(_OURS, _in(events.c.install_epoch, "epochs"), _in(events.c.sequence, "sequences")),
)
_LAST_TRANSFER = select(func.coalesce(func.max(transfers.c.transfer_id), 0)).where(
    transfers.c.card_no == card_rows.c.card_no
)
_CARDS = select(
    card_rows,
    _LAST_TRANSFER.scalar_subquery().label("last_transfer"),
    exists().where(intents.c.card_no == card_rows.c.card_no).label("in_doubt"),
).where(_in(card_rows.c.card_no, "card_nos"))

_LEFT = (
    update(card_rows)
    .where(card_rows.c.card_no == bindparam("of_card"))
    .values(balance=bindparam("to_balance"), sequence=bindparam("to_sequence"))
)
_WRITES = insert(events), insert(card_chain), insert(transfers), insert(entries), _LEFT
_DRIVERS = {
    "sqlite": registry.load("sqlite")(paramstyle="named"),
    "postgresql": registry.load("postgresql.psycopg")(),
}

# What was taken back before it was told, and which counters of cards are taken. SQLite would look for each of one list
# with each of the other, which is the square of the run: it gets the very pairs.
_TAKEN_BACK = select(events.c.card_no, events.c.reverses, null())
_COUNTED = select(card_chain.c.card_no, null(), card_chain.c.sequence)
_PAIRS = func.json_each(bindparam("pairs")).table_valued("value")
_CARD_NO, _ID, _COUNTER = (func.json_extract(_PAIRS.c.value, literal_column(f"'$[{n}]'")) for n in range(3))
_CONTESTED = {
    "sqlite": union_all(
        _TAKEN_BACK.join(_PAIRS, (events.c.card_no == _CARD_NO) & (events.c.reverses == _ID)),
        _COUNTED.join(_PAIRS, (card_chain.c.card_no == _CARD_NO) & (card_chain.c.sequence == _COUNTER)),
    ),
    "postgresql": union_all(
        _TAKEN_BACK.where(_in(events.c.card_no, "card_nos"), _in(events.c.reverses, "ids")),
        _COUNTED.where(_in(card_chain.c.card_no, "card_nos"), _in(card_chain.c.sequence, "counters")),
    ),
}
